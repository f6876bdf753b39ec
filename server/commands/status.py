"""`ostinato status`: how a server fares."""

from __future__ import annotations

import sys
import time

import click

from ostinato.server import exits
from ostinato.server.remote.connection import Remote, server_options


@click.command("status")
@server_options
def command(remote: Remote) -> None:
    """Show the server: whether it is ready, how far it is, its streams, patterns and outputs.

    The exit code is 15 where it is not ready.
    """
    from ostinato.server.client import calls
    from ostinato.server.console import age, counted
    from ostinato.server.remote import shown

    with remote.client() as client:
        info, health = client.server(), client.readyz()
        streams = list(client.every(calls.streams.streams(limit=1000)))
        patterns = list(client.every(calls.patterns.patterns(limit=1000)))
        outputs = list(client.every(calls.matches.outputs(limit=1000)))
    code = exits.OK if health.status == "ok" else exits.UNREACHABLE
    if remote.as_json:
        shown.as_json({"server": info, "health": health, "streams": streams, "patterns": patterns, "outputs": outputs})
        sys.exit(code)
    wrong = "; ".join(f"{name}: {said}" for name, said in health.checks.items() if said != "ok")
    facts = [
        ("server", f"{info.url} (id {info.id}, ostinato {info.version})"),
        ("state", "ready" if code == exits.OK else f"{health.status}: {wrong}" if wrong else health.status),
        ("up", f"{age(max(0.0, time.time() - info.started_ms / 1000))}, since {shown.moment(info.started_ms)}"),
        ("you", f"{info.who} ({info.role})"),
        ("generation", shown.count(info.generation)),
        ("position", shown.count(info.journal_position)),
        ("matches", shown.count(info.match_seq)),
    ]
    for name, text in facts:
        if text:
            click.echo(f"{name:10}  {text}")
    rows = sum(each.rows for each in streams)
    partial = sum(each.counters.partial_matches for each in patterns)
    paused = sum(each.state != "live" for each in patterns)
    click.echo(
        f"{'streams':10}  {len(streams):,}, {counted(rows, 'event')}, {sum(each.late for each in streams):,} late, "
        f"{counted(sum(each.dead_letters for each in streams), 'dead letter')}"
    )
    said = f", {paused} of them not live" if paused else ""
    partials = counted(partial, "partial match", "partial matches")
    click.echo(f"{'patterns':10}  {len(patterns):,}{said}, {partials}")
    for output in outputs:
        if (status := output.status) is not None:
            error = f": {status.error}" if status.error else ""
            click.echo(f"{'output':10}  {output.name} {status.state}, {status.lag:,} behind{error}")
    sys.exit(code)
