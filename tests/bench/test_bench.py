"""The benchmark's own tests: that it counts right, and that what it counts are copies. None of them measures anybody."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from runner.playbook.build import load_play
from tests.bench import product
from tests.bench.__main__ import main
from tests.bench.cases import CASES, KIB, MIB, Case, Entry
from tests.bench.chart import draw_chart
from tests.bench.machine import Machine
from tests.bench.measurement import Command, CommandFailed, Measurement, measure
from tests.bench.page import Session, write_page
from tests.bench.payload import ensure_payload, find_difference
from tests.bench.results import CaseResult, Run, judge, ratio, summarize
from tests.bench.servers import Address, find_missing
from tests.bench.setting import Job, Setting, read_connector_schema
from tests.bench.table import case_table, format_bytes, format_title, target_table
from tests.bench.targets import TARGETS, RatioTarget
from tests.bench.tools import TOOLS
from tests.conftest import require_sshd

CHECKOUT = Path(__file__).resolve().parents[2]
BY_NAME = {case.name: case for case in CASES}
SMALL = Case("small", "A small file", "up", "file", (Entry("runner"), Entry("scp")), 300 * KIB)
FOLDER = Case("folder", "Small files", "up", "steps", (Entry("runner"), Entry("rsync")), KIB, 5)
UP_SCHEMA: dict[str, Any] = {
    "properties": {"connector_type": {"enum": ["SFTP", "SCP"]}},
    "$defs": {
        "verify": {"enum": ["auto", "size"]},
        "copy_file_from_engine": {"properties": {"verify": {"$ref": "#/$defs/verify"}, "atomic": {}}},
    },
}


@pytest.fixture
def runner_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as it is in this checkout, installed or not."""
    path = tmp_path_factory.mktemp("bin") / "runner"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{CHECKOUT}" exec "{sys.executable}" -m runner "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def measured(seconds: float, peak_bytes: int = 50 * MIB) -> Measurement:
    return Measurement(seconds, seconds / 2, peak_bytes, 10 * MIB)


def result_of(name: str, **seconds: list[float]) -> CaseResult:
    """A result with these times, round by round; a negative one did not count."""
    runs = [
        Run(tool.replace("_", "-"), number, None if one < 0 else measured(one), "too short" if one < 0 else "")
        for tool, all_seconds in seconds.items()
        for number, one in enumerate(all_seconds, start=1)
    ]
    return CaseResult(BY_NAME[name], tuple(runs), {"lftp": "not installed"})


# --- cases and targets -----------------------------------------------------------------------------------------------


def test_cases_targets_and_tools_know_each_other() -> None:
    assert len(BY_NAME) == len(CASES)
    for case in CASES:
        names = [entry.tool for entry in case.entries]
        assert set(names) <= TOOLS.keys(), case.name
        assert names[0] == "runner", case.name
        assert len(set(names)) == len(names), case.name
    for target in TARGETS:
        peer = target.peer if isinstance(target, RatioTarget) else "runner"
        # An earlier version takes part in every case when one is given.
        assert peer in ["before", *(entry.tool for entry in BY_NAME[target.case].entries)], target


def test_scaling_shrinks_big_files_and_numbers_of_files_and_says_so() -> None:
    assert BY_NAME["1gib-up"].scale(0.1).file_bytes == 107_374_182
    assert BY_NAME["1000-steps-up"].scale(0.1).file_count == 100
    assert BY_NAME["1000-steps-up"].scale(0.1).file_bytes == 4 * KIB
    assert BY_NAME["tiny"].scale(0.1) == BY_NAME["tiny"]
    assert format_title(BY_NAME["1gib-up"].scale(0.1)) == "1 GiB up (scaled to 102 MiB)"
    assert format_title(BY_NAME["1000-steps-up"].scale(0.1)).endswith("(scaled to 100 files)")
    assert format_title(BY_NAME["tiny"].scale(0.1)) == BY_NAME["tiny"].title


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_a_ratio_is_taken_round_by_round() -> None:
    # The second round was a busy minute for both; comparing medians would say 1.0.
    result = result_of("1gib-up", runner=[1.0, 9.0, 2.0], scp=[2.0, 10.0, 2.0])

    assert ratio(result, "scp") == 0.9
    assert ratio(result, "runner") is None


