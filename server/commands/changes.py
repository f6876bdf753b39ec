"""`ostinato changes`: what was changed on a server."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from ostinato.server.remote.connection import Remote, server_options

if TYPE_CHECKING:
    from ostinato.server.http.schemas.patterns import Plan


@click.command("changes")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many of the newest.")
@server_options
def command(limit: int, remote: Remote) -> None:
    """Show what was changed of what runs, the newest first."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        items = list(islice(client.every(calls.patterns.changes(limit=min(limit, 1000))), limit))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    if not items:
        click.echo("no changes", err=True)
        return
    shown.show_table(
        ("generation", "time", "author", "action", "what", "position", "comment"),
        (
            (
                str(item.generation),
                shown.moment(item.at_ms),
                item.author,
                item.action,
                _what(item.plan),
                str(item.position),
                item.comment,
            )
            for item in items
        ),
        numbers=("generation", "position"),
    )


def _what(plan: Plan) -> str:
    """What was changed, not what stayed."""
    found = [each.stream for each in plan.streams if each.action != "unchanged"]
    found += [each.param for each in plan.params if each.action != "unchanged"]
    found += [each.pattern for each in plan.patterns if each.action != "unchanged"]
    return ", ".join(found)
