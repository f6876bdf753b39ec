"""All outputs of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ostinato.server.delivery.cursors import CursorStore
from ostinato.server.delivery.output import Backoff, Output
from ostinato.server.delivery.settings import OutputContext, OutputSettings, check_settings
from ostinato.server.delivery.status import OutputStatus


class Deliveries:
    """Belongs to one event loop."""

    def __init__(self, context: OutputContext, cursors: CursorStore, backoff: Backoff | None = None) -> None:
        self._context = context
        self._cursors = cursors
        self._backoff = backoff
        self._outputs: dict[str, Output] = {}
        self._turn = asyncio.Lock()

    async def put(self, name: str, settings: OutputSettings) -> None:
        """Begin an output, or change one: it goes on from its cursor.

        Raises:
            OutputError: the settings cannot work; what was there stays.
            MatchLogError: the log cannot be read.
        """
        check_settings(name, settings, self._context)
        async with self._turn:
            output = Output(name, settings, self._context, self._cursors, self._backoff)
            await output.prepare()  # where that cannot be, what was there goes on
            before = self._outputs.pop(name, None)
            if before is not None:
                await before.close()
                await output.prepare()  # the cursor has moved meanwhile
            self._outputs[name] = output
            output.start()

    async def remove(self, name: str) -> None:
        """End an output, and forget its cursor. What it keeps beside that, dead letters above all, stays."""
        async with self._turn:
            output = self._outputs.pop(name, None)
            if output is not None:
                await output.close()
            await asyncio.to_thread(self._cursors.delete, name)

    def pause(self, name: str) -> None:
        """Raises KeyError."""
        self._outputs[name].pause()

    def resume(self, name: str) -> None:
        """Also one that has failed. Raises KeyError."""
        self._outputs[name].resume()

    def grown(self, last_seq: int) -> None:
        """The log has rows up to this one by now."""
        for output in self._outputs.values():
            output.grown(last_seq)

    def statuses(self) -> Mapping[str, OutputStatus]:
        return {name: output.status for name, output in self._outputs.items()}

    async def close(self) -> None:
        async with self._turn:
            outputs, self._outputs = self._outputs, {}
            await asyncio.gather(*(output.close() for output in outputs.values()))
