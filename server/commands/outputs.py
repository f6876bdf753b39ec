"""`ostinato outputs`: where a server sends its matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ostinato.server.remote.connection import Remote, server_options
from ostinato.state.typed import decode_json

if TYPE_CHECKING:
    from ostinato.server.http.schemas.matches import OutputInfo


@click.group("outputs")
def command() -> None:
    """List, set and delete outputs: where matches are sent."""


@command.command("list")
@click.argument("name", required=False)
@server_options
def list_(name: str | None, remote: Remote) -> None:
    """List the outputs and how they fare, or show the settings of the one called NAME."""
    from ostinato.server.client import calls
    from ostinato.server.remote import shown

    with remote.client() as client:
        if name is not None:
            shown.as_json(client.output(name))
            return
        items = list(client.every(calls.matches.outputs(limit=1000)))
    if remote.as_json:
        shown.as_json({"items": items})
    elif not items:
        click.echo("no outputs", err=True)
    else:
        head = ("output", "to", "state", "delivered", "behind", "lost", "last delivery", "error")
        shown.show_table(head, map(_row, items), numbers=("delivered", "behind", "lost"))


def _row(item: OutputInfo) -> tuple[str, ...]:
    from ostinato.server.remote import shown

    status = item.status
    if status is None:
        return item.name, _target(item), "", "", "", "", "", ""
    return (
        item.name,
        _target(item),
        status.state,
        shown.count(status.delivered),
        shown.count(status.lag),
        shown.count(status.lost),
        shown.moment(status.last_delivery_ms),
        status.error or "",
    )


def _target(item: OutputInfo) -> str:
    from ostinato.server.delivery.settings import FileOutput, KafkaOutput

    match item.settings:
        case KafkaOutput(topic=topic):
            return f"kafka:{topic}"
        case FileOutput(path=path):
            return path
        case webhook:
            return webhook.url


@command.command("set")
@click.argument("name")
@click.option("--webhook", metavar="URL", help="POST matches to this URL.")
@click.option("--kafka", metavar="TOPIC", help="Write matches to this topic.")
@click.option("--file", "path", metavar="PATH", help="Append matches to this file of the server (`files.write`).")
@click.option("--settings", metavar="FILE", help="The settings as a JSON object, - for standard input.")
@click.option("--pattern", "patterns", multiple=True, metavar="NAME", help="Only of this pattern; may be repeated.")
@click.option("--stream", "streams", multiple=True, metavar="NAME", help="Only of this stream; may be repeated.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["match", "timeout", "late", "dead letter"]),
    help="Only these kinds of rows; may be repeated.  [match]",
)
@click.option("--start", type=click.Choice(["earliest", "latest"]), help="Where a new output begins.  [latest]")
@click.option("--paused/--running", default=None, help="Whether it waits.  [running]")
@click.option("--secret", metavar="NAME", help="Of a webhook: sign requests with this secret of the configuration.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Of a webhook: send this header, too.")
@click.option("--batch", type=click.IntRange(1, 1000), help="Of a webhook: up to so many matches a request.  [1]")
@click.option("--key", metavar="FIELD", help="Of a topic: this field of a match is the key of its record.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Of a topic: in this Kafka, not the configuration's.")
@server_options
def set_(name: str, remote: Remote, **given: Any) -> None:
    """Make the output NAME, or change it, to a webhook, a topic or a file. What is not said is as by default."""
    import msgspec

    from ostinato.server.delivery.settings import OutputSettings
    from ostinato.server.programs import read_text
    from ostinato.server.remote import shown

    source = given.pop("settings")
    if source is not None:
        if any(value not in (None, ()) for value in given.values()):
            raise click.UsageError("--settings says everything; give no other option with it")
        document = read_text(source).encode()
    else:
        document = msgspec.json.encode(_document(given))
    try:
        settings: OutputSettings = decode_json(document, OutputSettings)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"output {name}: {error}") from error
    with remote.client() as client:
        made = client.put_output(name, settings)
    if remote.as_json:
        shown.as_json(made)
    else:
        click.echo(f"output {made.name}: {_target(made)}", err=True)


_TARGETS = {"webhook": "url", "kafka": "topic", "path": "path"}


def _document(given: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON has them."""
    targets = [option for option in _TARGETS if given[option] is not None]
    if len(targets) != 1:
        raise click.UsageError("say where to: one of --webhook URL, --kafka TOPIC, --file PATH (or --settings FILE)")
    (target,) = targets
    found: dict[str, Any] = {"type": "file" if target == "path" else target, _TARGETS[target]: given[target]}
    for option in ("patterns", "streams", "kinds", "start", "paused", "secret", "batch", "key", "bootstrap_servers"):
        if given[option] not in (None, ()):
            found[option] = given[option]
    for header in given["headers"]:
        field, equals, value = header.partition("=")
        if not equals or not field:
            raise click.UsageError("--header: write NAME=VALUE")
        found.setdefault("headers", {})[field] = value
    return found


@command.command("delete")
@click.argument("name")
@server_options
def delete(name: str, remote: Remote) -> None:
    """Delete the output NAME; matches go there no more."""
    with remote.client() as client:
        client.delete_output(name)
    click.echo(f"deleted output {name}", err=True)
