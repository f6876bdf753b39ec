"""The way of a stream's events through a pattern: batches in, rows out, state written, events acknowledged.

One *round*:
    1. whatever the stream has ready is taken, some hundred events at most: at once when it was quiet, and with a wait
       of milliseconds for more while events keep coming
    2. the events of each partition go through its operator
    3. rows are given, one after the other, to the agent, which does with them what it will
    4. when it asks for more: where nothing more is ready, or enough time has passed, state is written:
       a. what the agent has sent by the app's producer is flushed: state must not know of matches that nobody got
       b. the journals of the changed partitions go to the table, and Kafka has confirmed them
       c. the rows of the changed keys go to the table; the next round begins meanwhile
       d. when those are confirmed too, the events are acknowledged, which lets Faust commit their offsets, and give up
          the partition
A crash before (b) is done leaves the state before, and the events are gone over again: matches since then come twice.
After it the offset in the journal says which of the events that come again are in the state; they are passed over.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostinato.cep.connectors.faust.found import Counts, Found
from ostinato.cep.connectors.faust.partition import Outcome, Partition
from ostinato.cep.connectors.faust.pattern import Ready
from ostinato.cep.connectors.faust.table import Place, StateTable, at, confirmed, make_current
from ostinato.cep.runtime.clock import SteadyClock, wall_clock
from ostinato.state.errors import SnapshotError

logger = logging.getLogger("ostinato.faust")

BATCH_EVENTS = 512
"""At most so many events go through the operator together: enough to pay for the calls, and little delay."""
_LINGERS = 4
"""While events keep coming, so many times as long as the last batch took is waited for more of them: Faust hands them
over one by one, in more time than they take here when they are many."""
_LINGER_SECONDS = 0.02
"""But not for longer than this; and an event that comes after such a pause goes through at once."""
WRITE_SECONDS = 0.25
"""State is written so often while events keep coming: that long ago is what comes twice after a crash."""
_PAUSE_SECONDS = 0.02
"""The least time between two writes, also where nothing more is ready."""
_PAUSES = 6
"""So many times as long as the last write took is nothing written: events that keep coming are more at a time then."""
_BYTES_A_SECOND = 8 << 20
"""Events that wait are written whole each time; where they are many, more seldom: about so much of them a second."""
_TICK_SECONDS = 0.1
"""How often processing time moves on while nothing comes."""

Call: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is told of things that are no matches. All may be coroutine functions."""

    on_timeout: Call | None = None
    on_late: Call | None = None
    on_bad: Call | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """Something to be handed over, and the event behind which it came; `call` None: a match, for the agent."""

    event: Any
    call: Call | None
    arguments: tuple[Any, ...]


