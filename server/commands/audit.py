"""`ostinato audit`: who did what on a server."""

from __future__ import annotations

from itertools import islice

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("audit")
@click.option("--who", help="Only what this token did.")
@click.option("--action", help="Only this action, such as apply.")
@click.option("--target", help="Only what was done to this.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many of the newest.")
@server_options
def command(who: str | None, action: str | None, target: str | None, limit: int, remote: Remote) -> None:
    """Show who did what, the newest first. For operators."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    call = calls.server.audit(who=who, action=action, target=target, limit=min(limit, 1000))
    with remote.client() as client:
        items = list(islice(client.every(call), limit))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    shown.show_table(
        ("#", "time", "who", "from", "action", "target", "outcome"),
        (
            (
                str(item.seq),
                shown.moment(item.at_ms),
                f"{item.who} ({item.role})",
                item.remote,
                item.action,
                item.target,
                item.outcome,
            )
            for item in items
        ),
        numbers=("#",),
    )
