"""Records of keys that are not in memory, in a local RocksDB, with the times at which they want to be looked at.

What stands here is scratch: what survives a crash is in checkpoints.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ostinato.cep.nfa.record_kernel import NEVER
from ostinato.state.rocks import Rocks, View

_RECORD, _TIMER = b"r", b"t"
_GROUP = struct.Struct(">H")
_TIME = struct.Struct(">Q")
_ZERO = 1 << 63
"""Added to times, so that those before 1970 stand before the others."""


class Spill:
    """Records by key group and key. For one thread; a `View` may be read by another."""

    def __init__(self, rocks: Rocks, memory_bytes: int) -> None:
        """`memory_bytes`: what may be held in memory before the keys that were used longest ago go to the disk."""
        self.memory_bytes = memory_bytes
        self._rocks = rocks
        self._earliest = NEVER
        self._prefix = [_RECORD + _GROUP.pack(group) for group in range(1 << 10)]

    def put(
        self,
        groups: Sequence[int],
        keys: Sequence[bytes],
        records: Sequence[bytes],
        timers: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Keep records. `timers`: positions of keys, and the times (ms) at which they want to be looked at."""
        prefix = self._prefix
        entries = [(prefix[group] + key, record) for group, key, record in zip(groups, keys, records, strict=True)]
        for row, time in timers:
            entries.append((_TIMER + _TIME.pack(time + _ZERO) + _GROUP.pack(groups[row]) + keys[row], b""))
            self._earliest = min(self._earliest, time)
        self._rocks.write(entries)

    def get(self, groups: Sequence[int], keys: Sequence[bytes]) -> list[bytes | None]:
        """The records of keys, None where there is none."""
        prefix = self._prefix
        return self._rocks.get_many([prefix[group] + key for group, key in zip(groups, keys, strict=True)])

    def delete(self, groups: Sequence[int], keys: Sequence[bytes]) -> None:
        self._rocks.write((), [self._prefix[group] + key for group, key in zip(groups, keys, strict=True)])

    def due(self, upto: int, limit: int) -> tuple[list[int], list[bytes], int | None]:
        """Keys whose time has come at `upto`, earliest first, with their groups; they are given once.

        At most `limit`; then the third is the time up to which these are all, else None.
        """
        groups: list[int] = []
        keys: list[bytes] = []
        if upto < self._earliest:
            return groups, keys, None
        seen: list[bytes] = []
        complete: int | None = None
        begin, self._earliest = _TIMER + _TIME.pack(self._earliest + _ZERO), NEVER
        # from where the last one was: to find the first is slow where much has been deleted before it
        for entry, _ in self._rocks.scan(_TIMER, begin):
            time = _TIME.unpack_from(entry, 1)[0] - _ZERO
            if time > upto or len(keys) >= limit:
                self._earliest = time
                complete = time - 1 if time <= upto else None
                break
            groups.append(_GROUP.unpack_from(entry, 9)[0])
            keys.append(entry[11:])
            seen.append(entry)
        self._rocks.write((), seen)
        return groups, keys, complete

    def view(self) -> SpillView:
        """The records as they are now, whatever comes later."""
        return SpillView(self._rocks.view())

    def close(self) -> None:
        """Delete everything."""
        self._rocks.destroy()


class SpillView:
    """The records at one moment; may be read by another thread."""

    def __init__(self, view: View) -> None:
        self._view = view

    def get(self, group: int, key: bytes) -> bytes | None:
        return self._view.get(_RECORD + _GROUP.pack(group) + key)

    def of_group(self, group: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and record of each key of a group."""
        prefix = _RECORD + _GROUP.pack(group)
        for key, record in self._view.scan(prefix):
            yield key[len(prefix) :], record
