"""The file of records that could not be used, with their bytes, their place and the reason."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ostinato.cep.connectors.base import BadRecord
from ostinato.cep.connectors.output import LineFile
from ostinato.cep.connectors.pending import PendingFile
from ostinato.cep.connectors.room import Room


class DeadLetters:
    """Writes one JSON object for each bad record: ``source``, ``line``, ``offset``, ``reason``, ``raw``.

    Bytes that are not UTF-8 are in ``raw_base64`` instead. The file is made with the first record.

    Attributes:
        path: of the file; None counts only.
        count: records so far.
        first: the first one, to be shown.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.count = 0
        self.first: BadRecord | None = None
        self._output: LineFile | PendingFile | None = None

    def write(self, records: Iterable[BadRecord]) -> None:
        """Raises SinkError where the file cannot be written."""
        lines = []
        for record in records:
            if self.first is None:
                self.first = record
            self.count += 1
            if self.path is not None:
                lines.append(to_line(record))
        if lines:
            if self._output is None:
                assert self.path is not None
                self._output = LineFile.create(self.path)
            self._output.write(b"".join(lines))

    def flush(self) -> None:
        if self._output is not None:
            self._output.flush()

    def close(self) -> None:
        if self._output is not None:
            self._output.close()


class TransactionalDeadLetters(DeadLetters):
    """Each bad record exactly once, seen when its checkpoint has completed; see `TransactionalSink`."""

    def __init__(self, path: str, room: Room) -> None:
        super().__init__(path)
        self.name = f"dead letters -> {os.path.realpath(path)}"
        self._pending = PendingFile(path, room, when_needed=True)
        self._output = self._pending

    def prepare(self, checkpoint: int) -> dict[str, Any]:  # noqa: ARG002 - files have numbers of their own
        return {"file": self._pending.prepare(), "count": self.count}

    def commit(self, state: Mapping[str, Any]) -> None:
        self._pending.commit(state["file"])

    def recover(self, state: Mapping[str, Any] | None) -> None:
        self.count = 0 if state is None else state["count"]
        self.first = None
        self._pending.recover(None if state is None else state["file"])

    def finish(self) -> None:
        """Do nothing: all that was committed is in the file."""


def to_line(record: BadRecord) -> bytes:
    """The record as a line of the file."""
    made: dict[str, str | int] = {
        "source": record.source,
        "line": record.line,
        "offset": record.offset,
        "reason": record.reason.encode("utf-8", "replace").decode(),
    }
    try:
        made["raw"] = record.raw.decode()
    except UnicodeDecodeError:
        made["raw_base64"] = base64.b64encode(record.raw).decode()
    return orjson.dumps(made) + b"\n"
