"""Stands between Kafka's clients and a broker, and strikes requests and answers that it is told to.

A broker that is started with ``advertised=proxy.port`` tells its clients that it is where the proxy listens. Answers
come in the order of the requests, for each connection; so what delays an answer delays those behind it, and an answer
that does not come at all is followed by none.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from tests.kafka_wire import Request, parse

_ANSWER_SECONDS = 30.0
_RULE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DelayRequest:
    """It comes to the broker later, as do those behind it, also when the client has given it up meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DelayAnswer:
    """The broker does it at once, the client hears of it later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DropRequest:
    """The broker never sees it, nor anything behind it: the connection is silent until the client gives it up."""


@dataclass(frozen=True, slots=True)
class DropAnswer:
    """The broker does it and what is behind it, and the client hears nothing more in this connection."""


@dataclass(frozen=True, slots=True)
class SendTwice:
    """The broker sees it twice, the client gets the first of the answers."""


@dataclass(frozen=True, slots=True)
class CloseBefore:
    """The connection is closed, and the broker never sees the request."""


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """The broker does it, and where its answer should come the connection is closed."""


@dataclass(frozen=True, slots=True)
class AnswerWith:
    """The client gets this error code; `done`: and the broker has done it all the same."""

    code: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class HoldBack:
    """It is kept on its way while the rest goes on, and comes to the broker over a connection of its own.

    When: at `Rule.deliver`, or by itself after so many seconds. `close`: the client's connection is closed; otherwise
    it is silent, until the client gives it up. Nobody gets the answer.
    """

    seconds: float | None = None
    close: bool = True


Strike: TypeAlias = (
    DelayRequest | DelayAnswer | DropRequest | DropAnswer | SendTwice | CloseBefore | CloseAfter | AnswerWith | HoldBack
)


@dataclass(eq=False)
class Rule:
    """What is done to which requests.

    Attributes:
        seen: requests that it is about, so far.
        struck: those of them that were struck.
        codes: what the broker answered to each one that was held back, then delivered.
    """

    api: int
    strike: Strike
    nth: int
    every: int
    times: int | None
    client: str | None
    where: Callable[[dict[str, Any]], bool] | None
    _proxy: KafkaProxy
    seen: int = 0
    struck: int = 0
    codes: list[list[int]] = field(default_factory=list)
    _held: deque[Request] = field(default_factory=deque)

    def wait(self, struck: int = 1, seconds: float = _RULE_SECONDS) -> None:
        """Wait until so many requests were struck."""
        self._proxy.wait_for(lambda: self.struck >= struck, f"{self.strike} of {self.api!r} ({self.struck})", seconds)

    def wait_delivered(self, count: int = 1, seconds: float = _RULE_SECONDS) -> None:
        """Wait until the broker has answered so many that were held back."""
        self._proxy.wait_for(lambda: len(self.codes) >= count, f"{count} held back to be delivered", seconds)

    def deliver(self) -> list[int]:
        """Let the oldest of those that are held back come to the broker now; the error codes of its answer."""
        with self._proxy.changed:
            assert self._held, f"nothing is held back: {self.api!r}"
            request = self._held.popleft()
        codes = self._proxy.deliver(request)
        with self._proxy.changed:
            self.codes.append(codes)
            self._proxy.changed.notify_all()
        return codes

    def remove(self) -> None:
        with self._proxy.changed:
            self._proxy.rules.remove(self)

    def fires(self, request: Request) -> bool:
        """Is this request to be struck? It is counted."""
        about = request.api == self.api and self.client in (None, request.client)
        if not about or (self.where is not None and not self.where(request.decoded())):
            return False
        self.seen += 1
        due = self.seen >= self.nth and (self.seen - self.nth) % self.every == 0
        if not due or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        if isinstance(self.strike, HoldBack):
            self._held.append(request)
        return True


class KafkaProxy:
    """A listener, and a pair of connections for each client.

    Attributes:
        port, servers: where clients come to.
        target: the broker's port; to be set before they come.
        passed: api -> requests that have gone to the broker.
        struck: api -> requests that a rule was applied to.
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.passed: Counter[int] = Counter()
        self.struck: Counter[int] = Counter()
        self.rules: list[Rule] = []
        self.changed = threading.Condition()
        self.closed = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.servers = f"127.0.0.1:{self.port}"
        self.run(self._accept)

    def on(
        self,
        api: int,
        strike: Strike,
        *,
        nth: int = 1,
        every: int = 1,
        times: int | None = 1,
        client: str | None = None,
        where: Callable[[dict[str, Any]], bool] | None = None,
    ) -> Rule:
        """Strike requests from now on: the nth, and then every so many, until it was done so many times (None: always).

        `client`: those of this client id only; `where`: those only whose fields, by aiokafka's names, are right.
        Of several rules that fit, the first one is applied.
        """
        rule = Rule(api, strike, nth, every, times, client, where, self)
        with self.changed:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Without rules from now on."""
        with self.changed:
            self.rules.clear()

    def stall(self) -> None:
        """Nothing passes, in no connection, until `go_on`."""
        self._flows.clear()

    def go_on(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Close all connections; clients may make new ones."""
        for connection in list(self._connections):
            connection.end()

    def close(self) -> None:
        self.closed.set()
        self.go_on()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            self.cut()
            thread.join(_ANSWER_SECONDS)
            assert not thread.is_alive(), "a thread of the proxy does not end"

    def wait_for(self, holds: Callable[[], bool], what: str, seconds: float = _RULE_SECONDS) -> None:
        """Wait for something that requests change."""
        with self.changed:
            assert self.changed.wait_for(holds, seconds), f"waited {seconds:g} s in vain for {what}"

    def match(self, request: Request) -> Rule | None:
        """The rule to apply, and counting."""
        with self.changed:
            rule = next((rule for rule in self.rules if rule.fires(request)), None)
            if rule is not None:
                self.struck[request.api] += 1
            self.changed.notify_all()
        return rule

    def count(self, request: Request) -> None:
        with self.changed:
            self.passed[request.api] += 1
            self.changed.notify_all()

    def flow(self) -> None:
        """Wait while nothing may pass."""
        self._flows.wait()

    def run(self, target: Callable[[], None]) -> None:
        """In a thread that ends with the proxy."""
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def deliver(self, request: Request) -> list[int]:
        """Send a request over a connection of its own; the error codes of the answer."""
        with (
            closing(socket.create_connection(("127.0.0.1", self.target), _ANSWER_SECONDS)) as server,
            server.makefile("rb") as answers,
        ):
            self.count(request)
            _send(server, request.frame)
            answer = _receive(answers)
        assert answer is not None, "the broker closed the connection instead of answering"
        return request.codes(answer)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            connection = _Connection(self, client, server, self._connections.discard)
            self._connections.add(connection)
            self.run(connection.serve)


