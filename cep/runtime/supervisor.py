"""The parent of a parallel job: deals out the input, collects the output in order, and lets no worker outlive it.

The main thread collects and writes; a second thread reads the sources and deals entry k to worker k mod N, never more
than a window ahead of what has been written, so that memory is bounded whatever is slow.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec
import numpy as np

from ostinato.cep.batch import Batch, concat_batches
from ostinato.cep.connectors.base import BadRecord, ConnectorError, Reader
from ostinato.cep.runtime import frames, slots, wire
from ostinato.cep.runtime.attempt import (
    Attempt,
    Ending,
    conclude,
    counters_of,
    resume_counters,
    source_states,
)
from ostinato.cep.runtime.chains import Part
from ostinato.cep.runtime.coordinator import CheckpointError, Front
from ostinato.cep.runtime.heartbeats import Heartbeats, Pulse
from ostinato.cep.runtime.inbox import Inbox
from ostinato.cep.runtime.job import STATISTICS_SECONDS, Observer, Outlet
from ostinato.cep.runtime.occupation import OUTPUT, SOURCES, HeldMeter, Meter, Occupation, times_of, together
from ostinato.cep.runtime.packing import describe_chunk, pack_chunk
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.recovery import resumed
from ostinato.cep.runtime.slots import Slots
from ostinato.cep.runtime.snapshots import Order, StoreSpec
from ostinato.cep.runtime.sources import Ended, Entry, ReadChunk, Sources, Tick, is_lull, wall_clock
from ostinato.cep.runtime.spawning import start
from ostinato.cep.runtime.statistics import PatternNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator
from ostinato.cep.runtime.wire import Kind, Message, Wire
from ostinato.cep.runtime.worker_state import RestoreSpec
from ostinato.state import errors
from ostinato.state.steps import reached
from ostinato.state.stores import StoreOptions
from ostinato.state.typed import convert

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import TransactionalOutlet

WINDOW = 4
"""Entries under way for each worker: one being decoded, one admitted, two to make up for uneven ones."""
_ASKING_SECONDS = 1.0
"""How long an interrupted job waits for its workers' last numbers: less than a person at the keyboard minds."""
_LOOKING_SECONDS = 0.05
"""How often the main thread looks whether a checkpoint is due or somebody wants something."""
_NAP_SECONDS = 0.005
"""How often the sources' thread looks for a barrier when it has nothing else to do."""
_GRACE_SECONDS = 3.0
"""How long a worker may take to notice that its parent has hung up."""


_News: TypeAlias = "tuple[int, Message | None] | BaseException | Literal['wake'] | None"
"""For the main thread: what a worker said (None: it has closed the connection), an error, that there is something to
poll, or that the sources have ended."""


class WorkerError(Exception):
    """A worker died or could not go on; the message says which and why."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A barrier in the sequence of entries: for which checkpoint, and what the parent alone knows at that point.

    `positions`: of the sources; `read_bytes` so far; `began`: monotonic seconds.
    """

    order: Order
    positions: list[dict[int, Mapping[str, Any]]]
    read_bytes: int
    began: float


@dataclass(slots=True)
class _Collected:
    """What has come of one entry so far; `patterns`: the numbers that workers told with it."""

    idle: bool
    cut: _Cut | None = None
    admitted: tuple[Any, list[memoryview]] | None = None
    done: dict[int, list[memoryview]] = field(default_factory=dict)
    patterns: dict[int, Mapping[str, PatternNumbers]] = field(default_factory=dict)


