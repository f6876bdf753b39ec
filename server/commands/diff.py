"""`ostinato diff`: the difference of two versions."""

from __future__ import annotations

import sys

import click

from ostinato.server.remote.connection import Remote, server_options

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("diff")
@click.argument("name")
@click.argument("from_version", type=click.IntRange(1), required=False, metavar="[FROM]")
@click.argument("to_version", type=click.IntRange(1), required=False, metavar="[TO]")
@server_options
def command(name: str, from_version: int | None, to_version: int | None, remote: Remote) -> None:
    """Show the difference of two versions of the pattern NAME, as `diff -u`: of the newest and the one before, of FROM
    and the newest, or of FROM and TO."""
    from ostinato.server.remote import shown

    with remote.client() as client:
        found = client.diff(name, from_version, to_version)
    if remote.as_json:
        shown.as_json(found)
        return
    for line in found.text.splitlines():
        colour = _COLOURS.get(line[:1]) if sys.stdout.isatty() else None
        click.echo(click.style(line, fg=colour) if colour else line)
    click.echo(f"{found.pattern} {found.from_} → {found.to}: {found.change}", err=True)
