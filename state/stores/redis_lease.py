"""Being the owner of a job's checkpoints in Redis: a lease that has to be refreshed."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import Final

import msgspec

from ostinato.state.errors import OccupiedError, StoreError
from ostinato.state.eventloop import cancel
from ostinato.state.stores import redis_scripts
from ostinato.state.stores.process import Owner, next_token
from ostinato.state.stores.redis_link import Connection
from ostinato.state.stores.redis_scripts import call
from ostinato.state.stores.redis_session import Session, owner_of

_POLL_SECONDS: Final = 0.2
_BEATS: Final = 3
"""How often a lease is refreshed in the time it lasts."""
_RELEASE_SECONDS: Final = 5.0
"""No longer is waited for the lease to be given back when a job ends: it runs out by itself."""
_log = logging.getLogger(__name__)


class Lease:
    """Belongs to an event loop. Refreshing has a connection of its own, so that no slow command costs the ownership."""

    def __init__(self, address: str, session: Session) -> None:
        self._session = session
        self._heart = Connection(address, session.options.timeout_seconds)
        self._keys = (session.keys.owner, session.keys.lease)
        self._lease_ms = round(session.options.lease_seconds * 1000)
        self._nonce = secrets.token_hex(8)
        self._record = b""
        self._beating: asyncio.Task[None] | None = None

    async def acquire(self, owner: str, *, seize: bool = False) -> None:
        """Become the owner, once the lease of one that is dead has run out; a dead process of this machine is seen.
        `seize`: at once.

        Raises OccupiedError, StoreError.
        """
        if self._beating is not None:
            raise OccupiedError(f"{self._session.address} is already owned by this process")
        self._record = msgspec.json.encode(Owner.this_process(self._session.keys.job, 0, owner))
        dead, seen, least = "", b"", None
        while True:
            arguments = (next_token(0), self._record, self._nonce, self._lease_ms, dead)
            async with self._session.turn:
                command = call(redis_scripts.ACQUIRE, self._keys, *arguments)
                (answer,) = await self._session.ask(command, doing="a lease")
            if answer[0] == b"ok":
                break
            _, record, held, left_ms = answer
            holder = owner_of(record)
            if seize or (holder is not None and holder.has_ended()):
                dead = held.decode()
                continue
            # whoever lives refreshes the lease; one that only runs out was left behind
            if least is not None and (held != seen or left_ms > least):
                who = holder or "another process"
                raise OccupiedError(f"{self._session.address} is in use by {who}: stop it, or choose another database")
            seen, least = held, left_ms
            await asyncio.sleep(_POLL_SECONDS)
        self._session.token = int(answer[1])
        self._session.on_lost = self._refresh
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def release(self) -> None:
        """Let the lease go, if it was held. Raises StoreError where nobody could be told."""
        task, self._beating = self._beating, None
        self._session.on_lost = None
        if task is None:
            return
        await cancel([task])
        await self.drop()
        try:
            async with asyncio.timeout(_RELEASE_SECONDS), self._session.turn:
                command = call(redis_scripts.RELEASE, self._keys, self._session.own())
                await self._session.write(command, doing="giving up the lease")
        except TimeoutError:
            raise StoreError(f"{self._session.address} did not take the lease back; it runs out by itself") from None

    async def drop(self) -> None:
        """Close the connection."""
        await self._heart.drop()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._session.options.lease_seconds / _BEATS)
            # whatever is wrong, whoever writes next is told
            with suppress(StoreError):
                await self._refresh(self._heart)

    async def _refresh(self, connection: Connection) -> None:
        """Hold the lease for another while, and the ownership where the server has forgotten it."""
        arguments = (self._session.own(), self._record, self._nonce, self._lease_ms)
        (answer,) = await connection.batch(call(redis_scripts.REFRESH, self._keys, *arguments))
        if not isinstance(answer, Exception) and answer[0] == b"lost":
            _log.warning("%s has lost what was in it; the next checkpoint is a whole one", self._session.address)
