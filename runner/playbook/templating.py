"""Fills in templates: Jinja2, strict and sandboxed. The only user of jinja2, which is imported when a template is met."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner._version import VERSION
from runner.errors import RunnerError
from runner.playbook.document import Awaited, PositionedList, PositionedMap, Unfilled, is_encodable
from runner.playbook.lazy_lists import LISTS, LazyList
from runner.playbook.limits import (
    MAX_SECONDS,
    TimeIsUp,
    bounded_resources,
    memory_limit_bytes,
    memory_limited_to,
)
from runner.playbook.lookups import (
    LOOKUP_OPTIONS,
    MAX_RESULT_LENGTH,
    HiddenNames,
    LookupFailed,
    Sources,
    find_first,
    find_matches,
    read_command,
    read_environment,
    read_file,
    refuse_other_name,
    refuse_outside,
)
from runner.playbook.provenance import (
    Origin,
    Source,
    Traced,
    concatenate,
    find_outside,
    mark_filled,
    mark_outside,
    mark_rest,
    name_variable,
    origin_of,
)
from runner.playbook.secret_names import TemplateUse
from runner.playbook.tracing import LOOKUP, describe_lookup, survey, trace, trace_statements, tracing_filters
from runner.playbook.validation import is_template
from runner.playbook.vault_password import Vault
from runner.problems import Location, Problem
from runner.program import Data
from runner.received_files import ReceivedFiles
from runner.suggestions import nearest
from runner.values import dataclass

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

    from runner.playbook.item_conditions import Judge

MAX_NUMBER_BITS = 4096
# Of so few pieces a text is put together without a bound on time and memory; each of the values has its own.
MAX_LIGHT_PIECES = 8

# Between what is not there and what to do about it; no text of a playbook can hold it.
_HINT = "\0"

# What a template knows besides variables.
GLOBAL_NAMES = ("lookup", "now", "runner_version", "timedelta")

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
    """A value depends on the output of a command that is not to be run, or on one that is wrong, which has been told.

    Or only the play will know it: then `reason` says what it waits for.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class _Compiled(NamedTuple):
    """What fills in a template, and the names it uses."""

    fill_in: Callable[[dict[str, Any]], Any]
    names: frozenset[str]
    tree: nodes.Node
    # Whether it does no more than to put a few values into text, which costs nothing worth a bound.
    is_light: bool = False


class _Frame(NamedTuple):
    """A template that is being filled in: the variables it may use, and the sources of what it has looked up."""

    scope: Scope
    looked_up: list[str]


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
                    shown = value if isinstance(value, str) else str(_or_nothing(value))
                except UndefinedError as error:
                    raise explain(error) from error
                texts.append(mark_filled(shown, "what is filled in") if text is None else shown)
        attempts.finish()
        return concatenate(texts)


