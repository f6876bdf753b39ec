"""What the server and the live worker say to each other, over a socket pair: frames of msgpack."""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias

import msgspec

from ostinato.server.live.generation import Generation
from ostinato.state.typed import msgpack_decoder

_LENGTH: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 256 << 20
"""A generation of many patterns takes some MB."""


class Durable(msgspec.Struct, frozen=True, tag="durable"):
    """The journal is durable up to here."""

    position: int


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Compile what may come next; answered by `Prepared`."""

    generation: Generation


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A question, answered by `Answer` of the same number. `what`: ``status``, ``why``, ``graph``, ``checkpoint``."""

    number: int
    what: str
    arguments: dict[str, Any] = {}


class Exclude(msgspec.Struct, frozen=True, tag="exclude"):
    """From the record at `position` on a pattern that could not go on there is left out, now and at every replay."""

    position: int
    name: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Take a last snapshot, and end."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The state has been restored; `position` is what is read next, `seq` the number of the next row."""

    position: int
    seq: int
    generation: int
    said: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """All up to `position` has been dealt with; the match log holds all rows before number `seq`."""

    position: int
    seq: int


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """A generation can take effect; or why it cannot."""

    number: int
    error: str | None = None


class Activated(msgspec.Struct, frozen=True, tag="activated"):
    """A generation has taken effect at the record at `position`. `kept`, `dropped`: partial matches by engine name."""

    number: int
    position: int
    kept: dict[str, int] = {}
    dropped: dict[str, int] = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """To an `Ask`; `error`: why there is none."""

    number: int
    value: Any = None
    error: str | None = None


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """A snapshot is durable. No replay will begin before `oldest`."""

    id: int
    position: int
    oldest: int
    seconds: float
    bytes: int
    at_ms: int


class SnapshotFailed(msgspec.Struct, frozen=True, tag="snapshot failed"):
    """No snapshot could be written; it is tried again."""

    error: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A pattern cannot go on at the record at `position`; the worker ends, and waits to be told to leave it out."""

    name: str
    position: int
    error: str


ToWorker: TypeAlias = Durable | Prepare | Ask | Exclude | Stop
ToServer: TypeAlias = Ready | Progress | Prepared | Activated | Answer | Snapshot | SnapshotFailed | Failed

_to_worker = msgpack_decoder(ToWorker)
_to_server = msgpack_decoder(ToServer)


def frame(message: ToWorker | ToServer) -> bytes:
    """The message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Puts what is received together to messages."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._held = bytearray()

    @staticmethod
    def to_worker() -> Frames:
        return Frames(_to_worker)

    @staticmethod
    def to_server() -> Frames:
        return Frames(_to_server)

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are whole by now."""
        self._held += data
        found = []
        at = 0
        while len(self._held) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._held, at)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a message of {size} bytes is none")
            if len(self._held) - at - _LENGTH.size < size:
                break
            begin = at + _LENGTH.size
            found.append(self._decoder.decode(self._held[begin : begin + size]))
            at = begin + size
        del self._held[:at]
        return found
