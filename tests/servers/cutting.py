"""Servers that carry out the n-th request that changes something, and cut the connection in place of the reply."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import asyncssh

from tests.servers.file_session import Channel, FileServer, SFTPFactory
from tests.servers.openssh import OpenSSHServer

_WRITING = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC | asyncssh.FXF_APPEND


class Cuts:
    """Which requests are cut off, counted over all sessions from 1, and what they were."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.requests: list[str] = []

    def note(self, request: str) -> bool:
        """A request has been carried out; whether its reply is lost."""
        self.requests.append(request)
        return len(self.requests) in self.numbers

    def serve(self, *, hides: tuple[bytes, ...] = ()) -> SFTPFactory:
        """Sessions that are cut off; they know none of the extensions that are hidden."""
        kind = type("Cutting", (CuttingServer,), {"hidden_extensions": frozenset(hides)})

        def make(channel: Channel, root: Path, chroot: bool = False) -> FileServer:
            server: CuttingServer = kind(channel, root, chroot)
            server.cuts = self
            return server

        return make


class CuttingServer(FileServer):
    """One session. What it is sent behind the request that is cut off is not carried out."""

    cuts: Cuts
    _is_cut = False

    def __init__(self, channel: Channel, root: Path, chroot: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self._written: dict[int, BinaryIO] = {}

    def _change(self, name: str, change: Callable[[], Any]) -> Any:
        if self._is_cut:
            raise asyncssh.SFTPConnectionLost("cut")
        done = change()
        if self.cuts.note(name):
            self._is_cut = True
            # Nobody else may come to close them.
            for file in self._written.values():
                file.close()
            self.channel.get_connection().abort()
        return done

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if not pflags & _WRITING:
            return super().open(path, pflags, attrs)
        file = self._change(f"open {path!r}", lambda: super(CuttingServer, self).open(path, pflags, attrs))
        self._written[id(file)] = file
        if self._is_cut:
            file.close()
        return file

    def close(self, file_obj: object) -> None:
        super().close(file_obj)
        if self._written.pop(id(file_obj), None) is not None:
            self._change("close", lambda: None)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        written: int = self._change("write", lambda: super(CuttingServer, self).write(file_obj, offset, data))
        return written

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        self._change("fsetstat", lambda: super(CuttingServer, self).fsetstat(file_obj, attrs))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._change(f"setstat {path!r}", lambda: super(CuttingServer, self).setstat(path, attrs))

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._change(f"mkdir {path!r}", lambda: super(CuttingServer, self).mkdir(path, attrs))

    def rmdir(self, path: bytes) -> None:
        self._change(f"rmdir {path!r}", lambda: super(CuttingServer, self).rmdir(path))

    def remove(self, path: bytes) -> None:
        self._change(f"remove {path!r}", lambda: super(CuttingServer, self).remove(path))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._change(f"rename {newpath!r}", lambda: super(CuttingServer, self).rename(oldpath, newpath))

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._change(f"posix-rename {newpath!r}", lambda: super(CuttingServer, self).posix_rename(oldpath, newpath))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        self._change(f"symlink {newpath!r}", lambda: super(CuttingServer, self).symlink(oldpath, newpath))

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        self._change(f"link {newpath!r}", lambda: super(CuttingServer, self).link(oldpath, newpath))

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data: bytes = self._change("read", lambda: super(CuttingServer, self).read(file_obj, offset, size))
        return data


# The parent is sshd's process for this connection.
_PROGRAM = """
sh -c "$SSH_ORIGINAL_COMMAND"
status=$?
case $SSH_ORIGINAL_COMMAND in
*"scp -p "*|*"mv "*|*"rm "*|*"chmod "*|*"mkdir "*|*"ln "*)
    printf '%s\\n' "$SSH_ORIGINAL_COMMAND" >> {folder}/requests
    case " $(cat {folder}/cuts) " in
    *" $(wc -l < {folder}/requests | tr -d ' ') "*) kill -KILL $PPID ;;
    esac
esac
exit $status
"""


class CuttingShellServer(OpenSSHServer):
    """sshd with a shell and scp, that runs the n-th command and cuts the connection in place of its exit status."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, sftp=False)
        script = folder / "program.sh"
        script.write_text(_PROGRAM.format(folder=shlex.quote(str(folder))), encoding="utf-8")
        self.extra_config = (f"ForceCommand exec sh {script}",)

    def cut(self, *numbers: int) -> None:
        """Cut these commands off from now on, counted from 1."""
        (self.folder / "requests").write_text("")
        (self.folder / "cuts").write_text(" ".join(map(str, numbers)))

    @property
    def requests(self) -> list[str]:
        """The commands that were run since then."""
        return (self.folder / "requests").read_text().splitlines()
