"""Snapshots of the live worker; see `ostinato.server.http.services.CheckpointService`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ostinato.server.failures import NotReadyError
from ostinato.server.http.pages import page_of
from ostinato.server.http.schemas.jobs import CheckpointInfo, CheckpointPage
from ostinato.server.live.process import Live
from ostinato.state import manifest as manifests
from ostinato.state.errors import StateError
from ostinato.state.stores import StoreOptions
from ostinato.state.stores.base import CheckpointStore

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller

_SECONDS = 60.0


class Checkpoints:
    """Of a store that the live worker owns."""

    def __init__(self, live: Live, address: str) -> None:
        self._live = live
        self._address = address

    async def list(self, limit: int, after: str | None) -> CheckpointPage:
        items = await asyncio.to_thread(self._read)
        page, more = page_of(items, limit, after, lambda info: f"{(1 << 60) - info.id:019}")
        return CheckpointPage(page, more)

    async def take(self, caller: Caller) -> CheckpointInfo:  # noqa: ARG002 - the audit log has him
        made = await self._live.ask("checkpoint", seconds=_SECONDS)
        for info in await asyncio.to_thread(self._read):
            if info.id == made["id"]:
                return info
        raise NotReadyError("the snapshot was taken, and others have followed; look at the list")

    def _read(self) -> Sequence[CheckpointInfo]:
        """The newest first."""
        from ostinato.cep.runtime.partitioned.snapshots import Stores

        store: CheckpointStore = Stores(self._address, StoreOptions(), "live").open(0)
        found = []
        try:
            for entry in store.entries():
                try:
                    manifest = manifests.decode(store.manifest(entry.id), f"snapshot {entry.id}")
                except StateError:
                    continue  # it has just been deleted, or is damaged, which the worker says when it matters
                live = manifest.sinks.get("live", {})
                found.append(
                    CheckpointInfo(
                        manifest.id,
                        manifest.taken_at,
                        live.get("position", 0),
                        live.get("generation", 0),
                        live.get("seq", 1) - 1,
                        sum(blob.size for blob in manifest.blobs),
                        self._duration(manifest.id),
                    )
                )
        except StateError as error:
            raise NotReadyError(f"the snapshots cannot be read: {error}") from error
        finally:
            store.close()
        return found

    def _duration(self, number: int) -> int:
        last = self._live.last_snapshot
        return round(last.seconds * 1000) if last is not None and last.id == number else 0
