"""The servers themselves, judged by clients that are not the product: paramiko, ssh, sftp and scp."""

from __future__ import annotations

import errno
import gc
import shutil
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import paramiko
import pytest

from tests.patience import wait_for
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.disk import NotAvailable, small_filesystem
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import SFTPFactory
from tests.servers.keys import KeyPair, generate_key_pair, shared_key_pair
from tests.servers.listeners import GarbageServer, closed_port
from tests.servers.mute import STAGES, MuteServer, Stage
from tests.servers.openssh import OpenSSHServer, ServerFailure, find_sshd
from tests.servers.processes import list_descendants

needs_sshd = pytest.mark.skipif(find_sshd() is None, reason="no sshd on this machine")

SILENCE_SECONDS = 0.5
CONNECTION_LOST = (OSError, EOFError, paramiko.SSHException)
DATA = bytes(range(256)) * 400  # four of paramiko's 32 KiB pieces


@contextmanager
def connect(server: Endpoint, password: str | None = None, *, key: bool = True) -> Iterator[paramiko.SSHClient]:
    """Log in with the server's own key, a password or both, accepting only the server's host key."""
    known_hosts = server.folder / "known_hosts"
    known_hosts.write_text(server.known_hosts_line() + "\n")
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(known_hosts))
        client.connect(
            server.host,
            server.port,
            server.username,
            password,
            key_filename=str(server.user_key_path) if key else None,
            allow_agent=False,
            look_for_keys=False,
            timeout=2,
            banner_timeout=SILENCE_SECONDS * 2,
            auth_timeout=SILENCE_SECONDS * 2,
        )
        yield client


@contextmanager
def open_sftp(server: Endpoint) -> Iterator[paramiko.SFTPClient]:
    with connect(server) as client, client.open_sftp() as sftp:
        yield sftp


