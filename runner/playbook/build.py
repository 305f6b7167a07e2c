"""From a playbook's file to a `Play`: the stages in order, all problems of the file collected on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import PlaybookInvalid, UsageError
from runner.logins import LookAtLogins, Selection, trust_logins
from runner.plan import ConnectorType, Target
from runner.playbook.ansible.detection import may_be_ansible
from runner.playbook.binding import Binder
from runner.playbook.declared_inputs import DeclaredInputs, find_unknown_extra_vars, find_unused_extra_vars
from runner.playbook.document import PositionedList, PositionedMap, Unfilled, parse, read_text
from runner.playbook.endpoints import Endpoints, Notes
from runner.playbook.inputs import attempt, read_workdir
from runner.playbook.language import PlaybookLanguage
from runner.playbook.lookups import HiddenNames
from runner.playbook.outline import Outline
from runner.playbook.rendering import Rendering
from runner.playbook.scopes import Scopes
from runner.playbook.secret_names import find_secret_names
from runner.playbook.secrets import note_values, note_variables, redact_problems
from runner.playbook.sections import Sections, as_map
from runner.playbook.targets import ANY_MODE, gather_targets, target_of
from runner.playbook.templating import Templates
from runner.playbook.validation import (
    play_keys,
    show,
    step_keys,
    validate_connector,
    validate_playbook,
    validate_variables,
)
from runner.playbook.vault_password import Vault
from runner.problems import Location, Problem, collect_problems
from runner.program import Play, Program, steps_of
from runner.received_files import ReceivedFiles
from runner.redaction import Redactor

if TYPE_CHECKING:
    from runner.findings import Survey
    from runner.playbook.description import Description, Explained

MAX_OWNER_CHARACTERS = 200
EVERYTHING = Selection()

Warn = Callable[[Problem], None]


def ignore_warning(warning: Problem) -> None:
    """No one listens."""


def load_play(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
    look_at: LookAtLogins = trust_logins,
    selection: Selection = EVERYTHING,
    is_check: bool | None = None,
    received: ReceivedFiles | None = None,
) -> Play:
    """Read, validate and build the playbook at `path`; no network.

    `extra_vars` win over every variable of the playbook; `workdir` replaces the playbook's own and is relative to the
    current folder; `vault` decrypts, and its redactor is told of every secret as soon as it is known; `warn` is told what
    is no problem and may still surprise; `look_at` looks at what the steps of `selection` log in with; `is_check` says
    whether the play is a `--check`, as far as that is known; `received` is shared by the playbooks of one command line, and
    is told of the files that come from servers while they are played.

    Raises `PlaybookInvalid` with all problems, `UsageError` when the file cannot be read at all.
    """
    return _start(
        path,
        extra_vars,
        workdir,
        vault,
        warn,
        runs_commands=True,
        look_at=look_at,
        selection=selection,
        is_check=is_check,
        received=received,
    ).build()


def check_play(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
    look_at: LookAtLogins = trust_logins,
) -> int:
    """Validate the playbook as `load_play` does, but run no command that it looks up. The number of its steps.

    What depends on a command's output is checked as far as it can be without it. Raises as `load_play` does.
    """
    return _start(path, extra_vars, workdir, vault, warn, runs_commands=False, look_at=look_at).check()


def load_description(path: str, *, vault: Vault | None = None) -> Description:
    """What the playbook at `path` is and takes, by its text: no input need be given. Raises as `load_play` does."""
    return _start(path, None, None, vault, ignore_warning, runs_commands=False, needs_inputs=False).describe()


def explain_step(
    path: str, step: str, *, extra_vars: Mapping[str, Any] | None = None, vault: Vault | None = None
) -> list[Explained]:
    """Where each input and variable of a step comes from; `step` is its name or number. Raises as `load_play` does.

    No command is run: what depends on one is said to.
    """
    return _start(path, extra_vars, None, vault, ignore_warning, runs_commands=False).explain(step)


def load_survey(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
) -> Survey:
    """The servers that the playbook's steps and its connections name. Otherwise as `load_play`."""
    return _start(path, extra_vars, workdir, vault, warn, runs_commands=True).survey()


