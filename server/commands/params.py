"""`ostinato params`: the parameters of a server's patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ostinato.server.remote.connection import Remote, server_options

if TYPE_CHECKING:
    from ostinato.server.http.schemas.patterns import ParamChanged


@click.group("params")
def command() -> None:
    """List, get, set and reset parameters. They take effect at once, and nothing is compiled."""


@command.command("list")
@server_options
def list_(remote: Remote) -> None:
    """List all parameters."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        items = list(client.every(calls.patterns.params(limit=1000)))
    if remote.as_json:
        shown.as_json({"items": items})
    elif not items:
        click.echo("no parameters", err=True)
    else:
        shown.show_table(
            ("param", "type", "value", "declared", "used by", "changed", "by"),
            (
                (
                    item.name,
                    item.type,
                    shown.value_text(item.value),
                    shown.value_text(item.declared) if item.overridden else "",
                    ", ".join(item.used_by),
                    shown.moment(item.changed_ms),
                    item.changed_by,
                )
                for item in items
            ),
        )


@command.command("get")
@click.argument("name")
@server_options
def get(name: str, remote: Remote) -> None:
    """Print the value of the parameter NAME."""
    from ostinato.server.remote import shown

    with remote.client() as client:
        found = client.param(name)
    if remote.as_json:
        shown.as_json(found)
    else:
        click.echo(shown.value_text(found.value))


@command.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("value")
@click.option("--comment", default="", help="Kept with the change.")
@server_options
def set_(name: str, value: str, comment: str, remote: Remote) -> None:
    """Set the parameter NAME to VALUE, written as in the language: 5, 0.9, 'text', 5 min."""
    with remote.client() as client:
        _show(remote, client.put_param(name, value, comment=comment))


@command.command("reset")
@click.argument("name")
@server_options
def reset(name: str, remote: Remote) -> None:
    """Set the parameter NAME back to its declared value."""
    with remote.client() as client:
        _show(remote, client.delete_param(name))


def _show(remote: Remote, changed: ParamChanged) -> None:
    from ostinato.server.remote import shown

    if remote.as_json:
        shown.as_json(changed)
        return
    since = "" if changed.position is None else f" from position {changed.position} on"
    click.echo(f"{changed.param.name} = {shown.value_text(changed.param.value)}{since}")