def test_a_round_that_one_of_both_failed_is_in_no_ratio() -> None:
    result = result_of("1gib-up", runner=[1.0, -1.0, 3.0], scp=[2.0, 1.0, -1.0])

    assert ratio(result, "scp") == 0.5
    summary = summarize(result, "runner")
    assert summary is not None
    assert (summary.seconds, summary.counted_runs) == (2.0, 2)
    assert "1 of its runs did not count: too short" in case_table(result)


def test_a_tool_that_always_fails_is_shown_as_failed() -> None:
    result = result_of("1gib-up", runner=[1.0], rsync=[-1.0])

    assert summarize(result, "rsync") is None
    assert "failed" in case_table(result)
    assert "not installed" in case_table(result)


def test_targets_are_met_missed_or_not_measured() -> None:
    results = [
        result_of("1gib-up", runner=[1.0], scp_gcm=[2.0], scp=[1.5]),
        result_of("memory-8gib-up", runner=[1.0]),
    ]

    verdicts = {(one.target.case, getattr(one.target, "peer", "")): one.verdict for one in judge(results)}
    assert verdicts["1gib-up", "scp-gcm"] == "met"
    assert verdicts["1gib-up", "scp"] == "missed"
    assert verdicts["memory-8gib-up", ""] == "met"
    assert verdicts["1gib-down", "scp-gcm"] == "not measured"
    assert "**missed**" in target_table(judge(results))


def test_bytes_are_written_for_people() -> None:
    assert [format_bytes(count) for count in (512, 4 * KIB, 90 * MIB, 1023 * MIB, 8192 * MIB)] == [
        "0.5 KiB",
        "4 KiB",
        "90 MiB",
        "1023 MiB",
        "8 GiB",
    ]


def test_page_and_chart(tmp_path: Path) -> None:
    failed = Run("rsync", 1, None, "exec: /usr/local/lib/thing/bin/rsync | <gone>")
    result = result_of("1gib-up", runner=[1.0, 1.2], scp=[2.0, 2.4])
    result = CaseResult(result.case, (*result.runs, failed), result.absences)
    machine = Machine("A & B", 2, 8192 * MIB, "Some Linux", "6.1", "3.11", 0.1, "today", "abc", {"sshd": "9.2p1"})
    without_us = CaseResult(BY_NAME["200-files"], (), {"runner": "this version has no mode"})
    session = Session(machine, [result, without_us], rounds=2, scale=0.1, is_whole=False)

    page = write_page(session, tmp_path).read_text(encoding="utf-8")

    assert "A trial, not a result" in page
    assert "scp, default cipher |     2.20 s (2.00–2.40)" in page
    assert "rsync gone" in page
    assert "/usr" not in page
    assert "this version has no mode." in page
    drawing = ElementTree.fromstring((tmp_path / "performance.svg").read_text(encoding="utf-8"))
    bars = list(drawing.iter("{http://www.w3.org/2000/svg}rect"))
    assert [bar.get("class") for bar in bars] == ["ours", "peer"]
    assert draw_chart([], "nothing", "") != ""


# --- one run ---------------------------------------------------------------------------------------------------------


def run_python(code: str, folder: Path, timeout_seconds: float = 20.0) -> Measurement:
    command = Command((sys.executable, "-I", "-S", "-c", code))
    return measure(command, folder=folder, environment={}, timeout_seconds=timeout_seconds)


def test_a_measurement_has_time_cpu_and_memory_of_the_command_alone(tmp_path: Path) -> None:
    small = run_python("import time; time.sleep(0.3)", tmp_path)
    big = run_python(f"data = b'x' * {100 * MIB}; sum(range(3_000_000))", tmp_path)

    assert 0.3 <= small.wall_seconds < 3
    assert small.cpu_seconds < 0.3
    # This process, which started it, is far bigger.
    assert small.peak_bytes < 30 * MIB
    assert big.peak_bytes > 100 * MIB
    assert big.cpu_seconds > 0.01


def test_a_child_s_memory_counts(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'b\"x\" * {100 * MIB}'], check=True)"

    assert run_python(code, tmp_path).peak_bytes > 100 * MIB


def test_a_command_that_fails_or_takes_too_long_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3: no such thing"):
        run_python("import sys; print('no such thing'); sys.exit(3)", tmp_path)
    with pytest.raises(CommandFailed, match="not done in"):
        run_python("import time; time.sleep(60)", tmp_path, timeout_seconds=0.3)
    with pytest.raises(CommandFailed, match="did not start"):
        measure(Command(("no-such-program",)), folder=tmp_path, environment={}, timeout_seconds=20)