def _start(
    path: str,
    extra_vars: Mapping[str, Any] | None,
    workdir: str | None,
    vault: Vault | None,
    warn: Warn,
    *,
    runs_commands: bool,
    look_at: LookAtLogins = trust_logins,
    selection: Selection = EVERYTHING,
    needs_inputs: bool = True,
    is_check: bool | None = None,
    received: ReceivedFiles | None = None,
) -> _Builder:
    """The playbook, read and parsed."""
    vault = vault or Vault(None, Redactor())
    problems: list[Problem] = []
    try:
        text, was_encrypted = read_text(Path(path), path, vault)
        data = parse(text, path, vault, problems.append)
    except OSError as error:
        raise UsageError(f"cannot read the playbook {path}: {error.strerror}", hint="Check the path.") from error
    except PlaybookInvalid as error:
        raise PlaybookInvalid(redact_problems(error.problems, vault.redactor)) from error
    if was_encrypted:
        note_variables(data, vault.redactor)
    may_run_commands = "pipe" in text
    return _Builder(
        path,
        data,
        problems,
        extra_vars or {},
        workdir,
        vault,
        warn,
        runs_commands=runs_commands,
        may_run_commands=may_run_commands,
        look_at=look_at,
        selection=selection,
        needs_inputs=needs_inputs,
        is_check=is_check,
        received=received or ReceivedFiles(),
    )


