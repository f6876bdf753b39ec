"""Aggregates over segments of a column: a kernel module.

Segment m is ``values[offsets[m] : offsets[m + 1]]``; what `valid` (bool, of the length of the values) says is null is
left out. Results go to `out` and `out_valid`, one row per segment; where nothing is left they are zero and False.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep.expressions.arithmetic import add_wide, mean

Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


def counts(valid: Flags, offsets: Whole, out: Whole) -> None:
    for segment in range(len(out)):
        count = 0
        for at in range(offsets[segment], offsets[segment + 1]):
            count += 1 if valid[at] else 0
        out[segment] = count


def whole_sums(values: Whole, valid: Flags, offsets: Whole, out: Whole, out_valid: Flags) -> None:
    """Sums of 64-bit numbers; one that does not fit is null."""
    for segment in range(len(out)):
        low = 0
        carry = 0
        found = False
        for at in range(offsets[segment], offsets[segment + 1]):
            if valid[at]:
                low, carry = add_wide(low, carry, int(values[at]))
                found = True
        fits = found and carry == 0
        out[segment] = low if fits else 0
        out_valid[segment] = fits


def whole_means(values: Whole, valid: Flags, offsets: Whole, unit: float, out: Doubles, out_valid: Flags) -> None:
    """Means of unscaled numbers of which `unit` make one."""
    for segment in range(len(out)):
        low = 0
        carry = 0
        count = 0
        for at in range(offsets[segment], offsets[segment + 1]):
            if valid[at]:
                low, carry = add_wide(low, carry, int(values[at]))
                count += 1
        value, null = mean(low, carry, count)
        out[segment] = value / unit
        out_valid[segment] = not null


def double_sums(values: Doubles, valid: Flags, offsets: Whole, means: bool, out: Doubles, out_valid: Flags) -> None:
    """Sums (or means) of doubles, added in the order of the segment."""
    for segment in range(len(out)):
        total = 0.0
        count = 0
        for at in range(offsets[segment], offsets[segment + 1]):
            if valid[at]:
                total += float(values[at])
                count += 1
        out[segment] = total / count if means and count > 0 else total
        out_valid[segment] = count > 0


def extremes(values: Numbers, valid: Flags, offsets: Whole, greatest: bool, out: Numbers, out_valid: Flags) -> None:
    """The least or the greatest values. A NaN replaces nothing, and is replaced by nothing."""
    for segment in range(len(out)):
        out[segment] = 0
        found = False
        for at in range(offsets[segment], offsets[segment + 1]):
            if valid[at]:
                value = values[at]
                if not found or (value > out[segment] if greatest else value < out[segment]):
                    out[segment] = value
                    found = True
        out_valid[segment] = found