class Session:
    """A stream with a pattern, for as long as there is the stream: an agent that fails, and is started again, goes on
    here with the match behind the one it failed on."""

    def __init__(
        self,
        stream: Any,
        ready: Ready,
        callbacks: Callbacks,
        *,
        may_drop: bool = False,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self.counts = Counts()
        self.ready = ready
        self.table: StateTable | None = None
        self._stream = stream
        self._app = stream.app
        self._callbacks = callbacks
        self._may_drop = may_drop
        self._write_seconds = write_seconds
        self._clock = SteadyClock(wall_clock)
        self._partitions: dict[int, Partition] = {}
        self._generations: dict[int, int] = {}
        self._events: dict[int, Any] = {}
        """By partition the last event; Faust itself keeps no more than a weak reference to the current one."""
        self._topic: str | None = None
        self._items: deque[_Item] = deque()
        self._unacknowledged: list[Any] = []
        self._settling: asyncio.Task[None] | None = None
        self._given = False
        self._next_write = 0.0
        self._full_write = 0.0
        self._next_tick = 0.0
        self._taken = 0.0
        self._linger = 0.0
        self._buffer: deque[tuple[Any, Any]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._app.on_partitions_assigned.connect(self._on_assigned)

    async def results(self) -> AsyncIterator[Found]:
        """Matches, until the stream ends.

        Raises what the stream raises. What fails here (the state, a pattern that says to fail, a function of its) ends
        the app: an agent that is merely started again would go on without the events in hand.
        """
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._read())
        pump = self._pump
        try:
            while True:
                while self._items:
                    item = self._items.popleft()
                    self._given = True
                    make_current(item.event)
                    if item.call is None:
                        yield item.arguments[0]
                    else:
                        answer = item.call(*item.arguments)
                        if inspect.isawaitable(answer):
                            await answer
                try:
                    if self._is_due():
                        await self._write()
                    await self._wait(pump)
                    if self._buffer:
                        self._take()
                    elif pump.done():
                        await self._write()
                        await self._settle()
                        break
                    self._tick()
                except Exception as error:
                    await self._app.crash(error)
                    raise
        except asyncio.CancelledError:
            pump.cancel()
            raise
        pump.result()

    # -- the stream --------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Take from the stream what is there, into a small buffer, so that it is seen when nothing is."""
        stream, loop = self._stream, asyncio.get_running_loop()
        stream.enable_acks = False  # events are acknowledged when state is written
        try:
            async for value in stream:
                self._buffer.append((value, stream.current_event))
                if len(self._buffer) == 1 and time.monotonic() < self._taken + _LINGER_SECONDS:
                    loop.call_later(self._linger, self._wake.set)
                elif len(self._buffer) in (1, BATCH_EVENTS):
                    self._wake.set()
                while len(self._buffer) >= 2 * BATCH_EVENTS:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._wake.set()

    async def _wait(self, pump: asyncio.Task[None]) -> None:
        """Until there are events, the stream has ended, or time has come for something."""
        now = time.monotonic()
        ends = [self._next_write] if self._is_dirty else []
        if self.ready.policy.mode != "event":
            ends.append(self._next_tick)
        if len(self._buffer) < BATCH_EVENTS and not pump.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, min(ends) - now) if ends else None)
        self._wake.clear()

    def _take(self) -> None:
        """Let what is in the buffer go through its partitions."""
        began = time.monotonic()
        by_partition: dict[int, list[tuple[Any, Any]]] = {}
        for _ in range(min(BATCH_EVENTS, len(self._buffer))):
            value, event = self._buffer.popleft()
            if event is None or not hasattr(event.message, "offset"):
                raise SnapshotError(f"pattern {self.ready.name}: its stream is no topic's, so events have no partition")
            # what was fetched before the last rebalance comes again, to whoever has its partition now
            if event.message.generation_id == self._app.consumer_generation_id:
                by_partition.setdefault(event.message.partition, []).append((value, event))
        self._room.set()
        for own in by_partition.values():
            partition = self._partition(own[0][1])
            fresh = [(value, event) for value, event in own if event.message.offset >= partition.offset]
            self.counts.repeated += len(own) - len(fresh)
            self._unacknowledged += [event for _, event in own]
            if fresh:
                last = fresh[-1][1]
                outcome = partition.take([value for value, _ in fresh], last.message.offset + 1, self._clock())
                self._events[partition.number] = last
                self._hand_over(partition, outcome, fresh)
        if self._buffer:
            self._wake.set()
        self._taken = time.monotonic()
        self._linger = min(_LINGER_SECONDS, _LINGERS * (self._taken - began))

    def _hand_over(self, partition: Partition, outcome: Outcome, events: Sequence[tuple[Any, Any]] = ()) -> None:
        told = self._callbacks
        event = self._events.get(partition.number) or Place(partition.number)
        for place, reason in outcome.bad:
            value, own = events[place]
            if told.on_bad is None:
                logger.warning("%s, offset %d: %s: %.200r", partition.place, own.message.offset, reason, value)
            else:
                self._items.append(_Item(own, told.on_bad, (value, reason)))
        if told.on_late is not None:
            self._items += [_Item(events[place][1], told.on_late, (events[place][0],)) for place in outcome.late]
        if told.on_timeout is not None:
            self._items += [_Item(event, told.on_timeout, (found,)) for found in outcome.timeouts]
        self._items += [_Item(event, None, (found,)) for found in outcome.matches]

    def _tick(self) -> None:
        """Processing time goes on without events."""
        if self.ready.policy.mode == "event" or time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + _TICK_SECONDS
        for partition in self._partitions.values():
            self._hand_over(partition, partition.tick(self._clock()))

    # -- partitions --------------------------------------------------------------------------------

    def _partition(self, event: Any) -> Partition:
        """The partition of an event, out of the table where it was not here before. Raises StateError."""
        message = event.message
        number, generation = message.partition, message.generation_id
        self._topic = self._topic or message.topic
        if message.topic != self._topic:
            raise SnapshotError(
                f"pattern {self.ready.name}: its stream reads topics {self._topic} and {message.topic}, which have no "
                "order between them; bring them into one topic first"
            )
        known = self._partitions.get(number)
        # in two generations, one directly behind the other, nobody else can have had it
        if known is not None and generation - self._generations[number] in (0, 1):
            self._generations[number] = generation
            return known
        assert self.table is not None
        made = Partition(self.ready, self.counts, message.topic, number, self._clock())
        with at(event):
            self.table.table.partition_for_key(b"")  # refuses a table with another number of partitions
        changelog = self.table.table.changelog_topic_name
        if not any((tp.topic, tp.partition) == (changelog, number) for tp in self._app.assignor.assigned_actives()):
            raise SnapshotError(f"{made.place}: Faust has not read {changelog} back, so nobody knows the state")
        self._forget(number)
        held = self.table.load(number, made.place)
        if held is not None:
            made.restore(held, may_drop=self._may_drop, end=self._app.consumer.highwater(message.tp))
            self._clock.not_before(held.journal.time["now"])
            logger.info("%s: goes on with the state of %d keys", made.place, len(held.records))
        self._partitions[number] = made
        self._generations[number] = generation
        return made

    def _forget(self, number: int) -> None:
        self._partitions.pop(number, None)
        self._unacknowledged = [event for event in self._unacknowledged if event.message.partition != number]

    async def _on_assigned(self, _: Any, assigned: Any, **__: Any) -> None:
        """Drop the state of partitions that went away."""
        if self._topic is None:
            return
        own = {tp.partition for tp in assigned if tp.topic == self._topic}
        for number in self._partitions.keys() - own:
            self._forget(number)
        if self.table is not None:
            changelog = self.table.table.changelog_topic_name
            self.table.drop(own | {tp.partition for tp in assigned if tp.topic == changelog})

    # -- state -------------------------------------------------------------------------------------

    @property
    def _is_dirty(self) -> bool:
        return bool(self._unacknowledged) or any(each.changed for each in self._partitions.values())

    def _is_due(self) -> bool:
        now = time.monotonic()
        return self._is_dirty and now >= (max(self._next_write, self._full_write) if self._buffer else self._next_write)

    async def _write(self) -> None:
        """Step 4 of a round. Raises StoreError."""
        assert self.table is not None
        began = time.monotonic()
        await self._settle()
        if self._given:
            self._given = False
            await self._app.producer.flush()
        journals = [(each.number, each.journal()) for each in self._partitions.values() if each.changed]
        rows: Sequence[Awaitable[Any]] = ()
        if journals:
            rows = await self.table.write(journals)
            self.counts.writes += 1
        done, self._unacknowledged = self._unacknowledged, []
        self._settling = asyncio.create_task(self._finish(rows, done))
        now = time.monotonic()
        pause = min(_PAUSES * (now - began), self._write_seconds)
        written = sum(len(journal.shared) for _, journal in journals)
        self._full_write = now + self._write_seconds
        self._next_write = now + max(_PAUSE_SECONDS, pause, written / _BYTES_A_SECOND)

    async def _finish(self, rows: Sequence[Awaitable[Any]], events: Sequence[Any]) -> None:
        """When the rows are confirmed, the events are done with.

        A rebalance waits for that, so that no row of ours comes behind those of the partition's next owner.
        """
        assert self.table is not None
        await confirmed(rows, self.table.name)
        for event in events:
            if event.message.partition in self._partitions:
                await self._stream.ack(event)

    async def _settle(self) -> None:
        """Wait until what was written last is done with. Raises StoreError."""
        settling, self._settling = self._settling, None
        if settling is not None:
            await settling
