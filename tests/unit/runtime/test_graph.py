"""The graph: control messages are aligned where streams meet, and nothing overtakes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ostinato.cep.batch import Barrier, Batch, EndOfInput, Vector, Watermark
from ostinato.cep.runtime.graph import Graph
from ostinato.cep.runtime.operators import Canonical, Exchange
from ostinato.patterns.types import STRING
from ostinato.state.operator import OperatorState, StoredState
from ostinato.state.records import Records


def batch(stream: str, *times: int, texts: Sequence[str | None] | None = None) -> Batch:
    columns = {} if texts is None else {"x": Vector.of(STRING, texts)}
    return Batch(stream, np.array(times, np.int64), columns)


@dataclass
class Held:
    """Stored state without a store."""

    header: bytes = b""
    shared: Sequence[bytes] = ()
    owned: range = range(128)
    may_drop: bool = False

    def records(self) -> Iterator[tuple[int, Records]]:
        return iter(())


class Recorder:
    """An operator that notes what it is given, and passes batches on under another name."""

    def __init__(self, name: str, emits: str | None = None) -> None:
        self.name = name
        self.seen: list[object] = []
        self.whole: Collection[int] | None = ()
        self._emits = emits

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        self.seen.append(batch.time.tolist())
        return [Batch(self._emits, batch.time, batch.columns)] if self._emits else []

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        self.seen.append(f"watermark {watermark}")
        return []

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:
        self.seen.append(f"barrier {checkpoint}")
        self.whole = whole
        return OperatorState(self.name.encode())

    def on_end(self) -> Sequence[Batch]:
        self.seen.append("end")
        return []

    def restore(self, stored: StoredState) -> None:
        self.seen.append(stored.header)


def test_messages_reach_the_last_operator_in_order() -> None:
    graph = Graph()
    first, last = Recorder("first", emits="b"), Recorder("last")
    graph.add(first, "a", {"b": "b"})
    graph.add(last, "b")
    edge = graph.producer("a")
    for message in (batch("a", 1), Watermark(5), batch("a", 7), Barrier(1), Watermark(9), EndOfInput()):
        edge.send(message)
    assert last.seen == [[1], "watermark 5", [7], "barrier 1", "watermark 9", "end"]
    assert edge.ended


def test_a_stream_of_two_producers_is_as_far_as_the_slower() -> None:
    graph = Graph()
    reader = Recorder("reader")
    graph.add(reader, "a")
    one, other = graph.producer("a"), graph.producer("a")
    one.send(Watermark(10))
    other.send(Watermark(3))
    one.send(Watermark(12))
    other.send(Watermark(11))
    one.send(EndOfInput())
    other.send(EndOfInput())
    assert reader.seen == ["watermark 3", "watermark 11", "end"]


def test_a_watermark_never_goes_back() -> None:
    graph = Graph()
    reader = Recorder("reader")
    graph.add(reader, "a")
    edge = graph.producer("a")
    for time in (5, 5, 4, 6):
        edge.send(Watermark(time))
    assert reader.seen == ["watermark 5", "watermark 6"]


def test_a_barrier_takes_the_state_of_every_operator_once_all_have_sent_it() -> None:
    graph = Graph()
    graph.add(Recorder("first", emits="b"), "a", {"b": "b"})
    graph.add(Recorder("last"), "b")
    inner, outer = graph.producer("b"), graph.producer("a")
    outer.send(Barrier(1))
    assert {name: state.header for name, state in graph.take_snapshots().items()} == {"first": b"first"}
    inner.send(Barrier(1))
    assert {name: state.header for name, state in graph.take_snapshots().items()} == {"last": b"last"}
    assert graph.take_snapshots() == {}


def test_a_barrier_asks_each_operator_for_some_groups_in_full_or_for_all() -> None:
    graph = Graph()
    first, last = Recorder("first", emits="b"), Recorder("last")
    graph.add(first, "a", {"b": "b"})
    graph.add(last, "b")
    edge = graph.producer("a")
    edge.send(Barrier(1))
    assert (first.whole, last.whole) == (None, None)
    graph.ask({"last": [3, 5]})
    edge.send(Barrier(2))
    assert (first.whole, last.whole) == ((), [3, 5])


def test_state_is_given_back_by_name() -> None:
    graph = Graph()
    reader = Recorder("reader")
    graph.add(reader, "a")
    other = Recorder("other")
    graph.add(other, "a")
    graph.restore({"reader": Held(b"x")}.get)
    assert reader.seen == [b"x"]
    assert other.seen == []


def canonical() -> Canonical:
    kept: dict[bytes, Batch] = {}

    def store(held: Batch) -> bytes:
        kept[b"held"] = held
        return b"held"

    return Canonical("a", kept.__getitem__, store)


def test_the_canonical_order_is_by_time_and_then_by_content() -> None:
    order = canonical()
    order.on_batch(batch("a", 2, 1, 2, 9, texts=["b", "z", None, "y"]))
    order.on_batch(batch("a", 2, 1, texts=["a", "q"]))
    (ready,) = order.on_watermark(5)
    assert ready.time.tolist() == [1, 1, 2, 2, 2]
    assert ready.columns["x"].to_list() == ["q", "z", None, "a", "b"]
    assert not order.on_watermark(8)
    (ready,) = order.on_watermark(9)
    assert ready.columns["x"].to_list() == ["y"]


def test_the_canonical_order_survives_a_snapshot() -> None:
    order = canonical()
    order.on_batch(batch("a", 2, 1, texts=["b", "a"]))
    state = order.on_barrier(1, None)
    order.on_watermark(9)
    order.restore(Held(shared=[state.shared]))
    (ready,) = order.on_watermark(9)
    assert ready.columns["x"].to_list() == ["a", "b"]


def test_of_several_workers_rows_each_takes_those_of_its_groups() -> None:
    kept = {b"one": batch("a", 2, 1, 4), b"other": batch("a", 3, 6)}
    order = Canonical("a", kept.__getitem__, lambda _: b"", lambda rows: rows.time)
    order.restore(Held(shared=[b"one", b"other"], owned=range(2, 5)))
    (ready,) = order.on_watermark(9)
    assert ready.time.tolist() == [2, 3, 4]


def test_an_exchange_gives_rows_and_then_what_followed_them() -> None:
    exchange = Exchange("a")
    exchange.on_batch(batch("a", 1))
    exchange.on_batch(batch("a", 2))
    exchange.on_watermark(2)
    exchange.on_barrier(7, None)
    exchange.on_end()
    rows, controls = exchange.take()
    assert rows is not None
    assert rows.time.tolist() == [1, 2]
    assert controls == [Watermark(2), Barrier(7), EndOfInput()]
    assert exchange.take() == (None, [])
