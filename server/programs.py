"""Reading programs for the commands that only look at them, without the engine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ostinato.server import exits


class UnreadableError(click.ClickException):
    """A file cannot be read."""

    exit_code = exits.INPUT

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's
        click.echo(f"ostinato: {self.message}", err=True)


def read_text(path: str) -> str:
    """The text of a file; ``-`` is standard input.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path}: not UTF-8 text (byte {error.start})") from error


def shown(path: str) -> str:
    """What a file is called in messages."""
    return "<stdin>" if path == "-" else path
