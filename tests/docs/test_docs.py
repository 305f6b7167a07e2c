"""The pages hold: what they name exists, what exists is named, and their playbooks are valid.

Code blocks in `yaml` are recognised as playbooks by their shape. Others say what they are in a comment above them:

    <!-- fragment of a playbook -->    keys of a playbook, a connection among them
    <!-- fragment of a step -->        keys of a step
    <!-- fragment of a mode -->        keys of a mode
    <!-- values -->                    variables, each with what it becomes: see test_filters.py
    <!-- not a playbook -->            anything else that is YAML

In README.md a block that looks like no playbook needs no comment. `<!-- report -->` marks a JSON block as a report.
"""

from __future__ import annotations

import importlib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from runner import errors
from runner.cli.main import COMMANDS, EXIT_BUG, EXIT_USAGE, cli
from runner.cli.signals import SIGNALS
from runner.errors import PlaybookInvalid, RunnerError
from runner.playbook import document
from runner.playbook.binding import DEFAULT_STALL_TIMEOUT_SECONDS
from runner.playbook.build import check_play
from runner.playbook.commands import MAX_OUTPUT_BYTES, TIMEOUT_SECONDS
from runner.playbook.document import PositionedList, PositionedMap
from runner.playbook.endpoints import DEFAULT_CONNECT_TIMEOUT_SECONDS
from runner.playbook.jump_hosts import MAX_HOPS
from runner.redaction import MIN_LINE_LENGTH, MIN_SECRET_LENGTH
from runner.resources import schema_text
from runner.sftp.batch import listing as batch_listing
from runner.transfer.tree import names as tree_names
from runner.transfer.tree import walk as tree_walk
from tests.zoo.page import make_page

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(
    r"(?:^ *<!-- (?P<marker>[^\n>]+) -->\n)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
CODE_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILe5Sj+eX9C1wOBNrq78dC7sHzcg2lZVclyZ+8uR42c"

BASE_MODE = {
    "mode_name": "copy_file_from_engine",
    "source_file_name": "out/payments.xml",
    "destination_file_name": "/inbox/payments.xml",
}
BASE_STEP = {
    "host": "sftp.bank.example",
    "authentication": {"authentication_method": "ssh_agent", "username": "acme"},
    "mode": BASE_MODE,
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    marker: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("body"))
        yield Block(page, line, found["marker"] or "", found["language"], textwrap.dedent(found["body"]))


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_words(page: Path) -> set[str]:
    """Every word that stands in code on a page, inline or in a block."""
    inline = CODE_SPAN.findall(prose(page))
    return {word for text in (*inline, *(block.text for block in blocks(page))) for word in re.findall(r"\w+", text)}


def docs(name: str) -> Path:
    return ROOT / "docs" / name


# --- the schemas ---------------------------------------------------------------------------------------------------


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(schema_text(name))
    return loaded


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a schema that is not an example or a default."""
    if isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key not in ("examples", "default"):
                yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def properties(name: str) -> set[str]:
    return {
        key for part in walk(schema(name)) if isinstance(part.get("properties"), dict) for key in part["properties"]
    }


def choices(name: str) -> set[str]:
    """Every value that a schema names: enumerations, and the constants that choose a variant."""
    values = [value for part in walk(schema(name)) for value in (*_list(part.get("enum")), part.get("const"))]
    return {value for value in values if isinstance(value, str)}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("name", "pages"),
    [("playbook", ["playbook.md", "language.md"]), ("connector", ["playbook.md"]), ("report", ["cli.md"])],
)
def test_every_property_is_documented(name: str, pages: list[str]) -> None:
    assert properties(name) - set().union(*(code_words(docs(page)) for page in pages)) == set()


@pytest.mark.parametrize("name", ["playbook", "connector"])
def test_every_value_is_documented(name: str) -> None:
    pages = [docs("playbook.md"), docs("language.md")]
    spans = {span.strip() for page in pages for span in CODE_SPAN.findall(prose(page))}
    # The names of algorithms are more than words.
    assert {one for one in choices(name) - spans if not re.fullmatch(r"\w+", one)} == set()
    words = set().union(*map(code_words, pages))
    assert {one for one in choices(name) if re.fullmatch(r"\w+", one)} - words == set()


def test_host_key_variants_are_documented_on_their_own_page() -> None:
    variants = {key for key in schema("connector")["$defs"] if key in ("known_host", "fingerprint", "known_hosts_file")}
    assert len(variants) == 3
    assert {"hostkey", "hostkey_mode", *variants} - code_words(docs("host-keys.md")) == set()


def test_no_key_is_documented_that_does_not_exist() -> None:
    """Words with an underscore are keys, values or names of templates; each must be one."""
    known = set().union(*(properties(name) | choices(name) for name in ("playbook", "connector", "report")))
    known |= {
        "playbook_dir",
        "connection_name",
        "trusted_path",
        "failed_step",
        "first_found",
        "runner_version",
        "runner_check_mode",
        "group_names",
        "play_hosts",
        "known_hosts",
        "known_hosts2",
        "ssh_known_hosts",
        "ssh_known_hosts2",
    }
    for page in (docs("playbook.md"), docs("language.md"), docs("host-keys.md"), docs("cli.md")):
        spans = [re.sub(r"[\w./]*/[\w./:]+", "", span) for span in CODE_SPAN.findall(prose(page))]
        words = {word for span in spans for word in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", span)}
        assert words - known == set(), page.name


def test_defaults_are_the_code_s() -> None:
    text = docs("playbook.md").read_text(encoding="utf-8")
    rows = {row[0].strip("` "): row[-1].strip("` ") for row in _table_rows(text) if len(row) == 3}

    assert rows["connect_timeout"] == str(DEFAULT_CONNECT_TIMEOUT_SECONDS)
    assert rows["stall_timeout"] == str(DEFAULT_STALL_TIMEOUT_SECONDS)
    for key in ("connector_type", "connect_timeout", "keepalive_interval", "stall_timeout"):
        assert rows[key] == str(schema("connector")["properties"][key]["default"]), key
    options = {row[0].strip("` "): row[1] for row in _table_rows(text) if len(row) == 3}
    for key in ("compare", "if_exists", "verify", "atomic", "create_parents"):
        default = schema("connector")["$defs"][key]["default"]
        assert options[key].strip().startswith(f"`{json.dumps(default).strip(chr(34))}`"), key


def test_limits_are_the_code_s() -> None:
    text = docs("playbook.md").read_text(encoding="utf-8")

    text = " ".join(text.split())
    assert f"at most {document.MAX_FILE_BYTES // 2**20} MiB, about {document.MAX_NODES:,} values" in text
    assert f"and {document.MAX_DEPTH} levels" in text
    assert f"There are at most {MAX_HOPS} jump hosts on a way" in text
    assert f"at most {document.MAX_ENCRYPTED_VALUES} encrypted values" in text
    assert f"It has {TIMEOUT_SECONDS:g} seconds, {MAX_OUTPUT_BYTES // 2**20} MiB for its output" in text
    assert f"those with fewer than {MIN_LINE_LENGTH} characters" in text
    assert MIN_SECRET_LENGTH == 3 and "of one or two characters is not masked" in text


def _table_rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|- "):
            yield re.split(r"(?<!\\)\|", line.strip().strip("|"))


# --- the commands --------------------------------------------------------------------------------------------------


def click_command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined,unused-ignore]
    assert isinstance(command, click.Command)
    return command


def params_of(command: click.Command) -> list[click.Parameter]:
    """The parameters of a command and of the commands below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(param for one in below for param in params_of(one))]


