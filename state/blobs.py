"""Writing the state of many operators into few blobs, and reading an operator's part again."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ostinato.state import segments
from ostinato.state.errors import DamagedError
from ostinato.state.manifest import BlobRef, OperatorPieces, Piece
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.steps import reached
from ostinato.state.stores.base import CheckpointStore, Pieces

BLOB_BYTES: Final = 64 << 20
"""A blob that has grown to this size is put, and another one begun: so much of what is written is held in memory."""
_READ_BYTES: Final = 64 << 20
"""So much of what was read ahead is held, in all blobs together."""
_EXTENT_BYTES: Final = (256 << 10, 8 << 20)
"""So much is read at once, at least and at most, where pieces lie side by side; of each blob one such part is held."""
_GAP_BYTES: Final = 64 << 10
"""Pieces this close to each other are read together with what is between them."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What one process has written for a checkpoint. `Piece.blob` is a position in `blobs`; mostly there is one."""

    blobs: Sequence[BlobRef]
    operators: Mapping[str, OperatorPieces]

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return sum(blob.size for blob in self.blobs)


class BlobWriter:
    """Packs the state of many operators into blobs.

    >>> put: dict[str, Pieces] = {}
    >>> writer = BlobWriter("17-w0", put.__setitem__)
    >>> writer.add("logins", OperatorState(header=b"", groups={3: Records.of([(b"ada", b"1")])}, whole={3}))
    >>> packed = writer.finish()
    >>> [blob.name for blob in packed.blobs], list(packed.operators["logins"].groups)
    (['17-w0'], [3])
    """

    def __init__(self, name: str, put: Callable[[str, Pieces], None], *, blob_bytes: int = BLOB_BYTES) -> None:
        """`name`: no other attempt may use it; `put`: that of a store."""
        self._name = name
        self._put = put
        self._limit = blob_bytes
        self._blobs: list[BlobRef] = []
        self._operators: dict[str, OperatorPieces] = {}
        self._data: list[bytes] = []
        self._size = 0
        self._crc = 0

    def add(self, operator: str, state: OperatorState) -> None:
        """Write an operator's state; its groups are asked for once, in their order, one after the other.

        Raises:
            StoreError: a blob that is full could not be put.
        """
        if operator in self._operators:
            raise ValueError(f"the state of operator {operator} was already written")
        shared = [self._write(segments.encode_shared(state.shared), whole=True)] if state.shared else []
        groups = {}
        whole = frozenset(state.whole)
        for group in sorted(state.groups):
            groups[group] = [self._write(segments.encode(state.groups[group]), whole=group in whole)]
        self._operators[operator] = OperatorPieces(state.header, shared, groups)

    def finish(self) -> Packed:
        """Put what is left; all of it is durable then. Raises StoreError."""
        self._flush()
        return Packed(list(self._blobs), self._operators)

    def _write(self, data: bytes, *, whole: bool) -> Piece:
        if self._data and self._size + len(data) > self._limit:
            self._flush()
        piece = Piece(len(self._blobs), self._size, len(data), zlib.crc32(data), whole)
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._data.append(data)
        return piece

    def _flush(self) -> None:
        if not self._data:
            return
        name = f"{self._name}.{len(self._blobs)}" if self._blobs else self._name
        self._put(name, self._data)
        self._blobs.append(BlobRef(name, self._size, self._crc))
        self._data, self._size, self._crc = [], 0, 0


@dataclass(slots=True)
class _Extent:
    """A part of a blob that is read at once. `open`: pieces of it that are still to come."""

    blob: int
    offset: int
    end: int
    open: int = 0
    data: bytes | None = None


class PieceReader:
    """Reads pieces of blobs, those that lie side by side at once; each is checked, and is to be read once.

    What is read ahead is bounded as long as pieces are read in the order in which they were written.
    """

    def __init__(self, store: CheckpointStore, blobs: Sequence[BlobRef], pieces: Sequence[Piece]) -> None:
        """`blobs`: of the manifest; `pieces`: all that will be read."""
        self._store = store
        self._blobs = blobs
        self._extents = _plan(pieces)

    def read(self, piece: Piece, what: str) -> memoryview:
        """Raises DamagedError, which says what is damaged, StoreError."""
        extent = self._extents[piece]
        if extent.data is None:
            name = self._blobs[extent.blob].name
            extent.data = self._store.get(name, extent.offset, extent.end - extent.offset)
        begin = piece.offset - extent.offset
        found = memoryview(extent.data)[begin : begin + piece.length]
        extent.open -= 1
        if not extent.open:
            extent.data = None
        if zlib.crc32(found) != piece.crc:
            raise DamagedError(
                f"{self.where(piece, what)} is damaged: its checksum does not fit; "
                "an older checkpoint or a savepoint may be whole"
            )
        return found

    def where(self, piece: Piece, what: str) -> str:
        """Something and where it is."""
        return f"{what} (blob {self._blobs[piece.blob].name}, from byte {piece.offset}, in {self._store.address})"


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An operator's state in a store, for the worker that owns these key groups (`state.operator.StoredState`).

    `blobs` are those of the manifest that `pieces` is from; `name` is the operator's, for messages.
    """

    name: str
    pieces: OperatorPieces
    blobs: Sequence[BlobRef]
    store: CheckpointStore
    owned: range
    may_drop: bool = False

    @property
    def header(self) -> bytes:
        return self.pieces.header

    @property
    def shared(self) -> Sequence[bytes]:
        what = f"what belongs to no key of operator {self.name}"
        reader = PieceReader(self.store, self.blobs, self.pieces.shared)
        return [
            segments.decode_shared(reader.read(piece, what), reader.where(piece, what)) for piece in self.pieces.shared
        ]

    def records(self) -> Iterator[tuple[int, Records]]:
        """Each key group that is owned and has state, merged, in their order."""
        groups = [group for group in sorted(self.pieces.groups) if group in self.owned]
        owned = {group: current(self.pieces.groups[group]) for group in groups}
        reader = PieceReader(self.store, self.blobs, [piece for chain in owned.values() for piece in chain])
        for group, chain in owned.items():
            what = f"key group {group} of operator {self.name}"
            records = segments.merge(
                [segments.decode(reader.read(piece, what), reader.where(piece, what)) for piece in chain]
            )
            reached("restore.group")
            if len(records):
                yield group, records


def current(chain: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces of a chain that count: the last one that is whole, and what came after."""
    for number in range(len(chain) - 1, -1, -1):
        if chain[number].whole:
            return chain[number:]
    return chain


def _plan(pieces: Sequence[Piece]) -> dict[Piece, _Extent]:
    """What to read at once for each piece."""
    by_blob: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_blob[piece.blob].append(piece)
    found: dict[Piece, _Extent] = {}
    smallest, largest = _EXTENT_BYTES
    limit = max(smallest, min(largest, _READ_BYTES // max(1, len(by_blob))))
    for blob, parts in by_blob.items():
        extent: _Extent | None = None
        for piece in sorted(parts, key=lambda part: part.offset):
            end = piece.offset + piece.length
            if extent is None or piece.offset - extent.end > _GAP_BYTES or end - extent.offset > limit:
                extent = _Extent(blob, piece.offset, end)
            extent.end = max(extent.end, end)
            extent.open += 1
            found[piece] = extent
    return found
