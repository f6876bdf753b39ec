"""`ostinato rollback`: an earlier version counts again."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("rollback")
@click.argument("name")
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option(
    "--old", type=click.Choice(["keep", "drain", "drop"]), help="What becomes of partial matches, as with `apply`."
)
@click.option("--comment", default="", help="Kept with the change.")
@server_options
def command(name: str, version: int | None, dry_run: bool, old: str | None, comment: str, remote: Remote) -> None:
    """Let VERSION of the pattern NAME count again; without one, that before the one that counts."""
    from typing import cast

    from ostinato.server.client.calls.patterns import Old
    from ostinato.server.remote.plans import show_change

    with remote.client() as client:
        applied = client.rollback(name, version, dry_run=dry_run, old=cast("Old | None", old), comment=comment)
        show_change(remote, client, applied)
