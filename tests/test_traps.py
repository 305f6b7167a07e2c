"""A HOME, a folder and an environment full of traps, for a whole process: it logs in, and nothing of it is run or obeyed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import connection, require_sshd, upload
from tests.servers.keys import generate_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import Agent, running_agent, stale_agent

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = (
    *("ssh", "scp", "sftp", "ssh-add", "ssh-agent", "ssh-keygen", "ssh-askpass", "ssh-sk-helper", "ssh-pkcs11-helper"),
    *(
        "sh",
        "bash",
        "touch",
        "nc",
        "ncat",
        "netcat",
        "connect",
        "proxytunnel",
        "git",
        "hostname",
        "uname",
        "id",
        "true",
    ),
    *("python", "python3", "openssl", "gpg", "pass", "kinit", "klist", "pinentry", "xauth", "infocmp", "tput", "stty"),
)


@dataclass(frozen=True, slots=True)
class Traps:
    """Where everything lies, and the file that grows when something of it is run."""

    home: Path
    folder: Path
    environment: dict[str, str]
    sprung: Path

    def play(self, server: OpenSSHServer, authentication: dict[str, Any], remote: Path, kind: str) -> str:
        """Play one upload in a process of its own; its output. It must succeed, and spring no trap."""
        (self.folder / "file").write_text("content")
        login = {"username": server.username, **authentication}
        one = {**connection(server, authentication=login), "mode": upload("file", remote / "file")}
        (self.folder / "play.yaml").write_text(json.dumps([{**one, "connector_type": kind}]))
        # Taken before the end, since programs that the runner starts would have to lie on PATH.
        command = [sys.executable, "-m", "runner", "play", "-vvv", "play.yaml"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert (remote / "file").read_text() == "content"
        assert not self.sprung.exists(), self.sprung.read_text()
        return output


@pytest.fixture
def traps(tmp_path: Path, home: Path) -> Traps:
    sprung, folder, programs = tmp_path / "sprung", tmp_path / "folder", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in PROGRAMS:
        write_program(programs / name, f'#!/bin/sh\necho "{name} $*" >> {sprung}\n')
    environment = {
        "HOME": str(home),
        "PATH": str(programs),
        "PYTHONPATH": str(ROOT),
        "USER": "nobody",
        "LOGNAME": "nobody",
        "SSH_ASKPASS": str(programs / "ssh-askpass"),
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": ":0",
        "ALL_PROXY": "socks5://192.0.2.1:1",
        "SSH_SK_PROVIDER": str(programs / "ssh-sk-helper"),
        "GIT_SSH_COMMAND": str(programs / "ssh"),
        "PAGER": str(programs / "sh"),
        "EDITOR": str(programs / "sh"),
    }
    set_ssh_traps(home, sprung)
    for place, dot in ((home, "."), (folder, "")):
        set_fabric_traps(place, dot, sprung)
    for name in ("FABRIC", "INVOKE"):
        environment |= {f"{name}_USER": "nobody", f"{name}_PORT": "1", f"{name}_RUN_SHELL": str(programs / "sh")}
        environment |= {f"{name}_SSH_CONFIG_PATH": str(home / ".ssh/config"), f"{name}_LOAD_SSH_CONFIGS": "1"}
    return Traps(home, folder, environment, sprung)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def set_ssh_traps(home: Path, sprung: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    spring = f"/bin/sh -c 'echo config >> {sprung}'"
    (home / ".ssh/config").write_text(
        f'Match exec "{spring}"\n  Port 1\nHost *\n  ProxyCommand {spring}\n  LocalCommand {spring}\n'
        f"  PermitLocalCommand yes\n  KnownHostsCommand {spring}\n  HostName 192.0.2.1\n  User nobody\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  ForwardAgent yes\n  Compression yes\n"
    )
    (home / ".ssh/rc").write_text(f"{spring}\n")
    (home / ".ssh/known_hosts").write_text("not a line of known_hosts\n")


def set_fabric_traps(place: Path, dot: str, sprung: Path) -> None:
    code = f"open({str(sprung)!r}, 'a').write(__file__)\nuser = 'nobody'\nport = 1\n"
    for name in ("fabric", "invoke"):
        (place / f"{dot}{name}.py").write_text(code)
        (place / f"{dot}{name}.yaml").write_text("user: nobody\nport: 1\nrun: {shell: /nowhere}\n")
        (place / f"{dot}{name}.json").write_text('{"user": "nobody"}')
    if dot:
        for name in (".pythonrc.py", ".pdbrc", ".profile", ".bashrc", ".bash_env"):
            (place / name).write_text(f"echo {name} >> {sprung}\n")


@pytest.fixture(scope="module")
def strict_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """An sshd that hangs up after three keys."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("strict"), extra_config=("MaxAuthTries 3",)) as server:
        yield server


def fill(agent: Agent, server: OpenSSHServer, folder: Path) -> None:
    """Ten keys, the right one last."""
    agent.add(*(generate_key_pair(folder / f"key{number}") for number in range(9)), server.user_key)


both_kinds = pytest.mark.parametrize("kind", ["SFTP", "SCP"])


@both_kinds
def test_the_named_key_among_ten_logs_in(
    traps: Traps, strict_sshd: OpenSSHServer, tmp_path: Path, remote: Path, kind: str
) -> None:
    with running_agent() as agent:
        fill(agent, strict_sshd, tmp_path / "keys")
        traps.environment["SSH_AUTH_SOCK"] = str(agent.path)
        named = {"authentication_method": "ssh_agent", "public_key": strict_sshd.user_key.public_line}
        traps.play(strict_sshd, named, remote, kind)


@both_kinds
def test_a_key_file_logs_in_past_a_full_agent(
    traps: Traps, strict_sshd: OpenSSHServer, tmp_path: Path, remote: Path, kind: str
) -> None:
    with running_agent() as agent:
        fill(agent, strict_sshd, tmp_path / "keys")
        traps.environment["SSH_AUTH_SOCK"] = str(agent.path)
        given = {"authentication_method": "ssh_key_file", "ssh_key_file": str(strict_sshd.user_key_path)}
        traps.play(strict_sshd, given, remote, kind)


@both_kinds
def test_a_key_logs_in_past_a_stale_agent(traps: Traps, strict_sshd: OpenSSHServer, remote: Path, kind: str) -> None:
    with stale_agent() as path:
        traps.environment["SSH_AUTH_SOCK"] = str(path)
        given = {"authentication_method": "ssh_key", "ssh_key": strict_sshd.user_key_text}
        traps.play(strict_sshd, given, remote, kind)


def test_the_traps_are_traps(traps: Traps, strict_sshd: OpenSSHServer) -> None:
    """The real `ssh` and fabric walk into them: that nothing was sprung above means something."""
    command = ["/usr/bin/ssh", "-F", str(traps.home / ".ssh/config"), "-p", str(strict_sshd.port), "somewhere", "true"]
    if os.path.exists(command[0]):
        subprocess.run(command, env=traps.environment, capture_output=True, timeout=60, check=False)
        assert "config" in traps.sprung.read_text()
        traps.sprung.unlink()
    code = "import fabric; fabric.Config()"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=traps.folder,
        env=traps.environment,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert "fabric.py" in traps.sprung.read_text()
    traps.sprung.unlink()
    subprocess.run(
        ["ssh-add", "-l"], env=traps.environment, executable=f"{traps.environment['PATH']}/ssh-add", check=False
    )
    assert "ssh-add -l" in traps.sprung.read_text()
