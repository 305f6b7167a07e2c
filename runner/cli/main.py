"""The command `runner`: finds the subcommand, and turns whatever it raises into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import sys

import click

from runner._version import VERSION
from runner.cli.groups import CommandGroup, HelpWanted
from runner.cli.standard_streams import cannot_write, protect_standard_streams, take_loss
from runner.errors import InternalError, PlaybookInvalid, RunnerError
from runner.problems import Problem
from runner.redaction import Redactor
from runner.report.bugs import print_bug
from runner.report.console import format_problem, print_error

EXIT_BUG = InternalError.exit_code
EXIT_USAGE = 64
EXIT_SIGINT = 130

# One module of runner.cli each, imported only when it is needed: `runner --help` must not wait for what connects.
COMMANDS = {
    "play": "Carry out the steps of a playbook.",
    "validate": "Check playbooks without contacting anything.",
    "describe": "Print a playbook's inputs, connections, steps and tags.",
    "explain": "Print where each value of a step comes from.",
    "doctor": "Print what the servers of a playbook can do.",
    "schema": "Print a JSON Schema.",
    "hostkey": "Print a server's host keys, ready to be checked and pinned.",
    "vault": "Encrypt and decrypt secrets in Ansible Vault's format.",
    "demo": "Play a playbook against an SSH server on this machine.",
}


class _Commands(CommandGroup):
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
      1  a bug in the runner                     6   a copy could not be verified
      2  a step failed                           64  wrong usage, or output that could not be written
      3  the playbook is invalid
      4  unreachable, timed out, login refused   129, 130, 143  interrupted
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code, whatever becomes of its output.

    Bad input never ends in a traceback; a bug does, and says so.
    """
    protect_standard_streams()
    # Starting up makes objects that stay: looking for garbage among them costs a tenth of the time of a short play.
    gc.disable()
    exit_code = run(arguments, Redactor(on_first_secret=_protect_memory))
    if reason := take_loss(sys.stdout):
        print_error(cannot_write(reason))
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
    except HelpWanted as error:
        click.echo(error.message, err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        from runner.cli.usage import explain_usage

        message, hint = explain_usage(error)
        print_error(redact(message), redact(hint))
        return EXIT_USAGE
    except (click.exceptions.Abort, KeyboardInterrupt):
        return EXIT_SIGINT
    except Exception as error:
        print_bug(error, redactor)
        return EXIT_BUG


def _print_problems(error: PlaybookInvalid, redactor: Redactor) -> None:
    redact = redactor.redact
    for problem in error.problems:
        told = Problem(problem.location, redact(problem.message), redact(problem.hint))
        click.echo(format_problem(told), err=True)
    click.echo(f"{error.message}; nothing was contacted", err=True)