def run_client(server: Endpoint, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ssh, sftp or scp without any configuration of the machine or the user."""
    known_hosts = server.folder / "known_hosts"
    known_hosts.write_text(server.known_hosts_line() + "\n")
    port = "-p" if program == "ssh" else "-P"
    options = [
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        f"UserKnownHostsFile={known_hosts}",
        "IdentityAgent=none",
    ]
    command = [program, "-F", "none", port, str(server.port), "-i", str(server.user_key_path)]
    command += [part for option in options for part in ("-o", option)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, input="", check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "source").write_bytes(DATA)
    return folder


# --- OpenSSH ---


@needs_sshd
def test_sshd_lets_its_key_in_and_says_so(tmp_path: Path) -> None:
    with OpenSSHServer(tmp_path, host_key_types=("ed25519", "rsa", "ecdsa")) as server:
        assert server.log_text().count("Connection from") == 0
        done = run_client(server, "ssh", f"{server.username}@{server.host}", "echo", "hello")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        assert server.wait_for_log("Accepted publickey")
        assert [server.known_host_line(kind).split()[0] for kind in (None, "rsa", "ecdsa")] == [
            "ssh-ed25519",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
        ]
        assert f"{server.known_hosts_line('rsa')}\n" in scan_keys(server)


def scan_keys(server: Endpoint) -> str:
    command = ["ssh-keyscan", "-p", str(server.port), server.host]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


@needs_sshd
def test_sshd_refuses_another_key(tmp_path: Path) -> None:
    with OpenSSHServer(tmp_path) as server:
        server.user_key = shared_key_pair()
        with pytest.raises(paramiko.AuthenticationException), connect(server):
            pass
        assert server.wait_for_log("Failed publickey")


@needs_sshd
def test_killed_sessions_break_but_sshd_goes_on(tmp_path: Path) -> None:
    with OpenSSHServer(tmp_path) as server:
        with connect(server) as client:
            client.exec_command("sleep 60")
            assert server.kill_sessions() >= 2
            transport = client.get_transport()
            assert transport is not None
            transport.join(3)
            assert not transport.is_active()
        with open_sftp(server) as sftp:
            assert sftp.normalize(".")


@needs_sshd
def test_nothing_outlives_sshd(tmp_path: Path) -> None:
    with OpenSSHServer(tmp_path) as server, connect(server) as client:
        client.exec_command("sleep 60")
        assert server.wait_for_log("Starting session")
        assert server._process is not None
        family = [server._process.pid, *list_descendants(server._process.pid)]
        server.stop()
        assert len(family) >= 3
        wait_for(lambda: not any(is_running(pid) for pid in family))


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie that only waits for its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_sshd
def test_sshd_options(tmp_path: Path, root: Path) -> None:
    with OpenSSHServer(tmp_path, login_folder=root) as server, open_sftp(server) as sftp:
        assert sftp.normalize(".") == str(root)
        keys = [key.path for key in server.host_keys]
    with OpenSSHServer(tmp_path, host_key_files=keys, sftp=False) as again:
        assert again.fingerprint() == server.fingerprint()
        with connect(again) as client, pytest.raises(paramiko.SSHException):
            client.open_sftp()


@needs_sshd
def test_extra_configuration_wins(tmp_path: Path) -> None:
    extra = ("PubkeyAuthentication no", "PasswordAuthentication yes", "Match User nobody", "X11Forwarding no")
    with (
        OpenSSHServer(tmp_path, extra_config=extra) as server,
        pytest.raises(paramiko.AuthenticationException),
        connect(server),
    ):
        pass


@needs_sshd
def test_sshd_reports_why_it_did_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailure, match="Bad configuration option"),
        OpenSSHServer(tmp_path, extra_config=("Nonsense yes",)),
    ):
        pass


# --- asyncssh: files ---


def test_paths_are_real_and_relative_ones_start_at_the_root(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root) as server:
        with open_sftp(server) as sftp:
            assert sftp.normalize(".") == str(root)
            assert sftp.stat("source").st_size == sftp.stat(str(root / "source")).st_size == len(DATA)
        assert server.requests == ["sftp"]


def test_chroot(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root, chroot=True) as server, open_sftp(server) as sftp:
        assert sftp.normalize(".") == "/"
        assert sftp.stat("/source").st_size == len(DATA)


def test_openssh_clients_copy_by_both_protocols(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root) as server:
        remote = f"{server.username}@{server.host}"
        for number, flags in enumerate((("-s",), ("-O",))):
            up = run_client(server, "scp", *flags, str(root / "source"), f"{remote}:up{number}")
            assert up.returncode == 0, up.stderr
            down = run_client(server, "scp", *flags, f"{remote}:up{number}", str(tmp_path / "down"))
            assert down.returncode == 0, down.stderr
            assert (tmp_path / "down").read_bytes() == (root / f"up{number}").read_bytes() == DATA
        assert server.requests == ["sftp", "sftp", "scp -t up1", "scp -f up1"]


@pytest.mark.parametrize("flag", ["-s", "-O"])
def test_protocols_can_be_switched_off(tmp_path: Path, root: Path, flag: str) -> None:
    with AsyncsshServer(tmp_path, root=root, sftp=flag == "-O", scp=flag == "-s") as server:
        target = f"{server.username}@{server.host}:up"
        assert run_client(server, "scp", flag, str(root / "source"), target).returncode != 0
        assert not (root / "up").exists()


# --- asyncssh: logins ---


def test_key_and_password_each_suffice(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root, password="secret") as server:
        with connect(server):
            pass
        with connect(server, "secret", key=False):
            pass
        with pytest.raises(paramiko.AuthenticationException), connect(server, "wrong", key=False):
            pass
        methods = [event.method for event in server.login_events]
        assert methods.count("password") == 2
        assert server.login_events[0] == (methods[0], server.username)
        assert server.connection_count == 3


def test_key_can_be_refused(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root, accepts_key=False, password="secret") as server:
        with pytest.raises(paramiko.AuthenticationException), connect(server):
            pass
        assert ("publickey", server.username) in server.login_events


def test_questions_replace_the_password(tmp_path: Path, root: Path) -> None:
    asked: list[str] = []

    def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        asked.extend(prompt for prompt, _ in prompts)
        return ["secret", "123456"][: len(prompts)]

    questions = (("Password: ", "secret"), ("Code: ", "123456"))
    with (
        AsyncsshServer(tmp_path, root=root, password="p", keyboard_interactive=questions) as server,
        raw_transport(server) as transport,
    ):
        assert sorted(list_methods(transport, server)) == ["keyboard-interactive", "publickey"]
        transport.auth_interactive(server.username, answer)
        assert transport.is_authenticated()
        assert asked == ["Password: ", "Code: "]


def test_key_and_password_can_both_be_required(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root, password="secret", require_key_and_password=True) as server:
        with raw_transport(server) as transport:
            assert list_methods(transport, server) == ["publickey"]
            key = paramiko.Ed25519Key.from_private_key_file(str(server.user_key_path))
            assert transport.auth_publickey(server.username, key) == ["password"]
            assert not transport.is_authenticated()
            assert transport.auth_password(server.username, "secret") == []
            assert transport.is_authenticated()
        with pytest.raises(paramiko.AuthenticationException), connect(server):
            pass
        with connect(server, "secret") as client:
            client.open_sftp().close()


@contextmanager
def raw_transport(server: Endpoint) -> Iterator[paramiko.Transport]:
    with closing(paramiko.Transport((server.host, server.port))) as transport:
        transport.start_client(timeout=3)
        yield transport


def list_methods(transport: paramiko.Transport, server: Endpoint) -> list[str]:
    with pytest.raises(paramiko.BadAuthenticationType) as caught:
        transport.auth_none(server.username)
    allowed: list[str] = caught.value.allowed_types
    return allowed


def test_host_keys_of_all_types_are_used(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root, host_key_types=("ed25519", "rsa", "ecdsa")) as server:
        seen = scan_keys(server)
        for kind in ("ed25519", "rsa", "ecdsa"):
            assert server.known_hosts_line(kind) in seen
        assert server.login_events == []


def test_sessions_can_be_cut(tmp_path: Path, root: Path) -> None:
    with AsyncsshServer(tmp_path, root=root) as server:
        with open_sftp(server) as sftp:
            server.kill_sessions()
            with pytest.raises(CONNECTION_LOST):
                sftp.stat("source")
        with open_sftp(server) as sftp:
            sftp.stat("source")


# --- Faults ---


@contextmanager
def open_faulty(folder: Path, root: Path, factory: SFTPFactory) -> Iterator[paramiko.SFTPClient]:
    with AsyncsshServer(folder, root=root, sftp_factory=factory) as server, open_sftp(server) as sftp:
        yield sftp


def write_pieces(sftp: paramiko.SFTPClient, name: str, count: int = 4) -> None:
    with sftp.open(name, "wb") as file:
        for _ in range(count):
            file.write(b"x" * 1000)


def test_write_number_n_fails(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, partial(misbehaving.FailingWrite, number=3)) as sftp:
        write_pieces(sftp, "short", 2)
        with pytest.raises(OSError, match="Failure"):
            write_pieces(sftp, "long", 1)
        write_pieces(sftp, "later")


def test_connection_breaks_at_a_write(tmp_path: Path, root: Path) -> None:
    with (
        open_faulty(tmp_path, root, partial(misbehaving.BrokenConnection, number=2)) as sftp,
        pytest.raises(CONNECTION_LOST),
    ):
        write_pieces(sftp, "file")
    assert (root / "file").stat().st_size == 1000


def test_full_disk_takes_what_fits(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, partial(misbehaving.FullDisk, capacity=1500)) as sftp:
        with pytest.raises(OSError, match="No space left"):
            write_pieces(sftp, "file")
        assert sftp.stat("file").st_size == 1500


def test_dropped_writes_leave_the_file_short(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, partial(misbehaving.DroppedWrites, capacity=1500)) as sftp:
        write_pieces(sftp, "file")
        assert sftp.stat("file").st_size == 1500


def test_close_fails_only_after_writing(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, misbehaving.FailingClose) as sftp:
        with sftp.open("source", "rb") as source:
            assert source.read(10) == DATA[:10]
        file = sftp.open("file", "wb")
        file.write(b"x")
        # Not file.close(): paramiko swallows what the server says to that.
        with pytest.raises(OSError, match="quota"):
            sftp._request(paramiko.sftp.CMD_CLOSE, file.handle)


def test_reading_ends_early(tmp_path: Path, root: Path) -> None:
    factory = partial(misbehaving.EarlyEnd, length=70_000)
    with open_faulty(tmp_path, root, factory) as sftp, sftp.open("source", "rb") as file:
        assert file.stat().st_size == len(DATA)
        assert file.read() == DATA[:70_000]


def test_setstat_is_refused(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, misbehaving.RefusedSetstat) as sftp:
        with sftp.open("source", "r+b") as file, refused():
            file.chmod(0o600)
        with refused():
            sftp.utime("source", (1, 1))


def test_stat_is_refused_for_existing_files(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, misbehaving.RefusedStat) as sftp:
        for examine in (sftp.stat, sftp.lstat):
            with refused():
                examine("source")
            with pytest.raises(FileNotFoundError):
                examine("missing")
            examine(".")
        with sftp.open("source", "rb") as file:
            with refused():
                file.stat()
            assert file.read(10) == DATA[:10]


def test_rename_is_refused(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, misbehaving.RefusedRename) as sftp:
        for rename in (sftp.rename, sftp.posix_rename):
            with refused():
                rename("source", "elsewhere")


def test_plain_rename_only(tmp_path: Path, root: Path) -> None:
    (root / "other").touch()
    with AsyncsshServer(tmp_path, root=root, sftp_factory=misbehaving.PlainRenameOnly) as server:
        with open_sftp(server) as sftp:
            with pytest.raises(OSError, match="unsupported"):
                sftp.posix_rename("source", "other")
            with pytest.raises(OSError, match="exists"):
                sftp.rename("source", "other")
            sftp.rename("source", "third")
        assert "posix-rename" not in list_extensions(server)
    with AsyncsshServer(tmp_path, root=root) as honest:
        assert "posix-rename" in list_extensions(honest)


def list_extensions(server: Endpoint) -> str:
    return run_client(server, "sftp", "-vvv", f"{server.username}@{server.host}").stderr


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(PermissionError) as caught:
        yield
    assert caught.value.errno == errno.EACCES


def test_slow_server(tmp_path: Path, root: Path) -> None:
    with open_faulty(tmp_path, root, partial(misbehaving.SlowServer, seconds=0.1)) as sftp:
        start = time.monotonic()
        sftp.get("source", str(tmp_path / "down"))
        sftp.put(str(tmp_path / "down"), "up")
        assert time.monotonic() - start > 0.7
    assert (root / "up").read_bytes() == DATA


@pytest.mark.parametrize(
    ("factory", "grows", "ages", "differs"),
    [
        (misbehaving.GrowingSource, True, True, True),
        (misbehaving.TouchedSource, False, True, False),
        (misbehaving.ReplacedSource, False, True, True),
        (partial(misbehaving.ReplacedSource, keep_mtime=True), False, False, True),
    ],
)
def test_source_changes_after_the_first_read(
    tmp_path: Path, root: Path, factory: SFTPFactory, grows: bool, ages: bool, differs: bool
) -> None:
    source = root / "source"
    before = source.stat()
    with open_faulty(tmp_path, root, factory) as sftp, sftp.open("source", "rb") as file:
        assert file.read(100) == DATA[:100]
    after = source.stat()
    assert (after.st_size > before.st_size) == grows
    assert (after.st_mtime_ns > before.st_mtime_ns) == ages
    assert (source.read_bytes() != DATA) == differs


def test_faults_can_end_after_some_sessions(tmp_path: Path, root: Path) -> None:
    factory = misbehaving.fail_first_sessions(1, misbehaving.RefusedRename)
    with AsyncsshServer(tmp_path, root=root, sftp_factory=factory) as server:
        with open_sftp(server) as sftp, refused():
            sftp.rename("source", "elsewhere")
        with open_sftp(server) as sftp:
            sftp.rename("source", "elsewhere")


def test_scp_meets_the_same_faults(tmp_path: Path, root: Path) -> None:
    factory = partial(misbehaving.FullDisk, capacity=50_000)
    with AsyncsshServer(tmp_path, root=root, sftp_factory=factory) as server:
        target = f"{server.username}@{server.host}:up"
        done = run_client(server, "scp", "-O", str(root / "source"), target)
        assert done.returncode != 0
        assert "No space left" in done.stderr


# --- Silence ---


@pytest.mark.parametrize("stage", STAGES)
def test_silence_begins_at_its_stage_and_not_before(tmp_path: Path, root: Path, stage: Stage) -> None:
    with MuteServer(stage, tmp_path, root=root) as server:
        assert find_silence(server) == stage
        assert server.known_hosts_line().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
        assert (len(server.login_events) > 0) == (STAGES.index(stage) >= STAGES.index("authentication"))


def find_silence(server: MuteServer) -> str:
    """Go through the stages as a client does, and say at which one no answer came."""
    try:
        connection = socket.create_connection((server.host, server.port), SILENCE_SECONDS)
    except TimeoutError:
        return "tcp"
    with connection:
        try:
            connection.recv(1)
        except TimeoutError:
            return "banner"
    try:
        with connect(server) as client:
            return find_mute_request(client)
    except paramiko.AuthenticationException as error:
        return "authentication" if "timeout" in str(error).lower() else f"refused: {error}"
    except paramiko.SSHException:
        return "key_exchange"


def find_mute_request(client: paramiko.SSHClient) -> str:
    """The first request of an SFTP session that gets no answer."""
    transport = client.get_transport()
    assert transport is not None
    steps = Walk(transport.open_session(timeout=3)).steps()
    return next((stage for stage, step in steps.items() if not is_answered(step)), "none")


@dataclass(slots=True)
class Walk:
    """An SFTP session, one request after the other."""

    channel: paramiko.Channel
    sftp: paramiko.SFTPClient = field(init=False)
    file: paramiko.SFTPFile = field(init=False)

    def init(self) -> None:
        self.sftp = paramiko.SFTPClient(self.channel)

    def open(self) -> None:
        self.file = self.sftp.open("source", "r+b")

    def steps(self) -> dict[str, Callable[[], object]]:
        return {
            "subsystem": lambda: self.channel.invoke_subsystem("sftp"),
            "sftp_init": self.init,
            "sftp_stat": lambda: self.sftp.stat("source"),
            "sftp_open": self.open,
            "sftp_read": lambda: self.file.read(1),
            "sftp_write": lambda: self.file.write(b"x"),
            "sftp_close": lambda: self.file.close(),
            "sftp_rename": lambda: self.sftp.posix_rename("source", "elsewhere"),
        }


def is_answered(request: Callable[[], object]) -> bool:
    """Make a request in a thread, as paramiko waits for some answers without end."""

    def make_request() -> None:
        with suppress(Exception):  # the end of the connection, later on, is no answer
            request()

    thread = threading.Thread(target=make_request, daemon=True)
    thread.start()
    thread.join(SILENCE_SECONDS)
    return not thread.is_alive()


def test_a_mute_server_is_mute_for_scp_too(tmp_path: Path, root: Path) -> None:
    for stage in ("subsystem", "sftp_init", "sftp_open"):
        with MuteServer(stage, tmp_path, root=root) as server, connect(server) as client:
            assert not is_answered(lambda: read_scp_greeting(client))


def read_scp_greeting(client: paramiko.SSHClient) -> bytes:
    """What `scp -f` says once it is told to begin."""
    stdin, stdout, _ = client.exec_command("scp -f source")
    stdin.write(b"\0")
    answer: bytes = stdout.read(1)
    return answer


def test_garbage_server() -> None:
    with GarbageServer() as server, socket.create_connection((server.host, server.port), 3) as connection:
        connection.sendall(b"SSH-2.0-client\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 400 Bad Request")
        assert connection.recv(100) == b""


def test_closed_port() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", closed_port()), 3)


# --- Keys and disks ---


def load_key(key_type: str, pair: KeyPair) -> paramiko.PKey:
    loaders: dict[str, Callable[[str, str], paramiko.PKey]] = {
        "ed25519": paramiko.Ed25519Key.from_private_key_file,
        "rsa": paramiko.RSAKey.from_private_key_file,
        "ecdsa": paramiko.ECDSAKey.from_private_key_file,
    }
    return loaders[key_type](str(pair.path), pair.passphrase)


@pytest.mark.parametrize("key_type", ["ed25519", "rsa", "ecdsa"])
def test_key_pairs(tmp_path: Path, key_type: str) -> None:
    pair = generate_key_pair(tmp_path / "key", key_type, comment="two words", passphrase="phrase")
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(pair.path)], capture_output=True, text=True, check=True
    ).stdout
    assert pair.fingerprint == listed.split()[1]
    loaded = load_key(key_type, pair)
    assert f"{loaded.get_name()} {loaded.get_base64()}" == pair.public_line
    assert shared_key_pair(key_type) is shared_key_pair(key_type)


def test_small_filesystem_fills_up() -> None:
    try:
        with small_filesystem(65536) as folder:
            assert shutil.disk_usage(folder).total == 65536
            with pytest.raises(OSError, match="No space left"):
                (folder / "big").write_bytes(bytes(100_000))
    except NotAvailable as reason:
        pytest.skip(str(reason))
    assert not folder.exists()


def test_a_server_that_stops_leaves_no_connection_open_that_was_only_being_accepted(tmp_path: Path) -> None:
    """What asyncio forgot would be met by the garbage collector, in the middle of another test."""
    servers = [AsyncsshServer(tmp_path, root=tmp_path) for _ in range(10)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for server in servers:
            server.start()
            clients = [socket.create_connection((server.host, server.port)) for _ in range(3)]
            server.stop()
            for client in clients:
                client.close()
            gc.collect()
    assert [warning for warning in caught if "unclosed" in str(warning.message)] == []
