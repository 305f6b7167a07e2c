"""Playbooks for the tests of this folder, as text, so that lines and columns can be counted by eye."""

from __future__ import annotations

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ8z5Zp0vV0nWjZ0g8c6f4V0oQXhZkq3rC3o2rT9s0x"
OTHER_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
FINGERPRINT = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"

# Line 1 is the host, 2 the authentication, 3 the host key, 4 the mode; what a test adds begins on line 5.
STEP = f"""\
- host: sftp.bank.example
  authentication: {{authentication_method: username_password, username: acme, password: correct-horse}}
  hostkey: {{hostkey_mode: known_host, known_host: {HOST_KEY}}}
  mode: {{mode_name: copy_file_from_engine, source_file_name: out/a.xml, destination_file_name: /inbox/a.xml}}
"""


def step(**lines: str) -> str:
    """`STEP` with the values of some keys replaced, or with keys added, each value as YAML text on its key's line."""
    kept = dict(line[2:].split(": ", 1) for line in STEP.splitlines())
    pairs = [f"{key}: {value}" for key, value in {**kept, **lines}.items()]
    return "- " + "\n  ".join(pairs) + "\n"


def mode(**options: str) -> str:
    """An upload's mode with more options, each as YAML text."""
    more = "".join(f", {key}: {value}" for key, value in options.items())
    return f"{{mode_name: copy_file_from_engine, source_file_name: a, destination_file_name: b{more}}}"


def download(**options: str) -> str:
    """A download's mode with more options, each as YAML text."""
    return mode(**options).replace("copy_file_from_engine", "copy_file_to_engine")


def mirror(**options: str) -> str:
    """The mode of a directory's upload with more options, each as YAML text."""
    return mode(**options).replace("_file_", "_directory_").replace("directory_name: b", "directory_name: /srv/site")


def play(head: str, steps: str = STEP) -> str:
    """The mapping form: `head`, then the steps."""
    return f"{head}steps:\n{steps}"
