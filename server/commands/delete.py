"""`ostinato delete`: a pattern runs no more."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("delete")
@click.argument("name")
@click.option("--stream", "is_stream", is_flag=True, help="NAME is a stream; no pattern may read it.")
@click.option("--old", type=click.Choice(["drain", "drop"]), help="Whether its partial matches may still end.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--comment", default="", help="Kept with the change.")
@server_options
def command(name: str, is_stream: bool, old: str | None, dry_run: bool, comment: str, remote: Remote) -> None:
    """Delete the pattern NAME. Its versions are kept; its matches, too."""
    from typing import Literal, cast

    from ostinato.server.remote.plans import show_change

    if is_stream and (old or dry_run or comment):
        raise click.UsageError("--stream: --old, --dry-run and --comment are about patterns")
    with remote.client() as client:
        if is_stream:
            client.delete_stream(name)
            click.echo(f"deleted stream {name}", err=True)
            return
        fate = cast("Literal['drain', 'drop'] | None", old)
        show_change(remote, client, client.delete_pattern(name, old=fate, dry_run=dry_run, comment=comment))
