"""What a play logs in with is looked at before anything is contacted: all of it, for all hosts, in one go."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, upload
from tests.privileges import no_special_powers
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import KeyPair, generate_key_pair, sign_host_key
from tests.servers.openssh import OpenSSHServer
from tests.ssh.logins import PASSPHRASE, key_file, key_text, write_key

ROOT = Path(__file__).resolve().parents[2]
FINGERPRINT = {"hostkey_mode": "fingerprint", "fingerprint": "SHA256:" + "A" * 43}


def step_to(authentication: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A step to a host that does not exist: it must not even be looked for."""
    return {
        "host": "nowhere.invalid",
        "hostkey": FINGERPRINT,
        "authentication": {"username": "me", **authentication},
        "mode": upload("file", "file"),
        **more,
    }


def problems_of(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.exit_code == 3, outcome.output
    problems: list[dict[str, Any]] = outcome.report["error"]["problems"]
    return problems


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return generate_key_pair(tmp_path / "key")


@pytest.fixture
def locked(tmp_path: Path) -> KeyPair:
    return generate_key_pair(tmp_path / "locked", passphrase=PASSPHRASE)


INLINE: dict[str, tuple[Callable[[KeyPair], str], str, str]] = {
    "a path": (lambda key: str(key.path), "is a path, not a key", "ssh_key_file"),
    "a path from home": (lambda key: "~/.ssh/id_ed25519", "is a path, not a key", "ssh_key_file"),
    "base64 of half of it": (
        lambda key: base64.b64encode(key.private_text[:150].encode()).decode(),
        "cannot be read",
        "cut off",
    ),
    "base64 of something else": (
        lambda key: base64.encodebytes(b"something else " * 20).decode(),
        "is not a private key",
        "whole text",
    ),
    "a public key": (lambda key: key.public_line, "is a public key", "private half"),
    "a fingerprint": (lambda key: key.fingerprint, "is not a private key", "whole text"),
    "half of it": (lambda key: key.private_text[:150], "cannot be read", "cut off"),
}


@pytest.mark.parametrize("way", INLINE)
def test_what_is_no_key_is_called_what_it_is(runner: Runner, key: KeyPair, way: str) -> None:
    make, message, hint = INLINE[way]
    given = make(key)

    (problem,) = problems_of(runner.play([step_to(key_text(given))]))

    assert message in problem["message"] and hint in problem["hint"]
    place = problem["location"]
    line = (runner.folder / "play.yaml").read_text().splitlines()[place["line"] - 1]
    assert line[place["column"] - 1 :].startswith(json.dumps(given)[:10])


def test_host_a_is_not_changed_when_the_key_for_host_b_is_missing(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    first = {**connection(asyncssh_server), "mode": upload("file", remote / "file")}
    second = step_to(key_file(Path("missing")))

    outcome = runner.play([first, second])

    (problem,) = problems_of(outcome)
    assert "missing: No such file" in problem["message"]
    assert list(remote.iterdir()) == []
    assert asyncssh_server.connection_count == 0


def test_everything_is_told_in_one_go(runner: Runner, key: KeyPair, locked: KeyPair, tmp_path: Path) -> None:
    authority = generate_key_pair(tmp_path / "ca")
    other = generate_key_pair(tmp_path / "other")
    public_path = other.path.with_name("other.pub")
    sign_host_key(authority, other, public_path, ("me",), is_for_users=True)
    sign_host_key(authority, key, key.path.with_name("key.pub"), ("me",), validity="-2h:-1h", is_for_users=True)
    (tmp_path / "open").write_text(key.private_text)
    (tmp_path / "open").chmod(0o644)
    for name in ("key", "locked"):
        (tmp_path / name).chmod(0o600)
    certified = key_file(key.path, certificate_file=str(tmp_path / "other-cert.pub"))
    known = {"hostkey_mode": "known_hosts_file", "known_hosts_file": ["nowhere", "neither"]}
    hop = {"host": "hop.invalid", "authentication": {"username": "me", **key_file(Path("hop-key"))}}
    steps = [
        (step_to(key_file(Path("missing"))), ["missing: No such file"]),
        (step_to(key_file(tmp_path / "open")), ["open to others"]),
        (step_to(key_file(locked.path)), ["no passphrase is given"]),
        (step_to(key_file(locked.path, passphrase="wrong wrong")), ["the passphrase is wrong"]),
        (step_to(certified), ["signed for another key"]),
        (step_to(key_file(key.path, certificate_file=str(tmp_path / "key-cert.pub"))), ["it has expired"]),
        (step_to(key_text("nonsense")), ["is not a private key"]),
        (step_to(key_file(key.path), hostkey=known), ["known_hosts file", "known_hosts file"]),
        (step_to(key_file(key.path), proxy_jump=[hop]), ["hop-key: No such file"]),
        (step_to({"authentication_method": "username_password", "password": ""}), ["'password' is empty"]),
        (step_to(key_file(key.path), retries=-1), ["'retries' must be"]),
    ]

    found = [problem["message"] for problem in problems_of(runner.play([one for one, _ in steps]))]

    expected = [words for _, told in steps for words in told]
    assert len(found) == len(expected), found
    for words in expected:
        assert any(words in message for message in found), words


def test_what_is_there_and_right_is_no_problem(runner: Runner, key: KeyPair, locked: KeyPair, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("# nothing about this host\n")
    known = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "known"}
    steps = [
        step_to(key_file(key.path), hostkey=known),
        step_to(key_file(locked.path, passphrase=PASSPHRASE)),
        step_to(key_text(locked.private_text, passphrase=PASSPHRASE)),
        step_to({"authentication_method": "ssh_agent"}),
    ]
    (runner.folder / "play.yaml").write_text(json.dumps(steps))

    outcome = runner("validate", str(runner.folder / "play.yaml"))

    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr == ""


def test_a_key_that_nobody_may_read_is_told(runner: Runner, key: KeyPair, tmp_path: Path) -> None:
    key.path.chmod(0)
    (tmp_path / "known").touch(mode=0)
    known = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "known"}

    with no_special_powers():
        found = problems_of(runner.play([step_to(key_file(key.path), hostkey=known)]))

    assert ["ermission denied" in problem["message"] for problem in found] == [True, True]


def test_a_certificate_for_others_is_a_warning(runner: Runner, key: KeyPair, tmp_path: Path) -> None:
    """A server may have other names for its users (AuthorizedPrincipalsFile)."""
    sign_host_key(generate_key_pair(tmp_path / "ca"), key, key.path.with_name("key.pub"), ("you",), is_for_users=True)
    steps = [step_to(key_file(key.path, certificate_file=str(tmp_path / "key-cert.pub")))]
    (runner.folder / "play.yaml").write_text(json.dumps(steps))

    outcome = runner("validate", str(runner.folder / "play.yaml"))

    assert outcome.exit_code == 0, outcome.output
    assert "may not let me in: it is for you" in outcome.stderr


class TestSelection:
    def steps(self) -> dict[str, Any]:
        good = {"authentication_method": "ssh_agent", "username": "me"}
        return {
            "connections": {
                "a": {"host": "a.invalid", "hostkey": FINGERPRINT, "authentication": good},
                "b": {
                    "host": "b.invalid",
                    "hostkey": FINGERPRINT,
                    "authentication": {"username": "me", **key_file(Path("missing"))},
                },
            },
            "steps": [
                {"name": "one", "connection": "b", "mode": upload("x", "x")},
                {"name": "two", "connection": "a", "mode": upload("x", "x")},
            ],
        }

    @pytest.mark.parametrize("options", [["--limit", "a"], ["--start-at-step", "two"], ["--start-at-step", "2"]])
    def test_the_key_of_a_step_that_is_left_out_need_not_be_there(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch, options: list[str]
    ) -> None:
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

        outcome = runner.play(self.steps(), *options)

        assert outcome.exit_code == 2, outcome.output
        assert outcome.step["error"]["type"] == "CredentialUnusable"

    @pytest.mark.parametrize("options", [[], ["--limit", "b"], ["--limit", "a,b"], ["--start-at-step", "one"]])
    def test_that_of_a_step_that_is_played_must(self, runner: Runner, options: list[str]) -> None:
        (problem,) = problems_of(runner.play(self.steps(), *options))

        assert "missing: No such file" in problem["message"]

    def test_to_list_steps_takes_no_key(self, runner: Runner) -> None:
        assert runner.play(self.steps(), "--list-steps").exit_code == 0

    def test_a_step_that_is_not_there_is_wrong_usage(self, runner: Runner) -> None:
        assert runner.play(self.steps(), "--start-at-step", "three").exit_code == 64


def test_a_key_is_decrypted_once(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decrypting is slow on purpose."""
    from cryptography.hazmat.primitives import serialization

    locked = generate_key_pair(tmp_path / "once", passphrase=PASSPHRASE)
    count, load = 0, serialization.load_ssh_private_key

    def count_loads(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return load(*arguments, **options)

    monkeypatch.setattr(serialization, "load_ssh_private_key", count_loads)
    login = {"username": asyncssh_server.username, **key_file(locked.path, passphrase=PASSPHRASE)}
    steps = [
        {**connection(asyncssh_server, authentication=login), "mode": upload("file", f"file{one}")} for one in range(3)
    ]

    outcome = runner.play(steps)

    # The server does not know the key.
    assert outcome.exit_code == 4, outcome.output
    assert count == 1


def test_validating_without_keys_imports_no_cryptography(tmp_path: Path) -> None:
    (tmp_path / "play.yaml").write_text(json.dumps([step_to({"authentication_method": "ssh_agent"})]))
    program = (
        "import sys\nfrom runner.cli.main import run\ncode = run(['validate', sys.argv[1]])\n"
        "print(sorted({'fabric', 'invoke', 'paramiko', 'cryptography'} & sys.modules.keys()), code)"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "play.yaml")]

    plain = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    write_key(tmp_path / "key", "nonsense")
    (tmp_path / "play.yaml").write_text(json.dumps([step_to(key_file(tmp_path / "key"))]))
    keyed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)

    assert plain.stdout.splitlines()[-1] == "[] 0"
    assert keyed.stdout.splitlines()[-1] == "['cryptography'] 3"


# --- any combination of mistakes ---


def _mistakes() -> dict[str, tuple[dict[str, Any], str]]:
    """What a step is changed by, each in another place of it, and what is told of it."""
    return {
        "empty password": ({"authentication.password": ""}, "the secret 'password' is empty"),
        "host": ({"host": "h:1"}, "is not a host name"),
        "port": ({"port": 0}, "'port' must be at least 1"),
        "fingerprint": ({"hostkey.fingerprint": "MD5:1"}, "is not a SHA256 fingerprint"),
        "unknown key": ({"hots": "x"}, "unknown key 'hots'"),
        "undefined": ({"mode.source_file_name": "{{ nope }}"}, "'nope' is undefined"),
        "destination": ({"mode.destination_file_name": "in/"}, "'destination_file_name' names a directory"),
        "backup": ({"mode.backup": True, "mode.atomic": False}, "'backup: true' cannot be kept"),
        "compare": ({"mode.compare": "sometimes"}, "'compare' must be"),
        "retries": ({"retries": "{{ 'many' }}"}, "'retries' must be a whole number"),
        "alias": ({"host_key_alias": "a b"}, "is not a host's name"),
        "limit": ({"bandwidth_limit": "1"}, "'bandwidth_limit' must be"),
        "jump host": ({"proxy_jump": ["nobody"]}, "no connection is called 'nobody'"),
        "name": ({"name": "{{ 1 / 0 }}"}, "division by zero"),
    }


def _spoil(names: tuple[str, ...]) -> dict[str, Any]:
    made = step_to(
        {"authentication_method": "username_password", "password": "correct-horse"}, hostkey=dict(FINGERPRINT)
    )
    for name in names:
        for path, value in _mistakes()[name][0].items():
            owner, _, key = path.rpartition(".")
            (made[owner] if owner else made)[key] = value
    return made


@pytest.mark.parametrize("names", [(), *itertools.combinations(_mistakes(), 2), tuple(_mistakes())])
def test_every_mistake_is_told_and_none_is_made_up(runner: Runner, names: tuple[str, ...]) -> None:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps([_spoil(names), _spoil(())]))

    outcome = runner("validate", str(path))

    told = [line for line in outcome.stderr.splitlines() if line.startswith(str(path))]
    assert len(told) == len(names), outcome.stderr
    for name in names:
        assert any(_mistakes()[name][1] in line for line in told), (name, told)
    assert outcome.exit_code == (3 if names else 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "connections: {bank: {host: h, vars: {a: x}}}\nsteps: [{connection: bnak, port: 0, name: '{{ a }}'}]\n",
            ["bnak", "port"],
        ),
        ("connections: {bank: {host: h}}\nsteps: [{conection: bank, port: 0}]\n", ["conection", "port"]),
        ("conections: {bank: {host: h}}\nsteps: [{connection: bank, port: 0}]\n", ["conections", "port"]),
        ("default: {host: h}\nsteps: [{port: 0}]\n", ["default", "port"]),
        ("defaults: [1]\nsteps: [{port: 0}]\n", ["defaults", "port"]),
        ("var: {a: x}\nsteps: [{name: '{{ a }}', " + "@}]\n", ["var"]),
        ("vars: [1]\nsteps: [{name: '{{ a }}', " + "@}]\n", ["vars"]),
        ("steps: [{hots: h, " + "@}]\n".replace("host: h, ", ""), ["hots"]),
        ("workdir: '{{ nope }}'\nsteps: [{@, retries: -1}]\n", ["nope", "retries"]),
    ],
)
def test_what_another_mistake_takes_away_is_no_mistake_of_its_own(runner: Runner, text: str, told: list[str]) -> None:
    rest = (
        "hostkey: {hostkey_mode: fingerprint, fingerprint: 'SHA256:" + "A" * 43 + "'}, "
        "authentication: {authentication_method: ssh_key_file, username: u, ssh_key_file: no}, "
        "mode: {mode_name: list, path: x}"
    )
    if "nope" not in text:
        rest = rest.replace("ssh_key_file, username: u, ssh_key_file: no", "ssh_agent, username: u")
    host = "" if "hots" in text else "host: h, "
    path = runner.folder / "play.yaml"
    path.write_text(text.replace("@", host + rest))

    outcome = runner("validate", str(path))

    found = [line for line in outcome.stderr.splitlines() if line.startswith(str(path))]
    assert len(found) == len(told), outcome.stderr
    for word, line in zip(told, found, strict=True):
        assert f"'{word}" in line, outcome.stderr


@pytest.mark.parametrize("what", ["ssh_key_file", "certificate_file", "known_hosts_file"])
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(runner: Runner, key: KeyPair, what: str) -> None:
    os.mkfifo(runner.folder / "pipe")
    files = {"ssh_key_file": str(key.path), "certificate_file": None, what: "pipe"}
    login = {name: files[name] for name in ("ssh_key_file", "certificate_file") if files[name] is not None}
    login |= {"authentication_method": "ssh_key_file"}
    trust = (
        {"hostkey_mode": "known_hosts_file", "known_hosts_file": "pipe"} if what == "known_hosts_file" else FINGERPRINT
    )
    started = time.monotonic()

    problems = problems_of(runner.play([step_to(login, hostkey=trust)]))

    assert time.monotonic() - started < 30
    assert len(problems) == 1
    assert "it is a pipe or a device" in problems[0]["message"]


def test_what_comes_through_a_pipe_comes_once_and_is_used_wherever_it_is_wanted(
    runner: Runner, sshd: OpenSSHServer
) -> None:
    """As `-e key=<(pass show key)` gives it: for the look beforehand and for the login of each connection."""
    (runner.folder / "file").write_text("content")
    (runner.folder / "known_hosts").write_text(f"[{sshd.host}]:{sshd.port} {sshd.known_host_line()}\n")
    login = {"authentication_method": "ssh_key_file", "username": sshd.username, "ssh_key_file": "{{ key }}"}
    trust = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "{{ known }}"}
    at = {**connection(sshd), "authentication": login, "hostkey": trust}
    steps = [
        {**at, "mode": upload("file", runner.folder / name), "keepalive_interval": n} for n, name in enumerate("ab", 5)
    ]
    playbook = runner.folder / "play.yaml"
    playbook.write_text(json.dumps(steps))
    words = [sys.executable, "-m", "runner", "play", str(playbook)]
    script = 'key=$1; shift; exec "$@" -e key=<(sleep 1; cat "$key") -e known=<(cat known_hosts)'

    done = subprocess.run(
        ["bash", "-c", script, "-", str(sshd.user_key_path), *words],
        cwd=runner.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (runner.folder / "b").read_text() == "content"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_key(runner: Runner, device: str) -> None:
    problems = problems_of(runner.play([step_to(key_file(Path(device)))]))

    assert "is not a private key" in problems[0]["message"]
