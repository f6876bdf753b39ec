"""Where matches are sent; see `ostinato.server.http.services.OutputService`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from ostinato.server.catalog import Catalog, StoredOutput
from ostinato.server.delivery.deliveries import Deliveries
from ostinato.server.delivery.errors import OutputError
from ostinato.server.delivery.settings import OutputSettings, parse_settings
from ostinato.server.failures import NotThereError, RefusedError
from ostinato.server.http.pages import page_of
from ostinato.server.http.schemas import matches as schemas

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller, Precondition


class Outputs:
    """What the catalog has of outputs, running."""

    def __init__(self, catalog: Catalog, deliveries: Deliveries) -> None:
        self._catalog = catalog
        self._deliveries = deliveries
        self._turn = asyncio.Lock()

    async def begin(self) -> list[str]:
        """Begin all that the catalog has; returns what there is to say of those that cannot be."""
        wrong = []
        for stored in await self._catalog.database.run(self._catalog.outputs.all):
            try:
                await self._deliveries.put(stored.name, parse_settings(stored.settings))
            except OutputError as error:
                wrong.append(str(error))
        return wrong

    async def list(self, limit: int, after: str | None) -> schemas.OutputPage:
        stored = await self._catalog.database.run(self._catalog.outputs.all)
        page, more = page_of(stored, limit, after, lambda output: output.name)
        return schemas.OutputPage([self._info(output) for output in page], more)

    async def get(self, name: str) -> schemas.OutputInfo:
        stored = await self._catalog.database.run(self._catalog.outputs.get, name)
        if stored is None:
            raise NotThereError(f"there is no output `{name}`")
        return self._info(stored)

    async def put(
        self, name: str, settings: OutputSettings, caller: Caller, condition: Precondition
    ) -> schemas.OutputInfo:
        async with self._turn:
            await self._check(name, condition)
            try:
                await self._deliveries.put(name, settings)
            except OutputError as error:
                raise RefusedError(str(error)) from error
            plain = msgspec.to_builtins(settings)
            stored = await self._catalog.database.run(
                self._catalog.outputs.put, name, plain["type"], plain, caller.name
            )
        return self._info(stored)

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> None:  # noqa: ARG002 - audited
        async with self._turn:
            await self._check(name, condition)
            if not await self._catalog.database.run(self._catalog.outputs.delete, name):
                raise NotThereError(f"there is no output `{name}`")
            await self._deliveries.remove(name)

    async def _check(self, name: str, condition: Precondition) -> None:
        stored = await self._catalog.database.run(self._catalog.outputs.get, name)
        condition.check(f"output `{name}`", None if stored is None else str(stored.version))

    def _info(self, stored: StoredOutput) -> schemas.OutputInfo:
        return schemas.OutputInfo(
            stored.name,
            str(stored.version),
            parse_settings(stored.settings),
            stored.created_ms,
            stored.changed_ms,
            stored.changed_by,
            self._deliveries.statuses().get(stored.name),
        )