def options_of(command: click.Command) -> set[str]:
    help_names = {"-h", "--help"}
    return help_names | {name for one in params_of(command) if isinstance(one, click.Option) for name in one.opts}


def section(page: Path, heading: str) -> str:
    """The text below a second-level heading."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page.name} has no section {heading}"
    return found[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    command, text = click_command(name), section(docs("cli.md"), f"`runner {name}`")

    for option in options_of(command):
        assert re.search(rf"`{option}[` ]", text), option
    for name_below in command.commands if isinstance(command, click.Group) else ():
        assert re.search(rf"`{name_below}[` ]", text), name_below
    for parameter in params_of(command):
        if isinstance(parameter.type, click.Choice):
            for choice in parameter.type.choices:
                assert re.search(rf"\b{choice}\b", text), choice


def test_the_program_s_own_options_are_documented() -> None:
    text = docs("cli.md").read_text(encoding="utf-8")

    for option in options_of(cli):
        assert option in text, option


def test_every_exit_code_is_in_the_table() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RunnerError)]
    expected = {one.exit_code for one in classes} | {0, EXIT_BUG, EXIT_USAGE} | {128 + number for number in SIGNALS}

    rows = [row[0].strip() for row in _table_rows(section(docs("cli.md"), "Exit codes"))]
    assert [int(code) for code in rows if code.isdigit()] == sorted(expected)


def command_lines() -> Iterator[tuple[str, str]]:
    """Every command line of ours that a page shows: (where, words after `runner`)."""
    for block in ALL_BLOCKS:
        for line in block.text.splitlines():
            if found := re.match(r"\s*(?:[$-] )?runner ([a-z-].*)", line):
                yield str(block), found[1]
    for page in PAGES:
        for span in CODE_SPAN.findall(prose(page)):
            if found := re.match(r"(?:python -m )?runner ([a-z-].*)", span):
                yield page.name, found[1]


def test_every_command_line_can_be_typed() -> None:
    for where, line in command_lines():
        words = line.partition(" # ")[0]
        name = words.split()[0]
        known = (
            options_of(cli) if name.startswith("-") else options_of(click_command(name)) if name in COMMANDS else set()
        )
        assert known, f"{where}: runner {words}"
        command = click_command(name) if name in COMMANDS else None
        if isinstance(command, click.Group) and len(words.split()) > 1:
            known = options_of(command.commands[words.split()[1].partition("|")[0]])
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", words):
            assert option in known or set(option[1:]) == {"v"}, f"{where}: runner {words}: {option}"


def test_every_option_named_alone_exists() -> None:
    known = options_of(cli).union(*(options_of(click_command(name)) for name in COMMANDS))
    for page in PAGES:
        for span in CODE_SPAN.findall(prose(page)):
            if found := re.match(r"(--?[a-zA-Z][a-z-]*)(?:[ =].*)?$", span):
                assert found[1] in known or set(found[1][1:]) == {"v"}, f"{page.name}: {span}"


# --- the playbooks -------------------------------------------------------------------------------------------------


def to_playbook(block: Block) -> str | None:
    """The whole playbook that a block stands for; None if it is none."""
    if block.marker in ("not a playbook", "values"):
        return None
    data = document.parse(block.text, str(block))
    if block.marker == "fragment of a playbook":
        return json.dumps({"steps": [BASE_STEP], **_mapping(data, block)})
    if block.marker == "fragment of a step":
        return json.dumps([{**BASE_STEP, **_mapping(data, block)}])
    if block.marker == "fragment of a mode":
        return json.dumps([{**BASE_STEP, "mode": {**BASE_MODE, **_mapping(data, block)}}])
    if block.marker == "steps":
        assert isinstance(data, PositionedList), block
        bank = {key: value for key, value in BASE_STEP.items() if key != "mode"}
        return json.dumps({"connections": {"bank": bank}, "steps": data})
    assert not block.marker, f"{block}: unknown marker '{block.marker}'"
    if isinstance(data, PositionedList) or "steps" in data:
        return block.text
    assert block.page.name == "README.md", f"{block}: say in a comment above what this is"
    return None


def _mapping(data: PositionedMap | PositionedList, block: Block) -> PositionedMap:
    assert isinstance(data, PositionedMap), f"{block}: a fragment is a mapping"
    return data


def provide_lookups(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables and write the files that a playbook's templates look up."""
    for name in re.findall(r"lookup\('env', *'(\w+)'", text):
        monkeypatch.setenv(name, HOST_KEY if re.search("HOST_?KEY|KNOWN", name) else "2022")
    for name in re.findall(r"lookup\('file', *'([^']+)'", text):
        path = folder / Path(name).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HOST_KEY, encoding="utf-8")


