"""WebSockets as handlers see them."""

from __future__ import annotations

import asyncio
from typing import Any

from ostinato.server.http.problems import CONTENT_TYPE, HttpError
from ostinato.server.http.reply import Receive, Send
from ostinato.server.http.request import Request

NORMAL, GOING_AWAY, POLICY, TOO_BIG, DEFECT = 1000, 1001, 1008, 1009, 1011
"""Codes with which connections are closed (RFC 6455)."""


class Socket:
    """A connection of which the request was let through. `request` has names, query and caller."""

    def __init__(self, request: Request, receive: Receive, send: Send, send_timeout_ms: int) -> None:
        self.request = request
        self._receive = receive
        self._send = send
        self._seconds = send_timeout_ms / 1000
        self.accepted = False
        self.closed = False
        self._has_ended = False
        self._receiving: asyncio.Task[Any] | None = None

    async def accept(self) -> None:
        """Say yes. Before, a problem can be answered as to any request (`refuse`)."""
        message = await self._receive()
        assert message["type"] == "websocket.connect", message["type"]
        await self._send({"type": "websocket.accept"})
        self.accepted = True

    def end(self) -> None:
        """Receive nothing more."""
        self._has_ended = True
        if self._receiving is not None:
            self._receiving.cancel()

    async def receive(self) -> bytes | None:
        """The next message, text as UTF-8; None when the client has gone, or nothing is to be received any more."""
        if self._has_ended:
            return None
        self._receiving = task = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._has_ended:
                raise
            assert task is not None
            task.uncancel()
            return None
        finally:
            self._receiving = None
        if message["type"] == "websocket.disconnect":
            self.closed = True
            return None
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text.encode("utf-8", "surrogatepass")

    async def send(self, frame: bytes) -> None:
        """Send a text; waits while the client does not read, but not for ever.

        Raises:
            TimeoutError: the client has not read for `limits.send_timeout`.
        """
        async with asyncio.timeout(self._seconds):
            await self._send({"type": "websocket.send", "text": frame.decode()})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End the connection; does nothing where it has ended."""
        if not self.closed:
            self.closed = True
            # a reason has 123 bytes at most
            shown = reason.encode()[:120].decode("utf-8", "ignore")
            await self._send({"type": "websocket.close", "code": code, "reason": shown})

    async def refuse(self, problem: HttpError) -> None:
        """Answer the handshake with a problem."""
        self.closed = True
        extensions: dict[str, Any] = self.request.scope.get("extensions") or {}
        if "websocket.http.response" not in extensions:
            await self._send({"type": "websocket.close", "code": POLICY, "reason": problem.detail[:120]})
            return
        body = problem.body(self.request.path)
        headers = [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode("latin-1", "replace")) for name, value in problem.headers.items()]
        await self._send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": body})
