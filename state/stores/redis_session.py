"""Commands of a process to the Redis of its job, under its fencing token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ostinato.state.errors import DurabilityError, FencedError, LostError, StoreError
from ostinato.state.stores import redis_proof
from ostinato.state.stores.options import StoreOptions
from ostinato.state.stores.process import Owner
from ostinato.state.stores.redis_link import Command, Connection, refused, shown
from ostinato.state.stores.redis_scripts import Keys
from ostinato.state.typed import decode_json

_log = logging.getLogger(__name__)


class Session:
    """One thing at a time: whoever sends something holds `turn`.

    Attributes:
        address: for messages.
        token: the fencing token, None as long as nothing may be written.
        on_lost: what to do when the server has lost something; of the owner only.
    """

    def __init__(self, address: str, keys: Keys, options: StoreOptions) -> None:
        self.address = shown(address)
        self.keys = keys
        self.options = options
        self.connection = Connection(address, options.timeout_seconds)
        self.turn = asyncio.Lock()
        self.token: int | None = None
        self.on_lost: Callable[[Connection], Awaitable[None]] | None = None
        self._proof: redis_proof.Proof | None = None

    def own(self) -> int:
        """The token. Raises StoreError where there is none."""
        if self.token is None:
            raise StoreError(f"{self.address} is not owned by this process: it was only opened for reading")
        return self.token

    async def ask(self, *commands: Command, doing: str = "reading") -> list[Any]:
        """The answers, none of which is an error. Raises StoreError."""
        if not commands:
            return []
        answers = await self.connection.batch(*commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise refused(self.address, doing, answer) from answer
        return answers

    async def write(self, *commands: Command, doing: str, wait: bool = False) -> list[Any]:
        """The answers of scripts that change something; `wait`: until the disk has it.

        Raises FencedError, LostError, DurabilityError, StoreError.
        """
        wait = wait and self._proof is not None and self._proof.must_wait
        timeout = self.options.timeout_seconds
        answers = await self.ask(*commands, *([redis_proof.waiting(timeout)] if wait else []), doing=doing)
        waited = answers.pop() if wait else None
        for answer in answers:
            if answer[0] == b"fenced":
                by = owner_of(answer[1]) or "another process"
                raise FencedError(f"{self.address} belongs by now to {by}: what this process has begun is void")
        lost = [name.decode() for answer in answers if answer[0] == b"lost" for name in answer[1:]]
        if lost:
            if self.on_lost is not None:
                await self.on_lost(self.connection)
            names = list(dict.fromkeys(lost))
            raise LostError(f"{self.address} has lost {', '.join(names)}: the next checkpoint is a whole one", names)
        if wait:
            redis_proof.check_waited(waited, self.address, timeout)
        return answers

    async def examine(self) -> None:
        """Look at the server's settings.

        Raises:
            DurabilityError: they promise nothing, and nobody has said that this will do.
        """
        before, self._proof = self._proof, await redis_proof.examine(self.connection)
        doubt = self._proof.doubt
        if not doubt:
            return
        if self.options.durability != "lowered":
            raise DurabilityError(f"{self.address} cannot prove that what it takes survives a crash: {doubt}")
        if before is None or before.doubt != doubt:
            said = "DURABILITY LOWERED: %s may lose checkpoints that were said to be complete: %s"
            _log.warning(said, self.address, doubt)

    async def know_settings(self) -> None:
        """Have looked at them once, for a worker: the owner has said what there is to say."""
        if self._proof is None:
            self._proof = await redis_proof.examine(self.connection)


def owner_of(record: bytes, token: int = 0) -> Owner | None:
    """Who a record names; None where nobody can tell."""
    try:
        return msgspec.structs.replace(decode_json(record, Owner), token=token)
    except msgspec.MsgspecError:
        return None
