"""What in a user's certificate may have made a server refuse it. The server alone decides; it does not say why."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from runner.public_keys import PublicKey
from runner.ssh.host_certificates import HostCertificate, format_time, parse_certificate

if TYPE_CHECKING:
    import paramiko

USER_CERTIFICATE = 1


def explain_certificates(keys: Iterable[paramiko.PKey], username: str) -> str:
    """What can be seen in the certificates of these keys, in a sentence; empty if nothing is wrong with them."""
    for key in keys:
        blob = getattr(key, "public_blob", None)
        if blob is None:
            continue
        try:
            fault = find_fault(parse_certificate(blob.key_blob), username, time.time())
        except ValueError:
            # One of a FIDO token's key, or a damaged one: the server has seen it all the same.
            continue
        if fault:
            return f"The certificate cannot let {username} in: {fault}."
    return ""


class Fault(NamedTuple):
    """What stands in a certificate and speaks against it. Not `is_certain`: a server may see it differently."""

    reason: str
    is_certain: bool


def find_faults(certificate: PublicKey, username: str, now: float) -> list[Fault]:
    """Why a certificate that was read from a file may not let a user in. An empty `username` is one that is not known."""
    try:
        parsed = parse_certificate(certificate.blob)
    except ValueError:
        # One of a FIDO token's key, which only the server takes apart.
        return []
    fault = find_fault(parsed, username or next(iter(parsed.principals), ""), now)
    is_certain = parsed.type != USER_CERTIFICATE or not parsed.valid_after <= now < parsed.valid_before
    return [Fault(fault, is_certain)] if fault else []


def find_fault(certificate: HostCertificate, username: str, now: float) -> str:
    """Why a server may refuse a certificate, by what stands in it; empty if there is nothing to see."""
    if certificate.type != USER_CERTIFICATE:
        return "it is for a host, not for users"
    if now < certificate.valid_after:
        return f"it is not valid before {format_time(certificate.valid_after)}"
    if now >= certificate.valid_before:
        return f"it has expired ({format_time(certificate.valid_before)})"
    if not certificate.principals:
        return "it does not say whom it is for"
    if username not in certificate.principals:
        return f"it is for {certificate.describe_principals()}; has the server other names for its users?"
    if "source-address" in certificate.critical_options:
        return "it is good from certain addresses only"
    return ""
