"""The keyed state of one operator: states and timers of the current key, over a backend; its changes, and its return.

The owner says which key is in hand (`select`) and what time it is; what it is not told it does not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from ostinato.state.backends.base import Backend
from ostinato.state.descriptors import StateDescriptor
from ostinato.state.errors import SnapshotError, StateError
from ostinato.state.evolution import Migration, StateNote, migration
from ostinato.state.keyed_records import EVENT_TIME, PROCESSING_TIME, Cell, KeyRecord, RecordFormat
from ostinato.state.operator import OperatorState, StoredState
from ostinato.state.records import Records
from ostinato.state.states import AggregatingState, ListState, MapState, ReducingState, State, ValueState
from ostinato.state.timers import Due, TimerQueue

_KINDS: Final[dict[str, Any]] = {
    "value": ValueState,
    "list": ListState,
    "map": MapState,
    "reducing": ReducingState,
    "aggregating": AggregatingState,
}
_TRACKED_KEYS: Final = 1_000_000
"""So many changed keys are remembered between two checkpoints, some 100 MB; with more, everything is written."""


class KeyedStates:
    """For one thread.

    Attributes:
        record: that of the current key; None where it has no state.
        event_time, processing_time: epoch ms, as the owner says; time to live goes by them.
    """

    def __init__(self, operator: str, key_groups: int, backend: Backend) -> None:
        """`operator`: how messages call it."""
        self.operator = operator
        self.record: KeyRecord | None = None
        self.event_time = 0
        self.processing_time = 0
        self.states: dict[str, State] = {}
        self._descriptors: list[StateDescriptor] = []
        self._key_groups = key_groups
        self._backend = backend
        self._form = RecordFormat([], [])
        self._key: tuple[int, bytes] | None = None
        self._queues = tuple(TimerQueue(domain, backend.rocks) for domain in (EVENT_TIME, PROCESSING_TIME))
        self._sealed = False
        # What a checkpoint has to write: all there is at first, then the keys that have changed.
        self._everything = True
        self._changed: dict[int, set[bytes]] = {}
        self._changes = 0
        self._given: set[int] = set()

    # -- what there is -----------------------------------------------------------------------------

    def declare(self, descriptor: StateDescriptor) -> Any:
        """The state of a descriptor; the same one when asked again.

        Raises:
            StateError: there is another state of this name, or it is too late for new ones.
        """
        known = self.states.get(descriptor.name)
        if known is not None:
            if self._descriptors[known.number].kind != descriptor.kind:
                raise StateError(f"{self.operator}: there are two different states `{descriptor.name}`; rename one")
            return known
        if self._sealed:
            raise StateError(
                f"{self.operator}: state `{descriptor.name}` is asked for while events are processed; "
                "ask for it in open()"
            )
        number = len(self._descriptors)
        state: State = _KINDS[descriptor.kind](self, number, descriptor)
        self._descriptors.append(descriptor)
        self.states[descriptor.name] = state
        return state

    def seal(self) -> None:
        """All states are declared; before anything else is asked of this object."""
        self._sealed = True
        self._form = RecordFormat([each.name for each in self._descriptors], [each.kind for each in self._descriptors])
        self._backend.bind(self._form)

    def notes(self) -> list[StateNote]:
        """What stands in the header of stored state."""
        return [StateNote.of(descriptor, self.states[descriptor.name].schemas()) for descriptor in self._descriptors]

    def __len__(self) -> int:
        """About how many keys have state."""
        return len(self._backend)

    # -- the key in hand ---------------------------------------------------------------------------

    def prefetch(self, keys: Sequence[tuple[int, bytes]]) -> None:
        """These keys are selected next."""
        self._backend.prefetch(keys)

    def select(self, group: int, key: bytes) -> None:
        """What follows is about this key."""
        self._key = (group, key)
        self.record = self._backend.get(group, key)

    def deselect(self) -> None:
        self._key = self.record = None

    def read(self, number: int) -> Cell | None:
        """The current key's cell of a state."""
        if self.record is None:
            self._require_key()
            return None
        return self.record.cells[number]

    def write(self, number: int, cell: Cell | None) -> None:
        """Set the current key's cell of a state."""
        record = self._own_record()
        record.cells[number] = cell
        self._put(record)

    # -- timers ------------------------------------------------------------------------------------

    def register(self, domain: int, time: int, namespace: str) -> None:
        """Set a timer of the current key; once is enough."""
        group, key = self._require_key()
        record = self._own_record()
        timer = (domain, time, namespace)
        if record.timers is None:
            record.timers = set()
        if timer in record.timers:
            return
        record.timers.add(timer)
        self._queues[domain].add(Due(time, key, namespace, group))
        self._put(record)

    def delete(self, domain: int, time: int, namespace: str) -> None:
        """Take a timer of the current key back, if there is such."""
        self._require_key()
        record = self.record
        if record is not None and record.timers and (domain, time, namespace) in record.timers:
            record.timers.remove((domain, time, namespace))
            self._put(record)

    def next_timer(self, domain: int) -> int | None:
        """The time of the next timer, or of one that was taken back."""
        return self._queues[domain].peek()

    def ring(self, domain: int) -> Due | None:
        """Take the next timer, its key is selected then; None where it was taken back."""
        due = self._queues[domain].pop()
        self.select(due.group, due.key)
        record = self.record
        timer = (domain, due.time, due.namespace)
        if record is None or not record.timers or timer not in record.timers:
            return None
        record.timers.remove(timer)
        self._put(record)
        return due

    # -- time to live ------------------------------------------------------------------------------

    def sweep(self, budget: int) -> int:
        """Remove what has expired from about `budget` keys, others each time; returns how many had something."""
        living = [
            (state.number, state) for state in self.states.values() if state.ttl and state.ttl.cleanup_in_background
        ]
        if not living:
            return 0
        found = 0
        self.deselect()
        for group, key, record in self._backend.some(budget):
            stale = False
            for number, state in living:
                cell = record.cells[number]
                if cell is not None and (left := state.cleaned(cell)) is not cell:
                    record.cells[number] = left
                    stale = True
            if stale:
                found += 1
                self._key = (group, key)
                self._put(record)
        self.deselect()
        return found

    # -- checkpoints -------------------------------------------------------------------------------

    def snapshot(self, header: bytes, whole: Collection[int] | None) -> OperatorState:
        """See `ostinato.state.operator.Stateful`."""
        everything = whole is None or self._everything
        wanted = range(self._key_groups) if everything else sorted(set(whole or ()))
        groups: dict[int, Records] = {}
        for group in wanted:
            records = Records.of(self._backend.packed(group))
            # One that has become empty has to say so, or what was written of it before would come back.
            if len(records) or (whole is not None and (group in self._given or group in self._changed)):
                groups[group] = records
            self._note_given(group, len(records) > 0)
        full = set(groups)
        for group, keys in self._changed.items():
            if not everything and group not in full:
                groups[group] = self._changes_of(group, keys)
                self._given.add(group)
        self._everything = False
        self._changed, self._changes = {}, 0
        return OperatorState(header, groups, whole=full)

    def restore(self, notes: Sequence[StateNote], stored: StoredState, *, event_time: int) -> None:
        """Put stored state into this, which has none. `notes`: what the header says of the states.

        Raises:
            SnapshotError: it cannot be read, or is of states with other types.
            DroppedStateError: some of it belongs to no state that is declared.
        """
        self.event_time = event_time
        change = migration(self.operator, notes, self.states, may_drop=stored.may_drop)
        for group, records in stored.records():
            self._given.add(group)
            for key, data in records.items():
                self._take(group, key, data, change)
        self.deselect()
        self._everything = True
        self._changed, self._changes = {}, 0

    def close(self) -> None:
        self._backend.close()

    # ----------------------------------------------------------------------------------------------

    def _take(self, group: int, key: bytes, data: bytes, change: Migration | None) -> None:
        try:
            record = self._form.unpack(data)
            if change is not None:
                change.apply(record)
        except SnapshotError as error:
            raise SnapshotError(f"{self.operator}, key {key!r}: {error}") from error
        if record.empty:  # all it had was dropped
            return
        for domain, time, namespace in sorted(record.timers or ()):
            self._queues[domain].add(Due(time, key, namespace, group))
        self._backend.put(group, key, record)

    def _changes_of(self, group: int, keys: Collection[bytes]) -> Records:
        pack = self._form.pack
        ordered = sorted(keys)

        def items() -> Iterator[tuple[bytes, bytes]]:
            for key in ordered:
                record = self._backend.get(group, key)
                yield key, b"" if record is None else pack(record)

        self._backend.prefetch([(group, key) for key in ordered])
        return Records.of(items())

    def _note_given(self, group: int, given: bool) -> None:
        if given:
            self._given.add(group)
        else:
            self._given.discard(group)

    def _require_key(self) -> tuple[int, bytes]:
        if self._key is None:
            raise StateError(
                f"{self.operator}: there is no current key; state and timers are there in process_element and on_timer"
            )
        return self._key

    def _own_record(self) -> KeyRecord:
        if self.record is None:
            self._require_key()
            self.record = KeyRecord(len(self._descriptors))
        return self.record

    def _put(self, record: KeyRecord) -> None:
        group, key = self._require_key()
        if record.empty:
            self._backend.remove(group, key)
            self.record = None
        else:
            self._backend.put(group, key, record)
        if self._everything:
            return
        changed = self._changed.get(group)
        if changed is None:
            changed = self._changed[group] = set()
        if key not in changed:
            changed.add(key)
            self._changes += 1
            if self._changes > _TRACKED_KEYS:
                self._everything = True
                self._changed, self._changes = {}, 0