# --- what is copied --------------------------------------------------------------------------------------------------


def copy_of(source: Path, landing: Path) -> Path:
    """A good copy, with nothing beside it."""
    landing.mkdir()
    copy = landing / "copy"
    if source.is_file():
        copy.write_bytes(source.read_bytes())
    else:
        copy.mkdir()
        for file in source.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_a_payload_is_made_once_and_replaces_another(tmp_path: Path) -> None:
    first = ensure_payload(tmp_path / "source", SMALL)
    content = first.read_bytes()

    assert len(content) == SMALL.file_bytes
    assert ensure_payload(tmp_path / "source", SMALL).read_bytes() == content
    assert len(list(ensure_payload(tmp_path / "source", FOLDER).iterdir())) == FOLDER.file_count
    assert not first.exists()


@pytest.mark.parametrize("is_thorough", [True, False])
def test_a_wrong_copy_is_found(tmp_path: Path, is_thorough: bool) -> None:
    source = ensure_payload(tmp_path / "source", SMALL)
    assert find_difference(source, tmp_path / "nowhere" / "copy") == "no copy"
    copy = copy_of(source, tmp_path / "landing")
    assert find_difference(source, copy, is_thorough=is_thorough) == ""

    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert find_difference(source, copy, is_thorough=is_thorough) == "content: other bytes"
    copy.write_bytes(content[:-1])
    assert "bytes expected" in find_difference(source, copy, is_thorough=is_thorough)
    copy.write_bytes(source.read_bytes())
    (copy.parent / ".copy.part").touch()
    assert find_difference(source, copy, is_thorough=is_thorough) == "left behind: .copy.part"


def test_a_wrong_copy_of_a_folder_is_found(tmp_path: Path) -> None:
    source = ensure_payload(tmp_path / "source", FOLDER)
    copy = copy_of(source, tmp_path / "landing")
    assert find_difference(source, copy) == ""

    (copy / "file-00003.bin").unlink()
    assert find_difference(source, copy) == f"file-00003.bin: {KIB} bytes expected, None found"
    (copy / "file-00003.bin").write_bytes(bytes(KIB))
    assert find_difference(source, copy) == "file-00003.bin: other bytes"


def test_only_a_thorough_look_reads_all_of_a_big_file(tmp_path: Path) -> None:
    source = ensure_payload(tmp_path / "source", Case("big", "", "up", "file", (), 16 * MIB))
    copy = copy_of(source, tmp_path / "landing")
    with copy.open("r+b") as file:
        file.seek(300 * KIB)
        file.write(os.urandom(8))

    assert find_difference(source, copy) == ""
    assert find_difference(source, copy, is_thorough=True) == "content: other bytes"


# --- ours ------------------------------------------------------------------------------------------------------------


def test_what_the_schema_lacks_is_refused() -> None:
    plain, checksum, durable, scp = (
        next(one for one in product.VARIANTS if one.name == name)
        for name in ("runner", "runner-checksum", "runner-durable", "runner-scp")
    )

    assert product.find_refusal(plain, UP_SCHEMA, SMALL) == ""
    assert product.find_refusal(scp, UP_SCHEMA, SMALL) == ""
    assert product.find_refusal(checksum, UP_SCHEMA, SMALL) == "this version has no verify: checksum"
    assert product.find_refusal(durable, UP_SCHEMA, SMALL) == "this version has no durable: True"
    folder = Case("folder", "", "down", "folder", (), KIB, 5)
    assert product.find_refusal(plain, UP_SCHEMA, folder) == "this version has no mode copy_directory_to_engine"


