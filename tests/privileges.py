"""Lets a test that runs as root meet "permission denied" all the same."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


@contextmanager
def no_special_powers() -> Iterator[None]:
    """Inside the block this thread obeys file permissions even as root: the two capabilities that ignore them are off."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    if libc.capget(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    kept = data[0].effective
    data[0].effective = kept & ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
    _set(libc, header, data)
    try:
        yield
    finally:
        data[0].effective = kept
        _set(libc, header, data)


def _set(libc: ctypes.CDLL, header: _Header, data: ctypes.Array[_Data]) -> None:
    if libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


_PR_CAPBSET_DROP = 24


def drop_special_powers() -> None:
    """For `preexec_fn`: what this process executes next obeys file permissions even as root, for good, in `access` too.

    `no_special_powers` does not do for that: `access` asks what is allowed to one that has taken all powers it may.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for power in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, power, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
