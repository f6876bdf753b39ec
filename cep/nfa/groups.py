"""The state of a match operator for checkpoints: by key group a record for each key, and what belongs to no key.

A key's record is what its partial matches are (`records`), with what is counted on it behind that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import Batch, Strings
from ostinato.cep.nfa.counter import LinearCounter
from ostinato.cep.nfa.header import Header, Translation
from ostinato.cep.nfa.input import KeyedInput
from ostinato.cep.nfa.keys import key_group
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import KEY_CHANGED, KEY_STORED, grow_list
from ostinato.cep.nfa.records import RecordCodec
from ostinato.cep.nfa.residence import Residence
from ostinato.cep.nfa.spill import Spill
from ostinato.cep.nfa.vectors import pack_array, pack_vector, unpack_array, unpack_vector
from ostinato.cep.strings import gather
from ostinato.patterns.types import DataType
from ostinato.state.errors import DamagedError, SnapshotError
from ostinato.state.operator import OperatorState, StoredState
from ostinato.state.records import Blobs, Records

Ints = npt.NDArray[np.int64]

_KEYS_AT_ONCE = 1 << 15
"""Records that are packed, or taken in, together: enough to pay for the call, and little memory beside the state."""


class GroupedState:
    """Takes the state of an operator's parts apart by key group, and puts it together again."""

    def __init__(
        self,
        key_groups: int,
        schema: Mapping[str, DataType],
        keyed: KeyedInput,
        matcher: Matcher,
        counters: Sequence[LinearCounter],
        spill: Spill | None,
    ) -> None:
        """`schema`: the types of the columns that wait. `spill`: where state goes that memory does not hold."""
        self._key_groups = key_groups
        self._schema = schema
        self._input = keyed
        self._matcher = matcher
        self._counters = counters
        self._codec = RecordCodec(matcher, keyed.texts, keyed.codec.columns)
        self.residence: Residence | None = None
        if spill is not None:
            self.residence = Residence(spill, key_groups, keyed, matcher, self._codec, counters)

    def snapshot(self, whole: Collection[int] | None) -> OperatorState:
        """See `ostinato.state.operator.Stateful`."""
        if whole is not None and self.residence is not None and not self.residence.knows_changes:
            whole = range(self._key_groups)  # those that have nothing now may have had something
        self._matcher.space = grow_list(self._matcher.space, "keys", len(self._input.keys))
        table = self._matcher.space.keys
        live, changed = self._live_keys(), table[:, KEY_CHANGED] != 0
        # to tell the groups of all keys takes long where there are many: mostly those of the changed ones will do
        codes = np.flatnonzero(changed if whole is not None and not whole else live | changed)
        group_of = key_group(self._input.keys.strings(codes), self._key_groups)
        if whole is None:
            on_disk = self.residence.groups if self.residence is not None else ()
            in_memory = np.bincount(group_of[live[codes]], minlength=self._key_groups)
            whole = {*np.flatnonzero(in_memory).tolist(), *on_disk}
            table[:, KEY_STORED] = 0  # groups that are not among them have nothing, and nothing of them is stored
        complete = frozenset(whole)
        is_whole = np.zeros(self._key_groups, np.bool_)
        is_whole[list(complete)] = True
        in_whole = is_whole[group_of]
        table[codes[in_whole & ~live[codes]], KEY_STORED] = 0
        rows = np.flatnonzero(np.where(in_whole, live[codes], changed[codes]))
        rows = rows[np.argsort(group_of[rows].astype(np.uint16), kind="stable")]
        codes, group_of, in_whole = codes[rows], group_of[rows], in_whole[rows]
        values = self._pack(codes)
        empty = values.lengths == 0
        table = self._matcher.space.keys
        # a key that has nothing now is worth a word only where something is stored of it
        worth = np.flatnonzero(~empty | (~in_whole & (table[codes, KEY_STORED] != 0)))
        table[:, KEY_CHANGED] = 0
        table[codes, KEY_STORED] = ~empty
        ends = np.searchsorted(group_of[worth], np.arange(self._key_groups + 1))
        keys = gather(self._input.keys.strings(codes[worth]))
        # what is left out has no bytes, so that those of the others lie one behind the other
        kept = Blobs(values.data, np.append(values.offset[worth], values.offset[-1]))
        records = Records(Blobs(keys.data, np.append(keys.start, len(keys.data))), kept)
        groups: Mapping[int, Records] = {
            group: records.slice(int(ends[group]), int(ends[group + 1]))
            for group in range(self._key_groups)
            if ends[group] < ends[group + 1] or group in complete
        }
        if self.residence is not None:
            told = self._input.keys.strings(codes[~in_whole])
            groups = self.residence.snapshot(groups, complete, gather(told))
        return OperatorState(self._codec.header.encode(), groups, complete, self._pack_shared())

    def restore(self, stored: StoredState) -> None:
        """See `ostinato.state.operator.Stateful`."""
        header = Header.decode(stored.header)
        how = self._codec.translation(header, may_drop=stored.may_drop)
        for shared in stored.shared:
            self._unpack_time(shared)
        held: list[Records] = []
        for group, records in stored.records():
            if self.residence is not None and how.same and not self._counters:
                self.residence.take_in(records, group)
                continue
            held.append(records)
            if sum(map(len, held)) >= _KEYS_AT_ONCE:
                self._take_in_all(held, how)
                held = []
        self._take_in_all(held, how)
        if self.residence is not None:
            self.residence.all_changed()
        for shared in stored.shared:
            self._unpack_waiting(shared, stored.owned)

    def _take_in_all(self, parts: Sequence[Records], how: Translation) -> None:
        """Groups are small: it would take longer to begin with each of them than to take it in."""
        if not parts:
            return
        records = parts[0]
        if len(parts) > 1:
            records = Records(_joined([part.keys for part in parts]), _joined([part.values for part in parts]))
        for begin in range(0, len(records), _KEYS_AT_ONCE):
            self._take_in(records.slice(begin, min(len(records), begin + _KEYS_AT_ONCE)), how)
            if self.residence is not None:
                self.residence.make_room()

    def take_record(self, key: Strings, record: bytes) -> None:
        """Take in the record of one key that has nothing yet, as these patterns wrote it."""
        codes = self._input.keys.intern(key)
        self._matcher.space = grow_list(self._matcher.space, "keys", len(self._input.keys))
        self._codec.unpack(Blobs.of([record]), codes, self._input.watermark)

    def rebuild(self) -> None:
        """Put the partial matches into pools of the size that they need."""
        codes = self._matcher.live_keys()
        flags = self._matcher.space.keys[:, [KEY_CHANGED, KEY_STORED]]
        packed = self._codec.pack(codes, self._input.watermark)
        self._matcher.empty()
        self._matcher.space = grow_list(self._matcher.space, "keys", len(flags))
        self._codec.unpack(packed, codes, self._input.watermark)
        self._matcher.space.keys[: len(flags), [KEY_CHANGED, KEY_STORED]] = flags

    # -- by key ------------------------------------------------------------------------------------

    def _live_keys(self) -> npt.NDArray[np.bool_]:
        """Which keys have something, by code."""
        live = np.zeros(len(self._matcher.space.keys), np.bool_)
        live[self._matcher.live_keys()] = True
        for counter in self._counters:
            live[counter.live_keys()] = True
        return live

    def _pack(self, codes: Ints) -> Blobs:
        cuts = range(0, max(1, len(codes)), _KEYS_AT_ONCE)
        parts = [self._codec.pack(codes[begin : begin + _KEYS_AT_ONCE], self._input.watermark) for begin in cuts]
        packed = parts[0] if len(parts) == 1 else _joined(parts)
        if not self._counters:
            return packed
        counted = [counter.snapshot(codes) for counter in self._counters]
        records = []
        for record, *states in zip(packed, *counted, strict=True):
            if any(state is not None for state in states):
                head = record or _NO_PARTIAL_MATCHES
                records.append(head + msgspec.msgpack.encode(states))
            else:
                records.append(record)
        return Blobs.of(records)

    def _take_in(self, records: Records, how: Translation) -> None:
        texts = Strings(records.keys.data, records.keys.offset[:-1], records.keys.lengths.astype(np.int32))
        keys = self._input.keys.intern(texts)
        self._matcher.space = grow_list(self._matcher.space, "keys", len(self._input.keys))
        ends = self._codec.unpack(records.values, keys, self._input.watermark, how)
        self._matcher.space.keys[keys, KEY_CHANGED] = 1
        if any(pattern.counted for pattern in how.stored.patterns):
            self._unpack_counts(records.values, ends, keys, how)

    def _unpack_counts(self, values: Blobs, ends: Ints, keys: Ints, how: Translation) -> None:
        """Counts stand behind the partial matches, one state for each stored pattern that is counted."""
        numbers = [number for number, pattern in enumerate(how.stored.patterns) if pattern.counted]
        here = {counter.number: counter for counter in self._counters}
        data, offset = values.data.tobytes(), values.offset.tolist()
        rows, states = [], []
        for row, (end, last) in enumerate(zip(ends.tolist(), offset[1:], strict=True)):
            if end < last:
                try:
                    states.append(msgspec.msgpack.decode(data[end:last]))
                except msgspec.DecodeError as error:
                    raise DamagedError(f"a record of counts is damaged: {error}") from error
                rows.append(row)
        for place, number in enumerate(numbers):
            counter = here.get(int(how.pattern_of[number]))
            if counter is not None:
                counter.restore(keys[rows], [state[place] for state in states])

    # -- what belongs to no key --------------------------------------------------------------------

    def _pack_shared(self) -> bytes:
        keyed = self._input
        waiting = keyed.joined()
        return msgspec.msgpack.encode(
            {
                "watermark": keyed.watermark,
                "seq": self._matcher.seq,
                "time": None if waiting is None else pack_array(waiting.time),
                "columns": {
                    name: [str(self._schema[name]), *pack_vector(vector)] for name, vector in waiting.columns.items()
                }
                if waiting is not None
                else {},
            }
        )

    def _unpack_time(self, shared: bytes) -> None:
        state = _decode(shared)
        self._input.watermark = max(self._input.watermark, state["watermark"])
        self._matcher.seq = max(self._matcher.seq, state["seq"])

    def _unpack_waiting(self, shared: bytes, owned: range) -> None:
        """Let the events wait again that are this worker's now. Conditions are decided anew: they may have changed."""
        state = _decode(shared)
        if state["time"] is None:
            return
        time = unpack_array(state["time"])
        columns = {}
        for name in self._input.kept:
            type_ = self._schema[name]
            if name not in state["columns"]:
                columns[name] = unpack_vector(type_, None, len(time))
                continue
            written, *packed = state["columns"][name]
            if written != str(type_):
                raise SnapshotError(
                    f"column {name} was {written} when events were stored that still wait; it is {type_} now"
                )
            columns[name] = unpack_vector(type_, packed, len(time))
        batch = Batch(self._input.stream, time, columns)
        group_of = key_group(self._input.codec.encode(columns, len(batch)), self._key_groups)
        mine = np.flatnonzero((group_of >= owned.start) & (group_of < owned.stop))
        if len(mine):
            self._input.process(batch.take(mine))


def _joined(parts: Sequence[Blobs]) -> Blobs:
    """All of them, one behind the other; each begins where its bytes do."""
    length = np.concatenate([part.lengths for part in parts])
    offset = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=offset[1:])
    return Blobs(np.concatenate([part.data[part.offset[0] : part.offset[-1]] for part in parts]), offset)


_NO_PARTIAL_MATCHES = bytes(7)
"""A record that holds nothing: no deadlines, no rows."""


def _decode(shared: bytes) -> dict[str, Any]:
    try:
        state: dict[str, Any] = msgspec.msgpack.decode(shared)
        return state
    except msgspec.DecodeError as error:
        raise DamagedError(f"the time and the waiting events of an operator are damaged: {error}") from error
