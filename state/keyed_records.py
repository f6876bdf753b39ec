"""All the state of one key as a record, in memory and in bytes.

In bytes it is msgpack: ``[version, {state name: cell}, [[time domain, time, namespace], ...]]``, the timers sorted. A
cell is ``[stamp, value]`` of a value, reducing or aggregating state, ``[[stamp, value], ...]`` of a list,
``[[stamp, key, value], ...]`` of a map. A stamp is when time to live counts from, epoch ms, or nil. Keys and values are
msgpack within it, as `Serializer` makes them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from ostinato.state.errors import SnapshotError
from ostinato.state.typed import msgpack_decoder

VERSION: Final = 1

Stamped: TypeAlias = "tuple[int | None, bytes]"
Cell: TypeAlias = "Stamped | list[Stamped] | dict[bytes, Stamped]"
Timer: TypeAlias = "tuple[int, int, str]"
"""Time domain (`EVENT_TIME`, `PROCESSING_TIME`), time (epoch ms), namespace."""

EVENT_TIME: Final = 0
PROCESSING_TIME: Final = 1


class KeyRecord:
    """The state of one key: cells by the number of their state, and the key's timers."""

    __slots__ = ("cells", "timers")

    def __init__(self, states: int) -> None:
        self.cells: list[Cell | None] = [None] * states
        self.timers: set[Timer] | None = None

    @property
    def empty(self) -> bool:
        return not self.timers and all(not cell for cell in self.cells)


_Head: TypeAlias = "tuple[int, dict[str, msgspec.Raw], list[tuple[int, int, str]]]"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_head: Final = msgpack_decoder(tuple[int, dict[str, msgspec.Raw], list[tuple[int, int, str]]]).decode
_decode_value: Final = msgpack_decoder(tuple[int | None, msgspec.Raw]).decode
_decode_list: Final = msgpack_decoder(list[tuple[int | None, msgspec.Raw]]).decode
_decode_map: Final = msgpack_decoder(list[tuple[int | None, msgspec.Raw, msgspec.Raw]]).decode


class RecordFormat:
    """Packs records of the states of one operator; `names` and `kinds` of the states, by number."""

    def __init__(self, names: list[str], kinds: list[str]) -> None:
        self.names = names
        self.kinds = kinds
        self._number_of = {name: number for number, name in enumerate(names)}

    def pack(self, record: KeyRecord) -> bytes:
        raw = msgspec.Raw
        cells: dict[str, Any] = {}
        for number, cell in enumerate(record.cells):
            if not cell:
                continue
            if type(cell) is tuple:
                cells[self.names[number]] = (cell[0], raw(cell[1]))
            elif type(cell) is list:
                cells[self.names[number]] = [(stamp, raw(value)) for stamp, value in cell]
            else:
                assert type(cell) is dict
                cells[self.names[number]] = [(stamp, raw(key), raw(value)) for key, (stamp, value) in cell.items()]
        return _encode((VERSION, cells, sorted(record.timers) if record.timers else ()))

    def unpack(self, data: bytes) -> KeyRecord:
        """Raises SnapshotError where the bytes are no record. States that are not among the names are left out."""
        record = KeyRecord(len(self.names))
        try:
            version, cells, timers = _decode_head(data)
            if version != VERSION:
                raise SnapshotError(f"keyed state has format {version}; this release reads format {VERSION}")
            for name, cell in cells.items():
                number = self._number_of.get(name)
                if number is not None:
                    record.cells[number] = _cell(self.kinds[number], cell)
        except msgspec.MsgspecError as error:
            raise SnapshotError(f"keyed state cannot be read: {error}") from error
        if timers:
            record.timers = set(timers)
        return record


def _cell(kind: str, data: msgspec.Raw) -> Cell:
    if kind == "list":
        return [(stamp, bytes(value)) for stamp, value in _decode_list(data)]
    if kind == "map":
        return {bytes(key): (stamp, bytes(value)) for stamp, key, value in _decode_map(data)}
    stamp, value = _decode_value(data)
    return stamp, bytes(value)
