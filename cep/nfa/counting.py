"""Kernel: how many matches each event completes, without enumerating them.

Where no condition depends on the partial match, an event acts on the *number* of partial matches in each state as a
linear map: ``v' = v M + b``, and it completes ``v C + c`` matches. Within a window only partial matches that began
inside it count: those are what the maps of the window's events, one after another, make of zero. Two stacks keep that
product under arrivals at one end and departures at the other (Tangwongsan et al.: General Incremental Sliding-Window
Aggregation, PVLDB 2015), so that an event costs a few small products, however long the window and however many the
matches. To merge partial matches that no condition can tell apart is the idea of CORE (Bucchi et al., PVLDB 2022).

Numbers saturate at 2^63 - 1.
"""

from __future__ import annotations

ENTRIES = ("count_events", "sweep", "elements_of_keys")
INLINED = ("times", "plus", "elements_of")

MOST = 9223372036854775807
SMALL = 1 << 31

# columns of `keys.heads`
FRONT, BACK, ELEMENTS = 0, 1, 2
# columns of `keys.times`
OLDEST_BACK, NEWEST = 0, 1


def times(left, right):
    """The product of two numbers that are not negative."""
    if left < SMALL and right < SMALL:
        return left * right
    if left == 0 or right == 0:
        return 0
    if left > MOST // right:
        return MOST
    return left * right


def plus(left, right):
    """The sum of two numbers that are not negative."""
    if left > MOST - right:
        return MOST
    return left + right


def row_times(row, matrix, out):
    """Out = row matrix"""
    size = len(row)
    for column in range(size):
        total = 0
        for index in range(size):
            if row[index] != 0 and matrix[index, column] != 0:
                total = plus(total, times(row[index], matrix[index, column]))
        out[column] = total


def matrix_times(left, right, out):
    """Out = left right"""
    for index in range(len(left)):
        row_times(left[index], right, out[index])


def count_events(
    order, begin, times_of, keys, classes, moves, starts, completes, alone, idle, within,
    heads, key_times, vectors, products, free, chain, at, kind, sums, work, result_row, result_count,
):  # fmt: skip
    """Count for the events ``order[begin:]``. Returns the position it stopped at and the number of results.

    Args:
        times_of, keys, classes: per row its time, its key's code, its class of event.
        moves int64[classes, m, m], starts int64[classes, m], completes int64[classes, m], alone int64[classes]: M, b,
            C and c of each class; idle uint8[classes]: 1 where the event changes and completes nothing.
        within: milliseconds; 0: partial matches live for ever and `vectors` is all there is.
        heads int32[keys, 3], key_times int64[keys, 2], vectors int64[keys, m], products int64[keys, m, m]: per key its
            stacks, and b and M of the back stack as a whole.
        free int64[1]: the first free element; chain int32[n], at int64[n], kind int32[n], sums int64[n, m]: elements:
            the next one, time, class, and b from this one to the end of the front stack.
        work int64[2, m] and more rows: room for a product.
        result_row, result_count: rows that complete matches and how many.
    """
    states = len(work[0])
    results = 0
    current = work[0]
    other = work[1]
    square = work[2 : 2 + states]
    for position in range(begin, len(order)):
        row = order[position]
        event = classes[row]
        if idle[event] != 0:
            continue
        if free[0] < 0:
            return position, results
        key = keys[row]
        time = times_of[row]
        if within > 0:
            expire(
                time - within,
                key,
                moves,
                starts,
                heads,
                key_times,
                vectors,
                products,
                free,
                chain,
                at,
                kind,
                sums,
                work,
            )
            front = heads[key, FRONT]
            if front >= 0:
                row_times(sums[front], products[key], current)
                for index in range(states):
                    current[index] = plus(current[index], vectors[key, index])
            else:
                current[:] = vectors[key]
        else:
            current[:] = vectors[key]
        total = alone[event]
        for index in range(states):
            if current[index] != 0 and completes[event, index] != 0:
                total = plus(total, times(current[index], completes[event, index]))
        if total > 0:
            result_row[results] = row
            result_count[results] = total
            results += 1
        row_times(vectors[key], moves[event], other)
        for index in range(states):
            vectors[key, index] = plus(other[index], starts[event, index])
        if within > 0:
            if heads[key, BACK] < 0:
                key_times[key, OLDEST_BACK] = time
                products[key] = moves[event]
            else:
                matrix_times(products[key], moves[event], square)
                products[key] = square
            element = free[0]
            free[0] = chain[element]
            chain[element] = heads[key, BACK]
            at[element] = time
            kind[element] = event
            heads[key, BACK] = element
            heads[key, ELEMENTS] += 1
            key_times[key, NEWEST] = time
    return len(order), results


