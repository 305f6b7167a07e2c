"""What a server can have or lack, and how each is tried: by single requests, on a directory of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from tests.servers.raw_sftp import Kind, string
from tests.zoo.raw_client import CREATE, READ, TRUNCATE, WRITE, RawClient, encode_attributes, handle_of

_MODE, _MODIFIED = 0o640, 1_700_000_000
# Answers before CLOSE are not what counts: some servers set their own time at CLOSE.
_DATA = b"the quick brown fox"


class Capability(Enum):
    """What the page calls it, and what it is good for. An extension that is not announced is none: no client tries it."""

    REPLACE = "replacing in one step", "a new file takes the place of the old one (`posix-rename@openssh.com`)"
    HARD_LINKS = (
        "hard links",
        "a file gets a second name, so that `backup` never leaves the first one free (`hardlink@openssh.com`)",
    )
    LINKS = "making links", "a symbolic link is made with the very target that it has in the source"
    SEES_LINKS = "seeing links", "a symbolic link can be told from what it leads to"
    FOLLOWS_LINKS = "following links", "a file is read where a link leads to it"
    RENAMES_LINKS = "renaming links", "the rename of a link renames the link itself"
    READS_LINKS = "reading links", "the target of a link is told as it is written"
    PERMISSIONS = "permissions", "a file keeps those that it is given"
    OPENING_PERMISSIONS = "permissions from the start", "a new file has those that it is opened with"
    TELLS_PERMISSIONS = "telling permissions", "a file's permissions are told as they are on the server's disk"
    DIRECTORY_PERMISSIONS = "permissions of directories", "a directory keeps those that it is given"
    TIMES = "times", "a file keeps the modification time that it is given"
    DIRECTORY_TIMES = "times of directories", "a directory keeps the modification time that it is given"
    APPEND = "going on", "a file that was begun can be continued: an interrupted copy is resumed"
    SEVERAL_HANDLES = (
        "several handles",
        "a file can be written by several at once: a large one uses several channels",
    )
    SYNC = "syncing", "a file is synced to disk on request, for `durable: true` (`fsync@openssh.com`)"
    FREE_SPACE = "free space", "it can be asked for, which explains why a write was refused (`statvfs@openssh.com`)"
    SHELL = "a shell", "the server works out hashes itself, and speaks SCP"
    CONTROL_NAMES = "any character in names", "a name may have a line feed in it, or any other control character"
    UNICODE_NAMES = "names in any script", "a name need not be ASCII"
    BYTE_NAMES = "names in bytes", "a name need not be UTF-8"

    def __init__(self, title: str, meaning: str) -> None:
        self.title = title
        self.meaning = meaning


class Place:
    """A directory of one server: `disk` is where its files really are, `name` what the server calls it."""

    def __init__(self, disk: Path, name: bytes) -> None:
        self.disk, self.name = disk, name

    def path(self, name: str) -> bytes:
        return self.name + b"/" + os.fsencode(name)


Probe = Callable[[RawClient, Place], bool]


def _replaces(client: RawClient, place: Place) -> bool:
    if b"posix-rename@openssh.com" not in client.extensions:
        return False
    client.write_file(place.path("new"), _DATA)
    client.write_file(place.path("old"), b"old")
    reply = client.extended(b"posix-rename@openssh.com", string(place.path("new")), string(place.path("old")))
    return reply.is_good and _read_names(place) == {"old"} and (place.disk / "old").read_bytes() == _DATA


def _makes_hard_links(client: RawClient, place: Place) -> bool:
    client.write_file(place.path("one"), _DATA)
    reply = client.extended(b"hardlink@openssh.com", string(place.path("one")), string(place.path("two")))
    return reply.is_good and _read_names(place) == {"one", "two"} and (place.disk / "two").stat().st_nlink == 2


def _makes_links(client: RawClient, place: Place) -> bool:
    """In either order of SYMLINK's arguments: which one it is can be seen."""
    target, path = string(b"../some/where"), string(place.path("link"))
    client.request(Kind.SYMLINK, target, path)
    if not os.path.lexists(place.disk / "link"):
        client.request(Kind.SYMLINK, path, target)
    return (place.disk / "link").is_symlink() and os.readlink(place.disk / "link") == "../some/where"


