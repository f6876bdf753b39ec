"""What sources, decoders and sinks are to the rest of the engine, and what passes between them."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import Batch
from ostinato.patterns.errors import did_you_mean

Bytes: TypeAlias = npt.NDArray[np.uint8]

SLACK = 64
"""Bytes behind the last one of a chunk of text: a line end, then zeros. Kernels read whole words over the end."""
CHUNK_BYTES = 1 << 20
"""About what is read at a time: it fits in the second-level cache with the columns that are made of it."""
LARGE_CHUNK_BYTES = 4 << 20
"""The most that is read at a time of a long file: what is done once for each chunk, by each of several workers, matters
more then than the cache."""
CHUNKS_OF_A_FILE = 16
"""A file has at least so many chunks, if they are not smaller than `CHUNK_BYTES`: work for several workers."""
MAX_RECORD_BYTES = 256 << 20
"""A longer record is rejected without being held in memory."""
REJECTED_BYTES = 1 << 20
"""So much of a record that is too long is kept for the dead letters."""


class ConnectorError(Exception):
    """Something outside failed or a connector is declared wrongly; the message says what, where, and what to do."""


class SourceError(ConnectorError):
    """Input cannot be read."""


class SinkError(ConnectorError):
    """Output cannot be written."""


def advice(error: OSError) -> str:
    """``permission denied; ...``: what an operating-system error means, and what to do about it."""
    remedies = {
        errno.ENOENT: "check the path",
        errno.EACCES: "check who may read and write it",
        errno.EPERM: "check who may read and write it",
        errno.EISDIR: "name a file, or a pattern such as `folder/*.jsonl`",
        errno.ENOTDIR: "check the path",
        errno.ENOSPC: "make room on the disk and run again",
        errno.EDQUOT: "make room on the disk and run again",
        errno.EFBIG: "the file would be larger than is allowed here",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.EROFS: "choose a place that can be written to",
        errno.EPIPE: "whoever was reading has gone",
    }
    said = (error.strerror or str(error) or type(error).__name__).lower()
    remedy = remedies.get(error.errno or 0)
    return f"{said}; {remedy}" if remedy else said


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be used: its bytes, where it came from, and why.

    `line` counts from 1, `offset` is in bytes from 0 (of the decompressed text); -1 where there is no such thing.
    """

    raw: bytes
    source: str
    line: int
    offset: int
    reason: str


@dataclass(slots=True)
class Chunk:
    """Whole records as they were read.

    Of text, `data` is uint8[size + SLACK] or more: the records, a line end, zeros. Of Parquet it is a
    ``pyarrow.Table`` and `size` its rows, of Kafka a ``RecordBlock`` and `size` its bytes. Reading goes on after it at
    `position`. `first_line` counts from 1 (0: lines are not counted), `first_offset` from 0. `header` is the first line
    of the file where that names columns. `rejected` holds records that
    were never read in full.
    """

    data: Any
    size: int
    split: int = 0
    position: Mapping[str, Any] = field(default_factory=dict)
    source: str = "<memory>"
    first_line: int = 1
    first_offset: int = 0
    header: bytes | None = None
    rejected: tuple[BadRecord, ...] = ()

    @staticmethod
    def of(data: bytes | bytearray | memoryview | str, **place: Any) -> Chunk:
        """A chunk of text records, copied to a buffer that kernels can read; `place` are the other fields."""
        held = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        buffer = text_buffer(len(held))
        buffer[: len(held)] = np.frombuffer(held, np.uint8)
        return Chunk(buffer, len(held), **place)

    @property
    def text(self) -> memoryview:
        """The bytes of the records, for sending them elsewhere."""
        return memoryview(self.data)[: self.size]


def text_buffer(size: int) -> Bytes:
    """Room for `size` bytes of text, with what must stand behind them in place."""
    buffer = np.empty(size + SLACK, np.uint8)
    seal(buffer, size)
    return buffer


def seal(buffer: Bytes, size: int) -> None:
    """Put a line end and zeros behind the first `size` bytes."""
    buffer[size : size + SLACK] = 0
    buffer[size] = 10


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to read at the moment; more may come. `split` None: of no split at all."""

    split: int | None = None


class Reader(Protocol):
    """Reads a source in chunks; it knows where records end and nothing else about them."""

    @property
    def splits(self) -> int:
        """How many parts the source has whose events are each nearly in order."""

    def read(self) -> Chunk | Idle | None:
        """The next chunk, Idle where a live source has had nothing for a moment, None at the end.

        Raises SourceError.
        """

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on after the chunk that had this position."""

    def close(self) -> None: ...


class Decoder(Protocol):
    """Turns the chunks of one stream into batches."""

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        """The records as columns, and those that could not be used. Never raises for what is in a record."""


@runtime_checkable
class RefusingDecoder(Decoder, Protocol):
    """A decoder that finds the record of a row again."""

    def refuse(self, chunk: Chunk, reasons: Mapping[int, str]) -> list[BadRecord]:
        """Rows of the batch that `decode` makes of the chunk, as bad records after all: why, by row."""


class Sink(Protocol):
    """Takes batches of one stream. All of it raises SinkError where the outside fails."""

    def write(self, batch: Batch) -> None: ...

    def flush(self) -> None:
        """Hand everything that was written to the operating system, in whole records."""

    def close(self) -> None: ...


@runtime_checkable
class TransactionalSink(Sink, Protocol):
    """A sink whose rows are seen once the checkpoint that they belong to is complete: none is lost, none comes twice.

    The job calls `recover` before anything is written, also after a failure in the same process, so opening a sink must
    not touch what is there. All methods are called from the same thread.
    """

    @property
    def name(self) -> str:
        """By which its state is found again: the same for the same output in every run, another for every other."""

    def prepare(self, checkpoint: int) -> Any:
        """Make all rows so far durable, but not seen yet. Returns what `commit` and `recover` need: plain values.

        The checkpoint may fail, or take long; rows go on to be written meanwhile. What is prepared and not committed
        belongs to the next checkpoint as well, so the state covers everything since the last `commit`. Every state that
        was given since then must stay good for `recover`: nobody knows whether a checkpoint that failed was stored.
        """

    def commit(self, state: Any) -> None:
        """The checkpoint is complete: let its rows be seen. Doing so again changes nothing."""

    def recover(self, state: Any) -> None:
        """The job begins, from the checkpoint with this state; None: from the very start.

        Publishes what `state` holds where that had not come about, and takes back everything that came later.
        """

    def finish(self) -> None:
        """The job has ended with a last `commit`: do what is only done at the end. Nothing is written any more."""


class Options:
    """The options of a connector."""

    def __init__(self, owner: str, options: Sequence[tuple[str, Any]]) -> None:
        """`owner` is for messages."""
        self._owner = owner
        self._values = dict(options)

    def text(self, name: str, default: str | None = None) -> str | None:
        value = self._values.get(name, default)
        return value if value is None or isinstance(value, str) else self._refuse(name, "a text", value)

    def number(self, name: str, default: int) -> int:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            return int(self._refuse(name, "a whole number", value))
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else bool(self._refuse(name, "true or false", value))

    def finish(self, known: Collection[str]) -> None:
        """Raise ConnectorError for an option that is not known."""
        for name in self._values:
            if name not in known:
                hint = did_you_mean(name, known) or f"it has {', '.join(sorted(known)) or 'none'}"
                raise ConnectorError(f"{self._owner} has no option {name!r}; {hint}")

    def _refuse(self, name: str, expected: str, value: object) -> Any:
        raise ConnectorError(f"{self._owner}: option {name!r} must be {expected}, not {value!r}")
