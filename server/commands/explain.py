"""`ostinato explain`: what becomes of a pattern."""

from __future__ import annotations

import sys

import click

from ostinato.patterns.errors import PatternError, did_you_mean
from ostinato.server import exits
from ostinato.server.options import param_values


@click.command("explain")
@click.argument("file")
@click.argument("pattern", required=False)
@click.option("--format", "form", type=click.Choice(["text", "dot", "svg"]), default="text", help="How to show it.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter, as `run` does.")
def command(file: str, pattern: str | None, form: str, params: tuple[str, ...]) -> None:
    """Show the automaton of PATTERN (or of every pattern of FILE), its conditions, and how each is decided:
    vectorised over batches, by the register machine for each partial match, or by Python.

    DOT is for graphviz; SVG needs nothing else. Both show one pattern.
    """
    from ostinato.cep.runtime.load import LoadError, load, read_spec

    try:
        loaded = load(read_spec(file, params=param_values(params)))
    except LoadError as error:
        click.echo(f"ostinato: {error}", err=True)
        sys.exit(exits.INPUT)
    except PatternError as error:
        click.echo(str(error), err=True)
        sys.exit(exits.PROBLEMS)
    names = [checked.pattern.name for checked in loaded.program.patterns]
    if pattern is not None and pattern not in names:
        hint = did_you_mean(pattern, names) or f"the patterns are {', '.join(names)}"
        raise click.UsageError(f"there is no pattern `{pattern}` in {file}; {hint}")
    if pattern is None and form != "text" and len(names) != 1:
        raise click.UsageError(f"which pattern? {form} shows one: {', '.join(names)}")
    from ostinato.cep.runtime.drawing import as_dot, as_svg
    from ostinato.cep.runtime.explain import as_text, explain

    show = {"text": as_text, "dot": as_dot, "svg": as_svg}[form]
    chosen = [checked for checked in loaded.program.patterns if pattern in (None, checked.pattern.name)]
    click.echo("\n\n".join(show(explain(checked)) for checked in chosen))
