"""`ostinato apply`: what files say takes effect on a server."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, Sources, server_options


@click.command("apply")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option(
    "--old",
    type=click.Choice(["keep", "drain", "drop"]),
    help="What becomes of the partial matches of versions that are replaced. By default they are kept where the "
    "structure is the same, else drained where the pattern has a `within`, else dropped.",
)
@click.option("--comment", default="", help="Kept with the versions.")
@server_options
def command(files: tuple[str, ...], dry_run: bool, old: str | None, comment: str, remote: Remote) -> None:
    """Bring the streams, params and patterns of .cep files into effect, all of them at one position, and show what
    changes. What they do not name stays as it is. `-` reads standard input.

    Nothing is asked: look at the plan with --dry-run first.
    """
    from typing import cast

    from ostinato.server.client.calls.patterns import Old
    from ostinato.server.programs import read_text, shown
    from ostinato.server.remote.plans import show_change

    sources = Sources(tuple((shown(path), read_text(path)) for path in files))
    with remote.client(sources) as client:
        applied = client.apply(sources.text, dry_run=dry_run, old=cast("Old | None", old), comment=comment)
        show_change(remote, client, applied)