@dataclass(eq=False)
class _Slot:
    """An answer that the client waits for, or is not to see."""

    request: Request
    strike: Strike | None = None
    ready: bytes | None = None
    """What it is, where the broker is not asked."""
    surplus: bool = False
    """The second of a request that was sent twice."""


class _Connection:
    """A client's, and the one to the broker that belongs to it."""

    def __init__(
        self, proxy: KafkaProxy, client: socket.socket, server: socket.socket, gone: Callable[[_Connection], None]
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._gone = gone
        self._slots: deque[_Slot] = deque()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._deaf = False
        """Nothing of the client's gets on."""
        self._mute = False
        """No answer gets back."""

    def serve(self) -> None:
        back = threading.Thread(target=self._back, daemon=True)
        back.start()
        with suppress(OSError), self._client.makefile("rb") as frames:
            while (frame := _receive(frames)) is not None:
                self._proxy.flow()
                request = parse(frame)
                if not self._deaf:
                    self._pass_on(request, self._proxy.match(request))
        self.end()
        back.join()
        self._gone(self)
        self._client.close()
        self._server.close()

    def end(self) -> None:
        self._over.set()
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, request: Request, rule: Rule | None) -> None:
        strike = rule.strike if rule is not None else None
        match strike:
            case DelayRequest(seconds):
                self._over.wait(seconds)
                self._ask(_Slot(request))
            case DropRequest() | HoldBack(close=False):
                self._deaf = True
            case CloseBefore() | HoldBack(close=True):
                self.end()
            case SendTwice():
                self._ask(_Slot(request), _Slot(request, surplus=True))
            case AnswerWith(code, done=False):
                with self._lock:
                    self._slots.append(_Slot(request, ready=request.failed(code)))
                    self._flush()
            case _:
                self._ask(_Slot(request, strike))
        if rule is not None and isinstance(strike, HoldBack) and strike.seconds is not None:
            self._proxy.run(lambda: self._deliver_later(rule, strike.seconds))

    def _deliver_later(self, rule: Rule, seconds: float | None) -> None:
        if not self._proxy.closed.wait(seconds):
            rule.deliver()

    def _ask(self, *slots: _Slot) -> None:
        if self._over.is_set():
            return
        with self._lock:
            self._slots.extend(slots)
        for slot in slots:
            self._proxy.count(slot.request)
            _send(self._server, slot.request.frame)

    def _back(self) -> None:
        with suppress(OSError), self._server.makefile("rb") as frames:
            while (frame := _receive(frames)) is not None:
                self._proxy.flow()
                self._answer(frame)
        self.end()

    def _answer(self, frame: bytes) -> None:
        slot = self._head(struct.unpack_from(">i", frame)[0])
        match slot.strike:
            case DelayAnswer(seconds):
                self._over.wait(seconds)
            case DropAnswer():
                self._mute = True
            case CloseAfter():
                self.end()
                return
            case AnswerWith(code):
                frame = slot.request.failed(code)
            case _:
                pass
        with self._lock:
            if not slot.surplus and not self._mute:
                _send(self._client, frame)
            self._slots.popleft()
            self._flush()

    def _head(self, correlation: int) -> _Slot:
        """The slot of an answer; requests before it were answered by nobody, as none was wanted (acks=0)."""
        with self._lock:
            while self._slots[0].request.correlation != correlation:
                self._slots.popleft()
            return self._slots[0]

    def _flush(self) -> None:
        """Send answers that are ready and have none to wait for before them."""
        while self._slots and (ready := self._slots[0].ready) is not None:
            if not self._mute:
                _send(self._client, ready)
            self._slots.popleft()


def _receive(frames: BinaryIO) -> bytes | None:
    """The next frame, None at the end, a torn one included."""
    head = frames.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">i", head)
    frame = frames.read(size)
    return frame if len(frame) == size else None


def _send(to: socket.socket, frame: bytes) -> None:
    to.sendall(struct.pack(">i", len(frame)) + frame)
