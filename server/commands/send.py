"""`ostinato send`: events go to a stream of a server."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("send")
@click.argument("stream")
@click.argument("file", default="-")
@click.option(
    "--batch",
    type=click.IntRange(1, 1_000_000),
    default=5_000,
    show_default=True,
    help="Events of a request. What comes by a pipe is sent as soon as it pauses.",
)
@click.option(
    "--bad",
    type=click.Choice(["refuse", "dead-letter"]),
    default="refuse",
    show_default=True,
    help="What becomes of events that do not fit the stream: the request is refused, or they become dead letters.",
)
@click.option("--gzip", "compressed", is_flag=True, help="Compress what is sent.")
@click.option(
    "--key",
    metavar="TEXT",
    help="With what idempotency keys begin: the same file sent again with the same TEXT and --batch is taken once.",
)
@click.option("--no-progress", is_flag=True, help="Show no progress on the terminal.")
@server_options
def command(
    stream: str,
    file: str,
    batch: int,
    bad: str,
    compressed: bool,
    key: str | None,
    no_progress: bool,
    remote: Remote,
) -> None:
    """Send the events of FILE (a JSON object a line, also gzip; standard input by default) to STREAM.

    Each request is answered once its events are durable. One that is lost on its way is sent again, and taken once.
    """
    from typing import cast

    from ostinato.server.client import Sending
    from ostinato.server.client.calls.streams import Bad
    from ostinato.server.console import Progress, counted
    from ostinato.server.programs import shown as called
    from ostinato.server.remote import shown
    from ostinato.server.remote.connection import RemoteFailure
    from ostinato.server.remote.events import NotTakenError, Sender, lines, opened

    options = Sending(events=batch, compressed=compressed, bad=cast("Bad", bad), key=key)
    with remote.client() as client, opened(file) as source:
        sender = Sender(client, stream, options, Progress(wanted=not no_progress))
        try:
            sender.send(lines(source))
        except NotTakenError as error:
            failure = remote.failure(error.error)
            if not remote.as_json and error.places:
                said = [f"{called(file)}:{line}: {message}" for line, message in error.places]
                failure = RemoteFailure("\n".join(said), failure.exit_code)
            if error.sent.accepted:
                click.echo(f"{counted(error.sent.accepted, 'event')} of earlier requests were taken", err=True)
            raise failure from error
        finally:
            sender.progress.clear()
    sent = sender.sent
    if remote.as_json:
        shown.as_json({"stream": stream, **{name: getattr(sent, name) for name in sent.__slots__}})
        return
    parts = [counted(sent.accepted, "event") + " durable"]
    if sent.dead_letters:
        parts.append(counted(sent.dead_letters, "dead letter"))
    if sent.duplicates:
        parts.append(f"{counted(sent.duplicates, 'request')} had been taken before")
    click.echo(f"{stream}: {', '.join(parts)}", err=True)
