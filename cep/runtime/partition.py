"""Which worker owns a row: rows are spread by the key group of their key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostinato.cep.batch import Batch, IntArray
from ostinato.cep.nfa.groups import key_group
from ostinato.cep.nfa.keys import KeyCodec
from ostinato.patterns.types import DataType

KEY_GROUPS = 128
"""Groups that keys are spread over; fixed for a job's life, so that its state can be dealt to other workers."""


class Partitioner:
    """Spreads the rows of one stream over `workers`; contiguous ranges of key groups belong to one worker."""

    def __init__(self, keys: Sequence[tuple[str, DataType]], workers: int, key_groups: int = KEY_GROUPS) -> None:
        self._codec = KeyCodec(keys)
        self._groups = key_groups
        self._workers = workers

    def key_groups(self, batch: Batch) -> IntArray:
        """The key group of each row. int64[rows]"""
        return key_group(self._codec.encode(batch.columns, len(batch)), self._groups)

    def spread(self, batch: Batch) -> list[Batch]:
        """The rows of each worker, in their order."""
        if self._workers == 1:
            return [batch]
        owner = self.key_groups(batch) * self._workers // self._groups
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(1, self._workers + 1))
        parts = np.split(order, ends[:-1])
        return [batch.take(rows) for rows in parts]


def owned_groups(worker: int, workers: int, key_groups: int = KEY_GROUPS) -> range:
    """The key groups that a worker owns."""
    first = -(-worker * key_groups // workers)
    return range(first, -(-(worker + 1) * key_groups // workers))
