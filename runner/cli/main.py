"""The command `runner`: finds the subcommand, and turns whatever it raises into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback

import click

from runner._version import VERSION
from runner.errors import PlaybookInvalid, RunnerError
from runner.problems import Problem
from runner.redaction import Redactor
from runner.report.console import format_problem, print_error
from runner.report.text import printable

EXIT_BUG = 1
EXIT_USAGE = 64
EXIT_SIGINT = 130

# One module of runner.cli each, imported only when it is needed: `runner --help` must not wait for what connects.
COMMANDS = {
    "play": "Carry out the steps of a playbook.",
    "validate": "Check playbooks without contacting anything.",
    "doctor": "Print what the servers of a playbook can do.",
    "schema": "Print a JSON Schema.",
    "hostkey": "Print a server's host keys, ready to be checked and pinned.",
    "vault": "Encrypt and decrypt secrets in Ansible Vault's format.",
    "demo": "Play a playbook against an SSH server on this machine.",
}


class _Commands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"runner.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="runner")
def cli() -> None:
    """Move files over SFTP and SCP as a checked-in YAML playbook says.

    \b
    Examples:
      runner validate transfers.yaml        is the playbook right?
      runner play --check transfers.yaml    what would it do?
      runner doctor transfers.yaml          what can its servers do?
      runner play transfers.yaml            do it
      runner hostkey sftp.bank.example      which key does the server show?

    \b
    Exit codes:
      0  every step ok, changed or skipped       5   a host key was refused
      2  a step failed                           6   a copy could not be verified
      3  the playbook is invalid                 64  wrong usage
      4  unreachable, timed out or not let in    130, 143  interrupted
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code. Bad input never ends in a traceback; a bug does, and says so."""
    # File names may hold bytes that no encoding covers; printing them must not fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Starting up makes objects that stay: looking for garbage among them costs a tenth of the time of a short play.
    gc.disable()
    exit_code = run(arguments, Redactor(on_first_secret=_protect_memory))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Whoever read our output has gone. Python would try once more at exit, and end with a code of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(exit_code)


def _protect_memory() -> None:
    from runner.cli.process_memory import protect_memory

    protect_memory()


def run(arguments: list[str] | None, redactor: Redactor | None = None) -> int:
    """Run the command and return its exit code. The commands tell the redactor of every secret that they come to know."""
    redactor = redactor or Redactor()
    redact = redactor.redact
    try:
        result = cli.main(args=arguments, prog_name="runner", standalone_mode=False, obj=redactor)
        return result if isinstance(result, int) else 0
    except PlaybookInvalid as error:
        _print_problems(error, redactor)
        return error.exit_code
    except RunnerError as error:
        print_error(redact(error.message), redact(error.hint))
        return error.exit_code
    except click.ClickException as error:
        from runner.cli.usage import explain_usage

        message, hint = explain_usage(error)
        print_error(redact(message), redact(hint))
        return EXIT_USAGE
    except (click.exceptions.Abort, KeyboardInterrupt):
        return EXIT_SIGINT
    except SystemExit:
        # click's answer when whoever read our output has had enough (`| head`).
        return 0
    except Exception:
        # An exception's text may be a server's: as any other it is escaped, and begins no line.
        for line in redact(traceback.format_exc()).splitlines():
            click.echo(f"| {printable(line)}", err=True)
        print_error(
            f"this is a bug in runner {VERSION}",
            "Please report it with the lines above and the playbook, secrets removed.",
        )
        return EXIT_BUG


def _print_problems(error: PlaybookInvalid, redactor: Redactor) -> None:
    redact = redactor.redact
    try:
        for problem in error.problems:
            told = Problem(problem.location, redact(problem.message), redact(problem.hint))
            click.echo(format_problem(told), err=True)
        click.echo(f"{error.message}; nothing was contacted", err=True)
    except BrokenPipeError:
        pass  # the exit code still tells
