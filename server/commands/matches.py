"""`ostinato matches`: what the patterns of a server have found."""

from __future__ import annotations

from itertools import islice

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("matches")
@click.option("--follow", "-f", is_flag=True, help="Show matches as they come, until Ctrl-C.")
@click.option("--pattern", help="Only those of this pattern.")
@click.option("--stream", help="Only those of this stream.")
@click.option(
    "--kind",
    type=click.Choice(["match", "timeout", "late", "dead letter", "all"]),
    default="match",
    show_default=True,
    help="Which rows of the match log.",
)
@click.option(
    "--after",
    type=click.IntRange(0),
    metavar="N",
    help="Those whose number is above N, the oldest first.  [the newest; with --follow those that come from now on]",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N.  [50; with --follow: no end]")
@server_options
def command(
    follow: bool,
    pattern: str | None,
    stream: str | None,
    kind: str,
    after: int | None,
    limit: int | None,
    remote: Remote,
) -> None:
    """Show the newest matches, or with --follow those that come: a table on a terminal, a JSON object a line in a pipe.

    A connection that breaks is made again, without a match left out or shown twice.
    """
    from typing import cast

    from ostinato.server.client import ClientError, Lost, calls
    from ostinato.server.http.schemas.matches import RowKind
    from ostinato.server.remote.matches import Wanted, newest, show_match, show_matches

    wanted = Wanted(stream, pattern, None if kind == "all" else cast("RowKind", kind))

    def lost(gone: Lost) -> None:
        click.echo(f"matches {gone.first} to {gone.last} were deleted before they were read (retention)", err=True)

    def broke(error: ClientError) -> None:
        click.echo(f"{error}; trying again", err=True)

    with remote.client() as client:
        if follow:
            coming = client.follow(
                stream=stream, pattern=pattern, kind=wanted.kind, after=after, on_lost=lost, on_break=broke
            )
            for match in islice(coming, limit):
                show_match(match, as_json=remote.as_json)
            coming.close()
            return
        most = limit or 50
        if after is None:
            found = newest(client, wanted, most)
        else:
            call = calls.matches.matches(
                stream=stream, pattern=pattern, kind=wanted.kind, after=after, limit=min(most, 1000)
            )
            found = list(islice(client.every(call), most))
        show_matches(found, as_json=remote.as_json)
