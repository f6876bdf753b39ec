"""`ostinato versions`: the versions of a pattern."""

from __future__ import annotations

from itertools import islice

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("versions")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many of the newest.")
@server_options
def command(name: str, limit: int, remote: Remote) -> None:
    """List the versions of the pattern NAME, the newest first."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        items = list(islice(client.every(calls.patterns.versions(name, limit=min(limit, 1000))), limit))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    shown.show_table(
        ("version", "role", "change", "author", "time", "partial", "comment"),
        (
            (
                str(item.version),
                item.role,
                item.change,
                item.author,
                shown.moment(item.created_ms),
                shown.count(item.partial_matches),
                item.comment,
            )
            for item in items
        ),
        numbers=("version", "partial"),
    )
