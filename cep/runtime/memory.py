"""How often Python looks for cycles of garbage."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 100_000
"""New objects between two looks. Python's default of 700 makes it look hundreds of times while modules and kernels are
loaded, a sixth of the time of a start; the data itself is in arrays, which it does not look at."""


def collect_less_often() -> None:
    """Call it first thing in a process that runs jobs; a library does not change this for its host."""
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
