"""Who a request is from: tokens, tickets, and the host it was meant for."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ostinato.server.catalog.tokens import Role, Token, Tokens, digest_of
from ostinato.server.http.caller import Caller
from ostinato.server.http.problems import HttpError
from ostinato.server.http.request import Request

TICKET_MS = 30_000
"""As long as a page needs to open a connection."""

_LOOK_SECONDS = 1.0
"""So often it is looked whether the token of an open connection still is one."""
_MOST_TICKETS = 10_000
_LONGEST_TOKEN = 512
_CHALLENGE = {"www-authenticate": 'Bearer realm="ostinato"'}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


class Tickets:
    """Tickets stand for a token in one request each. In memory: nobody needs them longer than `TICKET_MS`."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._now_ms = now_ms
        self._tickets: dict[bytes, tuple[Caller, int]] = {}

    def issue(self, caller: Caller) -> tuple[str, int]:
        """A ticket for the caller, and until when (epoch ms) it can be used."""
        now = self._now_ms()
        for digest in [digest for digest, (_, expires) in self._tickets.items() if expires <= now]:
            del self._tickets[digest]
        if len(self._tickets) >= _MOST_TICKETS:
            raise HttpError(429, "too many tickets that nobody has used", headers={"retry-after": "30"})
        text = secrets.token_urlsafe(32)
        self._tickets[digest_of(text)] = (caller, now + TICKET_MS)
        return text, now + TICKET_MS

    def redeem(self, text: str) -> Caller | None:
        """Whom a ticket stands for; it is used up."""
        caller, expires = self._tickets.pop(digest_of(text), (None, 0))
        return caller if expires > self._now_ms() else None


class Authenticator:
    """Says who asks."""

    def __init__(self, tokens: Tokens | None) -> None:
        """Without `tokens` (`auth.enabled = false`) everyone is an operator."""
        self._tokens = tokens
        self.tickets = Tickets()

    @property
    def enabled(self) -> bool:
        return self._tokens is not None

    def caller(self, request: Request, ticket: str | None = None) -> Caller:
        """Who the request is from.

        Raises:
            HttpError: 401, with what is missing or wrong.
        """
        remote = remote_of(request)
        if self._tokens is None:
            return Caller("anonymous", Role.OPERATOR, remote)
        header = request.headers.get(b"authorization")
        if header is None:
            if ticket is None:
                raise HttpError(401, "send your token in the header `Authorization: Bearer TOKEN`", headers=_CHALLENGE)
            if (known := self.tickets.redeem(ticket)) is None:
                raise HttpError(401, "this ticket was used, is too old, or never was", headers=_CHALLENGE)
            return replace(known, remote=remote)
        scheme, _, text = header.decode("latin-1").partition(" ")
        token: Token | None = None
        if scheme.lower() == "bearer" and len(text) <= _LONGEST_TOKEN:
            text = text.strip()
            token = self._tokens.find(text)
        if token is None:
            wrong = 'Bearer realm="ostinato", error="invalid_token"'
            raise HttpError(401, "this token is not known here, or has expired", headers={"www-authenticate": wrong})
        return Caller(token.name, token.role, remote, digest_of(text))

    async def until_invalid(self, caller: Caller) -> None:
        """Wait until the caller's token has been deleted, or has expired."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._tokens is not None and not self._tokens.is_valid(caller.digest):
                return


class HostCheck:
    """Refuses requests that were meant for another host.

    A page of an attacker whose name resolves to 127.0.0.1 (DNS rebinding) could otherwise talk to a server that
    listens on loopback only, as if it were its own.
    """

    def __init__(self, host: str, allowed: Sequence[str]) -> None:
        """`host` is what the server listens on, `allowed` further names; `*` allows all."""
        self._names: frozenset[str] | None = None
        if "*" not in allowed and (is_loopback(host) or allowed):
            self._names = _LOOPBACK | {host.lower(), *(name.lower() for name in allowed)}
        # header values that were found good: the same few come with every request
        self._good: set[bytes] = set()

    def check(self, request: Request) -> None:
        """Look at `Host`, and at `Origin` where a browser sends one.

        Raises:
            HttpError: 421 or 403.
        """
        if self._names is None:
            return
        header = request.headers.get(b"host", b"")
        if header not in self._good:
            name = _host_name(header.decode("latin-1"))
            if name not in self._names:
                raise HttpError(
                    421, f"there is no host `{name[:100]}` here; `server.allowed_hosts` names those there are"
                )
            if len(self._good) < 100:
                self._good.add(header)

    def check_origin(self, request: Request) -> None:
        """Neither WebSockets nor simple requests are held back by CORS: what a page of another origin asks for is
        refused here, but for reading, whose answer the browser keeps from it.

        Raises:
            HttpError: 403.
        """
        origin = request.header(b"origin")
        if origin is not None and origin.partition("://")[2] != request.header(b"host"):
            raise HttpError(403, f"pages of {origin[:100]} may not do that here")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def remote_of(request: Request) -> str:
    """The address of the other end; no header can say another."""
    client = request.scope.get("client")
    return str(client[0]) if client else ""


def _host_name(header: str) -> str:
    header = header.lower()
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]
