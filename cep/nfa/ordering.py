"""Kernel: bring released events into the order of time, equal times in the order of arrival."""

from __future__ import annotations

import numpy as np

DIGIT_BITS = 11
"""Digits of the radix sort: 2048 counters stay in the first-level cache."""


def released_in_order(times, watermark):
    """Positions of the events with a time at or before the watermark, by time, then arrival. int64[released]

    A stable radix sort on the distance from the earliest: a few passes, whatever the disorder.
    """
    count = 0
    low = watermark
    high = -(2**62)
    ordered = True
    for position in range(len(times)):
        time = times[position]
        if time <= watermark:
            count += 1
            if time < high:
                ordered = False
            low = min(low, time)
            high = max(high, time)
    order = np.empty(count, np.int64)
    at = 0
    for position in range(len(times)):
        if times[position] <= watermark:
            order[at] = position
            at += 1
    if ordered:
        return order
    other = np.empty(count, np.int64)
    counters = np.zeros(1 << DIGIT_BITS, np.int64)
    shift = 0
    mask = (1 << DIGIT_BITS) - 1
    while (high - low) >> shift > 0:
        counters[:] = 0
        for at in range(count):
            counters[((times[order[at]] - low) >> shift) & mask] += 1
        total = 0
        for digit in range(mask + 1):
            here = counters[digit]
            counters[digit] = total
            total += here
        for at in range(count):
            position = order[at]
            digit = ((times[position] - low) >> shift) & mask
            other[counters[digit]] = position
            counters[digit] += 1
        order, other = other, order
        shift += DIGIT_BITS
    return order


def positions_after(times, watermark):
    """Positions of the events that stay: those later than the watermark. int64[rest]"""
    count = 0
    for position in range(len(times)):
        if times[position] > watermark:
            count += 1
    rest = np.empty(count, np.int64)
    at = 0
    for position in range(len(times)):
        if times[position] > watermark:
            rest[at] = position
            at += 1
    return rest
