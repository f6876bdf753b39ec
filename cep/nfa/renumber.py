"""New codes for keys, when those without state are forgotten."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ostinato.cep.nfa.pools import SWEEP_COUNT, SWEEP_HEAD, Keys, Space


def renumber(space: Space, mapping: npt.NDArray[np.int64]) -> Space:
    """The space with the codes of `mapping` (old → new; -1: gone, which only keys without state may be)."""
    known = mapping[: len(space.keys.first)]
    old = np.flatnonzero(known >= 0)
    size = max(1024, 2 * len(old))
    keys = Keys(np.full(size, -1, np.int32), np.zeros(size, np.int32), np.zeros(size, np.uint8))
    for column, before in zip(keys, space.keys, strict=True):
        column[known[old]] = before[old]
    # rows that are free keep whatever code they had: it is set anew when they are used
    instances = space.instances
    used = instances.count > 0
    used |= (instances.done_head >= 0) | (instances.pruned_head >= 0)
    instances.key[used] = mapping[instances.key[used]]
    ring = (space.control[SWEEP_HEAD] + np.arange(space.control[SWEEP_COUNT])) % len(space.timers.sweep_key)
    space.timers.sweep_key[ring] = mapping[space.timers.sweep_key[ring]]
    return space._replace(keys=keys)
