"""One partition, as the thread that computes sees it: what it is doing, what it has still to read, when it commits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from ostinato.cep.connectors.base import Chunk, ConnectorError
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, LostOffsetsError, NotAMemberError, TooLargeError
from ostinato.cep.connectors.kafka.producers import Producer
from ostinato.cep.runtime.attempt import counters_of
from ostinato.cep.runtime.partitioned.commit import CutAt, commit, tidy
from ostinato.cep.runtime.partitioned.rekey import Rekeyed, by_origin
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.cep.runtime.partitioned.snapshots import Cut, Written
from ostinato.cep.runtime.partitioned.takeover import Committed, Loaded, load
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.sources import ReadChunk, Tick, wall_clock
from ostinato.cep.runtime.statistics import PartitionNumbers
from ostinato.state.errors import DurabilityError, FencedError, SnapshotError, StateError, StoreError
from ostinato.state.eventloop import EventLoop
from ostinato.state.manifest import SourceState
from ostinato.state.steps import reached

if TYPE_CHECKING:
    from ostinato.cep.connectors.kafka.records import RecordBlock
    from ostinato.cep.runtime.partitioned.cluster import Cluster
    from ostinato.patterns.ast import Stream

_TICK_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = (0.2, 10.0)
"""Between two attempts to take a partition over or to write a snapshot: the first, the longest."""
_OUTPUT_RECORDS: Final = 200_000
"""So many records may wait for a commit to end; then the partition stands still."""


class Upstream(Protocol):
    """The member of the group, as a partition needs it. Coroutines are for its event loop."""

    loop: EventLoop

    def make_producer(self, number: int, *, routing: bool) -> Producer: ...

    async def confirm(self) -> None:
        """Raise where we are no member of the group at the moment."""

    @property
    def cluster(self) -> Cluster: ...

    def begin_reading(self, number: int, next_: dict[str, int], epoch: int) -> None:
        """Let records come from these offsets on; `epoch` comes with each block."""

    def stop_reading(self, number: int, topics: Collection[str]) -> None: ...

    def wake(self) -> None:
        """There is something to look at."""


class Phase(Enum):
    """What a partition is doing.

    WAITING: for the next attempt; TAKING: it is being taken over; RUNNING; SUSPENDED: the group is being rebalanced,
    its state is kept in case it comes back; CLOSED.
    """

    WAITING = "waiting"
    TAKING = "taking over"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Task:
    """A partition number of all input topics. All methods are for the thread that computes."""

    def __init__(
        self, setup: Setup, number: int, upstream: Upstream, announce: Callable[[str], None], *, routing: bool = False
    ) -> None:
        """`routing`: it only brings records to where their keys belong."""
        self.number = number
        self.routing = routing
        self.name = f"partition {number}{' (routing)' if routing else ''}"
        self.phase = Phase.WAITING
        self.failures = 0
        """How often it had to be taken over anew."""
        self.commits = 0
        self.numbers = PartitionNumbers()
        """Of what was committed, or not; where it stands is asked for."""
        self.queued_bytes = 0
        self.epoch = 0
        self.progressed = time.monotonic()
        """When it last moved, or had nothing to do."""
        self.loaded: Loaded | None = None
        self._setup = setup
        self._upstream = upstream
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, f"partition-{number}")
        self._producer: Producer | None = None
        self._taking: Future[tuple[Producer, Loaded]] | None = None
        self._sending: deque[Future[None]] = deque()
        self._committing: Future[Written] | None = None
        self._tidying: Future[None] | None = None
        self._queue: deque[tuple[str, RecordBlock]] = deque()
        self._retry_at = 0.0
        self._pause = _RETRY_SECONDS[0]
        self._cut_at = 0.0
        self._ticked = 0.0
        self._is_dirty = False
        self._was_idle = False
        self._waits_for_store = 0

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Those that it reads."""
        streams = self._setup.streams
        return tuple(streams[each.source] for each in self._setup.rekeyed) if self.routing else streams

    # What the group says

    def suspend(self) -> None:
        """A rebalance begins: take nothing more, and commit what there is."""
        if self.phase == Phase.RUNNING:
            self.phase = Phase.SUSPENDED
            self._forget_queue()
            if self._is_dirty and self._committing is None and not self._is_muted:
                self._cut()

    def resume(self) -> None:
        """The partition has come back, and nobody else has had it. If somebody has, the next commit is refused."""
        if self.phase not in (Phase.SUSPENDED, Phase.RUNNING):
            return
        assert self.loaded is not None
        self._forget_queue()
        topics = self._upstream.cluster.topics_of(self.number, routing=self.routing)
        if any(topic not in self.loaded.next for own in topics for topic in own):
            # There is one more to read. What is under way is settled by the next producer.
            self._drop()
            self.phase = Phase.WAITING
            return
        self.phase = Phase.RUNNING
        self._read_on()

    @property
    def is_settled(self) -> bool:
        """Has it nothing under way that a rebalance should wait for?"""
        has_more = self._is_dirty and self.phase == Phase.SUSPENDED and not self._is_muted
        return self._committing is None and not has_more

    @property
    def _is_muted(self) -> bool:
        return self.loaded is not None and bool(self.loaded.muted_until)

    def close(self) -> None:
        """It is somebody else's now, or the job ends."""
        if self.phase == Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self._forget_queue()
        self._drop()
        taking, self._taking = self._taking, None
        if taking is None:
            self._thread.shutdown(wait=False)
        else:
            taking.add_done_callback(self._let_go)

    def _let_go(self, taking: Future[tuple[Producer, Loaded]]) -> None:
        """The partition has been taken over after all, and is somebody else's by now."""
        if not taking.cancelled() and taking.exception() is None:
            producer, loaded = taking.result()
            self._upstream.loop.submit(producer.discard())
            self._thread.submit(loaded.snapshots.close)
        self._thread.shutdown(wait=False)

    # What happens

    def take(self, topic: str, block: RecordBlock, epoch: int) -> None:
        """A block of records has come."""
        if epoch == self.epoch and self.phase == Phase.RUNNING:
            self._queue.append((topic, block))
            self.queued_bytes += block.size

    def poll(self, now: float) -> None:
        """Look after what is under way. Raises what no other attempt can mend."""
        if self.phase == Phase.WAITING and now >= self._retry_at:
            self._begin_taking()
        if self._taking is not None and self._taking.done():
            taking, self._taking = self._taking, None
            self._settle_taking(taking)
        if self.phase not in (Phase.RUNNING, Phase.SUSPENDED):
            return
        try:
            self._collect()
        except Exception as error:  # noqa: BLE001 - it is judged
            self._fail(error)
            return
        if self.phase == Phase.RUNNING:
            if now - self._ticked >= _TICK_SECONDS and not self._is_muted:
                self._ticked = now
                self._tick()
            if self._is_due(now):
                self._cut()
        elif self._is_dirty and self._committing is None and not self._is_muted and now >= self._cut_at:
            self._cut()

    @property
    def has_work(self) -> bool:
        """Is there a block that may go through now?"""
        if self.phase != Phase.RUNNING or not self._queue or self.loaded is None:
            return False
        return not self.is_choked and self._next_block() is not None

    @property
    def is_choked(self) -> bool:
        """Does so much wait for a commit that more should not be made?"""
        return self.loaded is not None and self._waiting_records() > _OUTPUT_RECORDS

    def step(self) -> None:
        """Let one block go through. Raises MatchError, StrictError and whatever user code raises."""
        loaded = self.loaded
        assert loaded is not None
        found = self._next_block()
        if found is None:
            return
        at, topic, block = found
        del self._queue[at]
        self.queued_bytes -= block.size
        until = loaded.muted_until.get(topic)
        if until is not None and block.next_offset > until:
            before = block.before(until)
            rest = block.after(until)
            if len(rest) or rest.next_offset > until:
                self._queue.insert(at, (topic, rest))
                self.queued_bytes += rest.size
            block = before
        now = wall_clock()
        for source, splits in enumerate(loaded.splits):
            if topic in splits:
                through = None if self.routing else self._setup.through(source)
                if through is None:
                    self._pass(source, splits[topic], block, now)
                else:
                    self._pass_rekeyed(source, block, through, now)
        loaded.next[topic] = block.next_offset
        self._is_dirty = True
        self.progressed = time.monotonic()
        if loaded.muted_until:
            self._unmute(loaded)
        self._send()

    def _pass(self, source: int, split: int, block: RecordBlock, now: int) -> None:
        assert self.loaded is not None
        chunk = Chunk(block, block.size, split=split, source=f"{block.topic}/{block.partition}")
        self.loaded.pipeline.step(ReadChunk(source, chunk, now))

    def _pass_rekeyed(self, source: int, block: RecordBlock, through: Rekeyed, now: int) -> None:
        loaded = self.loaded
        assert loaded is not None
        assert isinstance(loaded.pipeline, Pipeline)
        splits = loaded.origins[source]
        for origin in by_origin(block, through.topics):
            split = splits.setdefault(origin.place, max(splits.values(), default=0) + 1)
            if origin.block is not None:
                self._pass(source, split, origin.block, now)
            if origin.max_time is not None:
                loaded.pipeline.mark(source, split, origin.max_time, idle=origin.idle, now=now)

    # Taking over

    def _begin_taking(self) -> None:
        self.phase = Phase.TAKING
        self._taking = self._upstream.loop.submit(self._take_over())
        self._taking.add_done_callback(lambda _: self._upstream.wake())

    async def _take_over(self) -> tuple[Producer, Loaded]:
        """See `ostinato.cep.runtime.partitioned.takeover` for the numbers."""
        await self._upstream.confirm()
        reached("txn.fence")
        producer = self._upstream.make_producer(self.number, routing=self.routing)
        try:
            await self._begin_producer(producer)  # 1
            reached("txn.fenced")
            committed = await self._upstream.cluster.committed(self.number, routing=self.routing)  # 2
            reached("txn.position")
            topics = self._upstream.cluster.topics_of(self.number, routing=self.routing)
            loading = self._thread.submit(
                load,
                self._setup,
                self.number,
                topics,
                committed,
                self._announce,
                routing=self.routing,
                unchanged=lambda: self._upstream.loop.submit(self._is_unchanged(committed)).result(),
            )
            return producer, await asyncio.wrap_future(loading)  # 3
        except BaseException:
            await producer.discard()
            raise

    async def _is_unchanged(self, committed: Committed) -> bool:
        """Is what was read in step 2 still so, and is the partition's group still ours?"""
        await self._upstream.confirm()
        again = await self._upstream.cluster.committed(self.number, routing=self.routing)
        return (again.offsets, again.position) == (committed.offsets, committed.position)

    async def _begin_producer(self, producer: Producer) -> None:
        """Aiokafka would try for ever, and say nothing."""
        try:
            async with asyncio.timeout(self._setup.watchdog_seconds):
                await producer.start()
        except TimeoutError:
            seconds = self._setup.watchdog_seconds
            raise KafkaUnavailableError(
                f"no coordinator has begun the producer within {seconds:g} s; look at __transaction_state"
            ) from None

    def _settle_taking(self, taking: Future[tuple[Producer, Loaded]]) -> None:
        error = taking.exception()
        if error is None:
            self._producer, self.loaded = taking.result()
            loaded = self.loaded
            self.phase = Phase.RUNNING
            self._is_dirty = loaded.is_new
            self._waits_for_store = 0
            self._cut_at = time.monotonic() if not loaded.is_new else 0.0
            self._read_on()  # 4
            return
        if isinstance(error, DurabilityError):
            raise error  # the store cannot do what it is for
        self._fail(error)

    def _read_on(self) -> None:
        assert self.loaded is not None
        self.epoch += 1
        self.progressed = time.monotonic()
        self._upstream.begin_reading(self.number, dict(self.loaded.next), self.epoch)

    def _unmute(self, loaded: Loaded) -> None:
        for topic in [topic for topic, until in loaded.muted_until.items() if loaded.next[topic] >= until]:
            del loaded.muted_until[topic]
        if loaded.muted_until:
            return
        stands = self._watermark(loaded)
        if loaded.watermark is not None and stands != loaded.watermark:
            self._announce(
                f"{self.name}: after playing the input again time stands at {stands} and not at "
                f"{loaded.watermark}: something besides the input has moved it (idleness, processing time)"
            )
            loaded.pipeline.lift(loaded.watermark)  # what is due by then was written before, too
        loaded.outbox.muted = False
        self._announce(f"{self.name}: the state has been rebuilt")

    # Committing

    def _is_due(self, now: float) -> bool:
        if not self._is_dirty or self._committing is not None or self._is_muted:
            return False
        return (now - self._cut_at) * 1000 >= self._setup.interval_ms

    def _cut(self) -> None:
        """Cut the partition here, and commit it behind the scenes."""
        loaded, producer = self.loaded, self._producer
        assert loaded is not None
        assert producer is not None
        loaded.pipeline.prepare()
        self._send()
        whole = loaded.snapshots.wanted()
        pipeline = loaded.pipeline
        state = pipeline.snapshot(self.commits, whole)
        pipeline.count_patterns()
        sources = [
            SourceState(
                stream.name,
                {split: {"topic": topic, "offset": loaded.next[topic]} for topic, split in splits.items()},
                held,
            )
            for stream, splits, held in zip(self.streams, loaded.splits, pipeline.times(), strict=True)
        ]
        counters = counters_of(pipeline.statistics)
        cut = Cut(state, whole, sources, dict(loaded.outbox.rows), counters, wall_clock(), loaded.origins)
        self._was_idle = self.is_idle
        at = CutAt(cut, self.number, dict(loaded.next), loaded.began, self._watermark(loaded), self._was_idle)
        self._is_dirty = False
        self._cut_at = time.monotonic()
        self._committing = self._upstream.loop.submit(commit(producer, loaded.snapshots, self._thread, at))
        self._committing.add_done_callback(lambda _: self._upstream.wake())

    def _collect(self) -> None:
        """See what has become of what was begun. Raises what it failed with."""
        while self._sending and self._sending[0].done():
            self._sending.popleft().result()
        if self._tidying is not None and self._tidying.done():
            tidying, self._tidying = self._tidying, None
            if (error := tidying.exception()) is not None:
                if isinstance(error, FencedError):
                    raise error
                self._announce(f"{self.name}: old snapshots could not be deleted: {error}")
        if self._committing is None or not self._committing.done():
            return
        committing, self._committing = self._committing, None
        error = committing.exception()
        if error is None:
            written = committing.result()
            self.commits += 1
            if self._setup.is_exact:
                self.numbers.commits += 1
                self.numbers.commit_seconds += time.monotonic() - self._cut_at
            self._pause = _RETRY_SECONDS[0]
            self.progressed = time.monotonic()
            if self._waits_for_store:
                self._announce(f"{self.name}: snapshots are written again")
                self._waits_for_store = 0
            assert self.loaded is not None
            self._tidying = self._thread.submit(tidy, self.loaded.snapshots, written)
            self._send()
        elif isinstance(error, StoreError) and not isinstance(error, FencedError):
            # The transaction is open still: the next cut, a whole one, goes into it too.
            self._waits_for_store += 1
            if self._waits_for_store & (self._waits_for_store - 1) == 0:
                self._announce(f"{self.name}: no snapshot, so nothing is committed: {error}; it is tried again")
            self._is_dirty = True
            self._cut_at = time.monotonic() + min(_RETRY_SECONDS[1], _RETRY_SECONDS[0] * 2**self._waits_for_store)
            self._send()
        else:
            raise error

    def _send(self) -> None:
        """Hand records on to the producer; while a commit is under way they wait, for they belong to the next one."""
        if self._committing is not None or self.loaded is None or self._producer is None:
            return
        records = self.loaded.outbox.take()
        if records:
            self._is_dirty = True
            sending = self._upstream.loop.submit(self._producer.send(records))
            sending.add_done_callback(
                lambda done: None if done.cancelled() or not done.exception() else self._upstream.wake()
            )
            self._sending.append(sending)

    def _waiting_records(self) -> int:
        return 0 if self.loaded is None else self.loaded.outbox.waiting

    # Time

    def _tick(self) -> None:
        loaded = self.loaded
        assert loaded is not None
        before = self._watermark(loaded)
        loaded.pipeline.step(Tick(wall_clock(), idle=not self._queue))
        if self._watermark(loaded) != before or self.is_idle != self._was_idle:
            self._is_dirty = True
        self._send()

    @property
    def is_idle(self) -> bool:
        """Has nothing come for so long that the partition holds nobody's time back?"""
        return self.loaded is not None and all(intake.time.is_idle for intake in self.loaded.pipeline.intakes)

    @property
    def watermark(self) -> int | None:
        """The smallest of its sources', ms; None where it has no state."""
        return None if self.loaded is None else self._watermark(self.loaded)

    def watermarks(self) -> dict[str, int]:
        """Of each stream; nothing where it has no state, or only brings records to where they belong."""
        if self.loaded is None or self.routing:
            return {}
        intakes = self.loaded.pipeline.intakes
        return {stream.name: intake.time.watermark for stream, intake in zip(self._setup.streams, intakes, strict=True)}

    def lift(self, watermark: int, ends: Mapping[tuple[str, int], int]) -> None:
        """All that is not idle has come so far: so has an idle partition that has read to its `ends`."""
        if self.phase != Phase.RUNNING or self.loaded is None or self._queue or self._is_muted or not self.is_idle:
            return
        read = {topic for own in self._upstream.cluster.topics_of(self.number, routing=False) for topic in own}
        loaded = self.loaded
        if all(ends.get((topic, self.number), -1) == at for topic, at in loaded.next.items() if topic in read):
            before = self._watermark(loaded)
            loaded.pipeline.lift(watermark)
            self._is_dirty = self._is_dirty or self._watermark(loaded) != before
            self._send()

    def _watermark(self, loaded: Loaded) -> int:
        return min(intake.time.watermark for intake in loaded.pipeline.intakes)

    # Failures

    def fail(self, error: Exception) -> None:
        """What the partition did has failed: begin anew from what is committed."""
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, NotAMemberError) and self.phase == Phase.TAKING:
            self.phase = Phase.WAITING
            self._retry_at = time.monotonic() + _RETRY_SECONDS[0]
            return
        self.failures += 1
        if is_fatal(error):
            raise error
        if self.phase in (Phase.SUSPENDED, Phase.CLOSED):
            self._announce(f"{self.name}: {error}; whoever has it next takes it over anew")
            self.close()
            return
        self._forget_queue()
        self._drop()
        pause = self._pause
        self._pause = min(_RETRY_SECONDS[1], 2 * pause)
        self._announce(f"{self.name}: {error}; it is taken over anew in {pause:g} s")
        self.phase = Phase.WAITING
        self._retry_at = time.monotonic() + pause

    def _drop(self) -> None:
        """Forget the state in memory; what is committed is what there is."""
        self.epoch += 1
        if self._producer is not None and self._producer.is_open:
            self.numbers.aborts += 1
        producer, self._producer = self._producer, None
        loaded, self.loaded = self.loaded, None
        if loaded is not None:
            self._upstream.stop_reading(self.number, loaded.next)
        self._committing = self._tidying = None
        self._sending.clear()
        if producer is not None:
            self._upstream.loop.submit(producer.discard())
        if loaded is not None:
            self._thread.submit(loaded.snapshots.close)

    def _forget_queue(self) -> None:
        self._queue.clear()
        self.queued_bytes = 0

    def _next_block(self) -> tuple[int, str, RecordBlock] | None:
        """The first block that may go through: while the output is muted, none from behind where it ends."""
        loaded = self.loaded
        assert loaded is not None
        if not loaded.muted_until:
            return (0, *self._queue[0]) if self._queue else None
        for at, (topic, block) in enumerate(self._queue):
            if topic in loaded.muted_until:
                return at, topic, block
        return None


def is_fatal(error: BaseException) -> bool:
    """Would another attempt, here or elsewhere, end the same way?"""
    from ostinato.cep.runtime.outputs import StrictError
    from ostinato.patterns.errors import PatternError

    if isinstance(error, FencedError):
        return False
    if isinstance(error, (SnapshotError, LostOffsetsError, TooLargeError, StrictError, PatternError)):
        return True
    # anything else that is no matter of Kafka, of the store or of the system is a bug, ours or the user's
    return not isinstance(error, (ConnectorError, StateError, OSError, TimeoutError))
