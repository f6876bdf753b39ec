"""`ostinato patterns`: the patterns of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ostinato.server.remote.connection import Remote, server_options

if TYPE_CHECKING:
    from ostinato.server.http.schemas.patterns import PatternInfo, VersionInfo


@click.command("patterns")
@click.argument("name", required=False)
@click.option("--stream", help="Only those on this stream.")
@click.option("--state", type=click.Choice(["live", "paused", "failed"]), help="Only those in this state.")
@server_options
def command(name: str | None, stream: str | None, state: str | None, remote: Remote) -> None:
    """List the patterns of the server, or show the one called NAME with its text."""
    from typing import cast

    from ostinato.server.client import calls
    from ostinato.server.http.schemas.patterns import State
    from ostinato.server.remote import shown

    with remote.client() as client:
        if name is not None:
            found = client.pattern(name)
            if remote.as_json:
                shown.as_json(found)
            else:
                _show(found)
            return
        call = calls.patterns.patterns(stream=stream, state=cast("State | None", state), limit=1000)
        items = list(client.every(call))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    if not items:
        click.echo("no patterns", err=True)
        return
    head = ("pattern", "version", "state", "on", "into", "matches", "timeouts", "partial", "last match", "also runs")
    shown.show_table(
        head,
        (
            (
                item.name,
                str(item.version),
                item.state,
                item.input,
                item.output or "",
                shown.count(item.counters.matches),
                shown.count(item.counters.timeouts),
                shown.count(item.counters.partial_matches),
                shown.moment(item.counters.last_match_ms),
                ", ".join(_beside(item)),
            )
            for item in items
        ),
        numbers=("version", "matches", "timeouts", "partial"),
    )


def _beside(item: PatternInfo) -> list[str]:
    """Versions that run beside the live one."""
    found = [f"{version.version} (drains)" for version in item.draining]
    return found + ([f"{item.shadow.version} (shadow)"] if item.shadow is not None else [])


def _show(item: PatternInfo) -> None:
    from ostinato.server.remote import shown

    counters = item.counters
    facts = [
        ("pattern", item.name),
        ("state", item.state + (f": {item.error}" if item.error else "")),
        ("version", f"{item.version}, by {item.author}, {shown.moment(item.changed_ms)}"),
        ("comment", item.comment),
        ("on", item.input),
        ("into", item.output or ""),
        ("params", ", ".join(item.params)),
        ("matches", f"{counters.matches:,}"),
        ("timeouts", f"{counters.timeouts:,}"),
        ("partial matches", f"{counters.partial_matches:,}"),
        ("last match", shown.moment(counters.last_match_ms)),
        *((version.role, _version(version)) for version in (*item.draining, *([item.shadow] if item.shadow else []))),
        ("etag", item.etag),
    ]
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        if text:
            click.echo(f"{name.ljust(width)}  {text}")
    click.echo(f"\n{item.text.rstrip()}")


def _version(version: VersionInfo) -> str:
    from ostinato.server.remote import shown

    parts = [f"version {version.version}"]
    if version.partial_matches is not None:
        parts.append(f"{version.partial_matches:,} partial matches")
    if version.matches is not None:
        parts.append(f"{version.matches:,} matches")
    if version.drained_ms is not None:
        parts.append(f"gone by {shown.event_time(version.drained_ms)}")
    return ", ".join(parts)