def _sees_links(client: RawClient, place: Place) -> bool:
    (place.disk / "file").write_bytes(_DATA)
    (place.disk / "link").symlink_to("file")
    reply = client.request(Kind.LSTAT, string(place.path("link")))
    return reply.is_good and stat.S_ISLNK(reply.attributes().get("mode", 0))


def _follows_links(client: RawClient, place: Place) -> bool:
    (place.disk / "file").write_bytes(_DATA)
    (place.disk / "link").symlink_to("file")
    reply = client.request(Kind.STAT, string(place.path("link")))
    return (
        reply.is_good and reply.attributes().get("size") == len(_DATA) and client.open(place.path("link"), READ).is_good
    )


def _renames_links(client: RawClient, place: Place) -> bool:
    (place.disk / "file").write_bytes(_DATA)
    (place.disk / "link").symlink_to("file")
    client.request(Kind.RENAME, string(place.path("link")), string(place.path("renamed")))
    return _read_names(place) == {"file", "renamed"} and (place.disk / "renamed").is_symlink()


def _reads_links(client: RawClient, place: Place) -> bool:
    (place.disk / "link").symlink_to("file")
    reply = client.request(Kind.READLINK, string(place.path("link")))
    return reply.kind == Kind.NAME and reply.name() == b"file"


def _keeps_permissions(client: RawClient, place: Place) -> bool:
    path = place.path("file")
    client.write_file(path, _DATA)
    attributes = encode_attributes(mode=_MODE)
    client.request(Kind.SETSTAT, string(path), attributes)
    if stat.S_IMODE((place.disk / "file").stat().st_mode) != _MODE:
        _set_by_handle(client, path, attributes)
    return stat.S_IMODE((place.disk / "file").stat().st_mode) == _MODE


def _opens_with_permissions(client: RawClient, place: Place) -> bool:
    client.write_file(place.path("file"), _DATA, _MODE)
    return stat.S_IMODE((place.disk / "file").stat().st_mode) == _MODE


def _tells_permissions(client: RawClient, place: Place) -> bool:
    (place.disk / "file").write_bytes(_DATA)
    (place.disk / "file").chmod(_MODE)
    reply = client.request(Kind.LSTAT, string(place.path("file")))
    return stat.S_IMODE(reply.attributes().get("mode", 0)) == _MODE


def _keeps_times(client: RawClient, place: Place) -> bool:
    path = place.path("file")
    client.write_file(path, _DATA)
    attributes = encode_attributes(modified=_MODIFIED)
    client.request(Kind.SETSTAT, string(path), attributes)
    if int((place.disk / "file").stat().st_mtime) != _MODIFIED:
        _set_by_handle(client, path, attributes)
    return int((place.disk / "file").stat().st_mtime) == _MODIFIED


def _set_by_handle(client: RawClient, path: bytes, attributes: bytes) -> None:
    handle = handle_of(client.open(path, READ | WRITE))
    client.request(Kind.FSETSTAT, string(handle), attributes)
    client.close_handle(handle)


def _keeps_directory_permissions(client: RawClient, place: Place) -> bool:
    client.request(Kind.MKDIR, string(place.path("directory")), encode_attributes())
    client.request(Kind.SETSTAT, string(place.path("directory")), encode_attributes(mode=0o750))
    return stat.S_IMODE((place.disk / "directory").stat().st_mode) == 0o750


def _keeps_directory_times(client: RawClient, place: Place) -> bool:
    client.request(Kind.MKDIR, string(place.path("directory")), encode_attributes())
    client.request(Kind.SETSTAT, string(place.path("directory")), encode_attributes(modified=_MODIFIED))
    return int((place.disk / "directory").stat().st_mtime) == _MODIFIED