@pytest.mark.parametrize("block", [block for block in ALL_BLOCKS if block.language in ("yaml", "yml")], ids=str)
def test_every_playbook_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_playbook(block)
    if text is None:
        return
    provide_lookups(text, tmp_path, monkeypatch)
    for name in re.findall(r'"include_steps": "([^"]+)"', text):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("- debug: {msg: included}\n", encoding="utf-8")
    path = tmp_path / "playbook.yaml"
    path.write_text(text, encoding="utf-8")

    try:
        assert check_play(str(path))
    except PlaybookInvalid as error:
        pytest.fail("\n".join(f"{block}: {one.location.line}: {one.message}" for one in error.problems))


def test_every_report_is_valid() -> None:
    reports = [block for block in ALL_BLOCKS if block.marker == "report"]
    assert reports
    for block in reports:
        report = json.loads(block.text)
        Draft202012Validator(schema("report")).validate(report)
        for step in report["steps"]:
            assert not step["error"] or hasattr(errors, step["error"]["type"]), str(block)


# --- what the pages point at -----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}"


def resolve(path: str, name: str) -> None:
    """Raise if the module at `path` has nothing called `name`."""
    found: ModuleType | type = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_name_of_the_code_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w./-])((?:runner|schema|tests|playbooks|docs)/[\w./-]*)(?![\w*])", text):
        assert (ROOT / path.rstrip(".")).exists(), f"{page.name}: {path}"
    for path, name in re.findall(r"\b(runner/[\w/]+\.py):([A-Za-z_][\w.]*\w)", text):
        resolve(path, name)
    for dotted in re.findall(r"(?<![\w./-])runner((?:\.[A-Za-z_]\w*)+)", prose(page)):
        parts = dotted[1:].split(".")
        if parts[-1] in ("yaml", "md", "example"):
            continue
        as_folder = ROOT.joinpath("runner", *parts)
        if not (as_folder.is_dir() or as_folder.with_suffix(".py").is_file()):
            resolve("/".join(["runner", *parts[:-1]]), parts[-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_beside_a_module_in_a_table_is_in_it(page: Path) -> None:
    """In a row that names modules, what looks like a function or a class stands in one of them."""
    for line in prose(page).splitlines():
        paths = re.findall(r"`(runner/[\w/]+\.py)`", line)
        if not line.startswith("|") or not paths:
            continue
        for name in CODE_SPAN.findall(line):
            if re.fullmatch(r"_?[A-Za-z]\w*(\.\w+)*", name) and ("_" in name or "." in name or name[0].isupper()):
                assert any(_has(path, name) for path in paths), f"{page.name}: {name} is in none of {paths}"


def _has(path: str, name: str) -> bool:
    try:
        resolve(path, name)
    except AttributeError:
        return False
    return True


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(
            r"`make ([a-z]+)`|^(?:\$ )?make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            name = target[0] or target[1]
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"{page.name}: make {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_promises_anything(page: Path) -> None:
    """The pages say what is, not what will be. (That every name exists is tested above.)"""
    promise = re.compile(
        r"not yet|\bTODO\b|\bTBD\b|\bFIXME\b|coming soon|upcoming|roadmap|\bplanned\b|in (the|a) future"
        r"|later (issue|release|version)|will (be|become) (added|supported|available|possible)|work in progress|for now\b",
        re.IGNORECASE,
    )
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        assert not promise.search(line), f"{page.name}:{number}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_hosts_are_examples_and_no_path_is_of_one_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for host in re.findall(r"^[ -]*host: *([\w.-]+)", text, re.MULTILINE):
        assert host.endswith(".example"), f"{page.name}: {host}"
    found = re.search(r"/(root|home|tmp|work|Users)/\w+", text)
    assert not found, f"{page.name}: {found[0] if found else ''}"


# --- the servers -----------------------------------------------------------------------------------------------------


def test_the_page_of_servers_is_the_table_s() -> None:
    """`make servers-page` writes it, and `make test-zoo` holds the table to the servers."""
    assert docs("servers.md").read_text(encoding="utf-8") == make_page()


# --- the threat model ------------------------------------------------------------------------------------------------


def threat_rows() -> list[list[str]]:
    """The rows of the tables of attacks, with their three cells."""
    rows = [row for row in _table_rows(section(docs("security.md"), "Attacks")) if len(row) == 3]
    return [row for row in rows if row[0].strip() != "attack"]


def test_every_attack_names_a_test_and_every_test_exists() -> None:
    rows = threat_rows()
    assert len(rows) > 30
    for attack, defence, proof in rows:
        assert defence.strip(), attack
        nodes = CODE_SPAN.findall(proof)
        assert nodes, f"no test attacks this: {attack}"
        assert re.sub(r"`[^`]*`|[,\s]", "", proof) == "", f"something else than tests: {proof}"
        for node in nodes:
            path, *names = node.split("::")
            assert (ROOT / path).is_file(), node
            found: Any = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            for name in names:
                found = getattr(found, name, None)
            assert names and callable(found) and names[-1].startswith("test_"), node


def test_every_test_named_in_prose_exists_too() -> None:
    """Elsewhere on the page as well."""
    for path, name in re.findall(r"(tests/[\w/]+\.py)::(?:\w+::)?(test_\w+)", docs("security.md").read_text()):
        assert re.search(rf"^ *(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def test_the_limits_of_listings_are_the_code_s() -> None:
    text = " ".join(docs("security.md").read_text(encoding="utf-8").split())
    assert f"{batch_listing.MAX_ENTRIES // 10**6} million entries of a folder" in text
    assert batch_listing.MAX_NAME_CHARACTERS == tree_names.MAX_PATH_CHARACTERS
    assert f"{tree_names.MAX_PATH_CHARACTERS:,} characters of a name or path" in text
    assert tree_walk.MAX_FOLDERS == 10**6 and "a million folders" in text
