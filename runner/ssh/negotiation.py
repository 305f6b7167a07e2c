"""What client and server offer each other (RFC 4253 section 7.1), and why that may be nothing in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runner.errors import NoCommonAlgorithm
from runner.ssh import legacy
from runner.ssh.prompts import clean_prompt

# A server may list thousands.
MAX_NAMES_SHOWN = 20
# Not algorithms, although they stand among the key exchanges (RFC 8308; OpenSSH's PROTOCOL 1.10).
_MARKS = ("ext-info-", "kex-strict-")

HOST_KEY = "host key"


class Offer(NamedTuple):
    """The algorithms of one side, by kind. Pairs are for the way to the server and the way back."""

    key_exchange: tuple[str, ...]
    host_key: tuple[str, ...]
    ciphers: tuple[tuple[str, ...], tuple[str, ...]]
    macs: tuple[tuple[str, ...], tuple[str, ...]]
    compressions: tuple[tuple[str, ...], tuple[str, ...]]


class Mismatch(NamedTuple):
    """A kind of algorithm in which the sides have none in common. `needed` is the legacy one that would be; or empty."""

    kind: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    needed: str


def strip_marks(names: Iterable[str]) -> tuple[str, ...]:
    """The key exchanges of a list, without what is none."""
    return tuple(name for name in names if not name.startswith(_MARKS))


def find_mismatches(ours: Offer, theirs: Offer, authenticated_ciphers: Sequence[str]) -> list[Mismatch]:
    """Every kind in which there is nothing in common, in the order in which they are agreed on.

    A MAC is not needed where the cipher authenticates.
    """
    found = [
        _compare("key exchange", (ours.key_exchange,), (theirs.key_exchange,), legacy.KEX),
        # With SHA-1 signatures the server could prove the RSA key that is known, and no other one.
        _compare(
            HOST_KEY,
            (ours.host_key,),
            (theirs.host_key,),
            legacy.SIGNATURES if any("rsa" in name for name in ours.host_key) else (),
        ),
        _compare("cipher", ours.ciphers, theirs.ciphers, legacy.CIPHERS),
    ]
    agreed = [_agree(*lists) for lists in zip(ours.ciphers, theirs.ciphers, strict=True)]
    if not all(name in authenticated_ciphers for name in agreed):
        found.append(_compare("MAC", ours.macs, theirs.macs, legacy.MACS))
    found.append(_compare("compression", ours.compressions, theirs.compressions, ()))
    return [one for one in found if one is not None]


def _agree(ours: Sequence[str], theirs: Sequence[str]) -> str:
    return next((name for name in ours if name in theirs), "")


def _compare(
    kind: str, ours: Sequence[tuple[str, ...]], theirs: Sequence[tuple[str, ...]], known: Sequence[str]
) -> Mismatch | None:
    if all(_agree(*lists) for lists in zip(ours, theirs, strict=True)):
        return None
    needed = next((name for name in known if all(name in names for names in theirs)), "")
    return Mismatch(kind, ours[0], tuple(dict.fromkeys(name for names in theirs for name in names)), needed)


def explain_mismatches(who: str, mismatches: Sequence[Mismatch], allowed: Sequence[str]) -> NoCommonAlgorithm:
    """The error, with what each side has and what would be needed. `allowed` are the legacy algorithms of the playbook."""
    kinds = " and ".join(one.kind for one in mismatches)
    lists = "; ".join(
        f"{one.kind}: the server has {_list(one.theirs)}, the runner {_list(one.ours)}" for one in mismatches
    )
    return NoCommonAlgorithm(
        f"{who} and the runner have no {kinds} in common; no credential was sent. {lists}",
        hint=_advise(mismatches, allowed),
    )


def _advise(mismatches: Sequence[Mismatch], allowed: Sequence[str]) -> str:
    # A host key of another type than the known ones is no matter of algorithms.
    hopeless = [one.kind for one in mismatches if not one.needed and one.kind != HOST_KEY]
    if hopeless:
        return (
            f"No name under 'legacy_algorithms' helps: of the server's algorithms for the {' and the '.join(hopeless)} the "
            "runner has none. Ask the server's operator for one of the runner's."
        )
    names = ", ".join([*allowed, *(one.needed for one in mismatches if one.needed)])
    return (
        "What the server has is considered broken; it needs an update. Until then "
        f"'legacy_algorithms: [{names}]' allows it, and every play warns of that."
    )


def _list(names: Sequence[str]) -> str:
    """The names as they are printed: a server may call them anything."""
    shown = ", ".join(clean_prompt(name) for name in names[:MAX_NAMES_SHOWN] if name)
    more = len(names) - MAX_NAMES_SHOWN
    return (shown or "none") + (f" and {more} more" if more > 0 else "")
