"""SFTP's packets taken apart by hand where there are many of them: as by the book, and nothing odd slips through."""

from __future__ import annotations

import random
import struct

import pytest

from runner.sftp.packets import (
    MAX_HANDLE_BYTES,
    Attributes,
    MalformedPacket,
    OpenFlag,
    Reader,
    StatusCode,
    Type,
    encode_string,
    encoded_handle,
)

USUAL = struct.pack(">IQIIIII", 15, 5, 0, 0, 0o100644, 1, 2)
NAMES = (b"a", b"\xff\xfeb", "größe".encode(), b"n" * 255)


def listing(names: tuple[bytes, ...] = NAMES) -> bytes:
    """The body of READDIR's answer."""
    entries = (encode_string(name) + encode_string(b"-rw-r--r-- 1 " + name) + USUAL for name in names)
    return struct.pack(">I", len(names)) + b"".join(entries)


def test_names_are_taken_as_they_are() -> None:
    entries = Reader(listing()).take_names()
    assert [name.encode("utf-8", "surrogateescape") for name, _ in entries] == list(NAMES)
    assert {attributes for _, attributes in entries} == {Attributes(5, 0o100644, 1, 2)}


def test_extended_attributes_are_no_part_of_the_next_name() -> None:
    """Section 5: pairs of a name and a value behind the attributes."""
    pairs = (
        struct.pack(">I", 2) + encode_string(b"x@y") + encode_string(b"1") + encode_string(b"z@y") + encode_string(b"")
    )
    told = struct.pack(">I", 0x8000000F) + USUAL[4:] + pairs
    entries = b"".join(encode_string(name) + encode_string(b"") + told for name in (b"a", b"b"))
    body = struct.pack(">I", 2) + entries

    assert Reader(body).take_names() == [(name, Attributes(5, 0o100644, 1, 2)) for name in ("a", "b")]


def test_a_listing_that_ends_anywhere_is_malformed() -> None:
    body = listing()
    for length in range(len(body)):
        with pytest.raises(MalformedPacket):
            Reader(body[:length]).take_names()


def test_a_listing_with_any_bytes_is_taken_or_malformed() -> None:
    chance = random.Random(7)
    for _ in range(5000):
        body = bytearray(listing())
        for _ in range(3):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            Reader(bytes(body)).take_names()
        except MalformedPacket:
            continue


@pytest.mark.parametrize("length", [1, 4, MAX_HANDLE_BYTES])
def test_a_handle_is_kept_as_requests_carry_it(length: int) -> None:
    body = encode_string(b"h" * length)
    assert encoded_handle(memoryview(body)) == body
    # What follows it is nothing of ours.
    assert encoded_handle(memoryview(body + b"more")) == body


@pytest.mark.parametrize("body", [b"", b"\0\0", encode_string(b""), encode_string(b"h" * 257), b"\0\0\0\5four"])
def test_what_is_no_handle(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        encoded_handle(memoryview(body))


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        (USUAL, 5),
        (USUAL + b"more", 5),
        (struct.pack(">IQ", 1, 7), 7),
        (struct.pack(">II", 4, 0o644), None),
        (struct.pack(">I", 0), None),
        (struct.pack(">IIIIIIII", 12, 0o644, 1, 2, 0, 0, 0, 0), None),
    ],
)
def test_a_size_is_told_or_not(attributes: bytes, size: int | None) -> None:
    assert Reader(attributes).take_attributes().size_bytes == size


@pytest.mark.parametrize("length", range(len(USUAL)))
def test_attributes_that_end_early_are_malformed(length: int) -> None:
    with pytest.raises(MalformedPacket):
        Reader(USUAL[:length]).take_attributes()


@pytest.mark.parametrize("mode", [None, 0, 0o600])
@pytest.mark.parametrize("accessed", [None, 0, 3])
@pytest.mark.parametrize("modified", [None, 0, 4])
def test_what_is_encoded_is_read_back(mode: int | None, accessed: int | None, modified: int | None) -> None:
    encoded = Attributes(mode=mode, accessed_at_seconds=accessed, modified_at_seconds=modified).encode()
    read = Reader(encoded).take_attributes()
    assert (read.mode, read.modified_at_seconds) == (mode, modified)
    expected = None if modified is None else modified if accessed is None else accessed
    assert read.accessed_at_seconds == expected
    assert len(encoded) == 4 + 4 * (mode is not None) + 8 * (modified is not None)


def test_numbers_have_names() -> None:
    assert (Type.name_of(103), StatusCode.name_of(3), OpenFlag.name_of(2)) == ("DATA", "PERMISSION_DENIED", "WRITE")
    assert Type.name_of(99) is None
    # Where a class is defined is a number, too, from Python 3.13 on.
    assert all(name is None or name.isupper() for name in map(StatusCode.name_of, range(300)))