def _appends(client: RawClient, place: Place) -> bool:
    client.write_file(place.path("file"), _DATA)
    reply = client.open(place.path("file"), READ | WRITE)
    if not reply.is_good:
        return False
    handle = handle_of(reply)
    added = client.send_write(handle, len(_DATA), _DATA)
    closed = client.close_handle(handle)
    return added.is_good and closed.is_good and (place.disk / "file").read_bytes() == _DATA * 2


def _takes_several_handles(client: RawClient, place: Place) -> bool:
    first = handle_of(client.open(place.path("file"), WRITE | CREATE | TRUNCATE))
    reply = client.open(place.path("file"), READ | WRITE)
    if not reply.is_good:
        return False
    second = handle_of(reply)
    # Not in the order of their offsets, as it is with several channels.
    replies = [client.send_write(second, len(_DATA), _DATA), client.send_write(first, 0, _DATA)]
    replies += [client.close_handle(first), client.close_handle(second)]
    return all(reply.is_good for reply in replies) and (place.disk / "file").read_bytes() == _DATA * 2


def _syncs(client: RawClient, place: Place) -> bool:
    handle = handle_of(client.open(place.path("file"), WRITE | CREATE | TRUNCATE))
    client.write(handle, 0, _DATA)
    is_synced = client.extended(b"fsync@openssh.com", string(handle)).is_good
    client.close_handle(handle)
    return is_synced


def _tells_free_space(client: RawClient, place: Place) -> bool:
    reply = client.extended(b"statvfs@openssh.com", string(place.name))
    return reply.kind == Kind.EXTENDED_REPLY and len(reply.body) == 88


def _has_shell(client: RawClient, place: Place) -> bool:
    return client.can_run("test -d /")


def _takes_control_names(client: RawClient, place: Place) -> bool:
    return _takes_name(client, place, b"a\nb\tc")


def _takes_unicode_names(client: RawClient, place: Place) -> bool:
    return _takes_name(client, place, "日本ü".encode())


def _takes_byte_names(client: RawClient, place: Place) -> bool:
    return _takes_name(client, place, b"b\xfd")


def _takes_name(client: RawClient, place: Place, name: bytes) -> bool:
    path = place.name + b"/" + name
    reply = client.open(path, WRITE | CREATE | TRUNCATE)
    if not reply.is_good:
        return False
    client.close_handle(handle_of(reply))
    is_listed = name in client.list_names(place.name)
    return is_listed and client.open(path, READ).is_good and name in os.listdir(os.fsencode(place.disk))


def _read_names(place: Place) -> set[str]:
    return set(os.listdir(place.disk))


PROBES: dict[Capability, Probe] = {
    Capability.REPLACE: _replaces,
    Capability.HARD_LINKS: _makes_hard_links,
    Capability.LINKS: _makes_links,
    Capability.SEES_LINKS: _sees_links,
    Capability.FOLLOWS_LINKS: _follows_links,
    Capability.RENAMES_LINKS: _renames_links,
    Capability.READS_LINKS: _reads_links,
    Capability.PERMISSIONS: _keeps_permissions,
    Capability.OPENING_PERMISSIONS: _opens_with_permissions,
    Capability.TELLS_PERMISSIONS: _tells_permissions,
    Capability.DIRECTORY_PERMISSIONS: _keeps_directory_permissions,
    Capability.TIMES: _keeps_times,
    Capability.DIRECTORY_TIMES: _keeps_directory_times,
    Capability.APPEND: _appends,
    Capability.SEVERAL_HANDLES: _takes_several_handles,
    Capability.SYNC: _syncs,
    Capability.FREE_SPACE: _tells_free_space,
    Capability.SHELL: _has_shell,
    Capability.CONTROL_NAMES: _takes_control_names,
    Capability.UNICODE_NAMES: _takes_unicode_names,
    Capability.BYTE_NAMES: _takes_byte_names,
}
