"""What no template uses is not loaded: every play would wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
from pathlib import Path
from tests.playbook.filters.evaluation import PLACE, make_templates
templates = make_templates(Path("/"))
if sys.argv[1:]:
    templates.render(sys.argv[1], PLACE, {"day": ("monday", PLACE)})
print(*sorted(name for name in sys.modules if name.startswith("runner.playbook.filters.")))
"""


def find_loaded(*template: str) -> set[str]:
    """The modules of filters that are loaded when a template is filled in."""
    words = [sys.executable, "-c", PROGRAM, *template]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return {name.rpartition(".")[2] for name in ended.stdout.split()}


def test_without_a_template_nothing_is_loaded() -> None:
    assert find_loaded() == set()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ day }}", set[str]()),
        ("{{ day | upper | default('x') }}", set[str]()),
        ("{{ day | basename }}", {"text"}),
        ("{{ day | hash }}", {"text"}),
        ("{{ day | to_json }}", {"formats"}),
        ("{{ day is match('m') }}", {"tests", "patterns"}),
        ("{{ '1' is version('2', '<') }}", {"versions"}),
    ],
)
def test_a_template_loads_what_it_uses(template: str, expected: set[str]) -> None:
    assert find_loaded(template) == {"registry", "misuse", *expected}
