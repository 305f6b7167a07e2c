"""Writes values as YAML that every reader takes for the same. Loaded by a template that does it."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from runner.playbook.document import describe_type
from runner.playbook.lazy_lists import LISTS

# What a plain scalar means in YAML 1.1 (its type repository: bool, int, float, timestamp, merge, value) and not in 1.2; and
# '? ', which begins a key, and which ruamel leaves as it is.
_WORD_TO_QUOTE = re.compile(
    r"\?.*|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|<<|=|[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?[0-9][0-9_]*"
    r"|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+][0-9]+)?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?"
    r"([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?"
)

_OTHER_LINE_END = re.compile("[\x85\u2028\u2029]")


def dump_value(value: Any, *, indent: int | None, flow_style: bool | None, width: int | None, sorts_keys: bool) -> str:
    """The value as YAML. `flow_style`: everything in brackets, or nothing; by default what holds no further collections.

    Raises `ValueError` for what YAML has no word for.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer, yaml.Resolver, yaml.Emitter = _ValueRepresenter, _ValueResolver, _ValueEmitter
    yaml.default_flow_style = flow_style
    yaml.sort_base_mapping_type_on_output = sorts_keys  # type: ignore[assignment]
    if indent is not None:
        yaml.indent = indent
    if width is not None:
        yaml.width = width
    stream = io.StringIO()
    try:
        yaml.dump(value, stream)
    except YAMLError as error:
        raise ValueError(str(error)) from error
    # Behind a single plain value the end of the document is marked, which nobody needs who has but one.
    return stream.getvalue().removesuffix("...\n")


class _ValueRepresenter(SafeRepresenter):  # type: ignore[misc,unused-ignore]
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> Any:
        # ruamel takes these for line ends, which YAML 1.2 does not, and folds a long text at them.
        style = '"' if _OTHER_LINE_END.search(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", str(data), style=style)

    def represent_anything(self, data: Any) -> Any:
        str(data)  # what is undefined says so here
        raise ValueError(f"there is no YAML for {describe_type(data)}")


class _ValueEmitter(Emitter):  # type: ignore[misc,unused-ignore]
    def write_double_quoted(self, text: str, split: bool = True) -> None:
        # Where ruamel 0.19 splits behind an escape, it is read back with a space more.
        super().write_double_quoted(text, False)


class _ValueResolver(VersionedResolver):  # type: ignore[misc,unused-ignore]
    """Quotes the words of YAML 1.1 as well, which most other programs still read."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        found = super().resolve(kind, value, implicit)
        is_text = found == self.DEFAULT_SCALAR_TAG and implicit[0]
        return Tag(suffix="tag:yaml.org,2002:bool") if is_text and _WORD_TO_QUOTE.fullmatch(value) else found


_ValueRepresenter.add_multi_representer(str, _ValueRepresenter.represent_text)
_ValueRepresenter.add_representer(str, _ValueRepresenter.represent_text)
_ValueRepresenter.add_multi_representer(dict, SafeRepresenter.represent_dict)
for kind in LISTS:
    _ValueRepresenter.add_multi_representer(kind, SafeRepresenter.represent_list)
_ValueRepresenter.add_representer(None, _ValueRepresenter.represent_anything)
