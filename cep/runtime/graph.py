"""The job graph: streams joining operators, with batches, watermarks, barriers and the end of input on every edge.

A stream may have several producers and several readers. Control messages are aligned where producers meet: the
stream's watermark is the smallest of theirs, a barrier or the end of input passes when all have sent it. Messages are
pushed: `Edge.send` returns when everything downstream has dealt with the message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ostinato.cep.batch import MIN_TIME, Barrier, Batch, Clock, EndOfInput, Message, Watermark
from ostinato.cep.runtime.occupation import Meter
from ostinato.cep.runtime.operators import Clocked, Operator
from ostinato.state.operator import OperatorState, StoredState


class Edge:
    """A producer's way into a stream."""

    def __init__(self, channel: _Channel, producer: int) -> None:
        self._channel = channel
        self._producer = producer
        self.ended = False

    def send(self, message: Message) -> None:
        """Push the message through everything downstream."""
        self.ended = self.ended or isinstance(message, EndOfInput)
        self._channel.receive(self._producer, message)


class Graph:
    """Operators joined by named streams.

    Build it with `add` and `producer`; then push into the edges that `producer` gave.
    """

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._operators: dict[str, Operator] = {}
        self._snapshots = _Snapshots()
        self._busy: dict[str, Meter] = {}

    @property
    def busy(self) -> Mapping[str, Meter]:
        """How long each operator has been at work, by name."""
        return self._busy

    @property
    def operators(self) -> Mapping[str, Operator]:
        """By name."""
        return self._operators

    def add(self, operator: Operator, reads: str, emits: Mapping[str, str] | None = None) -> None:
        """Let `operator` read a stream; `emits`: what its batches are called -> the stream they go to."""
        assert operator.name not in self._operators, f"two operators are called {operator.name}"
        self._operators[operator.name] = operator
        outputs = {name: self.producer(stream) for name, stream in (emits or {}).items()}
        self._busy[operator.name] = busy = Meter()
        self._channel(reads).readers.append(_Reader(operator, outputs, self._snapshots, busy))

    def producer(self, stream: str) -> Edge:
        """A new way into a stream, from outside the graph."""
        return Edge(channel := self._channel(stream), channel.add_producer())

    def ask(self, whole: Mapping[str, Collection[int]] | None) -> None:
        """Say what the next barrier is to find out: all there is (None), or what has changed, and of each operator
        these key groups in full."""
        self._snapshots.whole = whole

    def take_snapshots(self) -> dict[str, OperatorState]:
        """The state by operator, as of the last barrier that passed; only of those that gave any."""
        taken, self._snapshots.taken = self._snapshots.taken, {}
        return taken

    def restore(self, stored: Callable[[str], StoredState | None]) -> None:
        """Give each operator its state back; `stored` finds it by the operator's name. Raises StateError."""
        for name, operator in self._operators.items():
            if (own := stored(name)) is not None:
                operator.restore(own)

    def _channel(self, stream: str) -> _Channel:
        return self._channels.setdefault(stream, _Channel())


class _Snapshots:
    """What the barrier asks for, and what has been given."""

    def __init__(self) -> None:
        self.whole: Mapping[str, Collection[int]] | None = None
        self.taken: dict[str, OperatorState] = {}

    def take(self, operator: Operator, checkpoint: int) -> None:
        wanted = None if self.whole is None else self.whole.get(operator.name, ())
        state = operator.on_barrier(checkpoint, wanted)
        if state.header or state.groups or state.shared:
            self.taken[operator.name] = state


class _Reader:
    """An operator reading a stream, and where its output goes."""

    def __init__(self, operator: Operator, outputs: Mapping[str, Edge], snapshots: _Snapshots, busy: Meter) -> None:
        self._operator = operator
        self._outputs = outputs
        self._snapshots = snapshots
        self._busy = busy

    def handle(self, message: Message) -> None:
        """Give the message to the operator, its output and then the message itself to those behind it."""
        self._busy.start()
        try:
            batches = self._ask(message)
        finally:
            self._busy.stop()
        for batch in batches:
            self._outputs[batch.stream].send(batch)
        if not isinstance(message, Batch):
            for edge in self._outputs.values():
                edge.send(message)

    def _ask(self, message: Message) -> Iterable[Batch]:
        match message:
            case Batch():
                return self._operator.on_batch(message)
            case Watermark(time):
                return self._operator.on_watermark(time)
            case Clock(now):
                return self._operator.on_clock(now) if isinstance(self._operator, Clocked) else ()
            case Barrier(checkpoint):
                self._snapshots.take(self._operator, checkpoint)
                return ()
            case EndOfInput():
                return self._operator.on_end()


class _Channel:
    """A stream in the graph: aligns the control messages of its producers."""

    def __init__(self) -> None:
        self.readers: list[_Reader] = []
        self._watermarks: list[int] = []
        self._watermark = MIN_TIME
        self._clock = 0
        self._waiting: dict[Barrier | EndOfInput, int] = {}

    def add_producer(self) -> int:
        self._watermarks.append(MIN_TIME)
        return len(self._watermarks) - 1

    def receive(self, producer: int, message: Message) -> None:
        match message:
            case Batch():
                if not len(message):
                    return
            case Watermark(time):
                self._watermarks[producer] = max(self._watermarks[producer], time)
                lowest = min(self._watermarks)
                if lowest <= self._watermark:
                    return
                self._watermark = lowest
                message = Watermark(lowest)
            case Clock(now):  # all producers are told the same, and the first who passes it on is right
                if now <= self._clock:
                    return
                self._clock = now
            case _:
                arrived = self._waiting.pop(message, 0) + 1
                if arrived < len(self._watermarks):
                    self._waiting[message] = arrived
                    return
        for reader in self.readers:
            reader.handle(message)
