"""Which keys are in memory, where their state is larger than that: those used last; the others' records are on disk.

A key of an event, or whose time has come, is brought back before anything happens to it. When the state in memory has
grown beyond its bound, the keys used longest ago are packed and written.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import MIN_TIME, Strings
from ostinato.cep.nfa.counter import LinearCounter
from ostinato.cep.nfa.input import KeyedInput
from ostinato.cep.nfa.keys import key_group, of_bytes, to_bytes
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import KEY_CHANGED, KEY_STORED, grow_list
from ostinato.cep.nfa.records import NEVER, RecordCodec, deadlines, tally
from ostinato.cep.nfa.spill import Spill, SpillView
from ostinato.cep.nfa.tables import P_WITHIN
from ostinato.cep.strings import gather
from ostinato.state.records import Blobs, Records

Ints = npt.NDArray[np.int64]

_AT_ONCE = 1 << 14
"""Keys that are moved together: enough to pay for the calls, and little memory beside the state itself."""
_LOW_WATER = 0.6
"""Of the bound: so far the state in memory is brought down when it has been exceeded."""
_MOST_CHANGES = 1 << 22
"""Keys on disk that are remembered as changed; beyond that, the next snapshot holds everything."""

# what is known of a key: whether the disk was asked for it, when it was used last, whether the disk has a record of it,
# and the timer that is set for it there (see `_mark`)
_ASKED, _USED, _ON_DISK, _TIMER = range(4)
_NO_TIMER = 0


class Residence:
    """Moves the state of keys between the matcher and the disk."""

    def __init__(
        self,
        spill: Spill,
        key_groups: int,
        keyed: KeyedInput,
        matcher: Matcher,
        codec: RecordCodec,
        counters: Sequence[LinearCounter],
    ) -> None:
        self.partial_matches = np.zeros(len(matcher.compiled.patterns), np.int64)
        """Per pattern, those on disk."""
        self.groups: set[int] = set()
        """Key groups of which something is on disk, or has been."""
        self._spill = spill
        self._key_groups = key_groups
        self._input = keyed
        self._matcher = matcher
        self._codec = codec
        self._counters = counters
        self._keys = np.zeros((1024, 4), np.int64)
        self._cleaning_ms = 1 + int(matcher.compiled.tables.patterns[:, P_WITHIN].max()) // key_groups
        self._cleaned = MIN_TIME
        self._next_group = 0
        self._last_end = MIN_TIME
        """When all records on disk will be over."""
        self._now = 0
        self._changed: list[tuple[Ints, Blobs]] | None = None
        self._changes = 0

    # -- bringing back -----------------------------------------------------------------------------

    def use(self, codes: Ints) -> None:
        """Bring back the keys that events in hand have."""
        self._grow()
        self._now += 1
        self._keys[codes, _USED] = self._now
        self._load(np.unique(codes[self._keys[codes, _ASKED] == 0]))

    def wake(self, watermark: int) -> int | None:
        """Bring back the keys for which something is due by the watermark.

        There may be more than memory holds: then only so far as the time (ms) that is returned.
        """
        while True:
            groups, keys, upto = self._spill.due(watermark, _AT_ONCE)
            wanted = self._still_wanted(groups, keys, watermark if upto is None else upto)
            if wanted:
                codes = self._input.keys.intern(of_bytes(wanted))
                self._grow()
                self._keys[codes, _USED] = self._now
                self._load(codes)
                self._keys[codes, _TIMER] = _NO_TIMER
            if upto is None or wanted:
                return upto

    def _still_wanted(self, groups: Sequence[int], keys: Sequence[bytes], now: int) -> list[bytes]:
        """Those of the keys that have something to do by now; the others' timers are set again. A timer may be there
        still of a key that has been brought back, or whose record has changed since."""
        if not keys:
            return []
        group_of = dict(zip(keys, groups, strict=True))  # a key may have several timers
        groups, keys = list(group_of.values()), list(group_of)
        codes = self._input.keys.find(of_bytes(keys))
        known = codes >= 0
        self._grow()
        self._keys[codes[known], _TIMER] = _NO_TIMER
        known[known] = self._keys[codes[known], _ASKED] != 0
        rows = np.flatnonzero(~known).tolist()
        groups, keys = [groups[row] for row in rows], [keys[row] for row in rows]
        found = [record or b"" for record in self._spill.get(groups, keys)]
        values = Blobs.of(found)
        due, _ = deadlines(values)
        later = np.flatnonzero((due > now) & (due < NEVER)).tolist()
        if later:
            self._spill.put(
                [groups[row] for row in later],
                [keys[row] for row in later],
                [found[row] for row in later],
                list(enumerate(due[later].tolist())),
            )
        return [keys[row] for row in np.flatnonzero(due <= now).tolist()]

    def peek(self, key: Strings) -> bytes | None:
        """The record of a key (a single one) that is on disk only; None where it is in memory, or has nothing."""
        code = int(self._input.keys.find(key)[0])
        if 0 <= code < len(self._keys) and self._keys[code, _ASKED]:
            return None
        return self._spill.get(key_group(key, self._key_groups).tolist(), to_bytes(key))[0]

    def clean(self, watermark: int) -> None:
        """Delete records that are over: group by group, all groups once in the longest window.

        The keys of events in hand must have been brought back, and those for which something is due.
        """
        if self._cleaned == MIN_TIME:
            self._cleaned = watermark
        if not self.groups:
            return
        if self._last_end <= watermark and self._last_end < NEVER:
            self._clear()
            return
        steps = min((watermark - self._cleaned) // self._cleaning_ms, self._key_groups)
        if steps:
            self._cleaned = watermark
        for _ in range(steps):
            group, self._next_group = self._next_group, (self._next_group + 1) % self._key_groups
            if group in self.groups:
                self._clean_group(group, watermark)

    def _clean_group(self, group: int, watermark: int) -> None:
        records = self._spill.view().of_group(group)
        while part := list(itertools.islice(records, _AT_ONCE)):
            values = Blobs.of([record for _, record in part])
            over = np.flatnonzero(deadlines(values)[1] <= watermark)
            keys = [part[row][0] for row in over.tolist()]
            # what has been brought back is the business of memory, whatever the disk says
            codes = self._input.keys.find(of_bytes(keys))
            here = codes >= 0
            here[here] = self._keys[codes[here], _ASKED] != 0
            over = over[~here]
            if len(over):
                keys = [part[row][0] for row in over.tolist()]
                self._count(values.take(over), -1)
                self._note_changed(np.full(len(keys), group), keys)
                self._spill.delete([group] * len(keys), keys)

    def _clear(self) -> None:
        """All that is on disk is over."""
        self._spill.clear()
        self.partial_matches[:] = 0
        self.groups.clear()
        self._keys[:, [_ON_DISK, _TIMER]] = 0
        self._last_end = MIN_TIME
        self._changed = None

    def _load(self, codes: Ints) -> None:
        for begin in range(0, len(codes), _AT_ONCE):
            part = codes[begin : begin + _AT_ONCE]
            strings = self._input.keys.strings(part)
            found = self._spill.get(key_group(strings, self._key_groups).tolist(), to_bytes(strings))
            self._keys[part, _ASKED] = 1
            rows = [row for row, record in enumerate(found) if record is not None]
            if not rows:
                continue
            values = Blobs.of([record for record in found if record is not None])
            back = part[rows]
            self._matcher.space = grow_list(self._matcher.space, "keys", len(self._input.keys))
            self._codec.unpack(values, back, self._input.watermark)
            self._count(values, -1)
            table = self._matcher.space.keys
            table[back, KEY_CHANGED] = 0
            table[back, KEY_STORED] = 1  # as far as is known
            self._keys[back, _ON_DISK] = 1
            self._keys[back, _TIMER] = _mark(deadlines(values)[0])

    # -- making room -------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Write keys to the disk where there is too much in memory."""
        used = self._matcher.bytes_in_use()
        if used <= self._spill.memory_bytes:
            return
        counted = [counter.live_keys() for counter in self._counters]
        keys = (
            np.setdiff1d(self._matcher.live_keys(), np.concatenate(counted)) if counted else self._matcher.live_keys()
        )
        number = min(len(keys), int(len(keys) * (1 - _LOW_WATER * self._spill.memory_bytes / used)) + 1)
        if not number:
            return
        self._grow()
        oldest = keys[np.argpartition(self._keys[keys, _USED], number - 1)[:number]]
        for begin in range(0, number, _AT_ONCE):
            self._evict(oldest[begin : begin + _AT_ONCE])
        self._matcher.forget_timers()
        self.drop_gone()

    def take_in(self, records: Records, group: int) -> None:
        """Records of keys that are not in memory, as `RecordCodec` wrote them."""
        self.groups.add(group)
        for begin in range(0, len(records), _AT_ONCE):
            part = records.slice(begin, min(len(records), begin + _AT_ONCE))
            due, end = deadlines(part.values)
            self._last_end = max(self._last_end, int(end.max(initial=MIN_TIME)))
            timers = self._timers(due)
            self._spill.put([group] * len(part), list(part.keys), list(part.values), timers)
            self._count(part.values, 1)

    def _evict(self, codes: Ints) -> None:
        values = self._codec.pack(codes, self._input.watermark)
        table = self._matcher.space.keys
        there = values.lengths > 0
        changed = table[codes, KEY_CHANGED] != 0
        on_disk = self._keys[codes, _ON_DISK] != 0
        strings = self._input.keys.strings(codes)
        groups, keys = key_group(strings, self._key_groups), to_bytes(strings)
        due, end = deadlines(values)
        self._last_end = max(self._last_end, int(end[there].max(initial=MIN_TIME)))
        rows = np.flatnonzero(there)
        self.groups.update(np.unique(groups[rows]).tolist())
        # a timer that is set already, and was not met yet, need not be set again
        timers = self._timers(np.where(_mark(due) == self._keys[codes, _TIMER], NEVER, due)[rows])
        records = list(values)
        self._spill.put(*_chosen(rows, groups, keys), [records[row] for row in rows.tolist()], timers)
        self._spill.delete(*_chosen(np.flatnonzero(~there & on_disk), groups, keys))
        told = changed & (there | on_disk | (table[codes, KEY_STORED] != 0))
        rows = np.flatnonzero(told)
        self._note_changed(groups[rows], [keys[row] for row in rows.tolist()])
        self._count(values, 1)
        self._codec.free(codes)
        table[codes, KEY_CHANGED] = 0
        table[codes, KEY_STORED] = 0
        self._keys[codes] = 0

    def drop_gone(self) -> None:
        """Delete the records of keys that have been brought back and have nothing any more."""
        self._grow()
        on_disk = np.flatnonzero(self._keys[: len(self._input.keys), _ON_DISK])
        gone = np.setdiff1d(on_disk, self._matcher.live_keys(), assume_unique=True)
        if len(gone):
            strings = self._input.keys.strings(gone)
            self._spill.delete(key_group(strings, self._key_groups).tolist(), to_bytes(strings))
            self._keys[gone, _ON_DISK] = 0

    def renumber_keys(self, mapping: Ints) -> None:
        """Take over new codes of keys; those that are gone have nothing, in memory or on disk."""
        known = mapping[: len(self._keys)]
        old = np.flatnonzero(known >= 0)
        keys = np.zeros((max(1024, 2 * len(old)), 4), np.int64)
        keys[known[old]] = self._keys[old]
        self._keys = keys

    # -- snapshots ---------------------------------------------------------------------------------

    @property
    def knows_changes(self) -> bool:
        """Can a snapshot of changes be taken? Otherwise everything has to be."""
        return self._changed is not None

    def snapshot(self, groups: Mapping[int, Records], whole: Collection[int], told: Strings) -> Mapping[int, Records]:
        """The records of a snapshot together with those on disk, which are read when they are asked for.

        Args:
            groups: what is in memory.
            whole: groups that are wanted in full.
            told: the keys of which `groups` says what there is to say, in groups that are not wanted in full.
        """
        self._grow()
        asked = np.flatnonzero(self._keys[: len(self._input.keys), _ASKED])
        changed, self._changed, self._changes = self._changed or [], [], 0
        here = gather(self._input.keys.strings(asked))
        return _Together(groups, frozenset(whole), changed, self._spill.view(), here, told, self._key_groups)

    def all_changed(self) -> None:
        """Have the next snapshot hold everything."""
        self._changed = None

    def _note_changed(self, groups: Ints, keys: Sequence[bytes]) -> None:
        if self._changed is not None and keys:
            self._changed.append((groups.astype(np.int64), Blobs.of(keys)))
            self._changes += len(keys)
            if self._changes > _MOST_CHANGES:
                self._changed = None

    @staticmethod
    def _timers(times: Ints) -> list[tuple[int, int]]:
        rows = np.flatnonzero(times < NEVER)
        return list(zip(rows.tolist(), times[rows].tolist(), strict=True))

    def _count(self, values: Blobs, sign: int) -> None:
        runs = np.zeros(len(self.partial_matches), np.int64)
        tally(values, runs)
        self.partial_matches += sign * runs

    def _grow(self) -> None:
        keys = len(self._input.keys)
        if keys > len(self._keys):
            longer = np.zeros((max(keys, 2 * len(self._keys)), 4), np.int64)
            longer[: len(self._keys)] = self._keys
            self._keys = longer


