"""The `ostinato` command. Sub-commands are imported when they are called, heavy modules when they are needed."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": "run the patterns of a program over its input",
    "check": "say everything that is wrong with programs",
    "fmt": "write programs in the standard form",
    "explain": "show what becomes of a pattern: automaton and conditions",
    "list": "list running jobs: those of this machine, and the server's",
    "savepoint": "take a savepoint of a running job; list and delete them",
    "stop": "stop a running job with a savepoint",
    "cancel": "end a running job at once",
    "state": "show what is in checkpoints and savepoints",
    "doctor": "examine Kafka, Redis, disk and machine for a job, and say what to change",
    "server": "run the server: patterns over HTTP, changed while events flow",
    "config": "show and check the settings of the server",
    "status": "show the server: streams, patterns, how far it is",
    "tokens": "list, create and delete tokens",
    "audit": "show who did what",
    "checkpoint": "take a snapshot of the state of the patterns now; list them",
    "outputs": "list, set and delete outputs: webhooks, topics, files",
    "apply": "bring streams, params and patterns of files into effect",
    "patterns": "list patterns, or show one",
    "versions": "list the versions of a pattern",
    "diff": "show the difference of two versions",
    "rollback": "let an earlier version count again",
    "pause": "pause a pattern",
    "resume": "resume a pattern",
    "delete": "delete a pattern",
    "shadow": "run another version beside the live one; end it",
    "params": "list, get, set and reset parameters",
    "changes": "show what was changed",
    "backtest": "run patterns over stored events, and compare with the live ones",
    "send": "send events to a stream",
    "streams": "list streams, or show one",
    "matches": "show matches, or follow them as they come",
    "why": "explain why a key has matched, or not",
    "dlq": "show dead letters: what came and could not be used",
    "completion": "print the completion of this command for bash, zsh or fish",
}
"""What there is, with its line of help, so that help needs none of them."""

_SECTIONS = {
    "Programs": ("run", "check", "fmt", "explain"),
    "Jobs": ("list", "savepoint", "stop", "cancel", "state", "doctor"),
    "The server": ("server", "config", "status", "tokens", "audit", "checkpoint", "outputs"),
    "Patterns on the server": (
        "apply", "patterns", "versions", "diff", "rollback", "pause", "resume", "delete", "shadow", "params", "changes",
        "backtest",
    ),
    "Events and matches on the server": ("send", "streams", "matches", "why", "dlq"),
    "Other": ("completion",),
}  # fmt: skip
"""How they are shown."""


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
        widest = max(map(len, _COMMANDS))
        placed = {name for names in _SECTIONS.values() for name in names}
        assert placed == _COMMANDS.keys(), placed ^ _COMMANDS.keys()
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), _COMMANDS[name]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands by their beginning; click's own way imports all of them."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

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

    `ostinato run logins.cep` runs the patterns of a file; `ostinato server` runs them for weeks, and `ostinato apply
    logins.cep` changes them meanwhile. `ostinato COMMAND --help` says more.
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
