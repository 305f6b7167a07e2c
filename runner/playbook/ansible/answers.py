"""Goes through a playbook that has something of Ansible's in it: one problem for each such thing, and what is left of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from runner.playbook.ansible.arguments import FREE_FORM, read_arguments
from runner.playbook.ansible.contents import EXPRESSIONS_IN, find_foreign_results, find_own_names, find_texts
from runner.playbook.ansible.detection import (
    FOREIGN_ARGUMENTS,
    LISTS_OF_STEPS,
    is_foreign_statement,
    is_way_to_connect,
)
from runner.playbook.ansible.keywords import PLAY_KEYWORDS as ANSIBLE_PLAY
from runner.playbook.ansible.keywords import PLAY_MARKS, TASK_KEYWORDS, THIS_MACHINE, Keyword, explain_variable
from runner.playbook.ansible.loops import explain_loop
from runner.playbook.ansible.modules import explain_module, is_module
from runner.playbook.ansible.names import find_names, replace_names
from runner.playbook.ansible.reading import Task
from runner.playbook.ansible.results import find_fields, replace_fields
from runner.playbook.ansible.stand_ins import open_variables, stand_in, stand_in_for_names
from runner.playbook.ansible.statements import explain_statement
from runner.playbook.ansible.writing import LEFT_OPEN
from runner.playbook.document import PositionedList, PositionedMap, Unfilled
from runner.problems import MAX_PROBLEMS, Location, Problem

_KINDS = ("mode", "block", "include_steps", *FOREIGN_ARGUMENTS)
_LISTS_OF_TASKS = ("pre_tasks", "tasks", "post_tasks")
# With one of these a step says itself where it goes.
_OWN_INPUTS = ("host", "authentication", "hostkey", "port", "connection")
# What gives variables whose names are not known from it, or not before it is translated.
_GIVERS = {
    *("roles", "vars_prompt", "include_vars", "include_role", "import_role", "set_stats"),
    *("include_tasks", "import_tasks", "include", "import_playbook"),
}


# What is looked at of one text.
MAX_TEXT_LENGTH = 2000


class Answered(NamedTuple):
    """What is left of a playbook without what is Ansible's, and a problem for each thing of that.

    `lacks_variables`: some of what has been told about gives variables, and nobody knows which.
    """

    data: PositionedMap | PositionedList
    problems: list[Problem]
    lacks_variables: bool


def answer_ansible(
    data: PositionedMap | PositionedList,
    play_keys: frozenset[str],
    step_keys: frozenset[str],
    context: Iterable[PositionedMap | PositionedList] = (),
) -> Answered:
    """Every thing in the playbook that is Ansible's, each as a problem whose hint says what to write in its place.

    What is left can be checked as any playbook. Where something is missing because it was written in Ansible's way, an
    `Unfilled` stands for it, so that it is not reported as missing: for modes, connections and loops, and for the names in
    templates that have been told about, which are variables of the step then. Without such a thing `data` is what was
    given. `play_keys` and `step_keys` are the names that the schema knows; `around` are the files that `data` is included
    by, whose names are no Ansible's either.
    """
    answering = _Answering([data, *context], play_keys, step_keys)
    left = answering.answer(data)
    return Answered(left if answering.problems else data, answering.problems, answering.lacks_variables)


class _Answering:
    """One playbook, while its problems are being collected."""

    def __init__(
        self,
        documents: list[PositionedMap | PositionedList],
        play_keys: frozenset[str],
        step_keys: frozenset[str],
    ) -> None:
        self.problems: list[Problem] = []
        self.lacks_variables = False
        self._play_keys = play_keys
        self._step_keys = step_keys
        self._own_names = frozenset(find_own_names(documents))
        self._registered = frozenset(find_foreign_results(documents))
        self._is_play = False

    def answer(self, data: PositionedMap | PositionedList) -> PositionedMap | PositionedList:
        """What is left of the playbook."""
        if isinstance(data, PositionedMap):
            if not _is_play(data) and "hosts" not in data:
                return self._answer_sections(data)
            left = PositionedMap(data.location)
            steps = PositionedList(data.location)
            self._answer_play(data, left, steps)
            return self._close(left, steps, data.location)
        if not any(_is_play(item) for item in data):
            return self._answer_steps(data)
        left, steps = PositionedMap(data.location), PositionedList(data.location)
        for item, place in zip(data, data.item_locations, strict=True):
            if _is_play(item):
                self._answer_play(item, left, steps)
            else:
                steps.add(self._answer_step(item), place)
        return self._close(left, steps, data.location)

    def _answer_sections(self, data: PositionedMap) -> PositionedMap:
        """A playbook of ours, in the mapping form."""
        left = PositionedMap(data.location)
        for key, value in data.items():
            keyword = None if key in self._play_keys else ANSIBLE_PLAY.get(key)
            if keyword:
                self._tell_keyword(key, keyword, data)
            elif key == "steps" and isinstance(value, PositionedList):
                left.put(key, self._answer_steps(value), data.key_locations[key], data.value_locations[key])
            else:
                left.take(key, data)
        return left

    def _answer_play(self, play: PositionedMap, left: PositionedMap, steps: PositionedList) -> None:
        """A play of Ansible's, whose tasks become `steps`, and what it shares with ours a part of `left`."""
        self._is_play = True
        told: set[str] = set()
        for key, value in play.items():
            keyword = None if key in self._play_keys else ANSIBLE_PLAY.get(key)
            if keyword and (not keyword.topic or keyword.topic not in told):
                self._tell_keyword(key, keyword, play)
                told.add(keyword.topic)
            if (key in _LISTS_OF_TASKS or key in ("steps", "handlers")) and isinstance(value, PositionedList):
                for item, place in zip(value, value.item_locations, strict=True):
                    steps.add(self._answer_step(item), place)
            elif key == "vars" and isinstance(value, PositionedMap):
                self._answer_variables(value, left)
            elif key not in left and not keyword:
                left.take(key, play)
            elif key == "vars_files":
                self.lacks_variables = True

    def _answer_variables(self, variables: PositionedMap, left: PositionedMap) -> None:
        """A play's variables: those that say how to reach a host, and Ansible's names in the others."""
        for name, value in variables.items():
            if hint := explain_variable(name, value):
                self._tell(variables.key_locations[name], f"'{name}' is an Ansible variable", hint)
        told = self._tell_names(variables, set())
        # One playbook is made of all plays: it is looked at, and never played.
        if isinstance(left.get("vars", {}), dict):
            shared = open_variables(left, variables.location)
            for name in variables:
                if name not in shared:
                    shared.take(name, variables)
        stand_in_for_names(left, told, variables.location)

    def _close(self, left: PositionedMap, steps: PositionedList, place: Location) -> PositionedMap:
        """The playbook that the plays are: with steps, if there is none a stand-in."""
        if not steps:
            steps.add(self._make_stand_in(place), place)
        left.put("steps", steps, place, place)
        return left

    def _make_stand_in(self, place: Location) -> PositionedMap:
        step = PositionedMap(place)
        stand_in(step, "connection", place)
        stand_in(step, "mode", place)
        return step

    def _answer_steps(self, steps: PositionedList) -> PositionedList:
        left = PositionedList(steps.location)
        for item, place in zip(steps, steps.item_locations, strict=True):
            left.add(self._answer_step(item), place)
        return left

    def _answer_step(self, item: Any) -> Any:
        """What is left of a step, or of a task."""
        if not isinstance(item, PositionedMap):
            return item
        before, told = len(self.problems), set[str]()
        left = PositionedMap(item.location)
        modules = [key for key in item if self._is_module(key, item)]
        for key, value in item.items():
            if key in LISTS_OF_STEPS and isinstance(value, PositionedList):
                inner = self._answer_steps(value)
                left.put(key, inner, item.key_locations[key], item.value_locations[key])
            elif key in modules:
                self._tell_module(key, item, left)
            elif key == "args" and modules:
                continue
            elif key in FOREIGN_ARGUMENTS and is_foreign_statement(key, value):
                self._tell_statement(key, key, value, item, left)
                modules.append(key)
            elif key == "connection" and is_way_to_connect(value):
                self._tell_keyword(key, TASK_KEYWORDS[key], item)
            elif key in self._step_keys:
                left.take(key, item)
            else:
                self._answer_key(key, item, left, told)
        if len(self.problems) > before or self._is_play:
            stand_in_for_names(left, self._tell_names(item, set(modules)), item.location)
            self._complete(left, item, has_module=bool(modules))
        return left

    def _is_module(self, key: str, item: PositionedMap) -> bool:
        if key in self._step_keys or key in TASK_KEYWORDS:
            return key in ("action", "local_action")
        if key in ("action", "local_action"):
            return True
        return is_module(key) and isinstance(item[key], str | dict | None)

    def _answer_key(self, key: str, item: PositionedMap, left: PositionedMap, told: set[str]) -> None:
        """A key that is none of ours, and no module."""
        keyword = TASK_KEYWORDS.get(key)
        if key.startswith("with_"):
            hint = explain_loop(key.removeprefix("with_"), self._translate(item[key]))
            self._tell(item.key_locations[key], f"'{key}' is an Ansible loop", hint)
            if "loop" not in item:
                stand_in(left, "loop", item.location)
        elif keyword is None or (key == "hosts" and not self._is_play and _names_its_host(item)):
            left.take(key, item)
        elif not keyword.topic or keyword.topic not in told:
            self._tell_keyword(key, keyword, item)
            told.add(keyword.topic)

    def _complete(self, left: PositionedMap, item: PositionedMap, *, has_module: bool) -> None:
        """Put something in the place of what is missing because it is written in Ansible's way."""
        if not any(key in left for key in _KINDS) and (has_module or self._is_play or _is_statement(item)):
            stand_in(left, "mode", item.location)
        if not any(key in left for key in _OWN_INPUTS) and (has_module or self._is_play or "mode" not in item):
            stand_in(left, "connection", item.location)

    def _tell(self, place: Location, message: str, hint: str) -> None:
        self.problems.append(Problem(place, message, hint))

    def _tell_keyword(self, key: str, keyword: Keyword, section: PositionedMap) -> None:
        hint = keyword.explain(self._translate(section[key]), section)
        place = section.key_locations[key]
        self.lacks_variables |= key.rpartition(".")[2] in _GIVERS
        if key == "connection":
            self._tell(place, f"'connection: {section[key]}' is Ansible's", hint)
        else:
            self._tell(place, f"'{key}' is an Ansible keyword", hint)

    def _tell_module(self, key: str, item: PositionedMap, left: PositionedMap) -> None:
        name, arguments = _read_call(
            key, item[key] if not isinstance(item[key], str) else item[key][:MAX_TEXT_LENGTH], item
        )
        bare = name.rpartition(".")[2]
        place = item.key_locations[key]
        if bare in FOREIGN_ARGUMENTS and key not in ("action", "local_action"):
            self._tell_statement(key, bare, item[key], item, left)
            return
        register = item.get("register")
        self.lacks_variables |= bare in _GIVERS
        task = Task(name, self._translate(arguments), register if isinstance(register, str) else "")
        if key == "local_action":
            self._tell(place, "'local_action' is an Ansible keyword", _LOCAL_ACTION)
        elif item.get("delegate_to") in THIS_MACHINE:
            self._tell(place, f"'{key}' is an Ansible module", _LOCAL_ACTION)
        elif key == "action":
            self._tell(place, f"'action: {bare}' is an Ansible module", explain_module(task))
        else:
            self._tell(place, f"'{key}' is an Ansible module", explain_module(task))

    def _tell_statement(self, key: str, name: str, value: Any, item: PositionedMap, left: PositionedMap) -> None:
        statement = explain_statement(name, self._translate(value, EXPRESSIONS_IN.get(name, ())), key)
        place = item.key_locations[key]
        self._tell(place, statement.message, statement.hint)
        if statement.value is not None:
            arguments = PositionedMap(place)
            for one, given in statement.value.items():
                arguments.put(one, given, place, place)
            left.put(name, arguments, place, place)

    def _translate(self, value: Any, inner: Collection[str] = (), *, is_expression: bool = False) -> Any:
        """A value with what is Ansible's in its templates replaced by its counterparts.

        `inner` are the keys of a mapping whose values are expressions without braces.
        """
        if isinstance(value, Unfilled):
            return value
        if isinstance(value, str):
            if type(value) is not str:
                return value
            # What is shown of it is less. Of what comes after the last problem that is reported, nothing is.
            text = value[:MAX_TEXT_LENGTH] if len(self.problems) <= MAX_PROBLEMS else LEFT_OPEN
            text = replace_names(text, self._own_names, is_expression=is_expression)
            return replace_fields(text, self._registered, is_expression=is_expression)
        if isinstance(value, dict):
            if not isinstance(value, PositionedMap):
                return {key: self._translate(one) for key, one in value.items()}
            translated = PositionedMap(value.location)
            for key, one in value.items():
                ours = self._translate(one, is_expression=key in inner)
                translated.put(key, ours, value.key_locations[key], value.value_locations[key])
            return translated
        if isinstance(value, PositionedList):
            items = PositionedList(value.location)
            for one, place in zip(value, value.item_locations, strict=True):
                items.add(self._translate(one, is_expression=is_expression), place)
            return items
        return value

    def _tell_names(self, section: PositionedMap, modules: set[str]) -> set[str]:
        """Ansible's variables in what is not translated as a whole, each once at a place. Gives the names told about."""
        told: set[str] = set()
        for key, value in section.items():
            if key in LISTS_OF_STEPS or len(self.problems) > MAX_PROBLEMS:
                continue
            # A hint that shows a translation has the names in it translated.
            is_translated = key in modules or key.startswith("with_") or key == "args"
            for whole, place, is_expression in find_texts(value, section.value_locations[key], key):
                text = whole[:MAX_TEXT_LENGTH]
                found = find_names(text, is_expression=is_expression, own=self._own_names)
                for name in {one.written: one for one in found}.values():
                    if name.expression is None or not is_translated:
                        self._tell(place, f"'{name.written}' is an Ansible variable", name.hint)
                        # What its translation is called is given by the reader, who has been told so.
                        told |= {name.name, *([name.variable.partition(".")[0]] if name.variable else [])}
                for field in dict.fromkeys(find_fields(text, self._registered, is_expression=is_expression)):
                    if not field.expression or not is_translated:
                        self._tell(place, f"'{field.written}' is a result of an Ansible module", field.hint)
        return told


