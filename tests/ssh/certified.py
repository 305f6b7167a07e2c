"""sshds with host certificates, good ones and bad ones, all of one authority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.endpoint import LOOPBACK
from tests.servers.keys import KeyPair, generate_key_pair, sign_host_key
from tests.servers.openssh import OpenSSHServer

ALIAS = "sftp.bank.example"
PRINCIPALS = (LOOPBACK, ALIAS)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What to have signed, in the words of `ssh-keygen`."""

    principals: Sequence[str] = PRINCIPALS
    validity: str = "-1h:+1h"
    options: Sequence[str] = ()
    is_for_users: bool = False
    key_type: str = "ed25519"
    authority_type: str = "ed25519"
    algorithm: str = ""


GOOD = Certificate()
KINDS = {
    "good": GOOD,
    "good ecdsa": Certificate(key_type="ecdsa", authority_type="ecdsa"),
    "good rsa": Certificate(key_type="rsa", authority_type="rsa", algorithm="rsa-sha2-256"),
    "for the alias only": Certificate(principals=(ALIAS,)),
    "for other hosts": Certificate(principals=("other.example", f"{LOOPBACK}.example")),
    "for everybody": Certificate(principals=()),
    "for a wildcard": Certificate(principals=("*",)),
    "expired": Certificate(validity="-2h:-1h"),
    "not yet valid": Certificate(validity="+1h:+2h"),
    "for users": Certificate(is_for_users=True),
    "with a critical option": Certificate(options=("critical:colour=blue",)),
    "with an unknown extension": Certificate(options=("extension:colour=blue",)),
    "signed with SHA-1": Certificate(authority_type="rsa", algorithm="ssh-rsa"),
}


class CertifiedServer(OpenSSHServer):
    """An sshd whose first host key has a certificate; the others of `key_types` have none."""

    def __init__(self, folder: Path, kind: str, authorities: dict[str, KeyPair], key_types: Sequence[str] = ()) -> None:
        wanted = KINDS[kind]
        types = (wanted.key_type, *(name for name in key_types if name != wanted.key_type))
        super().__init__(folder, host_key_types=types)
        self.authority = authorities[wanted.authority_type]
        self.certificate_path = sign_host_key(
            self.authority,
            self.host_keys[0],
            folder / "certified",
            wanted.principals,
            validity=wanted.validity,
            options=wanted.options,
            is_for_users=wanted.is_for_users,
            algorithm=wanted.algorithm,
        )
        self.extra_config = (f"HostCertificate {self.certificate_path}",)


def generate_authorities(folder: Path) -> dict[str, KeyPair]:
    """A certificate authority of each type of key."""
    return {name: generate_key_pair(folder / f"authority_{name}", name) for name in ("ed25519", "ecdsa", "rsa")}
