"""`ostinato checkpoint`: snapshots of the state of a server's patterns."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("checkpoint")
@click.option("--list", "-l", "listed", is_flag=True, help="List those that are kept instead.")
@server_options
def command(listed: bool, remote: Remote) -> None:
    """Take a snapshot of the state of the server's patterns now. The server also takes them by itself."""
    from ostinato.server.client import calls
    from ostinato.server.console import size
    from ostinato.server.remote import shown

    with remote.client() as client:
        if not listed:
            taken = client.take_checkpoint()
            if remote.as_json:
                shown.as_json(taken)
            else:
                click.echo(
                    f"checkpoint {taken.id} at position {taken.position}, generation {taken.generation}: "
                    f"{size(taken.bytes)} in {taken.duration_ms} ms"
                )
            return
        items = list(client.every(calls.jobs.checkpoints(limit=1000)))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    if not items:
        click.echo("no checkpoints", err=True)
        return
    shown.show_table(
        ("id", "time", "position", "generation", "last match", "size", "took"),
        (
            (
                str(item.id),
                shown.moment(item.at_ms),
                str(item.position),
                str(item.generation),
                str(item.match_seq),
                size(item.bytes),
                f"{item.duration_ms} ms",
            )
            for item in items
        ),
        numbers=("id", "position", "generation", "last match", "size", "took"),
    )
