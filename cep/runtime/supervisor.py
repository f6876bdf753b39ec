"""The parent of a parallel job: deals out the input, collects the output in order, and lets no worker outlive it.

The main thread collects and writes; a second thread reads the sources and deals entry k to worker k mod N, never more
than a window ahead of what has been written, so that memory is bounded whatever is slow.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, concat_batches
from ostinato.cep.connectors.base import BadRecord, ConnectorError, Reader
from ostinato.cep.runtime import frames, slots, wire
from ostinato.cep.runtime.job import STATISTICS_SECONDS, Observer, Outlet
from ostinato.cep.runtime.packing import describe_chunk, pack_chunk
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.slots import Slots
from ostinato.cep.runtime.sources import Ended, Entry, ReadChunk, Sources, Tick, wall_clock
from ostinato.cep.runtime.statistics import PatternNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator
from ostinato.cep.runtime.wire import Kind, Message, Wire

WINDOW = 4
"""Entries under way for each worker: one being decoded, one admitted, two to make up for uneven ones."""
_ASKING_SECONDS = 1.0
"""How long an interrupted job waits for its workers' last numbers: less than a person at the keyboard minds."""
_GRACE_SECONDS = 3.0
"""How long a worker may take to notice that its parent has hung up."""


class WorkerError(Exception):
    """A worker died or could not go on; the message says which and why."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    wire: Wire
    patterns: Mapping[str, PatternNumbers] = field(default_factory=dict)


@dataclass(slots=True)
class _Collected:
    """What has come of one entry so far."""

    idle: bool
    admitted: tuple[Any, list[memoryview]] | None = None
    done: dict[int, list[memoryview]] = field(default_factory=dict)


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
    ) -> None:
        """Start the workers.

        Args:
            spec: what each worker makes the job of, see `ostinato.cep.runtime.worker_main`; plain values.
            plan: the same job, for the parent.
            readers: one for each of the plan's sources.
            outlet: where results go.
            workers: two or more.
            clock: epoch milliseconds.
            observer: is shown the numbers while the job runs.
            announce: is given what a worker has to say to the user.
        """
        self.statistics = Statistics()
        self._outlet = outlet
        self._observer = observer
        self._announce = announce
        self._sources = Sources(readers, clock)
        self._schemas = frames.schemas_of(plan.streams.values())
        self._inbox: queue.SimpleQueue[tuple[int, Message | None] | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(WINDOW * workers)
        self._entries: dict[int, _Collected] = {}
        self._dealt = 0
        self._written = 0
        self._closing = False
        times = _initial_times(plan, readers, clock())
        memory = slots.make(WINDOW * workers)
        try:
            self._slots = Slots(memory)
            self._workers = _start(workers, {**spec, "times": times}, memory)
        finally:
            os.close(memory)

    def run(self, stop: Stop) -> None:
        """Run to the end of the input, or until `stop` is requested; the workers are gone when it returns.

        Raises:
            ConnectorError: input or output failed.
            WorkerError: a worker died or could not go on.
        """
        began = told = time.monotonic()
        try:
            for number, worker in enumerate(self._workers):
                threading.Thread(target=self._listen, args=(number, worker.wire), daemon=True).start()
            ready = 0
            last = None
            while last is None or self._written < last:
                if stop.requested:
                    break
                with stop.waiting():
                    got = self._inbox.get()
                if got is None:
                    last = self._dealt
                elif isinstance(got, BaseException):
                    raise got
                else:
                    ready += self._take(*got)
                    if ready == len(self._workers):
                        ready = 0
                        began = time.monotonic()
                        threading.Thread(target=self._deal, daemon=True).start()
                now = time.monotonic()
                if self._observer is not None and now - told >= STATISTICS_SECONDS:
                    told = now
                    self.statistics.seconds = now - began
                    self._observer(self.statistics)
        except StopRequested:
            stop.requested = True
        finally:
            self._closing = True
            if stop.requested:
                self._ask()
            self.statistics.seconds = time.monotonic() - began
            self._hang_up()

    def _deal(self) -> None:
        """In a thread: read, and give each entry to its worker."""
        try:
            while not self._closing and (entry := self._sources.next()) is not None:
                self._room.acquire()
                if self._closing:
                    return
                number, self._dealt = self._dealt, self._dealt + 1
                self._entries[number] = _Collected(isinstance(entry, Tick) and entry.idle)
                if isinstance(entry, ReadChunk):
                    self.statistics.bytes += entry.chunk.size
                with contextlib.suppress(OSError):  # a dead worker is reported by its listener
                    self._workers[number % len(self._workers)].wire.send(
                        Kind.ENTRY, number, _packed(entry, number, self._slots)
                    )
            self._inbox.put(None)
        except ConnectorError as error:
            self._inbox.put(error)

    def _listen(self, number: int, connection: Wire) -> None:
        """In a thread for each worker: hand over what it sends."""
        while (message := connection.receive()) is not None:
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

    def _take(self, number: int, message: Message | None) -> int:
        """Deal with a message of a worker; 1 when it says that it is ready."""
        if message is None:
            raise WorkerError(self._obituary(number))
        head: Any = None
        parts: list[memoryview] = []
        if message.payload:
            head, parts = wire.unpack(message.payload)
        match message.kind:
            case Kind.READY:
                return 1
            case Kind.STATUS:
                self._announce(head)
            case Kind.FAILED:
                raise WorkerError(head)
            case Kind.ADMITTED:
                self._entries[message.sequence].admitted = (head, parts)
            case Kind.DONE:
                self._entries[message.sequence].done[number] = parts
                if "patterns" in head:
                    self._note(number, head["patterns"])
            case Kind.NUMBERS:
                self._note(number, head)
        while (collected := self._entries.get(self._written)) is not None and self._is_complete(collected):
            del self._entries[self._written]
            self._written += 1
            self._room.release()
            self._write(collected)
        return 0

    def _note(self, number: int, patterns: Mapping[str, Sequence[int]]) -> None:
        self._workers[number].patterns = {name: PatternNumbers(*values) for name, values in patterns.items()}
        self.statistics.set_patterns([worker.patterns for worker in self._workers])

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

    def _obituary(self, number: int) -> str:
        process = self._workers[number].process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        code = process.returncode
        if code is None:
            how = "closed its connection"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"worker {number} (process {process.pid}) {how}{hint}; the job has stopped"

    def _hang_up(self) -> None:
        """End every worker: they leave when the connection closes, and are killed when they do not."""
        self._closing = True
        self._room.release()
        for worker in self._workers:
            worker.wire.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


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


def _start(count: int, spec: Mapping[str, Any], memory: int) -> list[_Worker]:
    """Spawn the workers, each joined to the parent and to every other one by a socket of its own.

    `memory`: the descriptor of the slots that chunks are handed over in.
    """
    ends: list[dict[int, socket.socket]] = [{} for _ in range(count)]
    for left in range(count):
        for right in range(left + 1, count):
            ends[left][right], ends[right][left] = socket.socketpair()
    workers = []
    try:
        for number in range(count):
            ours, theirs = socket.socketpair()
            peers = {str(peer): end.fileno() for peer, end in ends[number].items()}
            process = _spawn(number, theirs.fileno(), memory, peers)
            theirs.close()
            worker = _Worker(process, Wire(ours))
            workers.append(worker)
            worker.wire.send(Kind.JOB, number, wire.pack({**spec, "worker": number}))
    except BaseException:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        raise
    finally:
        for own in ends:
            for end in own.values():
                end.close()
    return workers


def _spawn(number: int, parent: int, memory: int, peers: Mapping[str, int]) -> subprocess.Popen[bytes]:
    arguments = [str(os.getpid()), str(parent), str(memory), *(f"{peer}={fd}" for peer, fd in peers.items())]
    # A group of its own: Ctrl-C at the terminal is the parent's business, who ends the workers in good order.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "ostinato.cep.runtime.worker_main", str(number), *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[parent, memory, *peers.values()],
        process_group=0,
    )
