"""The page of filters, tests and lookups: each has an example, and each example becomes what the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.playbook import limits
from runner.playbook.document import parse, parse_value
from runner.playbook.filters import patterns
from runner.playbook.filters.registry import FILTER_NAMES, TEST_NAMES
from runner.playbook.lookups import LOOKUP_OPTIONS
from runner.playbook.templating import GLOBAL_NAMES, Templates
from runner.playbook.vault_password import Vault
from runner.problems import Location
from runner.redaction import Redactor
from tests.docs.test_docs import blocks, code_words, docs
from tests.playbook.filters.table import DIFFERENCES

PAGE = docs("filters.md")
PLACE = Location("playbook.yaml", 1, 1)


def find_examples() -> Iterator[tuple[str, str, str]]:
    """Every example: its name, the value, and what stands behind `#`."""
    for block in blocks(PAGE):
        if block.marker == "values":
            values = parse(block.text, str(block))
            assert isinstance(values, dict)
            expected = dict(re.findall(r"^(\w+): .*\S +# (.+)$", block.text, re.MULTILINE))
            assert expected.keys() == values.keys(), block
            yield from ((f"{block}:{name}", value, expected[name]) for name, value in values.items())


EXAMPLES = list(find_examples())


def variables() -> dict[str, Any]:
    """Those that the page's examples use."""
    first = next(block for block in blocks(PAGE) if block.marker == "fragment of a playbook")
    data = parse(first.text, str(first))
    assert isinstance(data, dict)
    return dict(data["vars"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says of this machine."""
    monkeypatch.setenv("STAGE", "test")
    (tmp_path / "release.txt").write_text("1.4.2\n")
    (tmp_path / "note.j2").write_text("{{ day }}: {{ lookup('env', 'STAGE') }}")
    (tmp_path / "conf").mkdir()
    return tmp_path


@pytest.mark.parametrize(("value", "expected"), [example[1:] for example in EXAMPLES], ids=[one[0] for one in EXAMPLES])
def test_an_example_becomes_what_the_page_says(folder: Path, value: str, expected: str) -> None:
    templates = Templates(folder, Vault(None, Redactor()), runs_commands=True)

    found = templates.render(value, PLACE, {name: (one, PLACE) for name, one in variables().items()})

    wanted = parse_value(expected)
    assert json.loads(json.dumps(found)) == wanted
    assert isinstance(found, bool) == isinstance(wanted, bool)


def test_every_filter_test_and_lookup_has_an_example() -> None:
    text = "\n".join(value for _, value, _ in EXAMPLES)
    for name in (*FILTER_NAMES, "default"):
        assert re.search(rf"\| {name}\b", text), name
    for name in TEST_NAMES:
        assert re.search(rf"is {name}\b|select(attr)?\(('\w+', )?'{name}'", text), name
    for name, options in LOOKUP_OPTIONS.items():
        assert f"lookup('{name}'" in text, name
        assert set(options) <= code_words(PAGE) | code_words(docs("playbook.md")), name


def test_every_name_is_on_a_page() -> None:
    assert set(GLOBAL_NAMES) <= code_words(PAGE)


def test_the_limits_are_the_code_s() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert limits.MAX_SECONDS == 0.5 and "half a second of processor time" in text
    assert f"{limits.MAX_BYTES // 2**20} MiB of memory" in text
    assert f"at most {patterns.MAX_TEXT_LENGTH:,} characters" in text
    assert f"A pattern has at most {patterns.MAX_PATTERN_LENGTH:,}." in text


def test_the_differences_are_those_of_the_table() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Other than in Ansible")[2].replace("\\|", "|")

    for expression in ("'banana' | bool", "'a: yes' | from_yaml"):
        assert f"`{expression}`" in section and expression in DIFFERENCES