class ParallelJob:
    """A job in `workers` processes. The same input gives the same rows as in one."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        plan: Plan,
        readers: Sequence[Reader],
        outlet: Outlet,
        *,
        workers: int,
        clock: Callable[[], int] = wall_clock,
        observer: Observer | None = None,
        announce: Callable[[str], None] = lambda _: None,
        attempt: Attempt | None = None,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        """Start the workers, each with its part of the state of the checkpoint that `attempt` names.

        Args:
            spec: what each worker makes the job of, see `ostinato.cep.runtime.worker_main`; plain values.
            plan: the same job, for the parent.
            readers: one for each of the plan's sources.
            outlet: where results go.
            workers: one or more.
            clock: epoch milliseconds.
            observer: is shown the numbers while the job runs.
            announce: is given what a worker has to say to the user.
            attempt: checkpoints, where to go on from, and who may ask for what.
            heartbeats: how workers are watched.

        Raises:
            SourceError: a source cannot go on where it was.
        """
        self.statistics = Statistics()
        self.ending: Ending | None = None
        self._plan = plan
        self._outlet = outlet
        self._observer = observer
        self._announce = announce
        self._attempt = attempt or Attempt()
        self._coordinator = self._attempt.coordinator
        self._before: dict[str, PatternNumbers] = {}
        self._running, self._writing_out = Meter(), Meter()
        self._held = HeldMeter(self._writing_out)
        self._told_busy: list[Mapping[str, float]] = [{} for _ in range(workers)]
        self.statistics.measure = self._measure
        self._sources = Sources(readers, clock)
        self._schemas = frames.schemas_of(plan.streams.values())
        self._inbox: Inbox[_News] = Inbox()
        self._room = threading.Semaphore(WINDOW * workers)
        self._dealer: threading.Thread | None = None
        self._orders: queue.SimpleQueue[tuple[Order, bool, bool]] = queue.SimpleQueue()
        self._resumed = threading.Event()
        self._entries: dict[int, _Collected] = {}
        self._dealt = 0
        self._written = 0
        self._last: int | None = None
        self._ready = 0
        self._last_dealt = False
        self._is_torn = False
        self._closing = False
        heartbeats = heartbeats or Heartbeats()
        try:
            times = self._restore(readers)
        except BaseException:
            self._sources.close()
            raise
        told = {
            **spec,
            "times": times,
            "heartbeats": msgspec.to_builtins(heartbeats),
            "store": self._store_spec(),
            "restore": self._restore_spec(),
        }
        memory = slots.make(WINDOW * workers)
        try:
            self._slots = Slots(memory)
            self._workers = start(workers, told, memory, heartbeats)
        finally:
            os.close(memory)
        self._pulse = Pulse(heartbeats, self._beat)
        self._pulse.start()
        if self._coordinator is not None:
            self._coordinator.begin_attempt(workers, self._attempt.point, lambda: self._inbox.put("wake"))

    @property
    def repeatable(self) -> bool:
        """Can all sources be read a second time?"""
        return self._sources.repeatable

    @property
    def processes(self) -> tuple[int, ...]:
        """Of the workers, by their number."""
        return tuple(worker.process.pid for worker in self._workers)

    def run(self, stop: Stop) -> None:
        """Run to the end of the input, until it is asked to end, or until `stop` is requested; `ending` says which. The
        workers are gone when it returns.

        Raises:
            ConnectorError: input or output failed.
            WorkerError: a worker died or could not go on.
            StateError: the state of a checkpoint cannot be used; a checkpoint failed on which the job depends; or the
                store has another owner.
        """
        began = time.monotonic()
        is_well = False
        try:
            for number, worker in enumerate(self._workers):
                threading.Thread(target=self._listen, args=(number, worker.wire), daemon=True).start()
            try:
                self._become_ready(stop)
                began = time.monotonic()
                self._running.start()
                self._loop(stop, began)
            except StopRequested:
                stop.requested = self._is_torn = True
            self._end(stop)
            is_well = True
        except BaseException:
            reached("restart.begin")
            raise
        finally:
            self._closing = True
            if is_well and self.ending == Ending.SUSPENDED and not self._is_torn:
                self._ask()
            self._running.stop()
            self.statistics.seconds = time.monotonic() - began
            self._hang_up(kill=not is_well)

    def close(self) -> None:
        """End the workers, where they run, and close the sources."""
        self._hang_up(kill=True)
        self._sources.close()

    def _become_ready(self, stop: Stop) -> None:
        """Wait until all workers have compiled, and have their state."""
        while self._ready < len(self._workers):
            if stop.requested or self._attempt.take_requests():
                return
            self._pump()
        self._attempt.recover()
        if self._attempt.point is not None:
            reached("restore.done")
        self._dealer = threading.Thread(target=self._deal, name="sources", daemon=True)
        self._dealer.start()

    def _loop(self, stop: Stop, began: float) -> None:
        told = began
        while not stop.requested:
            if self._attempt.cancelled or (self._attempt.pending and self._attend()):
                return
            if self._last is not None and self._written >= self._last:
                self.ending = Ending.FINISHED
                return
            self._pump()
            now = time.monotonic()
            if self._observer is not None and now - told >= STATISTICS_SECONDS:
                told = now
                self.statistics.seconds = now - began
                self._observer(self.statistics)

    def _pump(self) -> None:
        """Deal with what has come, for a moment. No signal cuts through it: a message must not be lost."""
        try:
            got = self._inbox.get(timeout=_LOOKING_SECONDS)
        except queue.Empty:
            return
        if got is None:
            self._last = self._dealt
        elif isinstance(got, BaseException):
            raise got
        elif isinstance(got, tuple):
            self._take(*got)

    # Checkpoints

    def _restore(self, readers: Sequence[Reader]) -> list[Mapping[str, Any]]:
        """Let the sources stand where they were. Returns their times."""
        point = self._attempt.point
        if point is None:
            return list(_initial_times(self._plan, readers, self._sources.now()))
        self._sources.seek(point.positions(self._plan))
        self._sources.not_before(point.clock)
        reached("restore.sources")
        now = self._sources.now()
        self._before = resume_counters(self.statistics, point.manifest.counters)
        return list(resumed(point.times(self._plan), _initial_times(self._plan, readers, now), now))

    def _store_spec(self) -> Any:
        if self._coordinator is None:
            return None
        setup = self._coordinator.setup
        spec = StoreSpec.of(setup.store.location, setup.job, self._coordinator.token, setup.store_options)
        return msgspec.to_builtins(spec)

    def _restore_spec(self) -> Any:
        point = self._attempt.point
        if point is None:
            return None
        options = StoreOptions() if self._coordinator is None else self._coordinator.setup.store_options
        store = StoreSpec.of(point.store.location, point.manifest.job, 0, options)
        return msgspec.to_builtins(RestoreSpec(store, point.manifest.id, point.may_drop))

    def _attend(self) -> bool:
        """Deal with requests and checkpoints; True where the job is to end."""
        if self._attempt.take_requests():
            self.ending = Ending.CANCELED
            return True
        coordinator = self._coordinator
        if coordinator is None:
            return False
        coordinator.poll()
        order = coordinator.next()
        if order is None:
            return False
        stops, drains = coordinator.stops, coordinator.drains
        self._orders.put((order, stops, drains))
        if not stops:
            return False
        while coordinator.pending:
            self._pump()
            coordinator.poll()
        if coordinator.stopped:
            self.ending = Ending.STOPPED
        elif drains:
            raise CheckpointError("the savepoint failed with which the job was drained")
        self._resumed.set()
        return coordinator.stopped

    def _cut(self, cut: _Cut, collected: _Collected) -> None:
        """The barrier has passed all workers, and everything before it has been delivered."""
        coordinator = self._coordinator
        assert coordinator is not None
        assert collected.admitted is not None
        if coordinator.is_void(cut.order.id):
            return
        sinks = cast("TransactionalOutlet", self._outlet).prepare(cut.order.id)
        reached("checkpoint.prepared")
        numbers = Statistics(self.statistics.events, self.statistics.bad, self.statistics.late, cut.read_bytes)
        numbers.set_patterns([self._before, *collected.patterns.values()])
        sources = source_states(self._plan, cut.positions, collected.admitted[0]["time"])
        front = Front(sources, sinks, counters_of(numbers), time.monotonic() - cut.began)
        coordinator.set_front(cut.order.id, front)

    def _end(self, stop: Stop) -> None:
        """The loop has come to its end: take a last checkpoint where that is due."""
        if self._attempt.cancelled:
            self.ending = Ending.CANCELED
        if self.ending is None:
            self.ending = Ending.SUSPENDED
        is_due = self.ending in (Ending.FINISHED, Ending.SUSPENDED) and self._dealer is not None
        if self._coordinator is None or not is_due:
            return
        self.ending = conclude(
            self._coordinator, self.ending, self._attempt, stop, self._step_checkpoint, is_torn=self._is_torn
        )

    def _step_checkpoint(self) -> None:
        """Let the last checkpoint go on by a step."""
        assert self._coordinator is not None
        self._coordinator.poll()
        if (order := self._coordinator.next()) is not None:
            # What came after it would come again when the job is resumed.
            self._orders.put((order, self.ending == Ending.SUSPENDED, False))
        self._pump()

    # The sources' thread

    def _deal(self) -> None:
        """In a thread: read, and give each entry to its worker."""
        try:
            while not self._closing:
                if not self._orders.empty():
                    self._deal_barrier(*self._orders.get())
                elif self._last_dealt:
                    time.sleep(_NAP_SECONDS)  # for the last checkpoint's order, or the end
                elif (entry := self._sources.next()) is not None:
                    self._hand_out(entry)
                else:
                    self._last_dealt = True
                    self._inbox.put(None)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._inbox.put(error)

    def _hand_out(self, entry: Entry, cut: _Cut | None = None) -> None:
        """Give an entry to its worker, when there is room."""
        if not self._room.acquire(blocking=False):
            with self._held.running():
                self._room.acquire()
        if self._closing:
            return
        number = self._dealt
        self._entries[number] = _Collected(is_lull(entry), cut)
        self._dealt = number + 1
        if isinstance(entry, ReadChunk):
            self.statistics.bytes += entry.chunk.size
        packed = _packed(entry, number, self._slots) if cut is None else _barrier(cut.order)
        with contextlib.suppress(OSError):  # a dead worker is reported by its listener
            self._workers[number % len(self._workers)].wire.send(Kind.ENTRY, number, packed)

    def _deal_barrier(self, order: Order, stops: bool, drains: bool) -> None:
        """Cut the sequence here."""
        if drains:
            for ended in self._sources.drain():
                self._hand_out(ended)
        cut = _Cut(order, [dict(splits) for splits in self._sources.positions], self.statistics.bytes, time.monotonic())
        payload = wire.pack(msgspec.to_builtins(order))
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.wire.send(Kind.ORDER, order.id, payload)
        self._hand_out(Tick(0, idle=False), cut)
        reached("checkpoint.barrier")
        if stops:
            while not self._closing and not self._resumed.wait(_NAP_SECONDS):
                pass
            self._resumed.clear()

    def _beat(self) -> None:
        """In a thread: tell the workers that this process lives, and look after them."""
        for number, worker in enumerate(self._workers):
            worker.wire.beat()
            silent = worker.watch.silence()
            if silent is not None and not self._closing:
                worker.process.kill()  # it may be stopped, which would not even let it end
                told = f"has not been heard of for {silent:.1f} s and was killed"
                self._inbox.put(WorkerError(f"worker {number} (process {worker.process.pid}) {told}"))

    def _listen(self, number: int, connection: Wire) -> None:
        """In a thread for each worker: hand over what it sends."""
        watch = self._workers[number].watch
        while (message := connection.receive()) is not None:
            watch.heard()
            if message.kind != Kind.BEAT:
                self._inbox.put((number, message))
        self._inbox.put((number, None))

    def _ask(self) -> None:
        """Have every worker tell its numbers once more; what else comes meanwhile is dealt with."""
        deadline = time.monotonic() + _ASKING_SECONDS
        waiting = len(self._workers)
        with contextlib.suppress(OSError, queue.Empty, WorkerError, ConnectorError):
            for worker in self._workers:
                worker.wire.send(Kind.ASK, 0)
            while waiting:
                got = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                if isinstance(got, tuple):
                    waiting -= got[1] is not None and got[1].kind == Kind.NUMBERS
                    self._take(*got)

    def _take(self, number: int, message: Message | None) -> None:
        """Deal with a message of a worker."""
        if message is None:
            raise WorkerError(self._workers[number].obituary(number))
        head: Any = None
        parts: list[memoryview] = []
        if message.payload:
            head, parts = wire.unpack(message.payload)
        match message.kind:
            case Kind.READY:
                self._ready += 1
            case Kind.STATUS:
                self._announce(head)
            case Kind.FAILED:
                raise _failure(*head)
            case Kind.ADMITTED:
                self._entries[message.sequence].admitted = (head, parts)
            case Kind.DONE:
                collected = self._entries[message.sequence]
                collected.done[number] = parts
                if "patterns" in head:
                    collected.patterns[number] = self._note(number, head)
            case Kind.NUMBERS:
                self._note(number, head)
            case Kind.PART:
                self._take_part(message.sequence, head)
        while (next_ := self._entries.get(self._written)) is not None and self._is_complete(next_):
            del self._entries[self._written]
            self._written += 1
            self._room.release()
            with self._writing_out.running():
                self._write(next_)
            if next_.cut is not None:
                self._cut(next_.cut, next_)

    def _take_part(self, id: int, head: Any) -> None:  # noqa: A002
        """A worker has written its part of a checkpoint, or could not."""
        assert self._coordinator is not None
        if "error" in head:
            self._coordinator.fail(id, _failure(head["kind"], head["error"]))
        else:
            self._coordinator.add_part(id, convert(head, Part))

    def _measure(self) -> Occupation:
        """What the time went into. A worker never waits for what comes after it: it gets no more entries."""
        seconds = self._running.seconds
        busy = {SOURCES: self._sources.reading.seconds, OUTPUT: self._writing_out.seconds}
        own = times_of(seconds, busy, {SOURCES: self._held.seconds})
        # Held back by the output, not by a worker that has more to do than the others.
        held = self._held.overlap
        workers = [times_of(seconds, told, dict.fromkeys(told, held)) for told in self._told_busy]
        return Occupation({SOURCES: own[SOURCES], **together(workers), OUTPUT: own[OUTPUT]}, workers)

    def _note(self, number: int, told: Mapping[str, Any]) -> Mapping[str, PatternNumbers]:
        self._told_busy[number] = told["busy"]
        own = {name: PatternNumbers(*values) for name, values in told["patterns"].items()}
        self._workers[number].patterns = own
        self.statistics.set_patterns([self._before, *(worker.patterns for worker in self._workers)])
        return own

    def _is_complete(self, collected: _Collected) -> bool:
        return collected.admitted is not None and len(collected.done) == len(self._workers)

    def _write(self, collected: _Collected) -> None:
        assert collected.admitted is not None
        said, late = collected.admitted
        self.statistics.events += said.get("events", 0)
        bad = [BadRecord(*record) for record in said.get("bad", ())]
        if bad:
            self.statistics.bad += len(bad)
            self._outlet.reject(bad)
        for frame in late:
            batch = frames.decode(frame, self._schemas)
            self.statistics.late += len(batch)
            self._outlet.deliver(batch)
        by_stream: dict[str, list[Batch]] = {}
        for number in range(len(self._workers)):
            for frame in collected.done[number]:
                batch = frames.decode(frame, self._schemas)
                by_stream.setdefault(batch.stream, []).append(batch)
        for batches in by_stream.values():
            batch = concat_batches(batches)
            # What one entry released, in the order of time whichever worker found it.
            self._outlet.deliver(batch.take(np.argsort(batch.time, kind="stable")) if len(batches) > 1 else batch)
        self._outlet.breathe(idle=collected.idle)

    def _hang_up(self, *, kill: bool) -> None:
        """End every worker: they leave when the connection closes, and are killed when they do not, or at once."""
        self._closing = True
        self._pulse.end()
        self._room.release()
        for worker in self._workers:
            if kill:
                worker.process.kill()
            worker.wire.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        if self._dealer is not None:
            self._dealer.join(_GRACE_SECONDS)  # one that is blocked by a source is left to itself


def _failure(kind: str, text: str) -> Exception:
    """An error of a worker. What it says about state is for the supervisor to judge, by its kind."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, errors.StateError):
        return known(text)
    return errors.StoreError(text) if kind == "VoidError" else WorkerError(text)


def _barrier(order: Order) -> list[bytes | bytearray | memoryview]:
    return wire.pack({"kind": "barrier", "id": order.id})


def _initial_times(plan: Plan, readers: Sequence[Reader], now: int) -> list[dict[str, Any]]:
    times = []
    for stream, reader in zip(plan.sources, readers, strict=True):
        generator = WatermarkGenerator(TimePolicy.of(stream.time), now)
        for split in range(reader.splits):
            generator.add_split(split, now)
        times.append(generator.state())
    return times


def _packed(entry: Entry, number: int, shared: Slots) -> list[bytes | bytearray | memoryview]:
    match entry:
        case ReadChunk(source, chunk, now):
            if shared.put(number, chunk):
                return wire.pack({"kind": "chunk", "source": source, "now": now, "chunk": describe_chunk(chunk)})
            head, pieces = pack_chunk(chunk)
            return wire.pack({"kind": "chunk", "source": source, "now": now, "chunk": head}, [pieces])
        case Tick(now, _):
            return wire.pack({"kind": "tick", "now": now})
        case Ended(source, now):
            return wire.pack({"kind": "ended", "source": source, "now": now})
