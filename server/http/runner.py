"""uvicorn as the server runs it: given sockets, no signals of its own, connections that cannot be held for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ostinato.server.http.app import ABORT, Api
from ostinato.server.http.joining import JoiningTransport
from ostinato.server.http.problems import HttpError
from ostinato.server.http.request import WHOLE

if TYPE_CHECKING:
    from ostinato.server.config import ServerConfig

HEADER_SECONDS = 10.0
"""How long the head of a request may take to come."""

HEADER_BYTES = 64 << 10
"""Largest head of a request: httptools itself knows no limit."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection may be quiet between requests; load balancers close theirs after 60."""

_WEBSOCKET_BYTES = 16 << 20
_log = logging.getLogger("ostinato.http")


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 where a head takes its time or grows without end, and where there may not be any number of connections.

    uvicorn watches connections between requests only.
    """

    def __init__(self, *args: Any, most_connections: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most_connections = most_connections
        self._in_head = True
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self._most_connections:
            self.transport = transport
            problem = HttpError(503, f"there are {self._most_connections} connections already")
            transport.write(_answer(problem, "Service Unavailable"))
            transport.close()
            return
        super().connection_made(JoiningTransport(transport, self.loop))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        if self.flow is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.flow is None:
            return
        super().data_received(data)
        if self._in_head and self.parser is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES:
                problem = HttpError(431, f"the head of the request has more than {HEADER_BYTES >> 10} KiB")
                self.transport.write(_answer(problem, "Request Header Fields Too Large"))
                self.transport.close()
            elif self._timer is None:
                self._watch()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unwatch()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_answer(HttpError(400, msg), "Bad Request"))
        self.transport.close()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_answer(HttpError(408, "the request was not there in time"), "Request Timeout"))
            self.transport.close()


def _answer(problem: HttpError, phrase: str) -> bytes:
    """A problem as bytes, where no request was made of what came."""
    body = problem.body("")
    head = (
        f"HTTP/1.1 {problem.status} {phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


class _Server(uvicorn.Server):
    """Signals are the business of the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is worth a line: uvicorn calls it an error that a WebSocket was refused with an answer."""
    return "without completing handshake" not in record.msg


class Runner:
    """Serves the API on sockets, from `start` to `stop`."""

    def __init__(self, api: Api, config: ServerConfig, sockets: list[socket.socket]) -> None:
        self._api = api
        self._sockets = sockets
        tls = config.tls
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._server = _Server(
            uvicorn.Config(
                api,
                loop="none",
                # partial: uvicorn calls it with what a protocol takes
                http=partial(GuardedProtocol, most_connections=config.limits.connections),  # type: ignore[arg-type]
                ws="websockets-sansio",
                ws_max_size=min(config.limits.body_bytes, _WEBSOCKET_BYTES),
                lifespan="off",
                log_config=None,
                # at `info` it writes down the URLs of WebSockets, which tickets stand in
                log_level="warning",
                access_log=False,
                # who asks is who is connected: no header can say another
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(config.server.shutdown_timeout / 1000)),
                ssl_certfile=tls.cert,
                ssl_keyfile=tls.key,
                ssl_keyfile_password=tls.key_password.reveal() if tls.key_password else None,
                interface="asgi3",
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve, and come back once connections are taken.

        Raises:
            OSError, ssl.SSLError: it cannot.
        """
        self._task = asyncio.create_task(self._server.serve(self._sockets), name="http")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise OSError("the HTTP server ended before it began")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections, let what is under way end within `server.shutdown_timeout`, and cut the rest."""
        if self._task is None:
            return
        self._api.end_streams()
        self._server.should_exit = True
        await self._task
        self._task = None


def check_tls(config: ServerConfig) -> None:
    """Whether certificate and key can be used, before anything else is opened.

    Raises:
        OSError: they cannot; ssl's errors are OSErrors.
    """
    tls = config.tls
    if tls.cert is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # without a password ssl would ask the terminal for one
        context.load_cert_chain(tls.cert, tls.key, tls.key_password.reveal() if tls.key_password else "")


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one.

    Raises:
        OSError: the address is not of this machine, or another process listens there.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
