"""The `ostinato` command. Sub-commands are imported when they are called, heavy modules when they are needed."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from ostinato.server import exits

_COMMANDS = {
    "run": "run the patterns of a program over its input",
    "server": "run the server: patterns over HTTP, changed while events flow",
    "config": "show and check the settings of the server",
    "list": "list the running jobs of this machine",
    "savepoint": "take a savepoint of a running job; list and delete them",
    "stop": "stop a running job with a savepoint",
    "cancel": "end a running job at once",
    "state": "show what is in checkpoints and savepoints",
    "check": "say everything that is wrong with programs",
    "fmt": "write programs in the standard form",
    "doctor": "examine Kafka, Redis, disk and machine for a job, and say what to change",
    "explain": "show what becomes of a pattern: automaton and conditions",
}


class _Commands(click.Group):
    """Finds sub-commands in `ostinato.server.commands`, and knows their one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"ostinato.server.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from ostinato.patterns.errors import did_you_mean

            hint = did_you_mean(args[0], _COMMANDS) or f"the commands are {', '.join(_COMMANDS)}"
            ctx.fail(f"there is no command `{args[0]}`; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in exits.MEANINGS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"ostinato {version('ostinato')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Find patterns in streams of events.

    `ostinato run logins.cep` runs the patterns of a file; `ostinato COMMAND --help` says more.
    """


def main() -> None:
    """The entry point. Errors that a command did not expect still end in one line and a documented code."""
    try:
        cli(prog_name="ostinato", standalone_mode=True)
    except BrokenPipeError:
        leave(exits.CLOSED_PIPE)
    except Exception as error:
        if os.environ.get("OSTINATO_DEBUG"):
            raise
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        click.echo(f"ostinato: {said} (set OSTINATO_DEBUG=1 to see where)", err=True)
        leave(exits.FAILED)


def leave(code: int) -> None:
    """End the process; what is still to be written to a closed pipe is forgotten."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # The interpreter would flush it again at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
