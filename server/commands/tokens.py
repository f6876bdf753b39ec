"""`ostinato tokens`: who may use a server."""

from __future__ import annotations

import time

import click

from ostinato.server.options import DURATION
from ostinato.server.remote.connection import Remote, server_options


@click.group("tokens")
def command() -> None:
    """List, create and delete tokens. For operators."""


@command.command("list")
@server_options
def list_(remote: Remote) -> None:
    """List the tokens; their texts are known to nobody but those who have them."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        items = list(client.every(calls.server.tokens(limit=1000)))
    if remote.as_json:
        shown.as_json({"items": items})
        return
    shown.show_table(
        ("token", "role", "created", "by", "last used", "expires"),
        (
            (
                item.name,
                item.role,
                shown.moment(item.created_ms),
                "tokens_file" if item.declared else item.created_by,
                shown.moment(item.last_used_ms) or "never",
                shown.moment(item.expires_ms) or "never",
            )
            for item in items
        ),
    )


@command.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "author", "operator"]),
    default="viewer",
    show_default=True,
    help="What it may do: look; also change patterns and send events; everything.",
)
@click.option("--expires", type=DURATION, metavar="DURATION", help="For how long it is good, such as 30d.  [for ever]")
@server_options
def create(name: str, role: str, expires: int | None, remote: Remote) -> None:
    """Create a token called NAME, and print its text, this once."""
    from typing import cast

    from ostinato.server.http.schemas.server import RoleName
    from ostinato.server.remote import shown

    until = None if expires is None else time.time_ns() // 1_000_000 + expires
    with remote.client() as client:
        made = client.create_token(name, cast("RoleName", role), expires_ms=until)
    if remote.as_json:
        shown.as_json(made)
        return
    click.echo(made.token)
    ends = f", until {shown.moment(made.expires_ms)}" if made.expires_ms is not None else ""
    click.echo(f"token {made.name} ({made.role}{ends}); it is not shown again", err=True)


@command.command("delete")
@click.argument("name")
@server_options
def delete(name: str, remote: Remote) -> None:
    """Delete the token NAME; who has it is not let in any more."""
    with remote.client() as client:
        client.delete_token(name)
    click.echo(f"deleted token {name}", err=True)
