"""`ostinato streams`: the streams of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ostinato.server.remote.connection import Remote, server_options

if TYPE_CHECKING:
    from ostinato.server.http.schemas.streams import StreamInfo


@click.command("streams")
@click.argument("name", required=False)
@server_options
def command(name: str | None, remote: Remote) -> None:
    """List the streams of the server, or show the one called NAME: where its events come from, how far its time is."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        if name is not None:
            found = client.stream(name)
            if remote.as_json:
                shown.as_json(found)
            else:
                _show(found)
            return
        items = list(client.every(calls.streams.streams(limit=1000)))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    if not items:
        click.echo("no streams", err=True)
        return
    shown.show_table(
        ("stream", "from", "events", "late", "dead letters", "watermark", "held back by", "read by"),
        (
            (
                item.name,
                item.source,
                shown.count(item.rows),
                shown.count(item.late),
                shown.count(item.dead_letters),
                shown.event_time(item.watermark_ms),
                item.holds_back or "",
                ", ".join(item.used_by),
            )
            for item in items
        ),
        numbers=("events", "late", "dead letters"),
    )


def _show(item: StreamInfo) -> None:
    from ostinato.server.remote import shown

    click.echo(f"{item.text.rstrip()}\n")
    facts = [
        ("from", item.source),
        ("events", f"{item.rows:,}"),
        ("late", f"{item.late:,}"),
        ("dead letters", f"{item.dead_letters:,}"),
        ("watermark", shown.event_time(item.watermark_ms)),
        ("held back by", item.holds_back or ""),
        ("read by", ", ".join(item.used_by)),
        ("changed", f"{shown.moment(item.changed_ms)} by {item.changed_by}"),
        ("etag", item.etag),
    ]
    for name, text in facts:
        if text:
            click.echo(f"{name:12}  {text}")
    if item.lanes:
        click.echo()
        shown.show_table(
            ("lane", "events", "watermark", "idle", "lag", "error"),
            (
                (
                    lane.lane or "http",
                    shown.count(lane.rows),
                    shown.event_time(lane.watermark_ms),
                    "idle" if lane.idle else "",
                    shown.count(lane.lag),
                    lane.error or "",
                )
                for lane in item.lanes
            ),
            numbers=("events", "lag"),
        )
