"""Records of keys that are not in memory, in a local RocksDB, with the times at which they want to be looked at.

What stands here is scratch: what survives a crash is in checkpoints.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from ostinato.state.rocks import Rocks, View

_RECORD, _TIMER = b"r", b"t"
_GROUP = struct.Struct(">H")
_TIME = struct.Struct(">Q")
_ZERO = 1 << 63
"""Added to times, so that those before 1970 stand before the others."""
_NO_TIMER = _TIMER + b"\xff" * 9
"""Behind all timers."""


class Spill:
    """Records by key group and key. For one thread; a `View` may be read by another."""

    def __init__(self, rocks: Rocks, memory_bytes: int) -> None:
        """`memory_bytes`: what may be held in memory before the keys that were used longest ago go to the disk."""
        self.memory_bytes = memory_bytes
        self._rocks = rocks
        self._first = _NO_TIMER
        self._prefix = [_RECORD + _GROUP.pack(group) for group in range(1 << 10)]

    def put(
        self,
        groups: Sequence[int],
        keys: Sequence[bytes],
        records: Sequence[bytes],
        timers: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Keep records. `timers`: positions of keys, and the times (ms) at which they want to be looked at."""
        prefix = self._prefix
        entries = [(prefix[group] + key, record) for group, key, record in zip(groups, keys, records, strict=True)]
        first = self._first
        for row, time in timers:
            timer = _TIMER + _TIME.pack(time + _ZERO) + _GROUP.pack(groups[row]) + keys[row]
            entries.append((timer, b""))
            first = min(first, timer)
        self._first = first
        self._rocks.write(entries)

    def get(self, groups: Sequence[int], keys: Sequence[bytes]) -> list[bytes | None]:
        """The records of keys, None where there is none."""
        prefix = self._prefix
        return self._rocks.get_many([prefix[group] + key for group, key in zip(groups, keys, strict=True)])

    def delete(self, groups: Sequence[int], keys: Sequence[bytes]) -> None:
        self._rocks.write((), [self._prefix[group] + key for group, key in zip(groups, keys, strict=True)])

    def clear(self) -> None:
        """Delete all records."""
        self._rocks.delete_range(_RECORD, _TIMER)

    def due(self, upto: int, limit: int) -> tuple[list[int], list[bytes], int | None]:
        """Keys whose time has come at `upto`, earliest first, with their groups; they are given once.

        At most `limit`; then the third is the time up to which these are all, else None.
        """
        groups: list[int] = []
        keys: list[bytes] = []
        seen: list[bytes] = []
        complete: int | None = None
        if _time_of(self._first) > upto:
            return groups, keys, None
        # from where the last scan stopped: to find the first is slow where much has been deleted before it
        begin, self._first = self._first, _NO_TIMER
        for timer, _ in self._rocks.scan(_TIMER, begin):
            time = _time_of(timer)
            if time > upto or len(keys) >= limit:
                self._first = timer
                complete = time - 1 if time <= upto else None
                break
            groups.append(_GROUP.unpack_from(timer, 9)[0])
            keys.append(timer[11:])
            seen.append(timer)
        self._rocks.write((), seen)
        return groups, keys, complete

    def view(self) -> SpillView:
        """The records as they are now, whatever comes later."""
        return SpillView(self._rocks.view())

    def close(self) -> None:
        """Delete everything."""
        self._rocks.destroy()


def _time_of(timer: bytes) -> int:
    time: int = _TIME.unpack_from(timer, 1)[0]
    return time - _ZERO


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
