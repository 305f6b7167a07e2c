"""Fills in templates: Jinja2, strict and sandboxed. The only user of jinja2, which is imported when a template is met."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.errors import RunnerError
from runner.playbook.document import PositionedList, PositionedMap, Unfilled, is_encodable
from runner.playbook.limits import (
    MAX_SECONDS,
    TimeIsUp,
    bounded_resources,
    memory_limit_bytes,
    memory_limited_to,
)
from runner.playbook.lookups import (
    MAX_RESULT_LENGTH,
    HiddenNames,
    LookupFailed,
    Sources,
    find_files,
    read_command,
    read_environment,
    read_file,
)
from runner.playbook.provenance import Traced, concatenate, mark_filled, mark_outside, name_variable
from runner.playbook.secret_names import TemplateUse
from runner.playbook.tracing import describe_lookup, survey, trace, tracing_filters
from runner.playbook.validation import is_template
from runner.playbook.vault_password import Vault
from runner.problems import Location, Problem
from runner.suggestions import nearest

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

MAX_NUMBER_BITS = 4096

# Every kind of lookup, and the option it takes.
LOOKUP_OPTIONS = {"env": "default", "file": "rstrip", "fileglob": "wantlist", "pipe": None}

# Where the variables of `--extra-vars` stand.
COMMAND_LINE = Location("--extra-vars", 1, 1)

# How the message about a name that nothing gives begins.
UNDEFINED = "undefined in the template: "

Scope = Mapping[str, tuple[Any, Location]]


class TemplateProblem(Exception):
    """Templates that cannot be filled in, with everything that is wrong with them."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


class ValueUnknown(Exception):
    """A value depends on the output of a command that is not to be run, or on one that is wrong, which has been told."""


class _Compiled(NamedTuple):
    """What fills in a template, and the names it uses."""

    fill_in: Callable[[dict[str, Any]], Any]
    names: frozenset[str]


class _Pieces(NamedTuple):
    """The text of a template, with None where a value stands, and these values."""

    data: list[str | None]
    values: list[Any]

    def join(self, explain: Callable[[Exception], TemplateProblem]) -> str:
        """The whole text. Raises what `explain` makes of everything that is undefined."""
        from jinja2 import UndefinedError

        attempts, values, texts = _Attempts(), iter(self.values), list[str]()
        for text in self.data:
            with attempts.collecting():
                value = next(values) if text is None else text
                try:
                    shown = value if isinstance(value, str) else str(value)
                except UndefinedError as error:
                    raise explain(error) from error
                texts.append(mark_filled(shown, "what is filled in") if text is None else shown)
        attempts.finish()
        return concatenate(texts)


