"""`ostinato dlq`: dead letters of a server."""

from __future__ import annotations

from itertools import islice

import click

from ostinato.server.remote.connection import Remote, server_options


@click.group("dlq")
def command() -> None:
    """Dead letters: what came and could not be used, and why."""


@command.command("list")
@click.option("--stream", help="Only those of this stream.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@server_options
def list_(stream: str | None, limit: int, remote: Remote) -> None:
    """List dead letters in the order in which they came."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        call = calls.matches.dead_letters(stream=stream, limit=min(limit, 1000))
        items = list(islice(client.every(call), limit))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    if not items:
        click.echo("no dead letters", err=True)
        return
    shown.show_table(
        ("#", "time", "stream", "reason", "event"),
        ((str(item.seq), shown.moment(item.at_ms), item.stream, item.reason, item.row) for item in items),
        numbers=("#",),
    )
