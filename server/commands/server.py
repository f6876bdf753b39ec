"""`ostinato server`: the long-running server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from socket import socket

    from ostinato.server.config import Loaded
    from ostinato.server.data_directory import DataDirectory


@click.command("server")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings; ./ostinato.toml if there is one.")
@click.option("--data-dir", help="Folder of everything that the server keeps.  [./ostinato-data]")
@click.option("--host", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", help="Port to listen on; 0 takes a free one.  [8642]")
@click.option("--insecure", is_flag=True, help="Listen without TLS on an address that others reach.")
@click.option("--log-level", help="debug, info, warning or error.  [info]")
@click.option("--log-format", help="json or text.  [json]")
@click.option("--new-token", is_flag=True, help="Make another operator's token, where the first one is lost.")
def command(
    file: Path | None,
    data_dir: str | None,
    host: str | None,
    port: str | None,
    insecure: bool,
    log_level: str | None,
    log_format: str | None,
    new_token: bool,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The first start makes the data directory and an operator's token, and shows the token this once; it also stands in
    DATA/token. Once the server takes requests it says so in one line, with its URL. docs/configuration.md has all
    settings, `ostinato config show --origin` what they are here.
    """
    flags: dict[str, object] = {
        "server.data_dir": data_dir,
        "server.host": host,
        "server.port": port,
        "server.insecure": insecure or None,
        "log.level": log_level,
        "log.format": log_format,
    }
    from ostinato.server.cli import leave
    from ostinato.server.config import ConfigError, load
    from ostinato.server.data_directory import DataDirectory, DirectoryError, DirectoryTakenError

    try:
        loaded = load(file, flags)
    except ConfigError as error:
        _fail(str(error), exits.CONFIG)
    _refuse_open_doors(loaded)
    try:
        directory = DataDirectory(Path(loaded.config.server.data_dir))
    except DirectoryTakenError as error:
        _fail(str(error), exits.TAKEN)
    except DirectoryError as error:
        _fail(str(error), exits.STATE)
    _log(loaded)
    with directory:
        code = _serve(loaded, directory, new_token=new_token)
    leave(code)


def _refuse_open_doors(loaded: Loaded) -> None:
    from ostinato.server.http.auth import is_loopback

    config = loaded.config
    if is_loopback(config.server.host) or config.server.insecure:
        return
    if not config.tls.cert:
        _fail(
            f"others reach {config.server.host}, and would see tokens and events on their way: set tls.cert and tls.key"
            " (or give --insecure where something in front does TLS)",
            exits.CONFIG,
        )
    if not config.auth.enabled:
        _fail(f"others reach {config.server.host}, and auth.enabled = false lets them do everything", exits.CONFIG)


def _log(loaded: Loaded) -> None:
    from ostinato.server.logs import set_up

    config = loaded.config
    secrets = [*config.webhooks.secrets.values(), config.kafka.sasl_password, config.tls.key_password]
    hidden = [secret.reveal() for secret in secrets if secret is not None]
    set_up("text" if config.log.format == "text" else "json", config.log.level, hidden=hidden)


def _serve(loaded: Loaded, directory: DataDirectory, *, new_token: bool) -> int:
    from ostinato.server.catalog import CatalogError
    from ostinato.server.http.runner import bind, check_tls
    from ostinato.server.journal import JournalError
    from ostinato.server.matches import MatchLogError
    from ostinato.server.quickness import be_quick
    from ostinato.server.token_file import TokenFileError

    be_quick()
    server = loaded.config.server
    try:
        check_tls(loaded.config)
    except OSError as error:
        _say(f"tls.cert and tls.key cannot be used: {error}")
        return exits.CONFIG
    try:
        listening = bind(server.host, server.port)
    except OSError as error:
        _say(f"cannot listen on {server.host}:{server.port}: {error.strerror or error}; choose another with --port")
        return exits.TAKEN
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(loaded, directory, [listening], new_token=new_token))
    except (CatalogError, JournalError, MatchLogError) as error:
        _say(str(error))
        return exits.STATE
    except TokenFileError as error:
        _say(str(error))
        return exits.CONFIG
    except OSError as error:
        # the certificate, above all: ssl's errors are OSErrors
        _say(f"cannot start: {error}")
        return exits.INPUT
    finally:
        listening.close()


async def _run(loaded: Loaded, directory: DataDirectory, sockets: list[socket], *, new_token: bool) -> int:
    from ostinato.server.application import Application
    from ostinato.server.quickness import keep_what_is_here

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    # from here on a signal is an orderly end, also while the server still starts
    loop.add_signal_handler(signal.SIGTERM, end, exits.TERMINATED)
    loop.add_signal_handler(signal.SIGINT, end, exits.INTERRUPTED)
    async with Application(loaded, directory, sockets, new_token=new_token) as application:
        keep_what_is_here()
        if application.first_token is not None:
            click.echo(f"token: {application.first_token}")
            _say(f"this token is shown once; it stands in {directory.path / 'token'} too, for you alone")
        elif directory.has_token:
            _say(f"the operator's token stands in {directory.path / 'token'}")
        click.echo(f"ready: {application.standing.url}")
        sys.stdout.flush()
        code = await ended
        _say("ending")
    return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _say(text: str) -> None:
    click.echo(f"ostinato: {text}", err=True)


def _fail(text: str, code: int) -> NoReturn:
    from ostinato.server.cli import leave

    for line in text.splitlines():
        _say(line)
    leave(code)
    raise AssertionError("leave does not come back")
