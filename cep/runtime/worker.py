"""A worker process of a parallel job: decodes its share of the chunks and owns a share of the keys.

Entries (chunks, ticks, ends, barriers) are numbered from 0 by the parent; entry k is admitted by worker k mod N:

1. decode the chunk, in the memory where the parent put it (`slots.py`); this needs nothing of other entries, so all
   workers do it at the same time;
2. when the time after entry k - 1 has come from its worker, admit the rows, and pass the time on at once;
3. send every worker the rows of its keys, and how far the watermark has come; they are copies, so that the chunk's
   memory is free;
4. every worker deals with the rows of entry 0, 1, 2, ... in that order, so each sees its keys' rows in the order and
   with the watermarks of a single process;
5. streams whose key changes are exchanged once more within the entry: a worker goes on when it has the rows of all;
6. the output of an entry goes to the parent.

A worker lives no longer than the connection to its parent.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ostinato.cep.batch import MAX_TIME, MIN_TIME, Barrier, Batch, Clock, EndOfInput, Message, Watermark
from ostinato.cep.runtime import frames, wire
from ostinato.cep.runtime.assembly import Assembly, assemble
from ostinato.cep.runtime.heartbeats import Watch
from ostinato.cep.runtime.intake import Admitted, Decoded, Intake
from ostinato.cep.runtime.job import Definition
from ostinato.cep.runtime.occupation import EXCHANGE, Meter
from ostinato.cep.runtime.packing import unpack_chunk
from ostinato.cep.runtime.partition import Partitioner, owned_groups
from ostinato.cep.runtime.pipeline import make_intakes
from ostinato.cep.runtime.slots import Slots
from ostinato.cep.runtime.snapshots import StoreSpec
from ostinato.cep.runtime.wire import Kind, Pieces, Wire
from ostinato.cep.runtime.worker_state import RestoreSpec, WorkerState

STATISTICS_SECONDS = 0.5
"""How often a worker tells its numbers."""


class Delivery(NamedTuple):
    """Rows of one stream for one worker, and the control messages behind them."""

    stream: str
    batch: Batch | None
    controls: Sequence[Message]


class _Rows(NamedTuple):
    sender: int
    deliveries: Sequence[Delivery]


class Worker:
    """One of `workers` processes."""

    def __init__(
        self,
        number: int,
        parent: Wire,
        peers: Mapping[int, Wire],
        slots: Slots,
        job: Definition,
        time_state: Any,
        *,
        watch: Watch | None = None,
        store: StoreSpec | None = None,
        restore: RestoreSpec | None = None,
    ) -> None:
        """Make the worker, with its part of the state it is to go on from.

        Args:
            number: which of the workers it is.
            parent: the connection to the parent.
            peers: those to the other workers, by their number.
            slots: where chunks come.
            job: what to run.
            time_state: the sources' time before entry 0, as `Intake.time` gave it.
            watch: is told when the parent has been heard of.
            store: where checkpoints go.
            restore: where the state is.

        Raises:
            SnapshotError: the state is damaged, or does not fit the job.
            StoreError: it cannot be read.
        """
        self._watch = watch
        self._number = number
        self._workers = len(peers) + 1
        self._parent = parent
        self._peers = peers
        self._slots = slots
        self._delivered: list[Batch] = []
        self._assembly: Assembly = assemble(
            job.plan,
            self._delivered.append,
            selects=job.selects,
            workers=self._workers,
            key_groups=job.key_groups,
            state=job.state,
            worker=number,
            draining=job.draining,
            keep_columns=job.keep_columns,
        )
        self._clocked = job.plan.clocked
        self._intakes: list[Intake] = make_intakes(job, self._assembly, 0)
        self._stages = job.plan.stages
        self._schemas = frames.schemas_of(job.plan.streams.values())
        self._partitioners = {
            name: Partitioner(
                [(column.name, column.type) for column in stream.columns if column.key], self._workers, job.key_groups
            )
            for name, stream in job.plan.streams.items()
        }
        self._changed = threading.Condition()
        self._entries: deque[tuple[int, bytearray]] = deque()
        self._decoded: deque[tuple[int, Any, Decoded | None]] = deque()
        self._times: dict[int, Any] = {0: time_state} if number == 0 else {}
        self._rows: dict[tuple[int, int], list[_Rows]] = {}
        self._at = (0, 0)
        self._told = 0.0
        self._handing_over = Meter()
        self._taking_in = {stream.name: Meter() for stream in job.plan.sources}
        self._asked = False
        owned = owned_groups(number, self._workers, job.key_groups)
        self._state = WorkerState(number, owned, parent, self._assembly.graph, store)
        if restore is not None:
            self._state.restore(restore, job)

    def run(self) -> None:
        """Work until the parent closes the connection, which ends the process."""
        for sender, peer in self._peers.items():
            threading.Thread(target=self._listen_to_peer, args=(sender, peer), daemon=True).start()
        threading.Thread(target=self._listen_to_parent, daemon=True).start()
        self._parent.send(Kind.READY, self._number)
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
            if self._asked:
                self._asked = False
                self._parent.send(Kind.NUMBERS, 0, wire.pack(self._numbers()))
            # Others wait for what is admitted here, so that comes first; decoding can always be done later.
            elif self._decoded and self._decoded[0][0] in self._times:
                self._admit(*self._decoded.popleft())
            elif self._complete():
                self._process()
            else:
                self._decode(*self._entries.popleft())

    def _has_work(self) -> bool:
        admissible = bool(self._decoded) and self._decoded[0][0] in self._times
        return self._asked or admissible or self._complete() or bool(self._entries)

    def _complete(self) -> bool:
        entry, stage = self._at
        return len(self._rows.get((entry, stage), ())) == (1 if stage == 0 else self._workers)

    def _decode(self, entry: int, payload: bytearray) -> None:
        head, parts = wire.unpack(payload)
        decoded = None
        if head["kind"] == "chunk":
            data = parts[0] if parts else self._slots.get(entry)
            intake = self._intakes[head["source"]]
            with self._taking_in[intake.stream.name].running():
                decoded = intake.decode(unpack_chunk(head["chunk"], data))
        self._decoded.append((entry, head, decoded))

    def _admit(self, entry: int, head: Any, decoded: Decoded | None) -> None:
        for intake, state in zip(self._intakes, self._times.pop(entry), strict=True):
            intake.time.load(state)
        admitted: Admitted | None = None
        # Before the first entry, nobody has said how far time has come: it may be far, after a restore.
        before = [intake.time.watermark if entry else MIN_TIME for intake in self._intakes]
        if decoded is not None:
            intake = self._intakes[head["source"]]
            with self._taking_in[intake.stream.name].running():
                admitted = intake.admit(decoded, head["now"])
        elif head["kind"] == "tick":
            for intake in self._intakes:
                intake.time.tick(head["now"])
        elif head["kind"] == "ended":
            self._intakes[head["source"]].time.finish()
        state = [intake.time.state() for intake in self._intakes]
        following = (self._number + 1) % self._workers
        if following == self._number:
            self._times[entry + 1] = state
        else:
            self._peers[following].send(Kind.TIME, entry + 1, wire.pack(state))
        deliveries: dict[int, list[Delivery]] = {worker: [] for worker in range(self._workers)}
        for number, intake in enumerate(self._intakes):
            stream = intake.stream.name
            controls: list[Message] = []
            if self._clocked and "now" in head and intake.time.watermark < MAX_TIME:
                controls.append(Clock(head["now"]))
            if intake.time.watermark > before[number]:
                controls.append(Watermark(intake.time.watermark))
            if head["kind"] == "barrier":
                controls.append(Barrier(head["id"]))
            if head["kind"] == "ended" and head["source"] == number:
                controls.append(EndOfInput())
            shares: Sequence[Batch | None] = [None] * self._workers
            if admitted is not None and head["source"] == number and len(admitted.batch):
                with self._handing_over.running():
                    shares = self._partitioners[stream].spread(admitted.batch)
            for worker, share in enumerate(shares):
                if controls or (share is not None and len(share)):
                    deliveries[worker].append(Delivery(stream, share, controls))
        with self._handing_over.running():
            self._ship(entry, 0, deliveries)
            self._tell_admitted(entry, head, admitted, state)

    def _ship(self, entry: int, stage: int, deliveries: Mapping[int, Sequence[Delivery]]) -> None:
        for worker, own in deliveries.items():
            if worker == self._number:
                with self._changed:
                    self._rows.setdefault((entry, stage), []).append(_Rows(worker, own))
            else:
                head = [stage, [[d.stream, [_control(c) for c in d.controls], d.batch is not None] for d in own]]
                batches = [frames.encode(d.batch, compact=True) for d in own if d.batch is not None]
                self._peers[worker].send(Kind.ROWS, entry, wire.pack(head, batches))

    def _tell_admitted(self, entry: int, head: Any, admitted: Admitted | None, state: Any) -> None:
        said: dict[str, Any] = {}
        parts: list[Pieces] = []
        if admitted is not None:
            said["events"] = admitted.events
            said["bad"] = [[b.raw, b.source, b.line, b.offset, b.reason] for b in admitted.bad]
            if admitted.late is not None:
                parts.append(frames.encode(admitted.late))
        if head["kind"] == "barrier":
            said["time"] = state
        self._parent.send(Kind.ADMITTED, entry, wire.pack(said, parts))

    def _process(self) -> None:
        entry, stage = self._at
        exchanged = {each.matching.stream.name: each for each in self._assembly.exchanged}
        for sender, deliveries in sorted(self._rows.pop((entry, stage)), key=lambda rows: rows.sender):
            for stream, batch, controls in deliveries:
                edge = self._assembly.sources[stream] if stage == 0 else exchanged[stream].incoming[sender]
                if batch is not None:
                    edge.send(batch)
                for control in controls:
                    if isinstance(control, Barrier):
                        self._state.begin(control.id)
                    edge.send(control)
        if stage + 1 < self._stages:
            with self._handing_over.running():
                self._exchange(entry, stage + 1)
            self._at = (entry, stage + 1)
        else:
            with self._handing_over.running():
                self._finish(entry)
            self._at = (entry + 1, 0)

    def _exchange(self, entry: int, stage: int) -> None:
        deliveries: dict[int, list[Delivery]] = {worker: [] for worker in range(self._workers)}
        for each in self._assembly.exchanged:
            if each.matching.stage != stage:
                continue
            batch, controls = each.outgoing.take()
            stream = each.matching.stream.name
            shares: Sequence[Batch | None] = [None] * self._workers
            if batch is not None:
                shares = self._partitioners[stream].spread(batch)
            for worker, share in enumerate(shares):
                if controls or (share is not None and len(share)):
                    deliveries[worker].append(Delivery(stream, share, controls))
        self._ship(entry, stage, deliveries)

    def _finish(self, entry: int) -> None:
        batches, self._delivered[:] = list(self._delivered), []
        said: dict[str, Any] = {}
        now = time.monotonic()
        is_checkpoint = self._state.end()
        if is_checkpoint or now - self._told >= STATISTICS_SECONDS or self._is_over():
            self._told = now
            said |= self._numbers()
        self._parent.send(Kind.DONE, entry, wire.pack(said, [frames.encode(batch) for batch in batches]))

    def _numbers(self) -> dict[str, Any]:
        patterns = {
            name: [stats.matches, stats.timeouts, stats.partial_matches, stats.dropped]
            for operator in self._assembly.matchers.values()
            for name, stats in operator.stats.items()
        }
        busy = {f"{name}.in": meter.seconds for name, meter in self._taking_in.items()}
        busy |= {name: meter.seconds for name, meter in self._assembly.working().items()}
        return {"patterns": patterns, "busy": busy | {EXCHANGE: self._handing_over.seconds}}

    def _is_over(self) -> bool:
        return all(edge.ended for edge in self._assembly.sources.values())

    def _listen_to_parent(self) -> None:
        while (message := self._parent.receive()) is not None:
            if self._watch is not None:
                self._watch.heard()
            if message.kind == Kind.BEAT:
                continue
            if message.kind == Kind.ORDER:
                self._state.order(message.payload)
                continue
            with self._changed:
                if message.kind == Kind.ASK:
                    self._asked = True
                else:
                    self._entries.append((message.sequence, message.payload))
                self._changed.notify()
        # The parent has finished, or died: nothing done from now on could reach anybody.
        self._assembly.scratch.delete()
        os._exit(0)

    def _listen_to_peer(self, sender: int, peer: Wire) -> None:
        while (message := peer.receive()) is not None:
            head, parts = wire.unpack(message.payload)
            with self._changed:
                if message.kind == Kind.TIME:
                    self._times[message.sequence] = head
                else:
                    stage, listed = head
                    batches = iter(parts)
                    rows = [
                        Delivery(
                            stream,
                            frames.decode(next(batches), self._schemas) if has_rows else None,
                            [_message(*control) for control in controls],
                        )
                        for stream, controls, has_rows in listed
                    ]
                    self._rows.setdefault((message.sequence, stage), []).append(_Rows(sender, rows))
                self._changed.notify()


def _control(message: Message) -> list[Any]:
    match message:
        case Watermark(moment):
            return ["watermark", moment]
        case Clock(now):
            return ["clock", now]
        case Barrier(checkpoint):
            return ["barrier", checkpoint]
        case _:
            return ["end", 0]


def _message(kind: str, value: int) -> Message:
    match kind:
        case "watermark":
            return Watermark(value)
        case "clock":
            return Clock(value)
        case "barrier":
            return Barrier(value)
        case _:
            return EndOfInput()