class _Builder:
    """One playbook on its way to a `Play`; lives as long as its problems are being collected."""

    def __init__(
        self,
        path: str,
        data: PositionedMap | PositionedList,
        problems: list[Problem],
        extra_vars: Mapping[str, Any],
        workdir: str | None,
        vault: Vault,
        warn: Warn,
        *,
        runs_commands: bool,
        may_run_commands: bool,
        look_at: LookAtLogins,
        selection: Selection,
        needs_inputs: bool,
        is_check: bool | None,
        received: ReceivedFiles,
    ) -> None:
        self._path = path
        self._warn = warn
        self._look_at = look_at
        self._selection = selection
        self._hidden: HiddenNames | None = None
        self._folder = Path(path).absolute().parent
        self._vault = vault
        self._redactor = vault.redactor
        # As they were written, and what is left of them.
        self._written: list[PositionedMap | PositionedList] = []
        self._documents: list[PositionedMap | PositionedList] = []
        self._lacks_variables = False
        data, answers = self._answer_ansible(data)
        self._data = data
        self._extra_vars = extra_vars
        self._variable_files: list[str] = []
        self._notes = notes = Notes([*problems, *answers, *validate_playbook(data)])
        self._sections = sections = Sections(data)
        self._received = received
        self._templates = Templates(
            self._folder, vault, runs_commands=runs_commands, find_hidden=self._find_hidden, received=received
        )
        self._rendering = rendering = Rendering(self._templates, vault.redactor, notes.problems.append)
        self._scopes = Scopes(sections, str(self._folder), extra_vars, is_check=is_check)
        self._endpoints = Endpoints(sections, rendering, self._scopes, notes)
        self._documents.append(data)
        self._read_variable_files()
        inputs = DeclaredInputs(notes.problems, vault.redactor, self._fill_in, needs_all=needs_inputs)
        declared = as_map(sections.top.get("inputs"))
        self._scopes.outside |= inputs.read(declared, extra_vars)
        self._binder = Binder(sections, rendering, self._scopes, self._endpoints, notes)
        self._outline = Outline(notes.problems, self._read_included, self._fill_in)
        self._nodes = self._outline.read(sections.steps, path)
        self._scopes.lacks_variables = self._lacks_variables
        notes.problems += find_unknown_extra_vars(self._documents, extra_vars)
        notes.warnings += find_unused_extra_vars(self._documents, extra_vars)
        if runs_commands and may_run_commands:
            # Here it does not count as the time that filling in a template takes.
            self._find_hidden()
        self._workdir = self._endpoints.workdir = self._resolve_workdir(workdir)
        self._binder.owner = self._find_owner()

    def _answer_ansible(
        self, data: PositionedMap | PositionedList
    ) -> tuple[PositionedMap | PositionedList, list[Problem]]:
        """What is written in Ansible is answered, and what is left of the file read on."""
        context = tuple(self._written)
        self._written.append(data)
        if not may_be_ansible(data, play_keys(), step_keys()):
            return data, []
        # Few playbooks have anything of it.
        from runner.playbook.ansible.answers import answer_ansible

        answered = answer_ansible(data, play_keys(), step_keys(), context)
        self._lacks_variables |= answered.lacks_variables
        return answered.data, answered.problems

    def _find_hidden(self) -> HiddenNames:
        """What commands must not be given: all that is looked up for a secret, now or later."""
        if self._hidden is None:
            self._hidden = find_secret_names(self._documents, self._extra_vars, self._templates.look_into)
        return self._hidden

    def _read_included(self, path: str) -> PositionedMap | PositionedList:
        """A file of steps. Raises `OSError`, and `PlaybookInvalid` for what is no YAML."""
        text, was_encrypted = read_text(Path(path), path, self._vault)
        data = parse(text, path, self._vault, self._notes.problems.append)
        data, answers = self._answer_ansible(data)
        self._notes.problems += answers
        if was_encrypted:
            note_variables(data, self._redactor)
        self._documents.append(data)
        return data

    def _read_variable_files(self) -> None:
        """The files under `vars_files`, in their order: a later one wins."""
        top = self._sections.top
        given = self._fill_in(top, "vars_files")
        if isinstance(given, PositionedList):
            names = list(zip(given, given.item_locations, strict=True))
        else:
            names = [(given, top.value_locations["vars_files"])] if given is not None else []
        for name, place in names:
            is_known = isinstance(name, str) and not isinstance(name, Unfilled)
            data = self._read_variables(name, place) if is_known else None
            if data is not None:
                self._scopes.add_file(data)
            else:
                self._lacks_variables = True

    def _read_variables(self, name: str, place: Location) -> PositionedMap | None:
        path = os.path.normpath(os.path.join(os.path.dirname(self._path), os.path.expanduser(name)))
        self._variable_files.append(path)
        try:
            text, was_encrypted = read_text(Path(path), path, self._vault)
            data = parse(text, path, self._vault, self._notes.problems.append)
        except OSError as error:
            hint = f"The path is relative to the playbook: {path}."
            self._notes.problems.append(
                Problem(place, f"cannot read the variables in {name!r}: {error.strerror}", hint)
            )
            return None
        except PlaybookInvalid as error:
            self._notes.problems += error.problems
            return None
        self._notes.problems += validate_variables(data)
        if not isinstance(data, PositionedMap):
            return None
        if was_encrypted:
            note_values(data, self._redactor)
        whole = PositionedMap(data.location)
        whole.put("vars", data, data.location, data.location)
        self._documents.append(whole)
        return data

    def _fill_in(self, section: PositionedMap, key: str) -> Any:
        self._rendering.lacks_variables = self._lacks_variables
        return self._rendering.key(section, key, self._scopes.of_playbook())

    def build(self) -> Play:
        """The play, or `PlaybookInvalid` with everything that is wrong."""
        language = PlaybookLanguage(self._binder, self._rendering, self._notes, self._redactor, self._received)
        steps = language.explore(self._nodes)
        self._look_at_logins()
        name = self._fill_in(self._sections.top, "name")
        for warning in redact_problems(collect_problems(self._notes.warnings), self._redactor):
            self._warn(warning)
        self._require_no_problems()
        shown_name = name if isinstance(name, str) and not isinstance(name, Unfilled) else Path(self._path).name
        return Play(
            self._path,
            shown_name,
            self._workdir,
            tuple(sorted(steps, key=lambda step: step.index)),
            Program(self._nodes, language),
            self._redactor.secrets,
            frozenset(self._files_read()),
        )

    def _files_read(self) -> Iterator[str]:
        """The local files that have a say in what the play does."""
        yield from (self._path, *self._outline.files, *self._variable_files, *self._templates.files_read)
        # Without a path it is the user's own.
        yield from (os.path.expanduser(path or "~/.ssh/config") for path in self._endpoints.ssh_configs)
        if self._vault.password_file is not None:
            yield self._vault.password_file

    def _look_at_logins(self) -> None:
        """What the steps hold to log in with; that of steps which the command line leaves out need not be there."""
        chosen = self._selection.choose(list(self._binder.heads.values()))
        report = self._look_at([login for login in self._notes.logins if login.step_index in chosen])
        self._notes.problems += report.problems
        self._notes.warnings += report.warnings

    def check(self) -> int:
        """The number of steps, or `PlaybookInvalid` with everything that is wrong."""
        self.build()
        return len(steps_of(self._nodes))

    def describe(self) -> Description:
        """What the playbook is, or `PlaybookInvalid` with what is wrong with its text."""
        from runner.playbook.description import describe

        self._require_no_problems()
        name = self._sections.top.get("name")
        return describe(
            self._path, name if isinstance(name, str) else Path(self._path).name, self._sections, self._nodes
        )

    def explain(self, step: str) -> list[Explained]:
        """Where the values of a step come from, or `PlaybookInvalid`. Raises `UsageError` if there is no such step."""
        from runner.playbook.description import explain

        language = PlaybookLanguage(self._binder, self._rendering, self._notes, self._redactor)
        language.explore(self._nodes)
        self._require_no_problems()
        known = steps_of(self._nodes)
        template = next((one for one in known if step in (one.name, str(one.index))), None)
        if template is None:
            hint = "`runner describe FILE` shows the steps."
            raise UsageError(f"no step of {self._path} is called {step!r}, and none has this number", hint=hint)
        names = language.names_of(template)
        return explain(template, names, self._sections, self._binder, self._rendering, self._scopes)

    def _require_no_problems(self) -> None:
        if self._notes.problems:
            raise PlaybookInvalid(redact_problems(collect_problems(self._notes.problems), self._redactor))

    def survey(self) -> Survey:
        """The servers that are named, or `PlaybookInvalid`. A connection that no step uses may need one to mean anything."""
        # A play does without it.
        from runner.findings import Survey

        play = self.build()
        connections = self._sections.connections or PositionedMap(self._sections.start)
        places = connections.key_locations
        found = [target_of(step, places.get(step.host_label, step.location)) for step in play.calls]
        left_out: list[tuple[str, Problem]] = []
        for name in connections:
            if any(step.host_label == name for step in play.calls):
                continue
            target = self._build_unused(name, as_map(connections[name]), places[name])
            if target is not None:
                found.append(target)
            else:
                left_out.append((name, redact_problems(collect_problems(self._notes.problems), self._redactor)[0]))
                self._notes.problems.clear()
        return Survey(self._path, play.name, gather_targets(found), tuple(left_out))

    def _build_unused(self, name: str, section: PositionedMap | None, place: Location) -> Target | None:
        """The server of a connection that no step uses; None, with a problem, if it takes a step's inputs to reach it."""
        problems = self._notes.problems
        merged = self._binder.merge(place, self._sections.defaults, section)
        needed = ("host",) if "ssh_config" in merged else ("host", "authentication")
        missing = [key for key in needed if key not in merged]
        if missing:
            problems.append(Problem(place, f"no step uses it, and it has no '{missing[0]}' of its own"))
            return None
        # It says where to connect to, not what to do there.
        merged.put("mode", ANY_MODE, place, place)
        origins, has_way = (PositionedMap(place),), "proxy_jump" in merged
        hops = self._endpoints.build_hops(origins, name, merged)
        inputs = self._rendering.inputs(merged, self._scopes.of(origins, name, merged))
        filled = self._endpoints.fill_in(inputs, has_way=has_way, has_proxy="proxy" in merged)
        problems += validate_connector(filled.inputs, place, hints=filled.hints)
        endpoint, _ = self._endpoints.read(filled, hops)
        if endpoint is None or problems:
            return None
        connector_type: ConnectorType = filled.inputs.get("connector_type", "SFTP")
        return Target((name,), connector_type, endpoint, *self._binder.read_limits(filled.inputs), place)

    def _resolve_workdir(self, option: str | None) -> str:
        sections = self._sections.top
        if option is not None:
            return os.path.abspath(option)
        if "workdir" not in sections:
            return str(self._folder)
        location = sections.value_locations["workdir"]
        value = self._fill_in(sections, "workdir")
        if isinstance(value, Unfilled):
            found = None
        else:
            found = attempt(self._notes.problems.append, read_workdir, value, location, str(self._folder))
        self._endpoints.knows_workdir = found is not None
        return found or str(self._folder)

    def _find_owner(self) -> str | None:
        """Whose temporary files this playbook's are, if it says so."""
        value = self._fill_in(self._sections.top, "owner")
        if value is None or isinstance(value, Unfilled):
            return None
        location = self._sections.top.value_locations["owner"]
        if isinstance(value, str) and 0 < len(value) <= MAX_OWNER_CHARACTERS:
            return value
        # What the schema has found already is not told twice.
        if all(problem.location != location for problem in self._notes.problems):
            wanted = f"a text of 1 to {MAX_OWNER_CHARACTERS} characters"
            self._notes.problems.append(Problem(location, f"'owner' must be {wanted}, not {show(value)}"))
        return None