class _Together(Mapping[int, Records]):
    """Records by key group, of memory and disk together."""

    def __init__(
        self,
        groups: Mapping[int, Records],
        whole: frozenset[int],
        changed: Sequence[tuple[Ints, Blobs]],
        view: SpillView,
        here: Strings,
        told: Strings,
        key_groups: int,
    ) -> None:
        self._groups = groups
        self._whole = whole
        self._view = view
        self._here = _by_group(here, key_groups)
        self._told = _by_group(told, key_groups)
        self._changed = changed
        touched = (np.unique(part).tolist() for part, _ in changed)
        self._order = sorted({*groups, *whole, *itertools.chain.from_iterable(touched)})

    def __iter__(self) -> Iterator[int]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, group: int) -> Records:
        own = self._groups.get(group)
        held = list(own.items()) if own is not None else []
        if group in self._whole:
            hidden = set(to_bytes(self._here[group]))
            held += [item for item in self._view.of_group(group) if item[0] not in hidden]
        else:
            own_changes = (keys.take(np.flatnonzero(groups == group)) for groups, keys in self._changed)
            keys = set(itertools.chain.from_iterable(own_changes)) - set(to_bytes(self._told[group]))
            held += [(key, self._view.get(group, key) or b"") for key in keys]
        return Records.of(held)


def _by_group(keys: Strings, key_groups: int) -> list[Strings]:
    group_of = key_group(keys, key_groups)
    order = np.argsort(group_of, kind="stable")
    ends = np.searchsorted(group_of[order], np.arange(key_groups + 1))
    return [keys.take(order[ends[group] : ends[group + 1]]) for group in range(key_groups)]


def _mark(times: Ints) -> Ints:
    """Times so that none of them is `_NO_TIMER`."""
    return np.where(times < NEVER, 2 * times + 1, _NO_TIMER)


def _chosen(rows: Ints, groups: Ints, keys: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
    return groups[rows].tolist(), [keys[row] for row in rows.tolist()]
