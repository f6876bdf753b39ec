"""`ostinato config`: the settings of the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from ostinato.server.config import Loaded

_file = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Settings; ./ostinato.toml if there is one."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("config")
def command() -> None:
    """Show and check the settings of the server: defaults, then a TOML file, then OSTINATO__SECTION__KEY."""


@command.command("show")
@_file
@_json
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
def show(file: Path | None, as_json: bool, origin: bool) -> None:
    """Print all settings as they would be used here. Secrets are hidden."""
    from ostinato.server.config import as_toml, visible

    loaded = _loaded(file, as_json)
    if not as_json:
        click.echo(as_toml(loaded, origins=origin))
        return
    document: dict[str, object] = {
        "file": str(loaded.file) if loaded.file else None,
        "settings": visible(loaded.config),
    }
    if origin:
        document["origins"] = dict(loaded.origins)
    _print(document)


@command.command("check")
@_file
@_json
def check(file: Path | None, as_json: bool) -> None:
    """Say everything that is wrong with the settings."""
    loaded = _loaded(file, as_json)
    if as_json:
        _print({"problems": []})
    else:
        click.echo(f"{loaded.file or 'the settings'}: all is well")


def _loaded(file: Path | None, as_json: bool) -> Loaded:
    from ostinato.server.cli import leave
    from ostinato.server.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as error:
        if as_json:
            problems = [
                {"where": problem.where, "message": problem.message, "hint": problem.hint} for problem in error.problems
            ]
            _print({"problems": problems})
        else:
            click.echo(str(error), err=True)
        leave(exits.CONFIG)
        raise


def _print(document: dict[str, object]) -> None:
    import json

    click.echo(json.dumps(document, indent=2))