def _or_nothing(value: Any) -> Any:
    """What stands in text for a value: nothing for null, as in Ansible. `srv/None` is no path that anybody means."""
    return "" if value is None else value


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
            # What is unknown for another reason than that it is too early stays so.
            if self._unknown is None or not error.reason:
                self._unknown = error

    @property
    def is_unknown(self) -> bool:
        """Whether something is unknown, and nothing is wrong."""
        return self._unknown is not None and not self._problems

    def tell(self, problems: Iterable[Problem]) -> None:
        """Add what is wrong."""
        self._problems += problems

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
        received: ReceivedFiles | None = None,
    ) -> None:
        """`find_hidden` says, before the first command is run, what must not be in its environment.

        `received` knows the files that are a server's.
        """
        self._find_hidden = find_hidden
        self._sources = Sources(playbook_folder, vault, received=received or ReceivedFiles())
        self._runs_commands = runs_commands
        self._outputs: dict[str, str] = {}
        self._memory_limit_bytes = memory_limit_bytes()
        self._now = datetime.now().astimezone()
        self._compiled: dict[tuple[str, bool], _Compiled] = {}
        self._expressions: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._extra: dict[str, Any] = {}
        self._being_rendered: list[str] = []
        self._is_bounded = False
        self._keeps_raw = False
        self._frames: list[_Frame] = []
        self._open_files: list[str] = []
        self._overrun: Problem | None = None
        self._lookups = self._all_lookups = Lookups()

    @property
    def files_read(self) -> set[str]:
        """The files that `lookup('file')` and `lookup('template')` have read so far."""
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
        _refuse_unfilled(value)
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
        return self._render_text(value, location, scope, is_bare=False) if is_template(value) else value

    def evaluate(self, expression: str, location: Location, scope: Scope) -> Any:
        """What an expression without braces gives. Raises as `render`."""
        _refuse_unfilled(expression)
        return self._render_text(expression, location, scope, is_bare=True)

    def render_raw(self, value: Any, location: Location, scope: Scope) -> Any:
        """As `render`, but what an expression gives is left as it is: copying a long list would double it."""
        self._keeps_raw = True
        try:
            return self.render(value, location, scope)
        finally:
            self._keeps_raw = False

    def judge_of_items(self, conditions: Sequence[str], item_name: str, scope: Scope) -> Judge | None:
        """What judges many items at once; None for conditions that depend on more than the item's value."""
        from jinja2 import TemplateError

        from runner.playbook.filters.registry import IMPURE_NAMES
        from runner.playbook.item_conditions import ITEMS, is_by_value, judge_each

        try:
            trees = [self._parse_bare(text) for text in conditions]
        except TemplateError:
            return None
        names = {name.name for tree in trees for name in _find_names(tree)} & scope.keys() - {item_name}
        is_certain = all(is_by_value(tree, IMPURE_NAMES) for tree in trees)
        if not is_certain or ITEMS in names or not all(_is_settled(name, scope) for name in names):
            return None
        values = {name: self._variable(name, scope) for name in names}
        template = self._environment.from_string(judge_each(trees, item_name))

        def judge(items: Sequence[Any]) -> str:
            verdicts: list[str] = []
            self._frames.append(_Frame(scope, []))
            try:
                with bounded_resources():
                    verdicts.extend(template.root_render_func(template.new_context({**values, ITEMS: items})))
            except Exception:
                # Its own turn says what is wrong with the item.
                pass
            finally:
                self._frames.pop()
            return "".join(verdicts)

        return judge

    def lacking(self, value: Any, key: str) -> Any:
        """What stands for a part that a value lacks: who uses it is told why."""
        return self._environment.undefined(obj=value, name=key)

    def find_unknown_names(self, text: str, location: Location, scope: Scope) -> list[Problem]:
        """What is wrong with a template by its text alone."""
        from jinja2 import TemplateError

        try:
            return self._check_names(self._compile(text, is_file=False).tree, location, scope)
        except TemplateError as error:
            return [self._explain(error, text, location, scope)]

    def guarded_names(self, expression: str) -> tuple[str, ...]:
        """The names of which an expression asks whether they are defined; none if it is not valid."""
        from jinja2 import TemplateError, nodes

        try:
            tree = self._compile_bare(expression).tree
        except TemplateError:
            return ()
        tests = (one for one in tree.find_all(nodes.Test) if one.name in ("defined", "undefined"))
        return tuple(one.node.name for one in tests if isinstance(one.node, nodes.Name))

    def paths_in(self, expression: str) -> tuple[str, ...]:
        """The names that an expression uses, with what it asks of them; none if it is not valid."""
        from jinja2 import TemplateError

        from runner.playbook.names import paths_of

        try:
            return tuple(paths_of(self._parse_bare(expression), self._environment.globals))
        except TemplateError:
            return ()

    def _render_text(self, text: str, location: Location, scope: Scope, *, is_bare: bool) -> Any:
        known = self._compiled.get((text, False))
        # What it names is bounded by itself where it is more.
        if self._is_bounded or (known is not None and known.is_light and not is_bare):
            return self._evaluate(text, location, scope, is_bare=is_bare)
        if self._overrun:
            # A thousand templates that each take this long take too long as well.
            raise TemplateProblem(self._overrun)
        self._is_bounded = True
        try:
            with bounded_resources():
                return self._evaluate(text, location, scope, is_bare=is_bare)
        except TimeIsUp as error:
            self._overrun = Problem(location, f"the template takes longer than {MAX_SECONDS} s", "Simplify it.")
            raise TemplateProblem(self._overrun) from error
        finally:
            self._is_bounded = False

    def _evaluate(self, text: str, location: Location, scope: Scope, *, is_bare: bool) -> Any:
        return self._explaining(text, location, scope, self._fill_in_bare if is_bare else self._fill_in)

    def _explaining(
        self, text: str, location: Location, scope: Scope, fill_in: Callable[[str, Location, Scope], Any]
    ) -> Any:
        """What `fill_in` makes of the template, or `TemplateProblem` with its place."""
        from jinja2 import TemplateError

        from runner.playbook.filters.misuse import Misuse

        self._frames.append(_Frame(scope, []))
        try:
            return fill_in(text, location, scope)
        except (TemplateProblem, ValueUnknown, RunnerError):
            raise
        except (LookupFailed, Misuse) as error:
            raise TemplateProblem(Problem(location, str(error), error.hint)) from error
        except TemplateError as error:
            raise TemplateProblem(self._explain(error, text, location, scope)) from error
        except MemoryError as error:
            message = "the template needs too much memory"
            raise TemplateProblem(Problem(location, message, "Simplify it.")) from error
        except Exception as error:  # the expression is the playbook's, so it can raise anything
            message = f"the template cannot be filled in: {type(error).__name__}: {error}"
            raise TemplateProblem(Problem(location, message, "")) from error
        finally:
            self._frames.pop()

    def _fill_in(self, text: str, location: Location, scope: Scope) -> Any:
        return self._finish(self._fill_in_whole(text, location, scope, is_file=False), location)

    def _fill_in_bare(self, text: str, location: Location, scope: Scope) -> Any:
        return self._finish(self._fill_in_compiled(self._compile_bare(text), text, location, scope), location)

    def _finish(self, result: Any, location: Location) -> Any:
        from jinja2 import Undefined

        if isinstance(result, Undefined):
            str(result)  # StrictUndefined raises here, and says what is undefined
        # A variable may be anything on the way; what comes out in the end is plain data.
        return result if self._being_rendered or self._keeps_raw else _to_plain(result, location)

    def _fill_in_whole(self, text: str, location: Location, scope: Scope, *, is_file: bool) -> Any:
        return self._fill_in_compiled(self._compile(text, is_file=is_file), text, location, scope)

    def _fill_in_compiled(self, compiled: _Compiled, text: str, location: Location, scope: Scope) -> Any:
        attempts, values = _Attempts(), dict[str, Any]()
        for name in sorted(compiled.names & scope.keys()):
            with attempts.collecting():
                values[name] = self._variable(name, scope)
        if attempts.is_unknown:
            # What can be said without the value is said before anything is contacted.
            attempts.tell(self._check_names(compiled.tree, location, scope))
        attempts.finish()
        result = compiled.fill_in(values)
        if isinstance(result, _Pieces):
            return result.join(lambda error: TemplateProblem(self._explain(error, text, location, scope)))
        # What `map` and `select` give can be read once only.
        is_lazy = isinstance(result, Iterator | KeysView | ValuesView | ItemsView)
        return list(result) if is_lazy else result

    def _explain(self, error: Exception, text: str, location: Location, scope: Scope) -> Problem:
        if location.file in self._open_files:
            location = replace(location, line=_find_line(error, text))
        return _explain(error, text, location, scope, self._kinds)

    @property
    def _kinds(self) -> Mapping[str, Collection[str]]:
        """The names of the filters and tests."""
        return {"filter": self._environment.filters, "test": self._environment.tests}

    def _variable(self, name: str, scope: Scope) -> Any:
        """A variable's value, its own templates filled in first."""
        value, location = scope[name]
        if isinstance(value, Data):
            return value.value
        if location == COMMAND_LINE:
            # What a pipeline passes in may come from a branch name or a commit message: it is data, never a template.
            if name not in self._extra:
                source = Source(f"the extra variable '{name}'", Origin.EXTRA_VARS)
                self._extra[name] = mark_outside(value, source)
            return self._extra[name]
        if name in self._being_rendered:
            circle = " → ".join([*self._being_rendered[self._being_rendered.index(name) :], name])
            raise TemplateProblem(Problem(location, f"variables refer to each other in a circle: {circle}", ""))
        self._being_rendered.append(name)
        try:
            return name_variable(self.render(value, location, scope), name)
        finally:
            self._being_rendered.pop()

    def _compile(self, text: str, *, is_file: bool) -> _Compiled:
        """The template. One whole expression keeps its type; without statements every piece is filled in alone.

        In a file everything is text, and the line end behind a statement is the statement's, as in Ansible.
        """
        if (text, is_file) not in self._compiled:
            from jinja2 import nodes

            tree = (self._file_environment if is_file else self._environment).parse(text)
            names = frozenset(name.name for name in _find_names(tree))
            body = tree.body[0] if len(tree.body) == 1 else None
            outputs: list[nodes.Expr] = body.nodes if isinstance(body, nodes.Output) else []
            data = [node.data if isinstance(node, nodes.TemplateData) else None for node in outputs]
            may_look_up = "lookup" in text
            parts = [node for node in outputs if not isinstance(node, nodes.TemplateData)]
            expressions = [trace(node, may_look_up=may_look_up) for node in parts]
            fill_in: Callable[[dict[str, Any]], Any]
            if len(expressions) == 1 and not is_file and not any(one and one.strip() for one in data):
                fill_in = self._compile_later(expressions[0])
            elif outputs:
                whole = self._compile_later(nodes.List(expressions, lineno=1))
                fill_in = lambda values: _Pieces(data, whole(values))  # noqa: E731
            else:
                found = survey(tree)
                trace_statements(tree)
                render = self._environment.from_string(tree).render
                fill_in = lambda values: found.mark(render(values), values, self._frames[-1].looked_up)  # noqa: E731
            self._compiled[text, is_file] = _Compiled(fill_in, names, tree, is_light=_is_light(outputs))
        return self._compiled[text, is_file]

    def _compile_bare(self, text: str) -> _Compiled:
        """An expression that stands there without braces, as conditions do."""
        # No template can be written so.
        key = f"\0{text}", False
        if key not in self._compiled:
            from jinja2 import nodes

            expression = self._parse_bare(text)
            names = frozenset(name.name for name in _find_names(expression))
            tree = nodes.Output([expression], lineno=1)
            traced = trace(expression, may_look_up="lookup" in text)
            self._compiled[key] = _Compiled(self._compile_later(traced), names, tree)
        return self._compiled[key]

    def _parse_bare(self, text: str) -> nodes.Expr:
        from jinja2 import TemplateSyntaxError
        from jinja2.parser import Parser

        # Where a template begins and ends decides what a backslash means.
        source = self._environment.preprocess(f"{{{{ {text} }}}}")[3:-3]
        parser = Parser(self._environment, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise TemplateSyntaxError(f"unexpected {str(parser.stream.current)!r}", parser.stream.current.lineno)
        expression.set_environment(self._environment)
        return expression

    def _check_names(self, tree: nodes.Node, location: Location, scope: Scope) -> list[Problem]:
        """What is wrong with the names in a template that cannot be filled in yet."""
        from runner.playbook.names import find_unknown

        return [
            Problem(location, f"{UNDEFINED}{found.message}", found.hint)
            for found in find_unknown(tree, scope, self._environment.globals, GLOBAL_NAMES, self._kinds)
        ]

    def _compile_later(self, expression: nodes.Expr) -> Callable[[dict[str, Any]], Any]:
        """What gives the expression's value. It is compiled when it is first asked for, which may be never."""
        from jinja2 import nodes

        for one in (expression, *expression.find_all((nodes.Filter, nodes.Test))):
            known = self._kinds["filter" if isinstance(one, nodes.Filter) else "test"]
            if isinstance(one, nodes.Filter | nodes.Test) and one.name not in known:
                # The compiler has a word for it.
                return self._compile_expression(expression)
        find = cache(lambda: self._compile_expression(expression))
        return lambda values: find()(values)

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
        is_plain = True
        names: set[str] = set()
        variables: set[str] = set()
        for call in calls:
            kind, terms = (call.args or [call.node])[0], call.args[1:]
            if isinstance(kind, nodes.Const) and kind.value == "vars":
                loaded += [str(term.value) for term in terms if isinstance(term, nodes.Const)]
                is_plain &= all(isinstance(term, nodes.Const) for term in terms) and call.dyn_args is None
                continue
            if isinstance(kind, nodes.Const) and kind.value != "env":
                # What stands in another file is not looked at.
                is_plain &= kind.value != "template"
                continue
            names |= {str(term.value) for term in terms if isinstance(term, nodes.Const)}
            variables |= {term.name for term in terms if isinstance(term, nodes.Name)}
            is_plain &= isinstance(kind, nodes.Const) and call.dyn_args is None
            is_plain &= all(isinstance(term, nodes.Const | nodes.Name) for term in terms)
        return TemplateUse(frozenset(loaded), frozenset(names), frozenset(variables), is_plain)

    @cached_property
    def _environment(self) -> SandboxedEnvironment:
        from jinja2 import StrictUndefined, UndefinedError, pass_context
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from jinja2.utils import missing

        from runner.playbook.dialect import keep_backslashes, make_lists, make_missing
        from runner.playbook.filters.registry import make_filters, make_tests, make_timedelta
        from runner.playbook.registered import why_absent

        class BoundedEnvironment(ImmutableSandboxedEnvironment):
            """A sandbox in which a product cannot fill the memory or keep the processor busy where no signal is heard."""

            intercepted_binops = frozenset(["*", "**"])

            def preprocess(self, source: str, name: str | None = None, filename: str | None = None) -> str:
                source = super().preprocess(source, name, filename)
                return keep_backslashes(source, lambda text: self.lexer.tokeniter(text, name))

            def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
                refuse_large_product(operator, left, right)
                return super().call_binop(context, operator, left, right)

        class Absent(UndefinedError):
            """Something is not there. What the value that it was asked of says about that ends in a hint."""

            def __init__(self, message: str | None = None) -> None:
                text, is_explained, self.hint = (message or "").partition(_HINT)
                self.is_explained = bool(is_explained)
                super().__init__(text)

        class Lacking(make_missing(StrictUndefined)):  # type: ignore[misc]
            """What is not there. Why, is only found out if it is used: many a default stands behind what may be missing."""

            def __init__(
                self, hint: str | None = None, obj: Any = missing, name: Any = None, exc: type[Exception] = Absent
            ) -> None:
                super().__init__(hint, obj, name, Absent if exc is UndefinedError else exc)

            @property
            def _undefined_message(self) -> str:
                is_known = self._undefined_obj is not missing and not self._undefined_hint
                why = why_absent(self._undefined_obj, self._undefined_name) if is_known else None
                return _HINT.join(why) if why else str(super()._undefined_message)

        environment = BoundedEnvironment(undefined=Lacking, keep_trailing_newline=True, finalize=_or_nothing)
        environment.globals.update(now=self._get_now, lookup=refuse_other_name)
        environment.globals.update(timedelta=make_timedelta, runner_version=VERSION)
        environment.filters.update(make_lists(environment.filters))
        environment.filters.update(make_filters(StrictUndefined, self._note_encoded))
        environment.filters.update(tracing_filters(lambda: self._frames[-1].looked_up))
        # What is known when a template is compiled must not be looked up then, so it is given a context.
        environment.filters[LOOKUP] = pass_context(
            lambda context, source, *terms, **options: self._lookup(*terms, **options)
        )
        environment.tests.update(make_tests(StrictUndefined, self._sources.folder))
        return environment

    @cached_property
    def _file_environment(self) -> SandboxedEnvironment:
        return self._environment.overlay(trim_blocks=True)

    def _note_encoded(self, text: str, made: str) -> None:
        self._sources.vault.redactor.note_encoded(text, made)
        if self._lookups is not self._all_lookups:
            self._lookups.values.add(made)

    def _get_now(self, utc: bool = False, fmt: str = "") -> Any:
        moment = self._now.astimezone(UTC) if utc else self._now
        return moment.strftime(fmt) if fmt else moment

    def _lookup(self, kind: str, *terms: Any, **options: Any) -> Any:
        """What `lookup(kind, …)` gives; several terms are joined by commas, as in Ansible, but file names are a list."""
        found = self._find(kind, terms, options)
        source = find_outside(found)
        if origin_of(source) is not Origin.MACHINE:
            self._frames[-1].looked_up.append(source)
        return found

    def _find(self, kind: str, terms: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if kind not in LOOKUP_OPTIONS:
            from runner.playbook.filters.strangers import find_hint

            hint = find_hint("lookup", str(kind), {"lookup": LOOKUP_OPTIONS})
            known = f"Known: {', '.join(sorted(LOOKUP_OPTIONS))}."
            raise LookupFailed(f"unknown lookup '{kind}'", f"{hint} {known}".strip())
        if not terms and not (kind == "first_found" and options):
            raise LookupFailed(f"lookup('{kind}') needs a name", f"Write lookup('{kind}', '…').")
        unknown = sorted(set(options) - set(LOOKUP_OPTIONS[kind]))
        if unknown:
            raise LookupFailed(
                f"lookup('{kind}') has no option '{unknown[0]}'", nearest(unknown[0], LOOKUP_OPTIONS[kind])
            )
        for term in (*terms, options.get("files"), options.get("paths")):
            refuse_outside(kind, term)
        if kind == "pipe" and not self._runs_commands:
            raise ValueUnknown
        match kind:
            case "fileglob":
                return find_matches(terms, self._sources, is_list=options.get("wantlist", True))
            case "first_found":
                return find_first(terms, options, self._sources.folder)
            case "vars":
                return _join([self._look_up_variable(str(term), options) for term in terms])
        values = [self._look_up(kind, str(term), options) for term in terms]
        self._lookups.values.update(map(str, values))
        return _join(values)

    def _look_up_variable(self, name: str, options: dict[str, Any]) -> Any:
        scope = self._frames[-1].scope
        if name in scope:
            return self._variable(name, scope)
        if "default" in options:
            return options["default"]
        raise LookupFailed(f"lookup('vars'): nothing gives the variable '{name}'", nearest(name, scope))

    def _render_file(self, name: str) -> str:
        """The text of a file with its templates filled in, by the variables that are known where it is looked up."""
        text = read_file(name, self._sources, is_stripped=False, kind="template")
        if name in self._open_files:
            circle = " → ".join([*self._open_files[self._open_files.index(name) :], name])
            raise LookupFailed(f"lookup('template'): files look up each other in a circle: {circle}")
        self._open_files.append(name)
        try:
            return self._explaining(text, Location(name, 1, 1), self._frames[-1].scope, self._fill_in_file)  # type: ignore[no-any-return]
        finally:
            self._open_files.pop()

    def _fill_in_file(self, text: str, location: Location, scope: Scope) -> str:
        filled: str = self._fill_in_whole(text, location, scope, is_file=True)
        return mark_rest(filled, describe_lookup("template", location.file))

    def _look_up(self, kind: str, term: str, options: dict[str, Any]) -> str:
        found = self._read(kind, term, options)
        is_written = kind == "env" and term not in os.environ
        server = self._sources.find_server(term) if kind == "file" else None
        marked: str = found if is_written else mark_outside(found, server or describe_lookup(kind, term))
        return marked

    def _read(self, kind: str, term: str, options: dict[str, Any]) -> str:
        if kind == "env":
            self._lookups.environment_names.add(term)
            return read_environment(term, options.get("default"))
        if kind == "file":
            return read_file(term, self._sources, is_stripped=options.get("rstrip", True))
        if kind == "template":
            return self._render_file(term)
        if term not in self._outputs:
            with memory_limited_to(self._memory_limit_bytes):
                self._outputs[term] = read_command(term, self._sources, self._find_hidden())
        return self._outputs[term]


def _find_names(tree: nodes.Node) -> Iterator[nodes.Name]:
    """The names whose values a template asks for; a single name is its own tree."""
    from jinja2 import nodes

    found = [tree] if isinstance(tree, nodes.Name) else tree.find_all(nodes.Name)
    return (name for name in found if name.ctx == "load")


def _is_settled(name: str, scope: Scope) -> bool:
    """Whether a variable has one value for all items of a loop: it is data, or text as it is written."""
    value, location = scope[name]
    if name == "hostvars" or isinstance(value, Unfilled):
        return False
    is_plain = isinstance(value, str | bool | int | float) or value is None
    return isinstance(value, Data) or location == COMMAND_LINE or (is_plain and not is_template(value))


def _refuse_unfilled(value: Any) -> None:
    """Raise `ValueUnknown` for what stands where a value is not known."""
    if isinstance(value, Unfilled):
        raise ValueUnknown(value.reason if isinstance(value, Awaited) else "")


def _join(values: list[Any]) -> Any:
    """One value as it is; several texts with commas between them."""
    if len(values) == 1 or not all(isinstance(value, str) for value in values):
        return values[0] if len(values) == 1 else values
    commas = [","] * len(values)
    return concatenate([part for pair in zip(values, commas, strict=True) for part in pair][:-1])


def _is_light(outputs: Sequence[nodes.Expr]) -> bool:
    """Whether all that a template does is to name a few variables."""
    from jinja2 import nodes

    return 0 < len(outputs) <= MAX_LIGHT_PIECES and all(
        isinstance(node, nodes.TemplateData | nodes.Name) for node in outputs
    )


def _find_line(error: Exception, text: str) -> int:
    """The line of a file that an error is about, as far as it can be said: that of the first use of an undefined name."""
    line = getattr(error, "lineno", 0)
    name = re.match(r"'(\w+)' is undefined", str(getattr(error, "message", "")))
    used = re.search(rf"\b{name[1]}\b", text) if name and not line else None
    return line or (text.count("\n", 0, used.start()) + 1 if used else 1)


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
        case list() | tuple() | LazyList():
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
        is_repetition = isinstance(sequence, (str, *LISTS)) and isinstance(count, int)
        if operator == "*" and is_repetition and len(sequence) * count > MAX_RESULT_LENGTH:
            raise ValueError("the result is too large")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_NUMBER_BITS:
            raise ValueError("the result is too large a number")


def _explain(
    error: Exception, text: str, location: Location, scope: Scope, known: Mapping[str, Collection[str]]
) -> Problem:
    """What a template's error means. `known` are the names of the filters and tests."""
    from jinja2 import TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    from runner.playbook.filters.strangers import find_hint

    unknown = re.match(r"No (filter|test) named '(.{1,100}?)'", str(getattr(error, "message", "")))
    hint = find_hint(unknown[1], unknown[2], known) if unknown else ""
    if isinstance(error, TemplateSyntaxError):
        message = f"the template is not valid: {error.message}"
        if "'='" in str(error.message):
            hint = "Two values are compared by '=='."
        hint = hint or "Templates are Jinja2: {{ expression }}; a quoted '{{' is written {{ '{{' }}."
        return Problem(location, message, hint)
    if isinstance(error, UndefinedError):
        if getattr(error, "is_explained", False):
            # A value says itself why it lacks something.
            return Problem(location, str(error.message), error.hint)  # type: ignore[attr-defined]
        name = re.match(r"'(\w+)' is undefined", str(error.message))
        if name:
            # Loaded when a name is undefined.
            from runner.playbook.names import explain_undefined, names_in

            hint = explain_undefined(name[1], text, [*names_in(scope), *GLOBAL_NAMES], known)
        return Problem(location, f"{UNDEFINED}{error.message}", hint)
    if isinstance(error, SecurityError):
        return Problem(location, f"the template is not allowed: {error}", "Templates run in a sandbox.")
    return Problem(location, f"the template cannot be filled in: {error}", hint)
