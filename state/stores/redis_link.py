"""A private connection to Redis.

Replies belong to commands by their order alone. So a connection on which a command was cancelled, or not answered in
time, is never used again. Nothing is repeated by the client: whoever asks decides what may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from ostinato.state.errors import StoreError

Command: TypeAlias = Sequence[str | int | bytes]

_MOVES: Final = 3
"""How often a node of a cluster may send us to another one, before that is an error."""
_CLOSE_SECONDS: Final = 2.0

_ADVICE: Final = {
    "OOM": "its memory is used up: raise maxmemory, or delete what else is in it; the next checkpoint tries again",
    "READONLY": "it is a replica: give the address of the primary",
    "MISCONF": "it cannot write to its disk: free some space there and look at its log",
    "NOAUTH": "it wants a password: write redis://USER:PASSWORD@HOST:PORT/DB",
    "Authentication required": "it wants a password: write redis://USER:PASSWORD@HOST:PORT/DB",
    "WRONGPASS": "it does not know that user or password: look at the address",
    "NOPERM": "the user may not do that: allow it the commands @read @write @scripting and the keys ostinato:*",
    "CLUSTERDOWN": "the cluster is down: look after its nodes",
    "NOREPLICAS": "it has too few replicas to accept writes (min-replicas-to-write)",
    "LOADING": "it is still loading its data; the next checkpoint tries again",
    "ERR DB index": "it has no such database: look at the number at the end of the address",
}


def shown(address: str) -> str:
    """An address for messages: without its password.

    >>> shown("rediss://ada:secret@cache:6379/2")
    'rediss://ada:***@cache:6379/2'
    """
    parts = urlsplit(address)
    netloc = parts.netloc
    if "@" in netloc:
        user, colon, _ = netloc.rpartition("@")[0].partition(":")
        netloc = f"{user}{':***' if colon else ''}@{netloc.rpartition('@')[2]}"
    query = [(name, "***" if "password" in name else value) for name, value in parse_qsl(parts.query)]
    return urlunsplit((parts.scheme, netloc, parts.path, urlencode(query, safe="*/"), ""))


class Connection:
    """One connection, for one batch of commands at a time; made when it is needed, and anew after anything went wrong.

    Belongs to an event loop.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self._address = address
        self._timeout = timeout_seconds
        self._options: dict[str, Any] = dict(parse_url(address))
        self._client: Redis | None = None

    async def batch(self, *commands: Command) -> list[Any]:
        """The answers to commands that are sent at once. An answer may be a `ResponseError`: see `refused`.

        Raises:
            StoreError: there was no answer, or none in time; nobody knows what was done.
        """
        for _ in range(_MOVES):
            answers = await self._send(commands)
            moved = next((answer for answer in answers if isinstance(answer, MovedError)), None)
            if moved is None:
                return answers
            # all keys of a job are on one node: it is enough to go there
            await self.drop()
            self._options |= {"host": moved.host or self._options.get("host"), "port": moved.port}
        raise StoreError(f"{shown(self._address)}: the nodes of the cluster send us to each other; look after it")

    async def drop(self) -> None:
        """Never use this connection again."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await client.connection_pool.disconnect(inuse_connections=True)
                    await client.aclose()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout):
                pipeline = self._connected().pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
                return answers
        except BaseException as error:
            await self.drop()
            if isinstance(error, RedisError | OSError | TimeoutError):
                raise self._explained(error) from error
            raise

    def _connected(self) -> Redis:
        if self._client is None:
            # RESP2 suffices, and its handshake is the shortest
            options = self._options | {
                "protocol": 2,
                "socket_timeout": self._timeout,
                "socket_connect_timeout": self._timeout,
                "retry": Retry(NoBackoff(), 0),
                "retry_on_error": [],
            }
            self._client = Redis(connection_pool=ConnectionPool(max_connections=1, **options))
            # answers come as the server gives them, whatever this or that version of the client makes of them
            self._client.response_callbacks.clear()
        return self._client

    def _explained(self, error: BaseException) -> StoreError:
        address = shown(self._address)
        if isinstance(error, TimeoutError) or "imeout" in type(error).__name__:
            return StoreError(f"{address} did not answer within {self._timeout:g} s; the next checkpoint tries again")
        if isinstance(error, AuthenticationError | ResponseError | NoPermissionError):
            return refused(address, "connecting", error)
        return StoreError(f"{address} cannot be reached ({_hidden(str(error), self._address)}): is it running?")


def refused(address: str, doing: str, error: BaseException) -> StoreError:
    """What a server's refusal means and what to do."""
    said = str(error)
    kind = type(error).__name__
    for word, advice in _ADVICE.items():
        if said.startswith(word) or f" {word} " in f" {said} ":
            return StoreError(f"{address} refuses {doing}: {advice} ({said})")
    if isinstance(error, AuthenticationError):
        return StoreError(f"{address} refuses {doing}: {_ADVICE['WRONGPASS']} ({said})")
    if isinstance(error, NoPermissionError):
        return StoreError(f"{address} refuses {doing}: {_ADVICE['NOPERM']} ({said})")
    if "OutOfMemory" in kind or "maxmemory" in said:
        return StoreError(f"{address} refuses {doing}: {_ADVICE['OOM']} ({said})")
    if "ReadOnly" in kind:
        return StoreError(f"{address} refuses {doing}: {_ADVICE['READONLY']} ({said})")
    return StoreError(f"{address} refuses {doing}: {said}")


def _hidden(text: str, address: str) -> str:
    password = urlsplit(address).password
    return text.replace(password, "***") if password else text
