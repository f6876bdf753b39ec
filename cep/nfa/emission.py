"""The order in which rows leave the match operator: one that does not depend on who found them, nor when.

Rows of a stream come by time; at equal times by the key group of their key, then by the key, then by pattern; those of
one pattern and key as they were found. Workers own ranges of groups in the order of their numbers, so merging what
several of them say by time and worker gives the rows of a single one, one by one. What waits for its time is found in
another order after its state was restored; that must not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ostinato.cep.batch import Batch, IntArray, Strings, concat_batches
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import ordering

GroupOf = Callable[[IntArray], IntArray]
"""The key groups of keys' codes."""
TextOf = Callable[[IntArray], Strings]
"""The encoded keys of keys' codes."""


class Emitted(NamedTuple):
    """Rows as they were found, and for each the code of its key and the number of its pattern."""

    batch: Batch
    keys: IntArray
    patterns: IntArray


def in_order(found: Iterable[Emitted], group_of: GroupOf, text_of: TextOf, groups: int) -> list[Batch]:
    """One batch for each stream. `groups`: how many key groups there are."""
    by_stream: dict[str, list[Emitted]] = {}
    for each in found:
        by_stream.setdefault(each.batch.stream, []).append(each)
    return [_ordered(parts, group_of, text_of, groups) for parts in by_stream.values()]


def _ordered(parts: Sequence[Emitted], group_of: GroupOf, text_of: TextOf, groups: int) -> Batch:
    batch = concat_batches([part.batch for part in parts])
    time = batch.time
    if len(time) < 2:
        return batch
    steps = np.diff(time)
    if (steps > 0).all():
        return batch
    keys = parts[0].keys if len(parts) == 1 else np.concatenate([part.keys for part in parts])
    patterns = parts[0].patterns if len(parts) == 1 else np.concatenate([part.patterns for part in parts])
    own = group_of(keys)
    sort = (steps < 0).any()
    order = np.lexsort((own, time)) if sort else kernels(ordering).by_group_where_tied(time, own, groups)
    return batch.take(_untied(order, time, own, keys, patterns, text_of))


def _untied(
    order: IntArray, time: IntArray, groups: IntArray, keys: IntArray, patterns: IntArray, text_of: TextOf
) -> IntArray:
    """The order, rows of one time and group by their key and pattern. int64[rows]"""
    tied = (np.diff(time[order]) == 0) & (np.diff(groups[order]) == 0)
    other_key = tied & (np.diff(keys[order]) != 0)
    if not (other_key | (tied & (np.diff(patterns[order]) < 0))).any():
        return order
    among = np.zeros(len(order), np.bool_)
    among[:-1] |= tied
    among[1:] |= tied
    places = np.flatnonzero(among)
    rows = order[places]
    rank = np.zeros(len(order), np.int64)
    if other_key.any():
        # texts are looked at only where there is more than one key at a time and group
        run = np.zeros(len(order), np.int64)
        np.cumsum(~tied, out=run[1:])
        mixed = np.zeros(run[-1] + 1, np.bool_)
        mixed[run[1:][other_key]] = True
        theirs = order[mixed[run]]
        rank[theirs] = _ranks(keys[theirs], text_of)
    # rows of a time and group stand together, so sorting all of them leaves each among its like; lexsort is stable
    order = order.copy()
    order[places] = rows[np.lexsort((patterns[rows], rank[rows], groups[rows], time[rows]))]
    return order


def _ranks(keys: IntArray, text_of: TextOf) -> IntArray:
    """For each code the place of its key among all of them. int64[keys]"""
    codes, of = np.unique(keys, return_inverse=True)
    texts = text_of(codes)
    data = texts.data.tobytes()
    encoded = [
        data[begin : begin + size] for begin, size in zip(texts.start.tolist(), texts.length.tolist(), strict=True)
    ]
    rank = np.empty(len(codes), np.int64)
    rank[sorted(range(len(codes)), key=encoded.__getitem__)] = np.arange(len(codes))
    ranks: IntArray = rank[of]
    return ranks
