"""Sinks of text whose rows are seen when a checkpoint has completed; see `ostinato.cep.connectors.pending`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.pending import PendingFile


class LineSink(Protocol):
    """A sink that writes lines to an output. `memory` is what it knows of the lines before, as plain values."""

    memory: Any

    @property
    def head(self) -> bytes:
        """The lines at the top of the file, as far as they have been written."""

    def write(self, batch: Batch) -> None: ...


class TransactionalLines:
    """Rows as lines in a file, each exactly once."""

    def __init__(self, name: str, sink: LineSink, output: PendingFile) -> None:
        """`sink` writes to `output`; `name`: see `TransactionalSink`."""
        self.name = name
        self._sink = sink
        self._output = output
        self._at_start = sink.memory

    def write(self, batch: Batch) -> None:
        self._sink.write(batch)

    def flush(self) -> None:
        """Do nothing: rows are seen with the next checkpoint."""

    def prepare(self, checkpoint: int) -> dict[str, Any]:  # noqa: ARG002 - files have numbers of their own
        return {"file": self._output.prepare(), "lines": self._sink.memory}

    def commit(self, state: Mapping[str, Any]) -> None:
        self._output.commit(state["file"])

    def recover(self, state: Mapping[str, Any] | None) -> None:
        self._sink.memory = self._at_start if state is None else state["lines"]
        self._output.recover(None if state is None else state["file"], self._sink.head)

    def finish(self) -> None:
        """Do nothing: all that was committed is in the file."""

    def close(self) -> None:
        self._output.close()