def expire(limit, key, moves, starts, heads, key_times, vectors, products, free, chain, at, kind, sums, work):
    """Let go of a key's elements at or before `limit`."""
    while True:
        front = heads[key, FRONT]
        while front >= 0 and at[front] <= limit:
            heads[key, FRONT] = chain[front]
            chain[front] = free[0]
            free[0] = front
            heads[key, ELEMENTS] -= 1
            front = heads[key, FRONT]
        if front >= 0 or heads[key, BACK] < 0 or key_times[key, OLDEST_BACK] > limit:
            return
        flip(key, moves, starts, heads, vectors, products, chain, kind, sums, work)


def flip(key, moves, starts, heads, vectors, products, chain, kind, sums, work):
    """Turn the back stack over to the front: each element gets what it and all newer ones make of zero."""
    states = len(work[0])
    product = work[2 : 2 + states]
    square = work[2 + states : 2 + 2 * states]
    for index in range(states):
        product[index, :] = 0
        product[index, index] = 1
    element = heads[key, BACK]
    newer = -1
    while element >= 0:
        older = chain[element]
        event = kind[element]
        row_times(starts[event], product, sums[element])
        if newer >= 0:
            for index in range(states):
                sums[element, index] = plus(sums[element, index], sums[newer, index])
        matrix_times(moves[event], product, square)
        product[:] = square
        chain[element] = newer
        newer = element
        element = older
    heads[key, FRONT] = newer
    heads[key, BACK] = -1
    vectors[key] = 0
    for index in range(states):
        products[key, index, :] = 0
        products[key, index, index] = 1


def sweep(limit, heads, key_times, vectors, products, free, chain):
    """Free what keys hold whose newest element is at or before `limit`. Returns how many elements."""
    freed = 0
    for key in range(len(heads)):
        if heads[key, ELEMENTS] == 0 or key_times[key, NEWEST] > limit:
            continue
        for stack in (FRONT, BACK):
            element = heads[key, stack]
            while element >= 0:
                following = chain[element]
                chain[element] = free[0]
                free[0] = element
                freed += 1
                element = following
            heads[key, stack] = -1
        heads[key, ELEMENTS] = 0
        vectors[key] = 0
        for index in range(len(vectors[key])):
            products[key, index, :] = 0
            products[key, index, index] = 1
    return freed


def elements_of_keys(keys, offsets, heads, chain, kind, at, kinds, ats):
    """Class and time of the elements of some keys, each key's oldest first: ``offsets[i] : offsets[i+1]``."""
    for index in range(len(keys)):
        elements_of(keys[index], offsets[index], heads, chain, kind, at, kinds, ats)


def elements_of(key, begin, heads, chain, kind, at, kinds, ats):
    """Class and time of a key's elements, oldest first, into kinds and ats from `begin` on."""
    count = begin
    element = heads[key, FRONT]
    while element >= 0:
        kinds[count] = kind[element]
        ats[count] = at[element]
        count += 1
        element = chain[element]
    position = begin + heads[key, ELEMENTS]
    element = heads[key, BACK]
    while element >= 0:
        position -= 1
        kinds[position] = kind[element]
        ats[position] = at[element]
        element = chain[element]
