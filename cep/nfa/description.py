"""A key's record in words: what `ostinato state show` says of partial matches."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ostinato.cep.jit import interpreted
from ostinato.cep.nfa import record_kernel
from ostinato.cep.nfa.header import Header, StoredPattern
from ostinato.cep.nfa.record_kernel import FLOAT, NUMBER, TEXT
from ostinato.state.errors import DamagedError


def describe_record(header: Header, key: bytes, value: bytes) -> dict[str, Any]:
    """The key's columns, and its partial matches: pattern, state, times (epoch ms), events by stage, registers."""
    try:
        return {"key": _key(header, key), **_Reader(header, value).read()}
    except (IndexError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise DamagedError(f"the record of key {key!r} is damaged: {error}") from error


def _key(header: Header, key: bytes) -> dict[str, Any]:
    types = [type_ for _, type_ in header.keys]
    names = [name for name, _ in header.keys]
    if not names:
        return {}
    if types == ["STRING"]:
        return {names[0]: None if key == b"\xc0" else key.decode("utf-8", "replace")}
    if len(types) == 1 and len(key) == 8:
        return {names[0]: int.from_bytes(key, "little", signed=True)}
    return dict(zip(names, msgspec.msgpack.decode(key), strict=True))


class _Reader:
    """Reads one record number by number."""

    def __init__(self, header: Header, value: bytes) -> None:
        self._header = header
        self._data = value
        self._at = 0
        self._kernel = interpreted(record_kernel)

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("due", "expires"):
            if self._number():
                found[name] = self._number()
        instances, _, nodes, events, _ = (self._number() for _ in range(5))
        heads = [[self._number() for _ in range(4)] for _ in range(instances)]
        seen = self._events(events)
        tree = [(self._number() - 1, self._number(), self._number()) for _ in range(nodes)]
        first = (seen[0]["time"], seen[0]["sequence"]) if seen else (0, 0)
        found["partial_matches"] = []
        for pattern, *lengths in heads:
            of = self._header.patterns[pattern]
            for kind, length in zip(("open", "held", "pruned"), lengths, strict=True):
                found["partial_matches"] += [self._run(of, kind, first, tree, seen) for _ in range(length)]
        if self._at < len(self._data):
            states = msgspec.msgpack.decode(self._data[self._at :])
            counted = [pattern for pattern in self._header.patterns if pattern.counted]
            found["counted"] = {of.name: _counts(of, state) for of, state in zip(counted, states, strict=True)}
        return found

    def _number(self) -> int:
        value, self._at = self._kernel.get(self._data, self._at)
        return int(value)

    def _events(self, count: int) -> list[dict[str, Any]]:
        events = []
        time = sequence = 0
        for _ in range(count):
            time += self._number()
            sequence += self._number()
            columns = {name: self._cell(kind, type_) for name, type_, kind in self._header.columns}
            events.append({"time": time, "sequence": sequence, "columns": columns})
        return events

    def _cell(self, kind: int, type_: str) -> Any:
        if not self._number():
            return None
        if kind == NUMBER:
            value = self._number()
            return bool(value) if type_ == "BOOLEAN" else value
        if kind == FLOAT:
            bits, self._at = self._kernel.get_bits(self._data, self._at)
            return float(np.int64(bits).view(np.float64))
        assert kind == TEXT
        length = self._number()
        raw = self._data[self._at : self._at + length]
        self._at += length
        return raw.decode("utf-8", "replace") if type_ in ("STRING", "") else msgspec.msgpack.decode(raw)

    def _run(
        self, of: StoredPattern, kind: str, first: tuple[int, int], tree: list[tuple[int, int, int]], seen: list[Any]
    ) -> dict[str, Any]:
        state, start, _, last, node = (self._number() for _ in range(5))
        registers = {name: self._cell(form, "") for name, form in zip(of.registers, of.kinds, strict=True)}
        path = []
        while node >= 0:
            parent, stage, event = tree[node]
            path.append({"stage": of.stages[stage - of.first_stage], **seen[event]})
            node = parent
        return {
            "pattern": of.name,
            "kind": kind,
            "state": "complete" if state < 0 else of.states[state - of.first_state],
            "began": first[0] + start,
            "last_event": first[0] + last,
            "events": path[::-1],
            **({"registers": registers} if registers else {}),
        }


def _counts(of: StoredPattern, state: Any) -> Any:
    if state is None:
        return None
    if state and isinstance(state[0], list):
        kinds, times = state
        names = [[atom for place, atom in enumerate(of.atoms) if kind >> place & 1] for kind in kinds]
        return [{"time": time, "holds": holds} for time, holds in zip(times, names, strict=True)]
    return {"partial matches by state": state}
