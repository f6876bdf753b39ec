"""The order in which rows leave the match operator: one that does not depend on who found them.

Rows of a stream come by time; at equal times by the key group of their key; within a group as they were found. Workers
own ranges of groups in the order of their numbers, so merging what several of them say by time and worker gives the
rows of a single one, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ostinato.cep.batch import Batch, IntArray, concat_batches
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import ordering

GroupOf = Callable[[IntArray], IntArray]
"""The key groups of keys' codes."""


class Emitted(NamedTuple):
    """Rows as they were found, and the code of each one's key."""

    batch: Batch
    keys: IntArray


def in_order(found: Iterable[Emitted], group_of: GroupOf, groups: int) -> list[Batch]:
    """One batch for each stream. `groups`: how many key groups there are."""
    by_stream: dict[str, list[Emitted]] = {}
    for each in found:
        by_stream.setdefault(each.batch.stream, []).append(each)
    return [_ordered(parts, group_of, groups) for parts in by_stream.values()]


def _ordered(parts: Sequence[Emitted], group_of: GroupOf, groups: int) -> Batch:
    batch = concat_batches([part.batch for part in parts])
    time = batch.time
    if len(time) < 2:
        return batch
    steps = np.diff(time)
    if (steps > 0).all():
        return batch
    keys = parts[0].keys if len(parts) == 1 else np.concatenate([part.keys for part in parts])
    own = group_of(keys)
    if (steps < 0).any():
        return batch.take(np.lexsort((own, time)))
    return batch.take(kernels(ordering).by_group_where_tied(time, own, groups))