@pytest.mark.parametrize("shape", ["file", "steps", "loop", "list-and-loop", "validate"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_its_playbooks_are_valid(tmp_path: Path, runner_command: Path, direction: Any, shape: Any) -> None:
    case = Case("case", "", direction, shape, (), KIB, 1 if shape == "file" else 5)
    source = ensure_payload(tmp_path / "source", case)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILe5Sj+eX9C1wOBNrq78dC7sHzcg2lZVclyZ+8uR42c"
    job = Job(direction, shape, source, tmp_path / "copy", Address("me", tmp_path / "key", key, {0: 2022}), 0, tmp_path)
    setting = Setting(tmp_path, tmp_path, {}, tmp_path, runner_command, None, {}, tmp_path)
    schema = read_connector_schema(runner_command)
    for variant in product.VARIANTS:
        if not product.find_refusal(variant, schema, case):
            product.play_command(variant, setting, job)
            count = len(load_play(str(tmp_path / "playbook.yaml")).program.nodes)
            wanted = {"steps": 5, "validate": 5, "list-and-loop": 2, "loop": 1 if direction == "up" else 2}
            assert count == (1 if variant.shape else wanted.get(shape, 1))


# --- all of it -------------------------------------------------------------------------------------------------------


def test_the_whole_benchmark_in_small(tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_sshd()
    options = ["--rounds", "1", "--scale", "0.001", "--tool", "scp-gcm", "--into", str(tmp_path / "docs")]
    options += ["--memory-folder", str(tmp_path), "--runner", str(runner_command)]

    assert main([*options, "--case", "1gib-down", "--case", "200-steps"]) == 0

    output = capsys.readouterr().out
    assert "does not count" not in output
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "### 1 GiB down (scaled to 1.02 MiB)" in page
    assert "A trial, not a result" in page
    assert os.listdir(tmp_path) == ["docs"]


def test_the_language_is_measured_against_ourselves(
    tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_sshd()
    options = ["--rounds", "1", "--scale", "0.01", "--tool", "runner-folder", "--tool", "runner-list"]
    options += ["--memory-folder", str(tmp_path), "--runner", str(runner_command), "--into", str(tmp_path / "docs")]
    names = ("1000-loop", "200-steps-again", "2000-validate", "200000-list")

    assert main([*options, *(part for name in names for part in ("--case", name))]) == 0

    assert "does not count" not in capsys.readouterr().out
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("|")]
    assert [cells[2] for cells in rows if cells[-2] in ("met", "**missed**")] == [
        "time ÷ runner, as one folder",
        "time ÷ runner, as one folder",
        "time",
        "time ÷ runner, the list alone",
        "peak memory",
    ]


def test_what_is_synced_is_copied_to_a_disk(
    tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_sshd()
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["--rounds", "1", "--scale", "0.01", "--tool", "runner-durable", "--into", str(tmp_path / "docs")]
    options += ["--memory-folder", str(tmp_path), "--disk-folder", str(disk), "--runner", str(runner_command)]

    assert main([*options, "--case", "1000-files-up-durable"]) == 0

    assert "does not count" not in capsys.readouterr().out
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "| runner, durable: true |" in page
    assert sorted(os.listdir(tmp_path)) == ["disk", "docs"]
    assert os.listdir(disk) == []


@pytest.mark.parametrize("server", ["rclone", "pkg-sftp"])
def test_a_case_goes_to_the_server_that_it_names(
    tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str], server: Any
) -> None:
    """Or says why there is none."""
    require_sshd()
    options = ["--rounds", "1", "--scale", "0.002", "--into", str(tmp_path / "docs")]
    options += ["--memory-folder", str(tmp_path), "--runner", str(runner_command), "--case", f"5000-files-*-{server}"]

    assert main(options) == 0

    output = capsys.readouterr().out
    lack = find_missing(server)
    assert (f"not run: {lack}" if lack else "| **runner** ") in output
    assert "does not count" not in output


def test_a_wrong_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "no-such-case"]) == 64
    with pytest.raises(SystemExit):
        main(["--tool", "no-such-tool"])
    assert "no such tool: no-such-tool" in capsys.readouterr().err


def test_an_earlier_version_is_one_more_tool(
    tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_sshd()
    before = tmp_path / "before"
    before.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/calls\nexec {runner_command} "$@"\n', encoding="utf-8")
    before.chmod(0o755)
    options = ["--rounds", "1", "--case", "tiny", "--tool", "scp-gcm", "--into", str(tmp_path / "docs")]
    options += ["--memory-folder", str(tmp_path), "--runner", str(runner_command), "--before", str(before)]

    assert main(options) == 0

    assert "| runner, before" in capsys.readouterr().out
    # A rehearsal, and the round.
    assert (tmp_path / "calls").read_text(encoding="utf-8").split().count("play") == 2


def test_without_the_earlier_version_there_is_no_benchmark(
    tmp_path: Path, runner_command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--memory-folder", str(tmp_path), "--runner", str(runner_command), "--before", str(tmp_path / "typo")]

    assert main(options) == 1
    assert f"{tmp_path}/typo does not work" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_without_a_runner_there_is_no_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_sshd()

    assert main(["--memory-folder", str(tmp_path), "--runner", str(tmp_path / "gone")]) == 1
    assert "does not work" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
