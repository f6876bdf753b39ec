"""What a process function's state consists of in a checkpoint: the header, and events that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostinato.state.errors import SnapshotError
from ostinato.state.evolution import StateNote
from ostinato.state.typed import convert, decode_msgpack

KIND = "process"
VERSION = 1


class ProcessHeader(msgspec.Struct, frozen=True):
    """What the records are of.

    Attributes:
        name: of the process; `stream`: what it reads.
        keys: name and type of the key columns.
        states: as they were declared.
    """

    name: str
    stream: str
    keys: Sequence[tuple[str, str]]
    states: Sequence[StateNote]
    kind: str = KIND
    version: int = VERSION

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes, where: str = "the state") -> ProcessHeader:
        """Raises SnapshotError where this is no header that this release can read."""
        try:
            known = msgspec.msgpack.decode(data)
            kind, version = known["kind"], known["version"]
            if kind == KIND and version == VERSION:
                return convert(known, ProcessHeader)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise SnapshotError(f"{where}: the header of its stored state cannot be read: {error}") from error
        if kind != KIND:
            raise SnapshotError(
                f"{where}: the stored state is of an operator of kind {kind!r}, not of a process function"
            )
        raise SnapshotError(f"{where}: the stored state has format {version}; this release reads format {VERSION}")

    def check_keys(self, keys: Sequence[tuple[str, str]], where: str) -> None:
        """Raises SnapshotError where the state was kept by another key."""
        before, now = ([f"{name} {type_}" for name, type_ in columns] for columns in (self.keys, keys))
        if [type_ for _, type_ in self.keys] != [type_ for _, type_ in keys]:
            raise SnapshotError(
                f"{where}: its state was stored by the key ({', '.join(before) or 'none'}) and cannot be kept by "
                f"({', '.join(now) or 'none'})"
            )


class Waiting(msgspec.Struct, frozen=True):
    """Of one worker: how far time had come (epoch ms), and the events that waited for the watermark, as a frame."""

    watermark: int
    event_time: int
    processing_time: int
    rows: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes, where: str) -> Waiting:
        """Raises SnapshotError."""
        try:
            found: Any = decode_msgpack(data, Waiting)
        except msgspec.MsgspecError as error:
            raise SnapshotError(f"{where}: events that waited cannot be read: {error}") from error
        if found.version != VERSION:
            raise SnapshotError(f"{where}: its stored events have format {found.version}, not {VERSION}")
        waiting: Waiting = found
        return waiting
