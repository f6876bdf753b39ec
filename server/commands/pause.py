"""`ostinato pause`."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("pause")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--comment", default="", help="Kept with the change.")
@server_options
def command(name: str, dry_run: bool, comment: str, remote: Remote) -> None:
    """Pause the pattern NAME: it gets no events until it is resumed, and its partial matches end, for they would miss
    events."""
    from ostinato.server.remote.plans import show_change

    with remote.client() as client:
        show_change(remote, client, client.pause(name, dry_run=dry_run, comment=comment))
