"""New codes for keys, when those without state are forgotten."""

from __future__ import annotations

import numpy as np

from ostinato.cep.nfa.pools import (
    INSTANCE_COUNT,
    INSTANCE_DONE_HEAD,
    INSTANCE_KEY,
    INSTANCE_PRUNED_HEAD,
    KEY_FIRST,
    RING_KEY,
    SWEEP_COUNT,
    SWEEP_HEAD,
    Ints,
    Space,
)


def renumber(space: Space, mapping: Ints) -> Space:
    """The space with the codes of `mapping` (old → new; -1: gone, which only keys without state may be)."""
    known = mapping[: len(space.keys)]
    old = np.flatnonzero(known >= 0)
    keys = np.zeros((max(1024, 2 * len(old)), space.keys.shape[1]), np.int64)
    keys[:, KEY_FIRST] = -1
    keys[known[old]] = space.keys[old]
    # rows that are free keep whatever code they had: it is set anew when they are used
    table = space.instances
    used = (table[:, INSTANCE_COUNT] > 0) | (table[:, INSTANCE_DONE_HEAD] >= 0) | (table[:, INSTANCE_PRUNED_HEAD] >= 0)
    table[used, INSTANCE_KEY] = mapping[table[used, INSTANCE_KEY]]
    ring = (space.control[SWEEP_HEAD] + np.arange(space.control[SWEEP_COUNT])) % len(space.ring)
    space.ring[ring, RING_KEY] = mapping[space.ring[ring, RING_KEY]]
    return space._replace(keys=keys)
