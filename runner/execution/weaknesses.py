"""What is weak about a connection, and what its server lacks: facts, what they mean, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.findings import CommandFacts, HopFacts, Login, Note, SftpFacts
from runner.plan import Fingerprints, Target

# NIST SP 800-57 part 1, table 4: shorter ones only until 2030.
MIN_GOOD_RSA_BITS = 3072

# The distributions that shipped an older one get no more updates in the ordinary way.
OLDEST_OPENSSH = (8, 0)
OLDEST_DROPBEAR = (2020, 0)
LEGACY_HINT = "Ask the server's operator for an update, and then remove the names from 'legacy_algorithms'."
_SOFTWARE = re.compile(r"SSH-[0-9.]+-(OpenSSH_|dropbear_)([0-9]{1,4})\.([0-9]{1,4})")


def find_notes(
    target: Target,
    login: Login | None,
    sftp: SftpFacts | None,
    commands: CommandFacts | None,
    hops: Sequence[HopFacts] = (),
) -> tuple[Note, ...]:
    """Everything worth saying about what has been found."""
    notes = [Note("weak", weakness, LEGACY_HINT) for hop in hops for weakness in hop.weaknesses]
    if login is not None:
        notes += _look_at_trust(target, login)
        notes += _look_at_login(target, login)
        notes += _look_at_algorithms(login)
        notes += [Note("weak", weakness, LEGACY_HINT) for weakness in login.weaknesses]
        notes += _look_at_software(login)
    if sftp is not None:
        notes += _look_at_sftp(sftp)
    if commands is not None:
        notes += _look_at_commands(target, commands)
    return tuple(notes)


def _look_at_trust(target: Target, login: Login) -> Iterator[Note]:
    bits = login.host_key.rsa_bits
    if bits is not None and bits < MIN_GOOD_RSA_BITS:
        yield Note(
            "weak",
            f"the host key is an RSA key of {bits} bits; {MIN_GOOD_RSA_BITS} are advised today",
            f"Does the server have a better one? `runner hostkey {target.endpoint}` shows all of them.",
        )
    for path in login.lax_files:
        yield Note("weak", f"everybody on this machine may write to {path}", f"chmod o-w {path}")
    if isinstance(target.endpoint.host_key_policy, Fingerprints):
        yield Note(
            "lacking",
            "the host key is known by its fingerprint only, so the server cannot be asked for a key of its type",
            f"Pin the key itself, which has been checked just now: 'hostkey_mode: known_host' with "
            f"'known_host: {login.host_key}'.",
        )


def _look_at_login(target: Target, login: Login) -> Iterator[Note]:
    if "publickey" not in login.method and target.endpoint.authentication.answers.totp_secret is None:
        yield Note(
            "weak",
            f"the login is by {login.method}: whoever learns the password can log in from anywhere",
            "Use a key: 'authentication_method: ssh_key', 'ssh_key_file' or 'ssh_agent'.",
        )


def _look_at_algorithms(login: Login) -> Iterator[Note]:
    agreed = login.algorithms
    if not all(name.endswith("-gcm@openssh.com") for name in agreed.ciphers):
        used = " and ".join(dict.fromkeys(agreed.ciphers))
        yield Note(
            "weak",
            f"the server offers no AES-GCM, the fastest that the runner has; {used} is used",
            "Ask its operator to add aes128-gcm@openssh.com to the server's Ciphers.",
        )
    # AES-GCM is not affected, nor is a MAC over the plain text. CBC is, with such a MAC.
    is_open = any("-etm@" in mac for mac in agreed.macs) or any(name.startswith("chacha20") for name in agreed.ciphers)
    if is_open and not agreed.is_strict:
        yield Note(
            "weak",
            "the server knows no strict key exchange, and the cipher or MAC in use is open to the Terrapin attack "
            "(CVE-2023-48795): somebody on the line could remove messages from the beginning of the session",
            "The server needs an update, or AES-GCM.",
        )


def _look_at_software(login: Login) -> Iterator[Note]:
    found = _SOFTWARE.match(login.server_version)
    if not found:
        return
    version = int(found[2]), int(found[3])
    oldest = OLDEST_OPENSSH if found[1] == "OpenSSH_" else OLDEST_DROPBEAR
    if version < oldest:
        name = f"{found[1].removesuffix('_')} {found[2]}.{found[3]}"
        year = 2019 if found[1] == "OpenSSH_" else 2020
        yield Note(
            "weak",
            f"the server says it is {name}, which is older than {year}",
            "Ask its operator whether it still gets security updates.",
        )


def _look_at_sftp(sftp: SftpFacts) -> Iterator[Note]:
    if not sftp.has("posix-rename@openssh.com"):
        yield Note(
            "lacking",
            "without posix-rename@openssh.com a file cannot replace another one in one step: the old one steps aside first, "
            "and for a moment there is none",
            "A new name for each file avoids that; what replaces nothing is renamed in one step here, too.",
        )


# What a server does with commands that a play would feel, and what to do about it.
_ODD_ANSWERS = {
    "silent": (
        "the server does not answer a command: each play that could use one waits for it once",
        "Set 'commands: never' for this connection.",
    ),
    "hangup": (
        "the server ends the connection when a command is started: each play that could use one logs in once more",
        "Set 'commands: never' for this connection.",
    ),
    "powershell": (
        "commands are run by PowerShell, no POSIX shell: over SCP nothing can be renamed, and there are no checksums",
        "SFTP works there as anywhere: use connector_type: SFTP.",
    ),
    "cmd": (
        "commands are run by cmd.exe, no POSIX shell: over SCP nothing can be renamed, and there are no checksums",
        "SFTP works there as anywhere: use connector_type: SFTP.",
    ),
}


def _look_at_commands(target: Target, commands: CommandFacts) -> Iterator[Note]:
    if odd := _ODD_ANSWERS.get(commands.answered_by):
        yield Note("lacking", *odd)
    if target.connector_type == "SCP":
        if commands.answered_by != "shell":
            yield Note(
                "lacking",
                "without a shell nothing can be renamed: files are written in place, not atomically",
                "If the server has an SFTP subsystem, use connector_type: SFTP.",
            )
    elif not commands.checksum_programs and commands.answered_by != "never":
        yield Note(
            "lacking",
            "the server computes no checksums: with 'verify: checksum' every byte is read back over the line",
            "",
        )
