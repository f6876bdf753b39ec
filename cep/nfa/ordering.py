"""Kernel: bring released events into the order of time, equal times in the order of arrival; and what came out."""

from __future__ import annotations

import numpy as np

DIGIT_BITS = 11
"""Digits of the radix sort: 2048 counters stay in the first-level cache."""

FEW = 32
"""Rows that are sorted faster by insertion than by counting all groups."""


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


def by_group_where_tied(times, groups, count):
    """Positions of rows that are in the order of time already: at equal times by their group, then as they are.

    `count`: how many groups there are. int64[rows]
    """
    order = np.arange(len(times))
    starts = np.zeros(count, np.int64)
    begin = 0
    while begin < len(times):
        end = begin + 1
        while end < len(times) and times[end] == times[begin]:
            end += 1
        if end - begin <= FEW:
            for row in range(begin + 1, end):
                at = row
                while at > begin and groups[order[at - 1]] > groups[row]:
                    order[at] = order[at - 1]
                    at -= 1
                order[at] = row
        else:
            starts[:] = 0
            for row in range(begin, end):
                starts[groups[row]] += 1
            total = begin
            for group in range(count):
                here = starts[group]
                starts[group] = total
                total += here
            for row in range(begin, end):
                order[starts[groups[row]]] = row
                starts[groups[row]] += 1
        begin = end
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
