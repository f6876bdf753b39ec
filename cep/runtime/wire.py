"""Messages between the processes of one job, over a stream socket.

A message is ``uint64 length of the payload | uint32 kind | uint32 zero | int64 sequence number | payload``,
little-endian. Payloads are read into buffers of their own, so columns in them start at addresses that kernels like.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import msgspec

Pieces: TypeAlias = Sequence[bytes | bytearray | memoryview]

_HEADER = struct.Struct("<QIIq")
_PIECES_AT_ONCE = 512
"""Below the smallest limit of buffers per sendmsg of the systems we run on (1024)."""
_LENGTH = struct.Struct("<Q")


class Kind(IntEnum):
    """What a message is. P: parent, W: worker."""

    JOB = 1  # P>W what to run
    READY = 2  # W>P compiled and waiting
    ENTRY = 3  # P>W the entry that this worker admits
    TIME = 4  # W>W the time after the entry before
    ROWS = 5  # W>W rows of an entry for their owner
    ADMITTED = 6  # W>P what an entry held: counts, bad and late rows
    DONE = 7  # W>P an entry is dealt with: output
    FAILED = 8  # W>P the run cannot go on
    STATUS = 9  # W>P a line for the user
    ASK = 10  # P>W tell the numbers now
    NUMBERS = 11  # W>P of each pattern
    ORDER = 12  # P>W a checkpoint, before its barrier
    PART = 13  # W>P what was written for a checkpoint, or why it was not
    BEAT = 14  # both ways: a sign of life


class Message(NamedTuple):
    """A message as it came."""

    kind: int
    sequence: int
    payload: bytearray


class Wire:
    """One end of a connection. Any thread may send, one may receive."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def send(self, kind: Kind, sequence: int, pieces: Pieces = ()) -> None:
        """Send a message; returns when the system has taken it. OSError when the other end has gone."""
        size = sum(len(piece) for piece in pieces)
        buffers: list[bytes | bytearray | memoryview] = [_HEADER.pack(size, kind, 0, sequence)]
        buffers += [piece for piece in pieces if len(piece)]
        with self._sending:
            for first in range(0, len(buffers), _PIECES_AT_ONCE):
                self._send_all(buffers[first : first + _PIECES_AT_ONCE])

    def beat(self) -> None:
        """Send a sign of life, if that can be done at once: where others are sending, they are sign enough."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            header = memoryview(_HEADER.pack(0, Kind.BEAT, 0, 0))
            with contextlib.suppress(BlockingIOError):  # the other end does not read, which it is to blame for
                sent = self._socket.send(header, socket.MSG_DONTWAIT)
                self._send_all([header[sent:]] if sent < len(header) else [])
        except OSError:
            pass  # whoever receives notices that the other end has gone
        finally:
            self._sending.release()

    def receive(self) -> Message | None:
        """The next message, or None when the other end has gone."""
        header = self._receive_exactly(_HEADER.size)
        if header is None:
            return None
        size, kind, _, sequence = _HEADER.unpack(header)
        payload = self._receive_exactly(size)
        return None if payload is None else Message(kind, sequence, payload)

    def close(self) -> None:
        """Close both directions; a blocked `receive` returns None."""
        with contextlib.suppress(OSError):  # the other end may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send_all(self, buffers: list[bytes | bytearray | memoryview]) -> None:
        while buffers:
            sent = self._socket.sendmsg(buffers)
            while buffers and sent >= len(buffers[0]):
                sent -= len(buffers.pop(0))
            if sent:
                buffers[0] = memoryview(buffers[0])[sent:]

    def _receive_exactly(self, size: int) -> bytearray | None:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError:
                return None
            if count == 0:
                return None
            view = view[count:]
        return buffer


def pack(head: Any, frames: Sequence[Pieces] = ()) -> list[bytes | bytearray | memoryview]:
    """A payload: a head of plain values, then frames, each starting at a multiple of 8."""
    encoded = msgspec.msgpack.encode(head)
    pieces: list[bytes | bytearray | memoryview] = [_LENGTH.pack(len(encoded)), encoded, bytes(-len(encoded) % 8)]
    for frame in frames:
        size = sum(len(piece) for piece in frame)
        pieces.append(_LENGTH.pack(size))
        pieces.extend(frame)
        pieces.append(bytes(-size % 8))
    return pieces


def unpack(payload: bytearray) -> tuple[Any, list[memoryview]]:
    """The head and the frames of a payload, as views into it."""
    view = memoryview(payload)
    parts = []
    at = 0
    while at < len(view):
        (size,) = _LENGTH.unpack_from(view, at)
        parts.append(view[at + 8 : at + 8 + size])
        at += 8 + size + -size % 8
    return msgspec.msgpack.decode(parts[0]), parts[1:]
