"""The live worker: reads the journal from its last snapshot on, runs the patterns, and writes what comes out.

The server tells it how far the journal is durable, and asks; it tells the server how far it is. Whatever kills it,
the next one does the same again from the last snapshot, and the rows that the match log holds are not written twice.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostinato.cep.runtime.clock import wall_clock
from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.partitioned.snapshots import Cut, Snapshots, Stores, Written
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.patterns.errors import PatternError
from ostinato.server.journal import JournalReader
from ostinato.server.live import messages
from ostinato.server.live.engine import Engine, PatternFailedError, Prepared
from ostinato.server.live.generation import Generation
from ostinato.server.live.kernels import load_kernels
from ostinato.server.live.latency import Latency
from ostinato.server.live.messages import Frames
from ostinato.server.live.program import Checker, Runnable
from ostinato.server.live.questions import answer
from ostinato.server.matches import MatchLogError, MatchLogOptions, MatchLogWriter
from ostinato.state.errors import SnapshotError, StateError, StoreError
from ostinato.state.steps import reached
from ostinato.state.stores import StoreOptions

log = logging.getLogger("ostinato.live")

_READ_BYTES: Final = 4 << 20
_LOOK_SECONDS: Final = 0.02
"""While there is much to read, so often somebody is listened to."""
_ALL: Final = 1 << 62
_CHANGES: Final = 50
"""After so many of what runs memory is looked through: some tens of MB have been left by then."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a live worker is given.

    Attributes:
        journal, matches: folders.
        snapshots: the address of a store of snapshots.
        interval_ms: from one snapshot to the next.
        find: a generation by its number.
        log: how the match log is kept.
        server: whose snapshots these are.
    """

    journal: Path
    matches: Path
    snapshots: str
    interval_ms: int
    find: Callable[[int], Generation]
    log: MatchLogOptions
    server: str = ""


class Worker:
    """One life of the live worker."""

    def __init__(self, setup: Setup, link: socket.socket) -> None:
        """Restores the last snapshot; `link`: to the server. Raises StateError, JournalError."""
        self._setup = setup
        self._link = link
        self._frames = Frames.to_worker()
        self._log = MatchLogWriter(setup.matches, setup.log)
        self.latency = Latency()
        self.engine = self._fresh()
        self._snapshots = Snapshots(Stores(setup.snapshots, StoreOptions(), "live", may_drop=True), 0, KEY_GROUPS)
        self._durable = 0
        self._excludes: list[messages.Exclude] = []
        self._stopping = False
        self._changes = 0
        """Of what runs, since memory was last looked through."""
        self._prepared: Prepared | None = None
        self._has_kernels = False
        self._checker = Checker()
        self._outbox = threading.Lock()
        self._compiling = ThreadPoolExecutor(1, "compile")
        self._writing = ThreadPoolExecutor(1, "snapshot")
        self._write: Future[tuple[Written, float, int]] | None = None
        self._wanted: list[int] = []
        """Who wants one that is taken from now on."""
        self._asked: list[int] = []
        """Who waits for the one that is being written."""
        self._positions: deque[int] = deque(maxlen=2)
        """Of the snapshots that are kept, up to where they have read."""
        self._snapshot_position = -1
        self._snapshot_due = time.monotonic() + setup.interval_ms / 1000
        self.last_snapshot: messages.Snapshot | None = None
        self.snapshots = 0
        self.failed_snapshots = 0
        self.idle_seconds = 0.0
        self.started = time.monotonic()
        self.said = self._restore()
        self.recovery_seconds = time.monotonic() - self.started
        self._reader = JournalReader(setup.journal, self.engine.place.position)

    def _fresh(self) -> Engine:
        return Engine(self._log, self._setup.find, self._activated, self._measure)

    def _restore(self) -> list[str]:
        """Go on from the newest snapshot that is whole; returns what there is to say about others."""
        said: list[str] = []
        for point in self._snapshots.older(_ALL):
            if isinstance(point, SnapshotError):
                said.append(str(point))
                continue
            try:
                self._go_on_from(point)
            except SnapshotError as error:
                # only when its state is read it is found that a part of it is damaged
                said.append(str(error))
                continue
            break
        else:
            if said:
                raise SnapshotError(f"no snapshot in {self._setup.snapshots} can be used: {'; '.join(said)}")
            self._snapshots.take(None)
        if self.engine.place.seq > self._log.next_seq:
            raise SnapshotError(
                f"the match log in {self._setup.matches} ends at row {self._log.next_seq - 1}, the snapshot was taken "
                f"after row {self.engine.place.seq - 1}: rows have been lost; put the folder back from a backup"
            )
        return said

    def _go_on_from(self, point: RestorePoint) -> None:
        whose = point.manifest.sinks.get("server", self._setup.server)
        if whose != self._setup.server:
            raise StoreError(
                f"{point.name} is of server {whose}, this one is {self._setup.server}: give each server a folder "
                "of its own (checkpoints.dir)"
            )
        engine = self._fresh()
        engine.restore(point)
        self.engine = engine
        self._snapshots.take(point.manifest.id)
        self._positions.append(engine.place.position)

    # The way of everything

    def run(self) -> None:
        """Until told to stop. Raises PatternFailedError, and whatever makes going on impossible."""
        place = self.engine.place
        self._say(messages.Ready(place.position, place.seq, place.generation, tuple(self.said)))
        self._compiling.submit(self._load_kernels, self.engine.runnable)
        looked = time.monotonic()
        more = False
        while not self._stopping:
            self._listen(0.0 if more else self._pause())
            entries = self._reader.read(self._durable, _READ_BYTES)
            for entry in entries:
                reached("live.step")
                self.engine.apply(entry, self._prepared)
                now = time.monotonic()
                if now - looked > _LOOK_SECONDS:
                    looked = now
                    self._report()
                    self._listen(0.0)
                    if self._stopping:
                        break
            more = bool(entries)
            if entries:
                self._report()
            self._look_after_snapshots()
            self._tidy(is_idle=not more)
        self._last_snapshot()

    def close(self) -> None:
        """Let go of everything."""
        self._compiling.shutdown(wait=False, cancel_futures=True)
        self._writing.shutdown(wait=True)
        self._snapshots.close()
        self._log.close()
        self._link.close()

    def _tidy(self, *, is_idle: bool) -> None:
        """What ran before a change holds itself in circles, and nobody else looks for those often."""
        if self._changes >= (_CHANGES if is_idle else 10 * _CHANGES):
            self._changes = 0
            gc.collect()

    def _pause(self) -> float:
        if self._write is not None or self._wanted:
            return _LOOK_SECONDS
        return max(0.0, min(1.0, self._snapshot_due - time.monotonic()))

    # What is said

    def _say(self, message: messages.ToServer) -> None:
        with self._outbox:
            self._link.sendall(messages.frame(message))

    def _measure(self, count: int, at_ms: int) -> None:
        self.latency.observe(count, max(0, wall_clock() - at_ms) / 1000)

    def _activated(self, message: messages.Activated) -> None:
        self._changes += 1
        self._say(message)

    def _report(self) -> None:
        place = self.engine.place
        self._say(messages.Progress(place.position, self.engine.outlet.seq))

    def _listen(self, seconds: float) -> None:
        """Take what the server has said; waits for that for so long at most."""
        began = time.monotonic()
        ready, _, _ = select.select([self._link], [], [], seconds)
        self.idle_seconds += time.monotonic() - began
        if not ready:
            return
        data = self._link.recv(1 << 20)
        if not data:
            raise ConnectionError("the server is gone")
        for message in self._frames.feed(data):
            self._take(message)

    def _take(self, message: messages.ToWorker) -> None:
        match message:
            case messages.Durable(position):
                if position < self.engine.place.position:
                    raise SnapshotError(
                        f"the snapshot was taken at position {self.engine.place.position} of the journal, which ends "
                        f"at {position}: it is of another one; put that back from a backup, or take the snapshots away"
                    )
                self._durable = max(self._durable, position)
            case messages.Prepare(generation):
                self._compiling.submit(self._prepare, generation)
            case messages.Exclude(position, name):
                self.engine.exclusions.setdefault(position, set()).add(name)
            case messages.Ask(number, "checkpoint", _):
                self._wanted.append(number)
                self._snapshot_due = 0.0
            case messages.Ask():
                self._answer(message)
            case messages.Stop():
                self._stopping = True

    def _answer(self, asked: messages.Ask) -> None:
        try:
            value = answer(self, asked.what, asked.arguments)
        except Exception as error:  # noqa: BLE001 - whoever asks is told; what runs goes on
            self._say(messages.Answer(asked.number, error=str(error) or type(error).__name__))
        else:
            self._say(messages.Answer(asked.number, value))

    def _prepare(self, generation: Generation) -> None:
        try:
            prepared = self.engine.prepare(generation, self._checker)
            self._load_kernels(prepared.runnable)
        except PatternError as error:
            self._say(messages.Prepared(generation.number, str(error)))
        except Exception as error:  # noqa: BLE001 - it must not run, then
            self._say(messages.Prepared(generation.number, f"{type(error).__name__}: {error}"))
        else:
            self._prepared = prepared
            self._say(messages.Prepared(generation.number))

    def _load_kernels(self, runnable: Runnable) -> None:
        """Before the first events come, or the first snapshot is due."""
        if self._has_kernels or runnable.definition is None:
            return
        self._has_kernels = True
        try:
            load_kernels(runnable.definition)
        except Exception:
            log.warning("kernels will be loaded when events come", exc_info=True)

    # Snapshots

    def _look_after_snapshots(self) -> None:
        if self._write is not None and self._write.done():
            self._settle(self._write)
            self._write = None
        if self._write is None and time.monotonic() >= self._snapshot_due:
            if self.engine.place.position != self._snapshot_position or self._wanted:
                self._begin_snapshot()
            self._snapshot_due = time.monotonic() + self._setup.interval_ms / 1000

    def _begin_snapshot(self) -> None:
        self._asked, self._wanted = self._wanted, []
        try:
            write = self._cut()
        except MatchLogError as error:
            self._snapshot_failed(error)
            return
        self._write = self._writing.submit(write)

    def _snapshot_failed(self, error: Exception) -> None:
        self.failed_snapshots += 1
        self.engine.is_new = True
        self._snapshot_position = -1
        self._say(messages.SnapshotFailed(str(error)))
        for number in self._asked:
            self._say(messages.Answer(number, error=str(error)))

    def _cut(self) -> Callable[[], tuple[Written, float, int]]:
        """The state as of now; to be written elsewhere."""
        engine = self.engine
        whole = None if engine.is_new else self._snapshots.wanted()
        state = {} if engine.pipeline is None else engine.pipeline.snapshot(0, whole)
        engine.is_new = False
        counters: dict[str, int] = {}
        if engine.pipeline is not None:
            counters = engine.pipeline.counters()
        more = {**engine.more(), "server": self._setup.server}
        cut = Cut(state, whole, engine.sources(), {}, counters, wall_clock(), more=more)
        position = self._snapshot_position = engine.place.position
        began = time.monotonic()

        # 1. the rows up to here are durable before anything says that they need not be computed again; by the thread
        # that writes them
        self._log.sync()
        reached("live.synced")

        def write() -> tuple[Written, float, int]:
            # 2. the snapshot
            written = self._snapshots.write(cut)
            reached("live.snapshot")
            # 3. what is older than the one before may go
            self._snapshots.tidy(written)
            return written, time.monotonic() - began, position

        return write

    def _settle(self, write: Future[tuple[Written, float, int]]) -> None:
        try:
            written, seconds, position = write.result()
        except (StateError, OSError) as error:
            self._snapshot_failed(error)
            return
        self._positions.append(position)
        manifest = written.manifest
        assert manifest is not None
        size = sum(blob.size for blob in manifest.blobs)
        said = messages.Snapshot(written.id, position, self._positions[0], round(seconds, 6), size, manifest.taken_at)
        self.last_snapshot = said
        self.snapshots += 1
        self._say(said)
        for number in self._asked:
            self._say(messages.Answer(number, {"id": written.id, "position": position, "bytes": size}))

    def _last_snapshot(self) -> None:
        if self._write is not None:
            self._settle(self._write)
            self._write = None
        if self.engine.place.position != self._snapshot_position:
            self._begin_snapshot()
            if self._write is not None:
                self._settle(self._write)


def serve(setup: Setup, descriptor: int) -> int:
    """Run until told to stop, or until the server is gone; returns the exit code of the process."""
    from ostinato.server import exits

    link = socket.socket(fileno=descriptor)
    worker = Worker(setup, link)
    try:
        worker.run()
    except PatternFailedError as error:
        link.sendall(messages.frame(messages.Failed(error.name, error.position, str(error))))
        return exits.FAILED
    except (ConnectionError, BrokenPipeError):
        # The server has been killed: the next one begins where the last snapshot is.
        os._exit(exits.FAILED)
    finally:
        worker.close()
    return exits.OK
