"""`ostinato backtest`: patterns over stored events, on a server."""

from __future__ import annotations

import sys

import click

from ostinato.server import exits
from ostinato.server.options import DURATION, param_values
from ostinato.server.remote.connection import Remote, Sources, server_options
from ostinato.server.remote.times import MOMENT


@click.command("backtest")
@click.argument("file")
@click.option("--from", "from_ms", type=MOMENT, metavar="TIME", help="From when on events count.  [the oldest]")
@click.option("--to", "to_ms", type=MOMENT, metavar="TIME", help="Until when, this not included.  [the newest]")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="Where events come from: journal (the server's own log), STREAM=FILE (a file of the server; may be repeated), "
    "or kafka[:HOST:PORT] (the topics of the streams).  [journal]",
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter, as with `run`.")
@click.option("--no-compare", is_flag=True, help="Do not compare with the live versions.")
@click.option("--bucket", type=DURATION, metavar="DURATION", help="Count matches by spans of so long.")
@click.option("--detach", "-d", is_flag=True, help="Print its id and do not wait.")
@click.option("--no-progress", is_flag=True, help="Show no progress on the terminal.")
@server_options
def command(
    file: str,
    from_ms: int | None,
    to_ms: int | None,
    sources: tuple[str, ...],
    params: tuple[str, ...],
    no_compare: bool,
    bucket: int | None,
    detach: bool,
    no_progress: bool,
    remote: Remote,
) -> None:
    """Run the patterns of FILE over events of the past, on the server, beside what is live: show their matches over
    time, and the difference to those of the live versions.

    TIME is 2026-01-02 03:04:05 (UTC, or with an offset), epoch ms, now, or -2h. In the server's own log it is the time
    when events came in, in files that of the events, in topics that of the records. Ctrl-C ends the backtest,
    too. The exit code is 6 where it fails.
    """
    from ostinato.server.console import Progress, counted
    from ostinato.server.programs import read_text
    from ostinato.server.programs import shown as called
    from ostinato.server.remote import shown
    from ostinato.server.remote.backtests import finished, report_lines, source_of

    texts = Sources(((called(file), read_text(file)),))
    source, values = source_of(sources), param_values(params)
    with remote.client(texts) as client:
        begun = client.create_backtest(
            texts.text,
            from_ms=from_ms,
            to_ms=to_ms,
            source=source,
            params=values,
            compare=not no_compare,
            bucket_ms=bucket,
        )
        if detach:
            if remote.as_json:
                shown.as_json(begun)
            else:
                click.echo(begun.id)
            return
        try:
            found = finished(client, begun, Progress(wanted=not no_progress))
        except KeyboardInterrupt:
            client.delete_backtest(begun.id)
            raise
    if remote.as_json:
        shown.as_json(found)
    elif found.state == "FINISHED":
        for line in report_lines(found):
            click.echo(line)
        click.echo(f"{counted(found.events, 'event')}, {found.events_per_second:,} events/s", err=True)
    else:
        click.echo(f"ostinato: backtest {found.id}: {found.error or found.state.lower()}", err=True)
    sys.exit(exits.OK if found.state == "FINISHED" else exits.FAILED)
