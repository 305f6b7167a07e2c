"""What an editor shows of a playbook: the YAML language server that most of them use is asked, with our schemas.

`make test-zoo` installs it. It is given the schema's file as it ships, and the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.resources import SCHEMA_NAMES, bundled_schema, playbook_path, schema_text
from tests.docs.test_docs import ALL_BLOCKS
from tests.zoo.language_server import END, LanguageServer, has_language_server

pytestmark = [pytest.mark.zoo, pytest.mark.xdist_group("editor")]

CONNECTOR = json.loads(schema_text("connector"))
HEAD = """\
connections:
  bank: {host: bank.example, authentication: {authentication_method: ssh_agent, username: acme}}
steps:
"""
VAULT = "!vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6231353161\n"


@pytest.fixture(scope="module", params=["file", "bundle"])
def editor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    """An editor that knows the schema of playbooks, and may fetch nothing."""
    if not has_language_server():
        pytest.skip("the YAML language server is not installed: `make test-zoo` does it")
    folder = tmp_path_factory.mktemp("schema")
    if request.param == "bundle":
        (folder / "playbook.schema.json").write_text(json.dumps(bundled_schema("playbook")))
    else:
        for name in SCHEMA_NAMES:
            (folder / f"{name}.schema.json").write_text(schema_text(name))
    with LanguageServer(folder / "playbook.schema.json") as server:
        yield server


def values_of(name: str, key: str) -> dict[str, str]:
    """The values of a discriminator, and the sentence for each, as the schema has them."""
    choice = CONNECTOR["properties"][name]["properties"][key]["anyOf"][0]
    return dict(zip(choice["enum"], choice["enumDescriptions"], strict=True))


@pytest.mark.parametrize("head", ["", HEAD], ids=["list", "mapping"])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mode", "mode_name"),
        ("authentication", "authentication_method"),
        ("hostkey", "hostkey_mode"),
        ("port", "port_mode"),
        ("proxy", "type"),
    ],
)
def test_behind_a_discriminator_all_its_values_are_offered(
    editor: LanguageServer, head: str, name: str, key: str
) -> None:
    offered = editor.completions(f"{head}- connection: bank\n  {name}:\n    {key}: {END}\n")

    expected = values_of(name, key)
    assert len(expected) > 1
    assert {label: text for label, text in offered.items() if label != "!vault"} == expected


@pytest.mark.parametrize(
    ("text", "offered", "sentence"),
    [
        (f"- connector_type: {END}", {"SFTP", "SCP"}, "single files, for servers that have no SFTP"),
        (f"- commands: {END}", {"auto", "never"}, "No command is ever started"),
        (f"- ignore_errors: {END}", {"true", "false"}, ""),
        (f"- mode:\n    mode_name: wait_for\n    state: {END}", {"present", "absent", "settled"}, "has not changed"),
        (f"- mode:\n    mode_name: list\n    {END}", {"path", "recursive"}, "a path on the host"),
        (
            f"- mode:\n    mode_name: copy_file_to_engine\n    compare: {END}",
            {"size_mtime", "size", "checksum", "always"},
            "The same content",
        ),
        (f"- block:\n  - mode:\n      mode_name: {END}", {"list", "wait_for"}, "Tell what is in a folder"),
        (f"- {END}", {"block", "when", "mode", "authentication"}, "How to log in: exactly the way that is named"),
        (
            f"- loop_control:\n    {END}",
            {"loop_var", "index_var", "label", "pause", "extended"},
            "The name of the item",
        ),
    ],
)
def test_what_fits_is_offered_with_what_it_means(
    editor: LanguageServer, text: str, offered: set[str], sentence: str
) -> None:
    found = editor.completions(f"{HEAD}{text}\n")

    assert offered <= found.keys()
    assert any(sentence in said for said in found.values())


COPY = "mode_name: copy_file_from_engine\n    source_file_name: a\n    destination_file_name: b\n"
RIGHT = {
    "templates for numbers and switches": "- connection: bank\n  retries: '{{ n }}'\n  delay: \"{{ d }}\"\n"
    "  port: '{{ p }}'\n  connect_timeout: '{{ c }}'\n  ignore_errors: '{{ i }}'\n"
    f"  mode:\n    {COPY}    atomic: '{{{{ a }}}}'\n    channels: '{{{{ c }}}}'\n",
    "templates for one of several words": f"- connection: bank\n  connector_type: '{{{{ t }}}}'\n  mode:\n    {COPY}"
    "    compare: '{{ c }}'\n    if_exists: '{{ i }}'\n    verify: '{{ v }}'\n    preserve: '{{ p }}'\n",
    "a template for one word of a list": f"- connection: bank\n  mode:\n    {COPY}    preserve: ['{{{{ p }}}}', times]\n",
    "a template for a variant": "- connection: bank\n  mode:\n    mode_name: '{{ m }}'\n    path: a\n",
    "a template for a whole mapping": "- connection: bank\n  mode: '{{ m }}'\n  hostkey: '{{ h }}'\n",
    "statements and comments": f"- connection: bank\n  retries: '{{% if a %}}1{{% endif %}}'\n  mode:\n    {COPY}",
    "what is encrypted": f"- connection: bank\n  connect_timeout: {VAULT}  mode:\n    {COPY}    atomic: {VAULT}",
    "expressions": "- connection: bank\n  when: a is changed and not b\n  until: result.exists\n"
    "  failed_when: [result.exists, false]\n  changed_when: no_change == 1\n  mode: {mode_name: stats, path: a}\n",
    "loops": "- loop: '{{ l.result.entries }}'\n  loop_control: {label: '{{ item.path }}', pause: '{{ p }}'}\n"
    "  debug: {msg: '{{ item.path }}'}\n",
    "assertions": "- assert: {that: a > 3}\n- assert: {that: [a > 3, true]}\n- pause: {seconds: '{{ s }}'}\n",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_may_stand_there_is_not_underlined(editor: LanguageServer, text: str) -> None:
    assert editor.complaints(HEAD + text) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- retries: many\n", 4),
        ("- connectoin: bank\n", 4),
        ("- mode:\n    mode_name: lst\n    path: a\n", 5),
        ("- mode:\n    mode_name: list\n    pth: a\n", 6),
        ("- mode:\n    mode_name: copy_file_to_engine\n    compare: hash\n", 6),
    ],
)
def test_what_is_wrong_is_underlined(editor: LanguageServer, text: str, line: int) -> None:
    assert any(one.startswith(f"{line}: ") for one in editor.complaints(HEAD + text))


def _playbooks() -> list[Path]:
    return sorted(playbook_path("demo.yaml").parent.glob("*.yaml"))


@pytest.mark.parametrize("path", _playbooks(), ids=lambda path: path.name)
def test_no_playbook_of_ours_is_underlined(editor: LanguageServer, path: Path) -> None:
    # The line that names its schema is for those who open it where it stands.
    text = path.read_text(encoding="utf-8").replace("yaml-language-server: $schema", "schema")

    assert editor.complaints(text) == []


def test_no_example_of_the_pages_is_underlined(editor: LanguageServer) -> None:
    found: dict[str, Any] = {}
    for block in ALL_BLOCKS:
        is_playbook = block.language == "yaml" and not block.marker and "steps:" in block.text
        text = HEAD + block.text if block.marker == "steps" else block.text
        if (is_playbook or block.marker == "steps") and (complaints := editor.complaints(text)):
            found[str(block)] = complaints

    assert found == {}
