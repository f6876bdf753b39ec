"""`ostinato check`: everything that is wrong with programs."""

from __future__ import annotations

import sys

import click

from ostinato.patterns.errors import PatternError, Problem
from ostinato.server import exits
from ostinato.server.options import param_values
from ostinato.server.programs import UnreadableError, read_text, shown


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter, as `run` does.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as one JSON object.")
def command(files: tuple[str, ...], params: tuple[str, ...], as_json: bool) -> None:
    """Say everything that is wrong with programs (.cep files, or Python modules with patterns).

    Each problem is shown with its place, the line and a remedy. Python modules are imported for it.
    """
    values = param_values(params)
    found: list[tuple[str, Problem]] = []
    code = exits.OK
    for path in files:
        try:
            _check(path, values)
        except PatternError as error:
            found += [(error.filename, problem) for problem in error.problems]
            code = code or exits.PROBLEMS
            if not as_json:
                click.echo(str(error), err=True)
        except UnreadableError as error:
            found.append((shown(path), Problem(error.message)))
            code = exits.INPUT
            if not as_json:
                error.show()
    if as_json:
        import json

        listed = [_plain(filename, problem) for filename, problem in found]
        click.echo(json.dumps({"files": len(files), "problems": listed}, indent=2))
    elif found:
        click.echo(
            f"{len(found)} problem{'s' * (len(found) != 1)} in {len(files)} file{'s' * (len(files) != 1)}", err=True
        )
    else:
        click.echo(f"{len(files)} file{'s' * (len(files) != 1)}, no problems")
    sys.exit(code)


def _check(path: str, params: dict[str, str]) -> None:
    if path.endswith(".py"):
        from ostinato.cep.runtime.load import LoadError, load, read_spec

        try:
            load(read_spec(path, params=params))
        except LoadError as error:
            raise UnreadableError(str(error)) from error
        return
    from ostinato.patterns.parser import parse_program
    from ostinato.patterns.typecheck import check_program

    text = read_text(path)
    try:
        check_program(parse_program(text, shown(path)), params)
    except PatternError as error:
        raise error.located(text, shown(path)) from None


def _plain(filename: str, problem: Problem) -> dict[str, object]:
    place: dict[str, object] = {"file": filename}
    if problem.span is not None:
        span = problem.span
        place |= {"line": span.line, "column": span.column, "end_line": span.end_line, "end_column": span.end_column}
    return place | {"message": problem.message, "hint": problem.hint}
