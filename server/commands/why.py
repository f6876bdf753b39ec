"""`ostinato why`: why a key has matched, or not."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("why", context_settings={"ignore_unknown_options": True})
@click.argument("pattern")
@click.argument("key", nargs=-1, metavar="KEY...")
@click.option(
    "--events", type=click.IntRange(1, 100), default=10, show_default=True, metavar="N", help="Of its last N events."
)
@server_options
def command(pattern: str, key: tuple[str, ...], events: int, remote: Remote) -> None:
    """Explain why the events of KEY (a value for each key column of the stream) have matched PATTERN, or not.

    It shows the partial matches of the key and what they wait for, its last events with the conditions that they failed
    and with which values, how far time has come and what holds it back.
    """
    from ostinato.server.remote import shown

    with remote.client() as client:
        found = client.why(pattern, key, events=events)
    if remote.as_json:
        shown.as_json(found)
        return
    from ostinato.server.remote.why import why_lines

    for line in why_lines(found):
        click.echo(line)
