"""Where a report goes: not asked for it needs nothing, and what its name means stays what it is."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.output_file import write_file
from tests.cli.processes import ROOT, RUNNER, SECONDS, run_in_shell, write_playbook, write_unreachable
from tests.conftest import Outcome, Runner, snapshot, step, upload
from tests.privileges import drop_special_powers
from tests.servers.asyncssh_server import AsyncsshServer


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def play_in(folder: Path, playbook: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`runner play` as a user who is kept out by permissions, from a working directory of the test's choice."""
    return subprocess.run(
        [*RUNNER, "play", str(playbook), *arguments],
        cwd=folder,
        # It is not found in the working directory.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        preexec_fn=drop_special_powers,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_without_a_report_the_working_directory_need_not_be_writable(tmp_path: Path, closed_folder: Path) -> None:
    """cron, systemd's `/`, a container whose disk is read-only."""
    done = play_in(closed_folder, write_unreachable(tmp_path))

    assert done.returncode == 4, done.stderr
    assert done.stderr == ""


def test_nor_for_one_that_goes_elsewhere(tmp_path: Path, closed_folder: Path) -> None:
    playbook = write_unreachable(tmp_path)

    assert json.loads(play_in(closed_folder, playbook, "--json", "-").stdout)["exit_code"] == 4
    assert play_in(closed_folder, playbook, "--json", str(tmp_path / "report.json")).returncode == 4
    assert read_report(tmp_path / "report.json")["exit_code"] == 4


def test_a_report_that_cannot_be_written_there_is_refused_before_anything_is_done(
    tmp_path: Path, closed_folder: Path
) -> None:
    done = play_in(closed_folder, write_unreachable(tmp_path), "--json", "report.json")

    assert done.returncode == 64
    assert done.stderr == (
        f"error: cannot write the report report.json: the directory {closed_folder} cannot be written to\n"
    )
    assert list(closed_folder.iterdir()) == []


@pytest.fixture
def null_device(tmp_path: Path) -> Path:
    """A device of the test's own: were it replaced, and the user root, /dev/null would be gone for the whole machine."""
    path = tmp_path / "devices" / "null"
    path.parent.mkdir()
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("only root can make devices, and not everywhere")
    return path


def play(runner: Runner, report: object) -> Outcome:
    return runner("play", str(write_unreachable(runner.folder)), "--json", str(report))


def read_report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


class TestWhatIsThereAlready:
    def test_a_link_stays_one_and_what_it_leads_to_is_replaced(self, runner: Runner) -> None:
        folder = runner.folder / "elsewhere"
        folder.mkdir()
        (folder / "real.json").write_text("older")
        (folder / "real.json").chmod(0o640)
        link = runner.folder / "report.json"
        link.symlink_to("elsewhere/real.json")
        inode = (folder / "real.json").stat().st_ino

        assert play(runner, link).exit_code == 4
        assert os.readlink(link) == "elsewhere/real.json"
        assert read_report(folder / "real.json")["exit_code"] == 4
        # In one step, and with the permissions that it had.
        assert (folder / "real.json").stat().st_ino != inode
        assert stat.S_IMODE((folder / "real.json").stat().st_mode) == 0o640
        assert os.listdir(folder) == ["real.json"]

    def test_a_link_that_leads_to_nothing_yet(self, runner: Runner) -> None:
        link = runner.folder / "report.json"
        link.symlink_to("real.json")

        assert play(runner, link).exit_code == 4
        assert link.is_symlink()
        assert read_report(runner.folder / "real.json")["exit_code"] == 4

    def test_a_file_keeps_its_permissions_and_a_new_one_has_those_of_the_umask(self, runner: Runner) -> None:
        old, new = runner.folder / "old.json", runner.folder / "new.json"
        old.write_text("older")
        old.chmod(0o604)
        mask = os.umask(0o027)
        try:
            play(runner, old)
            play(runner, new)
        finally:
            os.umask(mask)

        assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o604, 0o640]

    def test_a_pipe_is_written_to_and_stays(self, runner: Runner) -> None:
        pipe = runner.folder / "report.json"
        os.mkfifo(pipe)
        received: list[str] = []
        reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
        reader.start()

        outcome = play(runner, pipe)
        reader.join(10)

        assert outcome.exit_code == 4
        assert json.loads(received[0])["exit_code"] == 4
        assert stat.S_ISFIFO(pipe.lstat().st_mode)

    def test_a_device_is_written_to_and_stays(self, runner: Runner, null_device: Path) -> None:
        assert play(runner, null_device).exit_code == 4
        assert stat.S_ISCHR(null_device.lstat().st_mode)
        assert [path.name for path in null_device.parent.iterdir()] == [null_device.name]

    @pytest.mark.parametrize("report", ["folder", "file/report.json", "no/report.json", "circle"])
    def test_what_cannot_be_a_report_is_known_beforehand(self, runner: Runner, report: str) -> None:
        (runner.folder / "folder").mkdir()
        (runner.folder / "file").write_text("older")
        (runner.folder / "circle").symlink_to("circle")
        playbook = write_unreachable(runner.folder)
        before = sorted(path.name for path in runner.folder.iterdir())

        outcome = runner("play", str(playbook), "--json", str(runner.folder / report))

        assert outcome.exit_code == 64
        assert outcome.stderr.startswith(f"error: cannot write the report {runner.folder / report}: ")
        assert outcome.stdout == ""
        assert sorted(path.name for path in runner.folder.iterdir()) == before


