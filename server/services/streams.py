"""The declared streams; see `ostinato.server.http.services.StreamService`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ostinato.server.catalog.definitions import StreamDef
from ostinato.server.changes.model import Author
from ostinato.server.changes.service import Changes, Check
from ostinato.server.changes.texts import stream_in
from ostinato.server.failures import NotThereError, ServiceError
from ostinato.server.http.pages import page_of
from ostinato.server.http.schemas import streams as schemas
from ostinato.server.live.process import Live

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller, Precondition

_STATUS_SECONDS = 1.0


class Streams:
    """Over `Changes`, and what the live worker and the feeders say of each stream."""

    def __init__(
        self, changes: Changes, live: Live, feeders: Callable[[str], Mapping[str, Any]] = lambda _: {}
    ) -> None:
        """`feeders`: of a stream, lane -> lag and error of what feeds it."""
        self._changes = changes
        self._live = live
        self._feeders = feeders

    async def list(self, limit: int, after: str | None) -> schemas.StreamPage:
        streams = self._changes.body.definitions.streams
        names, more = page_of(sorted(streams), limit, after, str)
        numbers = await self._numbers()
        return schemas.StreamPage([self._info(name, streams[name], numbers.get(name, {})) for name in names], more)

    async def get(self, name: str) -> schemas.StreamInfo:
        held = self._changes.body.definitions.streams.get(name)
        if held is None:
            raise NotThereError(f"there is no stream `{name}`")
        return self._info(name, held, (await self._numbers()).get(name, {}))

    async def put(self, name: str, text: str, caller: Caller, condition: Precondition) -> schemas.StreamInfo:
        await self._changes.put_stream(name, text, Author(caller.name), check=_held(name, condition))
        return await self.get(name)

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> None:
        await self._changes.delete_stream(name, Author(caller.name), check=_held(name, condition))

    async def _numbers(self) -> Mapping[str, Any]:
        with contextlib.suppress(ServiceError):
            status = await self._live.ask("status", seconds=_STATUS_SECONDS)
            found: Mapping[str, Any] = status["streams"]
            return found
        return {}

    def _info(self, name: str, held: StreamDef, numbers: Mapping[str, Any]) -> schemas.StreamInfo:
        stream = stream_in(held.text)
        lanes = numbers.get("lanes", {})
        feeding = self._feeders(name)
        awake = {lane: at["max_time"] for lane, at in lanes.items() if not at["idle"] and at["max_time"] is not None}
        used = sorted(
            checked.pattern.name.partition("@")[0]
            for checked in self._changes.runnable.checked.values()
            if checked.stream.name == name
        )
        return schemas.StreamInfo(
            name,
            held.text,
            str(held.revision),
            stream.source.kind if stream.source is not None else "http",
            [
                schemas.FieldInfo(
                    column.name,
                    str(column.type),
                    "key" if column.key else "time" if column.name == stream.time.column else "",
                    not column.key,
                )
                for column in stream.columns
            ],
            held.at_ms,
            held.at_ms,
            held.author,
            list(dict.fromkeys(used)),
            numbers.get("rows", 0),
            numbers.get("late", 0),
            numbers.get("dead_letters", 0),
            numbers.get("watermark"),
            min(awake, key=lambda lane: awake[lane]) if len(awake) > 1 else None,
            [
                schemas.LaneInfo(
                    lane,
                    lanes.get(lane, {}).get("max_time"),
                    lanes.get(lane, {}).get("idle", False),
                    lanes.get(lane, {}).get("rows", 0),
                    feeding.get(lane, {}).get("lag"),
                    feeding.get(lane, {}).get("error"),
                )
                for lane in sorted({*lanes, *feeding})
            ],
        )


def _held(name: str, condition: Precondition) -> Check:
    def check(tag: str | None) -> None:
        condition.check(f"stream `{name}`", tag)

    return check
