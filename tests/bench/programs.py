"""Playbooks that use the language: a loop over files, a listing that is looped over, thousands of steps to validate.

Each is a list of steps in block style, as somebody would write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

# So many kinds of steps take turns in a long playbook.
_KINDS = 4


def loop_lines(source: Path, destination: Path, *, is_up: bool) -> Iterator[str]:
    """One step that copies each file of a folder, one by one."""
    items, mode = f"lookup('fileglob', {str(source / '*')!r})", "copy_file_from_engine"
    if not is_up:
        yield from _list_step(source, "listed")
        items, mode = "listed.result.entries | map(attribute='path')", "copy_file_to_engine"
    yield "  - connection: server"
    yield f"    loop: {json.dumps(f'{{{{ {items} }}}}')}"
    yield "    mode:"
    yield f"      mode_name: {mode}"
    yield '      source_file_name: "{{ item }}"'
    yield f"      destination_file_name: {json.dumps(f'{destination}/{{{{ item | basename }}}}')}"


def list_lines(source: Path, *, loops: bool) -> Iterator[str]:
    """A step that lists a folder; and one that would fetch each file of it that is not empty, which none is."""
    yield from _list_step(source, "listed" if loops else "")
    if loops:
        yield "  - connection: server"
        yield '    loop: "{{ listed.result.entries }}"'
        yield "    when: item.type == 'file' and item.size_bytes > 0"
        yield "    mode:"
        yield "      mode_name: copy_file_to_engine"
        yield '      source_file_name: "{{ item.path }}"'
        yield '      destination_file_name: "copy/{{ item.path | basename }}"'


def _list_step(source: Path, registered: str) -> Iterator[str]:
    yield "  - connection: server"
    yield f"    mode: {{mode_name: list, path: {json.dumps(str(source))}}}"
    if registered:
        yield f"    register: {registered}"


def program_lines(count: int) -> Iterator[str]:
    """So many steps with conditions, loops and results of one another, none of them like another."""
    for number in range(count):
        yield f"  - name: Step {number}"
        yield "    connection: server"
        yield from _program_step(number, number // _KINDS)


def _program_step(number: int, group: int) -> Iterator[str]:
    match number % _KINDS:
        case 0:
            yield "    when: stage == 'live'"
            yield f"    mode: {{mode_name: list, path: in/{group}}}"
            yield f"    register: found_{group}"
        case 1:
            yield f'    loop: "{{{{ found_{group}.result.entries }}}}"'
            yield "    when: item.type == 'file' and item.size_bytes > 0"
            yield from _copy_lines(
                "copy_file_to_engine", "{{ item.path }}", f"in/{group}/{{{{ item.path | basename }}}}"
            )
        case 2:
            yield "    loop: [red, green, blue]"
            yield f"    when: stage != 'test' and item != 'gray{group}'"
            yield from _copy_lines(
                "copy_file_from_engine",
                f"{{{{ outbox }}}}/{{{{ item }}}}-{group}.csv",
                f"out/{group}/{{{{ item }}}}.csv",
            )
        case 3:
            yield f"    when: [found_{group} is succeeded, found_{group}.result.entries | length > {group}]"
            yield f"    register: sent_{group}"
            yield from _copy_lines("copy_file_from_engine", f"{{{{ outbox }}}}/{group}.done", f"out/{group}.done")


def _copy_lines(mode_name: str, source: str, destination: str) -> Iterator[str]:
    yield "    mode:"
    yield f"      mode_name: {mode_name}"
    yield f"      source_file_name: {json.dumps(source)}"
    yield f"      destination_file_name: {json.dumps(destination)}"
