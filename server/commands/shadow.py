"""`ostinato shadow`: another version beside the live one."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, Sources, server_options


@click.group("shadow")
def command() -> None:
    """Run another version of a pattern beside the live one. Its matches go to a stream of their own, so that both can
    be compared."""


@command.command("apply")
@click.argument("name")
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--comment", default="", help="Kept with the version.")
@server_options
def apply(name: str, file: str, dry_run: bool, comment: str, remote: Remote) -> None:
    """Run the pattern NAME of FILE as the shadow of the live version. `-` reads standard input."""
    from ostinato.server.programs import read_text, shown
    from ostinato.server.remote.plans import show_change

    sources = Sources(((shown(file), read_text(file)),))
    with remote.client(sources) as client:
        show_change(remote, client, client.put_shadow(name, sources.text, dry_run=dry_run, comment=comment))


@command.command("end")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--comment", default="", help="Kept with the change.")
@server_options
def end(name: str, dry_run: bool, comment: str, remote: Remote) -> None:
    """End the shadow of the pattern NAME."""
    from ostinato.server.remote.plans import show_change

    with remote.client() as client:
        show_change(remote, client, client.delete_shadow(name, dry_run=dry_run, comment=comment))
