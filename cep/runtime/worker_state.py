"""The part of a worker that has to do with checkpoints.

It asks the operators at a barrier, writes what they give to the store in a thread, and tells the parent where it is;
and it gives the operators their state back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from ostinato.cep.runtime import wire
from ostinato.cep.runtime.background import Background
from ostinato.cep.runtime.graph import Graph
from ostinato.cep.runtime.job import Definition
from ostinato.cep.runtime.recovery import read_point
from ostinato.cep.runtime.snapshots import Order, StoreSpec, write_part
from ostinato.cep.runtime.wire import Kind, Wire
from ostinato.state.operator import OperatorState
from ostinato.state.steps import reached
from ostinato.state.stores.base import CheckpointStore
from ostinato.state.typed import convert


class RestoreSpec(msgspec.Struct, frozen=True):
    """Where a worker's state is, as plain values; see `RestorePoint`."""

    store: StoreSpec
    id: int
    may_drop: bool = False


class WorkerState:
    """Of one worker. `begin` and `end` are called by the thread that runs the graph."""

    def __init__(self, number: int, owned: range, parent: Wire, graph: Graph, store: StoreSpec | None) -> None:
        """`owned`: this worker's key groups; `store`: the job's own, None where it takes no checkpoints."""
        self._number = number
        self._owned = owned
        self._parent = parent
        self._graph = graph
        self._spec = store
        self._store: CheckpointStore | None = None
        self._background = Background("snapshots")
        self._orders: dict[int, Order] = {}
        self._changed = threading.Condition()
        self._current: Order | None = None
        self._newest = -1
        self._began = 0.0

    def order(self, payload: bytearray) -> None:
        """The parent has ordered a checkpoint, whose barrier will come; from any thread."""
        order = convert(wire.unpack(payload)[0], Order)
        with self._changed:
            self._orders[order.id] = order
            self._newest = order.id
            self._changed.notify()

    def begin(self, id: int) -> None:  # noqa: A002 - what it is called everywhere
        """The barrier has come to this worker. Each of the streams brings it; the first counts."""
        if self._current is not None and self._current.id == id:
            return
        reached("snapshot.barrier")
        with self._changed:
            # It came by way of another worker, and may have been faster than the order from the parent.
            self._changed.wait_for(lambda: id in self._orders)
            self._current = self._orders.pop(id)
            for given_up in [other for other in self._orders if other < id]:
                del self._orders[given_up]
        self._began = time.monotonic()
        self._graph.ask(self._current.whole)

    def end(self) -> bool:
        """The barrier has passed all operators of this worker, if there was one in this entry."""
        if self._current is None:
            return False
        order, self._current = self._current, None
        state = self._graph.take_snapshots()
        reached("snapshot.taken")
        asked = time.monotonic() - self._began
        self._background.submit(lambda: self._write(order, state, asked))
        return True

    def restore(self, spec: RestoreSpec, job: Definition) -> None:
        """Give the operators back what is theirs now. Raises SnapshotError, StoreError."""
        store = spec.store.open()
        try:
            point = read_point(store, spec.id, may_drop=spec.may_drop)
            point.check(job.plan, self._graph.operators, job.key_groups)
            reached("restore.begin")
            self._graph.restore(lambda operator: point.stored(operator, self._owned))
            reached("restore.end")
        finally:
            store.close()

    def _write(self, order: Order, state: Mapping[str, OperatorState], asked: float) -> None:
        """In the background."""
        said: Any
        try:
            if order.id != self._newest:
                return  # it was given up while the one before it was being written
            store = self._open(order)
            try:
                is_void = lambda: order.id != self._newest  # noqa: E731
                said = write_part(
                    order, self._number, self._owned, state, store, snapshot_seconds=asked, is_void=is_void
                )
            finally:
                if store is not self._store:
                    store.close()
        except Exception as error:  # noqa: BLE001 - the parent decides what it means
            said = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
        with contextlib.suppress(OSError):  # a parent that has gone is noticed by the listener
            self._parent.send(Kind.PART, order.id, wire.pack(said))
        reached("snapshot.reported")

    def _open(self, order: Order) -> CheckpointStore:
        if order.store is not None:
            store = order.store.open()
            store.join(order.store.token)
            return store
        if self._store is None:
            assert self._spec is not None, "a barrier came to a job without checkpoints"
            store = self._spec.open()
            store.join(self._spec.token)
            self._store = store
        return self._store