def test_a_temporary_name_that_somebody_has_foreseen_is_not_followed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody may write, everybody may plant links."""
    victim = runner.folder / "victim"
    victim.write_text("precious")
    report = runner.folder / "report.json"
    # The name that it used to have, and the one that it has.
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    planted = [runner.folder / f"report.json.{os.getpid()}.tmp", runner.folder / f".runner-{'0' * 16}.tmp"]
    for link in planted:
        link.symlink_to(victim)

    outcome = play(runner, report)

    assert victim.read_text() == "precious"
    assert all(link.is_symlink() for link in planted)
    assert (outcome.exit_code, report.exists()) == (4, False)
    assert "cannot write the report" in outcome.stderr


def test_descriptors_are_written_to_where_they_are(tmp_path: Path) -> None:
    """A file that is open is neither replaced nor written over from its beginning."""
    playbook = write_unreachable(tmp_path)
    output, link = tmp_path / "output", tmp_path / "link"
    # Not /dev/stdout itself: what would replace it replaces it for the whole machine.
    link.symlink_to("/dev/stdout")
    script = 'echo first >>"$OUT"; "$@" -q >>"$OUT"; echo $? >>"$OUT"'

    run_in_shell(script, ["play", playbook, "--json", link], env={**os.environ, "OUT": str(output)})

    assert os.readlink(link) == "/dev/stdout"

    text = output.read_text()
    assert text.startswith("first\n")
    assert text.endswith("}\n4\n")
    report = json.loads(text[text.index("\n{") : text.rindex("}") + 1])
    assert report["exit_code"] == 4


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    with file.open("w") as stream:
        stream.write("first\n")
        stream.flush()
        (tmp_path / "link").symlink_to(f"/dev/fd/{stream.fileno()}")
        target = name.format(stream.fileno()) if name != "link" else str(tmp_path / "link")
        write_file(target, b"second\n", new_permissions=0o600)

    assert file.read_text() == "first\nsecond\n"


def test_a_process_substitution_gets_the_report(tmp_path: Path) -> None:
    script = '"$@" --json >(cat >"$OUT") >/dev/null; code=$?; wait $!; echo $code'
    received = tmp_path / "received"

    done = run_in_shell(script, ["play", write_unreachable(tmp_path)], env={**os.environ, "OUT": str(received)})

    assert done.stdout == "4\n", done.stderr
    assert read_report(received)["exit_code"] == 4


class TestAReportThatCannotBeWrittenInTheEnd:
    """It could be when the play began."""

    @pytest.fixture(autouse=True)
    def _full_disk(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(runner.folder)

        def fail(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("runner.cli.report_file.write_file", fail)

    def test_the_exit_code_of_a_failed_play_survives(self, runner: Runner) -> None:
        outcome = play(runner, "report.json")

        assert outcome.exit_code == 4
        assert "error: cannot write the report report.json: No space left on device" in outcome.stderr
        assert "Traceback" not in outcome.output

    def test_a_play_that_ended_well_does_not_pass_for_a_success(
        self, runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
    ) -> None:
        (runner.folder / "source").write_text("x")
        path = write_playbook(runner.folder, [step(asyncssh_server, upload("source", "a"))])
        outcome = runner("play", str(path), "--json", "report.json")

        assert snapshot(remote) == {"a": b"x"}
        assert outcome.exit_code == 64
        assert "error: cannot write the report report.json: No space left on device" in outcome.stderr

    def test_nor_is_the_reason_hidden_why_a_playbook_was_not_played(self, runner: Runner) -> None:
        path = runner.folder / "play.yaml"
        path.write_text("stepz: []\n")
        outcome = runner("play", str(path), "--json", "report.json")

        assert outcome.exit_code == 3
        assert "unknown key 'stepz'" in outcome.stderr
        assert "cannot write the report" in outcome.stderr


@pytest.mark.parametrize("command", ["play", "doctor"])
@pytest.mark.parametrize("name", ["play.yaml", "link", "./x/../play.yaml"])
def test_no_report_takes_the_place_of_the_playbook(runner: Runner, command: str, name: str) -> None:
    """`--json FILE` is written: the order of two names must not cost the playbook, be it valid or not."""
    for write in (write_unreachable, lambda folder: write_playbook(folder, {"stepss": []})):
        playbook = write(runner.folder)
        text = playbook.read_text()
        (runner.folder / "x").mkdir(exist_ok=True)
        (runner.folder / "link").unlink(missing_ok=True)
        (runner.folder / "link").symlink_to(playbook)

        outcome = runner(command, str(playbook), "--json", str(runner.folder) + "/" + name)

        assert outcome.exit_code == 64
        assert "would take the place of the playbook" in outcome.stderr
        assert playbook.read_text() == text