class _Attempts:
    """Goes on after a problem, to find the others."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._unknown: ValueUnknown | None = None

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """What is wrong inside the block is kept for the end."""
        try:
            yield
        except TemplateProblem as error:
            self._problems += error.problems
        except ValueUnknown as error:
            self._unknown = error

    def finish(self) -> None:
        """Raise `TemplateProblem` with all problems, `ValueUnknown` if that is all."""
        if self._problems:
            raise TemplateProblem(*self._problems)
        if self._unknown is not None:
            raise self._unknown


@dataclass(frozen=True, slots=True)
class Lookups:
    """What templates have looked up: the names of environment variables, and every text that came of it."""

    environment_names: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)


class Templates:
    """Renders values of one playbook.

    Variables may refer to each other in any order; each is rendered when it is first needed. `now()` is the moment the
    playbook was loaded, so that all steps of a play agree about the day. A command is run once, for the same reason.
    """

    def __init__(
        self,
        playbook_folder: Path,
        vault: Vault,
        *,
        runs_commands: bool,
        find_hidden: Callable[[], HiddenNames] = HiddenNames,
    ) -> None:
        """`find_hidden` says, before the first command is run, what must not be in its environment."""
        self._find_hidden = find_hidden
        self._sources = Sources(playbook_folder, vault)
        self._runs_commands = runs_commands
        self._outputs: dict[str, str] = {}
        self._memory_limit_bytes = memory_limit_bytes()
        self._now = datetime.now().astimezone()
        self._compiled: dict[str, _Compiled] = {}
        self._expressions: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._extra: dict[str, Any] = {}
        self._being_rendered: list[str] = []
        self._overrun: Problem | None = None
        self._lookups = Lookups()

    @property
    def files_read(self) -> set[str]:
        """The files that `lookup('file')` has read so far."""
        return self._sources.files_read

    @contextmanager
    def watching_lookups(self) -> Iterator[Lookups]:
        """What is looked up inside the block, for messages about it."""
        outer, self._lookups = self._lookups, Lookups()
        try:
            yield self._lookups
        finally:
            outer.environment_names.update(self._lookups.environment_names)
            outer.values.update(self._lookups.values)
            self._lookups = outer

    def render(self, value: Any, location: Location, scope: Scope) -> Any:
        """`value` with every template in it filled in; positions are kept. Raises `TemplateProblem`, `ValueUnknown`."""
        if isinstance(value, Unfilled):
            raise ValueUnknown
        attempts = _Attempts()
        if isinstance(value, PositionedMap):
            rendered = PositionedMap(value.location)
            for key, item in value.items():
                place = value.value_locations[key]
                with attempts.collecting():
                    rendered.put(key, self.render(item, place, scope), value.key_locations[key], place)
            attempts.finish()
            return rendered
        if isinstance(value, PositionedList):
            items = PositionedList(value.location)
            for item, place in zip(value, value.item_locations, strict=True):
                with attempts.collecting():
                    items.add(self.render(item, place, scope), place)
            attempts.finish()
            return items
        return self._render_text(value, location, scope) if is_template(value) else value

    def _render_text(self, text: str, location: Location, scope: Scope) -> Any:
        if self._being_rendered:
            return self._evaluate(text, location, scope)
        if self._overrun:
            # A thousand templates that each take this long take too long as well.
            raise TemplateProblem(self._overrun)
        try:
            with bounded_resources():
                return self._evaluate(text, location, scope)
        except TimeIsUp as error:
            self._overrun = Problem(location, f"the template takes longer than {MAX_SECONDS} s", "Simplify it.")
            raise TemplateProblem(self._overrun) from error

    def _evaluate(self, text: str, location: Location, scope: Scope) -> Any:
        from jinja2 import TemplateError, Undefined

        try:
            compiled = self._compile(text)
            attempts, values = _Attempts(), dict[str, Any]()
            for name in sorted(compiled.names & scope.keys()):
                with attempts.collecting():
                    values[name] = self._variable(name, scope)
            attempts.finish()
            result = compiled.fill_in(values)
            if isinstance(result, _Pieces):
                result = result.join(lambda error: TemplateProblem(_explain(error, location, scope, text)))
            if isinstance(result, Undefined):
                str(result)  # StrictUndefined raises here, and says what is undefined
            # A variable may be anything on the way; what comes out in the end is plain data.
            return result if self._being_rendered else _to_plain(result, location)
        except (TemplateProblem, ValueUnknown, RunnerError):
            raise
        except LookupFailed as error:
            raise TemplateProblem(Problem(location, str(error), error.hint)) from error
        except TemplateError as error:
            raise TemplateProblem(_explain(error, location, scope, text)) from error
        except MemoryError as error:
            message = "the template needs too much memory"
            raise TemplateProblem(Problem(location, message, "Simplify it.")) from error
        except Exception as error:  # the expression is the playbook's, so it can raise anything
            message = f"the template cannot be filled in: {type(error).__name__}: {error}"
            raise TemplateProblem(Problem(location, message, "")) from error

    def _variable(self, name: str, scope: Scope) -> Any:
        """A variable's value, its own templates filled in first."""
        value, location = scope[name]
        if location == COMMAND_LINE:
            # What a pipeline passes in may come from a branch name or a commit message: it is data, never a template.
            if name not in self._extra:
                self._extra[name] = mark_outside(value, f"the extra variable '{name}'")
            return self._extra[name]
        if name in self._being_rendered:
            circle = " → ".join([*self._being_rendered[self._being_rendered.index(name) :], name])
            raise TemplateProblem(Problem(location, f"variables refer to each other in a circle: {circle}", ""))
        self._being_rendered.append(name)
        try:
            return name_variable(self.render(value, location, scope), name)
        finally:
            self._being_rendered.pop()

    def _compile(self, text: str) -> _Compiled:
        """The template. One whole expression keeps its type; without statements every piece is filled in alone."""
        if text not in self._compiled:
            from jinja2 import nodes

            tree = self._environment.parse(text)
            names = frozenset(name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")
            body = tree.body[0] if len(tree.body) == 1 else None
            outputs: list[nodes.Expr] = body.nodes if isinstance(body, nodes.Output) else []
            data = [node.data if isinstance(node, nodes.TemplateData) else None for node in outputs]
            expressions = [trace(node) for node in outputs if not isinstance(node, nodes.TemplateData)]
            fill_in: Callable[[dict[str, Any]], Any]
            if len(expressions) == 1 and not any(one and one.strip() for one in data):
                fill_in = self._compile_expression(expressions[0])
            elif outputs:
                whole = self._compile_expression(nodes.List(expressions, lineno=1))
                fill_in = lambda values: _Pieces(data, whole(values))  # noqa: E731
            else:
                found = survey(tree)
                render = self._environment.from_string(tree).render
                fill_in = lambda values: found.mark(render(values), values)  # noqa: E731
            self._compiled[text] = _Compiled(fill_in, names)
        return self._compiled[text]

    def _compile_expression(self, expression: nodes.Expr) -> Callable[[dict[str, Any]], Any]:
        """As Environment.compile_expression does it, which takes no comments and no white-space marks."""
        # The same few variables stand in many texts.
        key = repr(expression)
        if key not in self._expressions:
            from jinja2 import nodes
            from jinja2.environment import TemplateExpression

            assignment = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
            template = self._environment.from_string(nodes.Template([assignment], lineno=1))
            self._expressions[key] = TemplateExpression(template, undefined_to_none=False)
        return self._expressions[key]

    def look_into(self, text: str) -> TemplateUse:
        """What a template uses, by its text alone. One that is not valid uses nothing."""
        from jinja2 import TemplateError, nodes

        try:
            tree = self._environment.parse(text)
        except (TemplateError, RecursionError):
            return TemplateUse(frozenset())
        loaded = [name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"]
        calls = [call for call in tree.find_all(nodes.Call) if _is_name(call.node, "lookup")]
        # Under another name it could be called anywhere.
        is_plain = loaded.count("lookup") == len(calls)
        names: set[str] = set()
        variables: set[str] = set()
        for call in calls:
            kind, terms = (call.args or [call.node])[0], call.args[1:]
            if isinstance(kind, nodes.Const) and kind.value != "env":
                continue
            names |= {str(term.value) for term in terms if isinstance(term, nodes.Const)}
            variables |= {term.name for term in terms if isinstance(term, nodes.Name)}
            is_plain &= isinstance(kind, nodes.Const) and call.dyn_args is None
            is_plain &= all(isinstance(term, nodes.Const | nodes.Name) for term in terms)
        return TemplateUse(frozenset(loaded), frozenset(names), frozenset(variables), is_plain)

    @cached_property
    def _environment(self) -> SandboxedEnvironment:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class BoundedEnvironment(ImmutableSandboxedEnvironment):
            """A sandbox in which a product cannot fill the memory or keep the processor busy where no signal is heard."""

            intercepted_binops = frozenset(["*", "**"])

            def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
                refuse_large_product(operator, left, right)
                return super().call_binop(context, operator, left, right)

        environment = BoundedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        environment.globals.update(now=self._get_now, lookup=self._lookup)
        # For `lookup('pipe', …)`: what a variable holds must not become a command of its own. Ansible calls it so.
        environment.filters["quote"] = lambda value: shlex.quote(str(value))
        environment.filters.update(tracing_filters())
        return environment

    def _get_now(self, utc: bool = False, fmt: str = "") -> Any:
        moment = self._now.astimezone(UTC) if utc else self._now
        return moment.strftime(fmt) if fmt else moment

    def _lookup(self, kind: str, *terms: str, **options: Any) -> Any:
        """What `lookup(kind, …)` gives; several terms are joined by commas, as in Ansible, but file names are a list."""
        if kind not in LOOKUP_OPTIONS:
            raise LookupFailed(f"unknown lookup '{kind}'", f"Known: {', '.join(sorted(LOOKUP_OPTIONS))}.")
        if not terms:
            raise LookupFailed(f"lookup('{kind}') needs a name", f"Write lookup('{kind}', '…').")
        unknown = sorted(set(options) - {LOOKUP_OPTIONS[kind]})
        if unknown:
            raise LookupFailed(f"lookup('{kind}') has no option '{unknown[0]}'")
        if kind == "pipe" and not self._runs_commands:
            raise ValueUnknown
        if kind == "fileglob":
            names = [name for term in terms for name in find_files(str(term), self._sources.folder)]
            found = names if options.get("wantlist", True) else ",".join(names)
            return mark_outside(found, f"a file that {', '.join(map(repr, terms))} matches")
        values = [self._look_up(kind, str(term), options) for term in terms]
        self._lookups.values.update(map(str, values))
        commas = [","] * len(values)
        return concatenate([part for pair in zip(values, commas, strict=True) for part in pair][:-1])

    def _look_up(self, kind: str, term: str, options: dict[str, Any]) -> str:
        found = self._read(kind, term, options)
        is_written = kind == "env" and term not in os.environ
        marked: str = found if is_written else mark_outside(found, describe_lookup(kind, term))
        return marked

    def _read(self, kind: str, term: str, options: dict[str, Any]) -> str:
        if kind == "env":
            self._lookups.environment_names.add(term)
            return read_environment(term, options.get("default"))
        if kind == "file":
            return read_file(term, self._sources, is_stripped=options.get("rstrip", True))
        if term not in self._outputs:
            with memory_limited_to(self._memory_limit_bytes):
                self._outputs[term] = read_command(term, self._sources, self._find_hidden())
        return self._outputs[term]


def _is_name(node: Any, name: str) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Name) and node.name == name


def _to_plain(result: Any, location: Location) -> Any:
    """What a template gave, as the kind of data that YAML gives: all of it stands where the template stands.

    Raises `ValueError` or `TypeError` for what no playbook can hold.
    """
    from jinja2 import Undefined

    match result:
        case Undefined():
            str(result)
        case dict():
            plain_map = PositionedMap(getattr(result, "location", location))
            keys, values = getattr(result, "key_locations", {}), getattr(result, "value_locations", {})
            for key, value in result.items():
                if not isinstance(key, str):
                    raise TypeError("a key of a mapping must be a string")
                place = values.get(key, location)
                plain_map.put(str(key), _to_plain(value, place), keys.get(key, location), place)
            return plain_map
        case list() | tuple():
            plain_list = PositionedList(getattr(result, "location", location))
            for item, place in zip(result, getattr(result, "item_locations", [location] * len(result)), strict=True):
                plain_list.add(_to_plain(item, place), place)
            return plain_list
        case str():
            if len(result) > MAX_RESULT_LENGTH or not is_encodable(result):
                raise ValueError("the result is longer than 1 MiB, or is not text")
            return result if isinstance(result, Traced) else str(result)
        case bool() | float() | None:
            return result
        case int() if result.bit_length() <= MAX_NUMBER_BITS:
            return result
        case int():
            raise ValueError("the result is too large a number")
    raise TypeError(f"the result is a {type(result).__name__}, which is neither text nor a number, list or mapping")


def refuse_large_product(operator: str, left: Any, right: Any) -> None:
    """Raise `ValueError` for `'a' * 10**10` and `9 ** 9 ** 9`: one small template must not fill the memory."""
    for sequence, count in ((left, right), (right, left)):
        is_repetition = isinstance(sequence, str | list | tuple) and isinstance(count, int)
        if operator == "*" and is_repetition and len(sequence) * count > MAX_RESULT_LENGTH:
            raise ValueError("the result is too large")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_NUMBER_BITS:
            raise ValueError("the result is too large a number")


def _explain(error: Exception, location: Location, scope: Scope, text: str) -> Problem:
    from jinja2 import TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    if isinstance(error, TemplateSyntaxError):
        message = f"the template is not valid: {error.message}"
        return Problem(
            location, message, "Templates are Jinja2: {{ expression }}; a quoted '{{' is written {{ '{{' }}."
        )
    if isinstance(error, UndefinedError):
        name = re.match(r"'(\w+)' is undefined", str(error.message))
        if name:
            # Loaded when a name is undefined.
            from runner.playbook.ansible.names import explain_name

            hint = explain_name(name[1], text) or nearest(name[1], [*scope, "lookup", "now"])
        else:
            hint = ""
        return Problem(location, f"{UNDEFINED}{error.message}", hint)
    if isinstance(error, SecurityError):
        return Problem(location, f"the template is not allowed: {error}", "Templates run in a sandbox.")
    return Problem(location, f"the template cannot be filled in: {error}", "")