_LOCAL_ACTION = (
    "Nothing is done on this machine but the moving of files, and a download makes the directories that it needs: do it "
    "before or after `runner play`. The output of a command is `lookup('pipe', '…')` in a template."
)


def _read_call(key: str, value: Any, item: PositionedMap) -> tuple[str, Any]:
    """The module's name and its arguments, those of `args` included."""
    arguments = read_arguments(value)
    if key in ("action", "local_action"):
        name, _, rest = str(arguments.pop("module", arguments.pop(FREE_FORM, ""))).partition(" ")
        arguments = {**({FREE_FORM: rest} if rest else {}), **arguments}
    else:
        name = key
        if isinstance(value, str) and name.rpartition(".")[2] in ("command", "shell", "raw", "script"):
            arguments = {FREE_FORM: value}
    more = item.get("args")
    return name, {**arguments, **(dict(more) if isinstance(more, PositionedMap) else {})}


def _is_play(item: Any) -> bool:
    if not isinstance(item, PositionedMap):
        return False
    return not PLAY_MARKS.isdisjoint(item) or ("hosts" in item and not _does_something(item))


def _does_something(item: PositionedMap) -> bool:
    return any(key in item for key in _KINDS) or any(is_module(key) for key in item)


def _is_statement(item: PositionedMap) -> bool:
    return any(key.rpartition(".")[2] in FOREIGN_ARGUMENTS for key in item) or any(
        key in item for key in ("block", "include_steps")
    )


def _names_its_host(item: PositionedMap) -> bool:
    """Whether a step says itself how to log in, so that its `hosts` is a `host` that is misspelt."""
    return any(key in item for key in ("authentication", "hostkey"))
