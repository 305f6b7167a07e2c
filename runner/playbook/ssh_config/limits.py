"""What an SSH configuration asks for and the runner does not do.

It is an error where leaving it out would lead somewhere else or trust more than the configuration does, a warning where
something that works with ssh may not work here, and nothing where it makes no difference.
"""

from __future__ import annotations

from runner.playbook.document import PositionedMap, shorten
from runner.playbook.inputs import InputProblem
from runner.playbook.ssh_config.settings import HostSettings
from runner.problems import Problem

OFF = ("no", "false", "none", "off")

# Option, the values that make no difference, and what the runner does instead. The first table counts where the
# configuration decides which host keys are known, the next two by the way to log in, the last one always.
TRUST_OPTIONS = {
    "StrictHostKeyChecking": (("yes", "true", "ask"), "only known keys are accepted"),
    "VerifyHostKeyDNS": (OFF, "keys are looked up in known_hosts files only"),
    "KnownHostsCommand": (OFF, "nothing is executed"),
    "NoHostAuthenticationForLocalhost": (OFF, "every host's key is checked"),
}
KEY_OPTIONS = {"PKCS11Provider": (OFF, "keys come from files")}
AGENT_OPTIONS = {"IdentityAgent": (("ssh_auth_sock",), "the agent is the one that SSH_AUTH_SOCK names")}
ROUTE_OPTIONS = {
    "BindAddress": ((), "the system chooses the address"),
    "BindInterface": ((), "the system chooses the interface"),
    "AddressFamily": (("any",), "every address of the host is tried"),
    "CanonicalizeHostname": (OFF, "the name is taken as it is written"),
}


def refuse(settings: HostSettings, alias: str, inputs: PositionedMap, *, has_proxy: bool = False) -> None:
    """Raise `InputProblem` where going on would mean something else than what the configuration says.

    `has_proxy`: the playbook itself says what proxy the way begins with, if any.
    """
    shown = f"'{shorten(alias)}'"
    if (command := settings.proxy_command) and not has_proxy:
        hint = "Use 'ProxyJump' in the configuration, or 'proxy_jump' or 'proxy' in the playbook."
        message = f"'ProxyCommand' is not executed, and {shown} is not reached without it"
        raise InputProblem(command.location, message, hint)
    if refusal := settings.others.get("refuseconnection"):
        raise InputProblem(refusal.location, f"'RefuseConnection' forbids to connect to {shown}")
    revoked = settings.others.get("revokedhostkeys")
    if revoked and "hostkey" not in inputs and revoked.value.lower() != "none":
        message = f"'RevokedHostKeys' is not read: a key of {shown} that it revokes would be accepted"
        hint = "Mark the keys '@revoked' in a known_hosts file, or pin the host's key in the playbook, under 'hostkey'."
        raise InputProblem(revoked.location, message, hint)


def find_warnings(settings: HostSettings, alias: str, inputs: PositionedMap) -> list[Problem]:
    """What has no effect for a host and could be missed."""
    authentication = inputs.get("authentication")
    method = authentication.get("authentication_method") if isinstance(authentication, PositionedMap) else None
    options = dict(ROUTE_OPTIONS)
    if "hostkey" not in inputs:
        options |= TRUST_OPTIONS
    if authentication is None:
        options |= KEY_OPTIONS
    if method == "ssh_agent":
        options |= AGENT_OPTIONS
    warnings = []
    for option, (harmless, instead) in options.items():
        said = settings.others.get(option.lower())
        if said and said.value.lower() not in harmless:
            message = f"'{option} {shorten(said.value)}' has no effect for '{shorten(alias)}': {instead}"
            warnings.append(Problem(said.location, message))
    return warnings
