"""An SSH server inside the test process, whose logins and faults a test can choose."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import cast

import asyncssh

from tests.servers.endpoint import Endpoint
from tests.servers.file_session import Channel, FileServer, FileSession, SFTPFactory
from tests.servers.login import Login, LoginEvent, LoginRules, Step, Visits
from tests.servers.server_thread import ServerThread


class AsyncsshServer(Endpoint):
    """asyncssh in a daemon thread, serving files below (and outside of) `root`.

    One of the methods on offer suffices: the generated key (`accepts_key`), the `password`, or the answers of
    `keyboard_interactive`, a tuple of (prompt, answer). The password method is left out when there are
    questions, unless `offers_password` says otherwise. With `require_key_and_password` the key is only the
    first of two steps; before it nothing else is on offer.
    """

    login_class: type[Login] = Login
    session_class: type[FileSession] = FileSession
    # What it says that it is, in its banner; empty for the truth.
    software = ""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        chroot: bool = False,
        password: str | None = None,
        accepts_key: bool = True,
        keyboard_interactive: tuple[tuple[str, str], ...] | None = None,
        offers_password: bool | None = None,
        require_key_and_password: bool = False,
        sftp: bool = True,
        scp: bool = True,
        sftp_factory: SFTPFactory = FileServer,
        host_key_types: Sequence[str] = ("ed25519",),
        host_key_files: Sequence[Path] | None = None,
    ) -> None:
        super().__init__(folder, host_key_types=host_key_types, host_key_files=host_key_files)
        if offers_password is None:
            offers_password = password is not None and keyboard_interactive is None
        self.root = root
        self.chroot = chroot
        self.sftp = sftp
        self.scp = scp
        self.sftp_factory = sftp_factory
        self.rules = LoginRules(
            username=self.username,
            steps=_list_steps(accepts_key, offers_password, keyboard_interactive is not None, require_key_and_password),
            public_key=self.user_key.public_line,
            password=password,
            questions=keyboard_interactive or (),
        )
        self._visits = Visits()
        self._thread = ServerThread(self._listen, self._abort_connections)

    @property
    def login_events(self) -> list[LoginEvent]:
        """Every authentication request as (method, username). Empty: not even a login was begun."""
        return self._visits.login_events

    @property
    def requests(self) -> list[str]:
        """Every command and subsystem asked for, granted or not."""
        return self._visits.requests

    @property
    def connection_count(self) -> int:
        """How many TCP connections there were."""
        return self._visits.connection_count

    def start(self) -> None:
        """Listen on a free port."""
        self.port = self._thread.start()

    def stop(self) -> None:
        """Close the listener and all connections."""
        self._thread.stop()

    def kill_sessions(self) -> None:
        """Cut all connections without a word; the server still listens."""
        self._thread.call(self._abort_connections)

    def _abort_connections(self) -> None:
        for connection in list(self._visits.connections):
            connection.abort()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self.host,
            0,
            config=None,
            server_factory=self._make_login,
            server_host_keys=[str(key.path) for key in self.host_keys],
            encoding=None,
            line_editor=False,
            agent_forwarding=False,
            gss_host=None,
            server_version=self.software or (),
        )

    def _make_login(self) -> Login:
        return self.login_class(self.rules, self._visits, self._make_session)

    def _make_session(self) -> FileSession:
        return self.session_class(self._make_sftp_server, self._visits, sftp=self.sftp, scp=self.scp)

    def _make_sftp_server(self, channel: object) -> FileServer | Awaitable[FileServer]:
        return self.sftp_factory(cast(Channel, channel), self.root, self.chroot)


def _list_steps(key: bool, password: bool, questions: bool, key_first: bool) -> tuple[Step, ...]:
    secrets = [name for name, on in (("password", password), ("keyboard-interactive", questions)) if on]
    if key_first:
        return frozenset(["publickey"]), frozenset(secrets)
    return (frozenset(["publickey", *secrets] if key else secrets),)
