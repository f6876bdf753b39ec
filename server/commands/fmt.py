"""`ostinato fmt`: programs in the standard form."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from ostinato.patterns.errors import PatternError
from ostinato.server import exits
from ostinato.server.programs import UnreadableError, read_text, shown


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Change nothing; name the files that would change (exit code 1).")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the result instead of writing it to the file.")
def command(files: tuple[str, ...], check: bool, to_stdout: bool) -> None:
    """Write .cep files in the standard form, comments kept. `-` reads standard input and prints."""
    from ostinato.patterns.formatting import format_source

    code = exits.OK
    for path in files:
        try:
            text = read_text(path)
            formatted = format_source(text, shown(path))
        except PatternError as error:
            click.echo(str(error), err=True)
            code = code or exits.PROBLEMS
            continue
        except UnreadableError as error:
            error.show()
            code = exits.INPUT
            continue
        if check:
            if formatted != text:
                click.echo(f"{shown(path)}: not formatted")
                code = code or exits.PROBLEMS
        elif to_stdout or path == "-":
            click.echo(formatted, nl=False)
        elif formatted != text:
            try:
                _replace(Path(path), formatted)
            except OSError as error:
                click.echo(f"ostinato: {path}: cannot write: {(error.strerror or str(error)).lower()}", err=True)
                sys.exit(exits.OUTPUT)
            click.echo(f"{path}: formatted", err=True)
    sys.exit(code)


def _replace(path: Path, text: str) -> None:
    """Put a new text in place of the file's, all or nothing."""
    target = path.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        Path(temporary).chmod(target.stat().st_mode & 0o7777)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
