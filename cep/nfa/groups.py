"""The state of a match operator by key group: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import Strings
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import transfer
from ostinato.cep.nfa.counter import LinearCounter
from ostinato.cep.nfa.input import KeyedInput, Pending, joined_columns
from ostinato.cep.nfa.keys import of_bytes, to_bytes
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import HEAP, SLOT_SEQ, SLOT_TIME, grow, grow_list, grow_ring
from ostinato.cep.nfa.snapshot import (
    SnapshotError,
    pack_array,
    pack_vector,
    seal,
    unpack_array,
    unpack_vector,
    unseal,
)
from ostinato.cep.strings import hash_texts
from ostinato.patterns.types import DataType

Ints = npt.NDArray[np.int64]


class GroupedState:
    """Takes the state of an operator's parts apart by key group, and puts it together again."""

    def __init__(
        self,
        key_groups: int,
        fingerprint: str,
        keyed: KeyedInput,
        matcher: Matcher,
        counters: Sequence[LinearCounter],
    ) -> None:
        self._key_groups = key_groups
        self._fingerprint = fingerprint
        self._input = keyed
        self._matcher = matcher
        self._counters = counters

    def snapshot(self) -> dict[int, bytes]:
        """Every key group that has state."""
        keyed = self._input
        waiting = keyed.waiting
        live = [self._matcher.live_keys(), *[counter.live_keys() for counter in self._counters]]
        codes = np.unique(np.concatenate([*live, *[part.key for part in waiting]]).astype(np.int64))
        group_of = key_group(keyed.keys.strings(codes), self._key_groups)
        joined = self._joined(waiting) if waiting else None
        sealed = {}
        for group in np.unique(group_of).tolist():
            keys = codes[group_of == group]
            sealed[group] = seal(
                {
                    "patterns": self._fingerprint,
                    "watermark": keyed.watermark,
                    "seq": self._matcher.seq,
                    "keys": to_bytes(keyed.keys.strings(keys)),
                    "waiting": None if joined is None else self._pack_waiting(joined, keys),
                    "runs": self._pack_runs(keys),
                    "counts": [counter.snapshot(keys) for counter in self._counters],
                }
            )
        return sealed

    def restore(self, groups: Mapping[int, bytes]) -> None:
        """Put the state of key groups into an operator that has none of them."""
        for group in sorted(groups):
            state = unseal(groups[group])
            if state["patterns"] != self._fingerprint:
                raise SnapshotError("the snapshot was taken of other patterns than these")
            keyed = self._input
            keyed.watermark = max(keyed.watermark, state["watermark"])
            self._matcher.seq = max(self._matcher.seq, state["seq"])
            keys = keyed.keys.intern(of_bytes(state["keys"]))
            if state["waiting"] is not None:
                keyed.add(self._unpack_waiting(state["waiting"], keys))
            self._unpack_runs(state["runs"], keys)
            for counter, held in zip(self._counters, state["counts"], strict=True):
                counter.restore(keys, held, keyed.words)

    # -- events that wait --------------------------------------------------------------------------

    def _joined(self, waiting: Sequence[Pending]) -> Pending:
        return Pending(
            np.concatenate([part.time for part in waiting]),
            np.concatenate([part.key for part in waiting]),
            np.concatenate([part.bits for part in waiting]),
            np.concatenate([part.cells for part in waiting]),
            np.concatenate([part.null for part in waiting]),
            joined_columns(waiting, self._input.stored),
        )

    def _pack_waiting(self, waiting: Pending, keys: Ints) -> dict[str, Any] | None:
        rows = np.flatnonzero(np.isin(waiting.key, keys))
        if not len(rows):
            return None
        cells, null = waiting.cells[rows], waiting.null[rows]
        return {
            "time": pack_array(waiting.time[rows]),
            "key": pack_array(np.searchsorted(keys, waiting.key[rows]).astype(np.int64)),
            "bits": pack_array(waiting.bits[rows]),
            "cells": pack_array(cells),
            "null": pack_array(null),
            "texts": {
                str(column): self._texts_of(cells[:, column], null[:, column])
                for column in self._matcher.compiled.plan.text_columns
            },
            "columns": {name: pack_vector(waiting.columns[name].take(rows)) for name in self._input.stored},
        }

    def _unpack_waiting(self, packed: Mapping[str, Any], keys: Ints) -> Pending:
        cells, null = unpack_array(packed["cells"]), unpack_array(packed["null"])
        for column, texts in packed["texts"].items():
            cells[:, int(column)] = self._codes_of(texts)
        types = self._matcher.store.types
        return Pending(
            unpack_array(packed["time"]),
            keys[unpack_array(packed["key"])],
            unpack_array(packed["bits"]),
            cells,
            null,
            {name: unpack_vector(types[name], column) for name, column in packed["columns"].items()},
        )

    def _texts_of(self, codes: Ints, null: npt.NDArray[Any]) -> list[str]:
        texts = self._input.texts.strings(np.where(null != 0, -1, codes))
        return texts.to_list()

    def _codes_of(self, texts: Sequence[str]) -> Ints:
        return self._input.texts.intern(Strings.of(texts))

    # -- partial matches ---------------------------------------------------------------------------

    def _pack_runs(self, keys: Ints) -> dict[str, Any]:
        self._matcher.grow_seeds(keys, self._input.watermark)
        space = self._matcher.space
        counts = np.zeros(4, np.int64)
        kernel = kernels(transfer)
        kernel.count_rows(space, keys, counts)
        node_map = np.full(len(space.nodes), -1, np.int64)
        slot_map = np.full(len(space.slots), -1, np.int64)
        instance_rows = np.zeros((int(counts[0]), 2 + transfer.LISTS), np.int64)
        run_rows = np.zeros((int(counts[1]), 6), np.int64)
        node_rows = np.zeros((len(node_map), 3), np.int64)
        event_slots = np.zeros(len(slot_map), np.int64)
        kernel.export_keys(space, keys, instance_rows, run_rows, node_rows, event_slots, node_map, slot_map, counts)
        rows, slots = run_rows[:, 5].copy(), event_slots[: counts[3]]
        patterns = np.repeat(instance_rows[:, 1], instance_rows[:, 2:].sum(axis=1))
        registers, null = space.registers.ints[rows], space.registers.null[rows]
        store = self._matcher.store
        return {
            "instances": pack_array(instance_rows),
            "runs": pack_array(run_rows[:, :5].copy()),
            "nodes": pack_array(node_rows[: counts[2]].copy()),
            "events": pack_array(space.slots[slots][:, [SLOT_TIME, SLOT_SEQ]]),
            "columns": {name: pack_vector(store.take(name, slots)) for name in store.types},
            "registers": pack_array(registers),
            "null": pack_array(null),
            "texts": [
                [pattern, register, self._texts_of(registers[own, register], null[own, register])]
                for pattern, register, own in self._text_registers(patterns)
            ],
        }

    def _unpack_runs(self, packed: Mapping[str, Any], keys: Ints) -> None:
        matcher = self._matcher
        instance_rows, runs, nodes, events = (
            unpack_array(packed[name]) for name in ("instances", "runs", "nodes", "events")
        )
        run_rows = np.zeros((len(runs), 6), np.int64)
        run_rows[:, :5] = runs
        space = matcher.space
        for name, rows in (("runs", runs), ("nodes", nodes), ("slots", events), ("instances", instance_rows)):
            space = grow(space, name, len(rows) + 16)
        space = grow_list(space, "keys", len(self._input.keys))
        timers = len(runs) * (2 + len(matcher.compiled.tables.timer_gap)) + 16
        space = grow_list(space, "heap", int(space.control[HEAP]) + timers)
        space = grow_ring(space, len(keys) + 16)
        slots, pool_rows = np.zeros(len(events), np.int64), np.zeros(len(runs), np.int64)
        kernels(transfer).import_keys(
            matcher.compiled.tables,
            space,
            keys,
            instance_rows,
            run_rows,
            nodes,
            events.reshape(-1, 2),
            slots,
            pool_rows,
            self._input.watermark,
        )
        patterns = np.repeat(instance_rows[:, 1], instance_rows[:, 2:].sum(axis=1))
        registers, null = unpack_array(packed["registers"]), unpack_array(packed["null"])
        for pattern, register, texts in packed["texts"]:
            registers[patterns == pattern, register] = self._codes_of(texts)
        space.registers.ints[pool_rows] = registers
        space.registers.null[pool_rows] = null
        matcher.store.reserve(len(space.slots))
        types: Mapping[str, DataType] = matcher.store.types
        for name, column in packed["columns"].items():
            matcher.store.put(slots, name, unpack_vector(types[name], column))
        matcher.space = space

    def _text_registers(self, patterns: Ints) -> list[tuple[int, int, npt.NDArray[np.bool_]]]:
        return [
            (pattern, register, patterns == pattern)
            for pattern, registers in enumerate(self._matcher.compiled.plan.text_registers)
            for register in registers
        ]


def key_group(keys: Any, groups: int) -> Ints:
    """The group of each key: a hash of its bytes, the same on every machine. int64[keys]"""
    return (hash_texts(keys) % np.uint64(groups)).astype(np.int64)
