"""Kernel: the partial matches of keys as bytes, one record for each key, and back.

A record is a sequence of numbers of variable length (see `put`) and, where said so, plain bytes:

    due, deadline  1 and the time at which a timer of the key is due; 0 where none is
    ends, end      1 and the time after which the record means nothing any more; 0 where there is none
    instances, runs, nodes, events, text    how many of each follow, and bytes of text in all
    per instance   pattern, number of its runs, held matches, pruned runs
    per event      time and sequence number, as differences to the event before; then its columns
    per node       parent + 1, stage, event; nodes and events are numbered within the record
    per run        state, start time, start sequence number, last time (times as differences to the first event's),
                   node; then the registers that its pattern has

A column or register is 0 where it is null, else 1 and its value: a number, 8 bytes of a float, or a text's length and
its bytes. Numbers of patterns, stages and states are those of the set of patterns that wrote the record; its header
says what they are.
"""

from __future__ import annotations

import numpy as np

from ostinato.cep.nfa.tables import P_PRECISE, P_WITHIN, S_TIMERS

ALLOCATES = False
ENTRIES = ("pack", "count", "unpack", "read_deadlines", "tally")
INLINED = ("put", "put_bits", "get", "get_bits")

NUMBER, FLOAT, TEXT = 0, 1, 2
NEVER = 2**62
# columns of the arrays of counts and ends
INSTANCES, RUNS, NODES, EVENTS, TEXT_BYTES = range(5)


def put(out, at, value):
    """Write a number: 6 bits and the sign in the first byte, 7 in each that follows; bit 7 says that one follows."""
    sign = 0
    if value < 0:
        sign = 64
        value = -1 - value
    low = value & 63
    value >>= 6
    if value == 0:
        out[at] = low | sign
        return at + 1
    out[at] = low | sign | 128
    at += 1
    while value >= 128:
        out[at] = (value & 127) | 128
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


def get(data, at):
    """A number, and where the next one begins."""
    byte = np.int64(data[at])
    at += 1
    value = byte & 63
    negative = byte & 64
    shift = 6
    while byte >= 128:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 127) << shift
        shift += 7
    if negative != 0:
        value = -1 - value
    return value, at


def put_bits(out, at, value):
    """Write the 8 bytes of a number."""
    for index in range(8):
        out[at + index] = value & 255
        value >>= 8
    return at + 8


def get_bits(data, at):
    """The number that `put_bits` wrote, and where the next begins."""
    value = np.int64(0)
    for index in range(8):
        value |= np.int64(data[at + index]) << (8 * index)
    return value, at + 8


def pack(
    tables, ends, instance_rows, run_rows, node_rows, event_times, cells, null, text_start, text_length, kinds,
    registers, register_null, register_start, register_length, register_kinds, widths, text, out, offset,
):  # fmt: skip
    """Write a record for each key; keys without instances get an empty one.

    Args:
        ends int64[keys, 4]: up to where each key's rows are in the arrays of instances, runs, nodes and events.
        instance_rows, run_rows, node_rows: as `transfer.export_keys` wrote them; event_times int64[events, 2].
        cells, null [events, columns]: values of columns, kinds int64[columns]; text_start, text_length: of texts.
        registers, register_null [runs, width], register_kinds int64[patterns, width], widths int64[patterns].
        text uint8[...]: all texts.
        out uint8[...], offset int64[keys + 1]: the records; `out` must be long enough (see `records`).
    """
    at = 0
    first_run = 0
    first_instance = 0
    first_node = 0
    first_event = 0
    for key in range(len(ends)):
        offset[key] = at
        instances = ends[key, INSTANCES] - first_instance
        runs = ends[key, RUNS] - first_run
        nodes = ends[key, NODES] - first_node
        events = ends[key, EVENTS] - first_event
        if instances > 0:
            at = put_deadlines(tables, instance_rows, run_rows, first_instance, instances, first_run, out, at)
            at = put(out, at, instances)
            at = put(out, at, runs)
            at = put(out, at, nodes)
            at = put(out, at, events)
            texts = 0
            for event in range(first_event, first_event + events):
                for column in range(len(kinds)):
                    texts += text_length[event, column]
            run = first_run
            for index in range(first_instance, first_instance + instances):
                for _ in range(instance_rows[index, 2] + instance_rows[index, 3] + instance_rows[index, 4]):
                    for register in range(widths[instance_rows[index, 1]]):
                        texts += register_length[run, register]
                    run += 1
            at = put(out, at, texts)
            for index in range(first_instance, first_instance + instances):
                for column in range(1, 5):
                    at = put(out, at, instance_rows[index, column])
            time = 0
            seq = 0
            for event in range(first_event, first_event + events):
                at = put(out, at, event_times[event, 0] - time)
                at = put(out, at, event_times[event, 1] - seq)
                time = event_times[event, 0]
                seq = event_times[event, 1]
                for column in range(len(kinds)):
                    at = put_cell(
                        out, at, kinds[column], cells[event, column], null[event, column],
                        text, text_start[event, column], text_length[event, column],
                    )  # fmt: skip
            for node in range(first_node, first_node + nodes):
                parent = node_rows[node, 0]
                at = put(out, at, 0 if parent < 0 else parent - first_node + 1)
                at = put(out, at, node_rows[node, 1])
                at = put(out, at, node_rows[node, 2] - first_event)
            time = event_times[first_event, 0]
            seq = event_times[first_event, 1]
            run = first_run
            for index in range(first_instance, first_instance + instances):
                pattern = instance_rows[index, 1]
                for _ in range(instance_rows[index, 2] + instance_rows[index, 3] + instance_rows[index, 4]):
                    at = put(out, at, run_rows[run, 0])
                    at = put(out, at, run_rows[run, 1] - time)
                    at = put(out, at, run_rows[run, 2] - seq)
                    at = put(out, at, run_rows[run, 3] - time)
                    at = put(out, at, run_rows[run, 4] - first_node)
                    for register in range(widths[pattern]):
                        at = put_cell(
                            out, at, register_kinds[pattern, register], registers[run, register],
                            register_null[run, register], text, register_start[run, register],
                            register_length[run, register],
                        )  # fmt: skip
                    run += 1
        first_instance += instances
        first_run += runs
        first_node += nodes
        first_event += events
    offset[len(ends)] = at


def put_cell(out, at, kind, value, null, text, start, length):
    """Write a column or register."""
    if null != 0:
        return put(out, at, 0)
    at = put(out, at, 1)
    if kind == NUMBER:
        return put(out, at, value)
    if kind == FLOAT:
        return put_bits(out, at, value)
    at = put(out, at, length)
    for index in range(length):
        out[at + index] = text[start + index]
    return at + length


def put_deadlines(tables, instance_rows, run_rows, first_instance, instances, first_run, out, at):
    """Write when the key has something due, and when all it has is over."""
    due = NEVER
    end = -NEVER
    run = first_run
    for index in range(first_instance, first_instance + instances):
        pattern = instance_rows[index, 1]
        within = tables.patterns[pattern, P_WITHIN]
        precise = tables.patterns[pattern, P_PRECISE] != 0 or instance_rows[index, 3] > 0
        for _ in range(instance_rows[index, 2] + instance_rows[index, 3] + instance_rows[index, 4]):
            state = run_rows[run, 0]
            if within == 0:
                end = NEVER
            else:
                end = max(end, run_rows[run, 1] + within)
                if precise:
                    due = min(due, run_rows[run, 1] + within)
            if state >= 0:
                for timer in range(tables.states[state, S_TIMERS], tables.states[state + 1, S_TIMERS]):
                    due = min(due, run_rows[run, 3] + tables.timer_gap[timer])
            run += 1
    at = put(out, at, int(due < NEVER))
    if due < NEVER:
        at = put(out, at, due)
    at = put(out, at, int(end < NEVER))
    if end < NEVER:
        at = put(out, at, end)
    return at


def read_deadlines(data, offset, due, end):
    """The times with which records begin; NEVER where there is none. Empty records are over at once."""
    for key in range(len(offset) - 1):
        at = offset[key]
        due[key] = NEVER
        end[key] = -NEVER
        if offset[key + 1] > at:
            end[key] = NEVER
            there, at = get(data, at)
            if there != 0:
                due[key], at = get(data, at)
            there, at = get(data, at)
            if there != 0:
                end[key], at = get(data, at)


def count(data, offset, counts):
    """How many rows each record holds. counts int64[keys, 5]: instances, runs, nodes, events, bytes of text."""
    for key in range(len(offset) - 1):
        if offset[key + 1] > offset[key]:
            at = skip_deadlines(data, offset[key])
            for column in range(5):
                counts[key, column], at = get(data, at)


def tally(data, offset, open_runs):
    """Add to open_runs int64[patterns] how many partial matches of each pattern the records hold."""
    for key in range(len(offset) - 1):
        if offset[key + 1] > offset[key]:
            at = skip_deadlines(data, offset[key])
            instances, at = get(data, at)
            for _ in range(4):
                _, at = get(data, at)
            for _ in range(instances):
                pattern, at = get(data, at)
                length, at = get(data, at)
                open_runs[pattern] += length
                for _ in range(2):
                    _, at = get(data, at)


def skip_deadlines(data, at):
    """Where a record goes on behind its deadlines."""
    for _ in range(2):
        there, at = get(data, at)
        if there != 0:
            there, at = get(data, at)
    return at


def unpack(
    data, offset, pattern_of, stage_of, state_of, kinds, register_kinds, widths,
    instance_rows, run_rows, node_rows, event_times, cells, null, text_start, text_length,
    registers, register_null, register_start, register_length, text, done, ends,
):  # fmt: skip
    """Read records into the arrays that `transfer.import_keys` takes.

    Args:
        pattern_of, stage_of, state_of: the numbers that those in the records have now; -1: dropped. What belongs to a
            dropped pattern is left out, but for its nodes, which have stage -1, and their events.
        kinds, register_kinds, widths: as the header says.
        done int64[5]: rows written so far of instances, runs, nodes, events, and bytes of text. 0 to begin with.
        ends int64[keys]: where the part of a record that is read here ends.

    The first columns of `instance_rows` are positions of keys in `offset`.
    """
    for key in range(len(offset) - 1):
        ends[key] = offset[key]
        if offset[key + 1] == offset[key]:
            continue
        at = skip_deadlines(data, offset[key])
        instances, at = get(data, at)
        _, at = get(data, at)
        nodes, at = get(data, at)
        events, at = get(data, at)
        _, at = get(data, at)
        heads = at
        for _ in range(4 * instances):
            _, at = get(data, at)
        first_event = done[EVENTS]
        first_node = done[NODES]
        time = np.int64(0)
        seq = np.int64(0)
        for index in range(events):
            event = first_event + index
            step, at = get(data, at)
            time += step
            step, at = get(data, at)
            seq += step
            event_times[event, 0] = time
            event_times[event, 1] = seq
            for column in range(len(kinds)):
                at = get_cell(data, at, kinds[column], cells, null, text_start, text_length, event, column, text, done)
        for index in range(nodes):
            parent, at = get(data, at)
            stage, at = get(data, at)
            event, at = get(data, at)
            node_rows[first_node + index, 0] = -1 if parent == 0 else first_node + parent - 1
            node_rows[first_node + index, 1] = stage_of[stage]
            node_rows[first_node + index, 2] = first_event + event
        done[EVENTS] += events
        done[NODES] += nodes
        if events > 0:
            time = event_times[first_event, 0]
            seq = event_times[first_event, 1]
        for _ in range(instances):
            old, heads = get(data, heads)
            pattern = pattern_of[old]
            row = done[INSTANCES]
            total = np.int64(0)
            for column in range(2, 5):
                length, heads = get(data, heads)
                total += length
                if pattern >= 0:
                    instance_rows[row, column] = length
            if pattern >= 0:
                instance_rows[row, 0] = key
                instance_rows[row, 1] = pattern
                done[INSTANCES] += 1
            for _ in range(total):
                # rows of runs of dropped patterns are overwritten by what follows
                run = done[RUNS]
                state, at = get(data, at)
                run_rows[run, 0] = state if state < 0 else state_of[state]
                step, at = get(data, at)
                run_rows[run, 1] = time + step
                step, at = get(data, at)
                run_rows[run, 2] = seq + step
                step, at = get(data, at)
                run_rows[run, 3] = time + step
                step, at = get(data, at)
                run_rows[run, 4] = first_node + step
                for register in range(widths[old]):
                    at = get_cell(
                        data, at, register_kinds[old, register], registers, register_null,
                        register_start, register_length, run, register, text, done,
                    )  # fmt: skip
                if pattern >= 0:
                    done[RUNS] += 1
        ends[key] = at


def get_cell(data, at, kind, cells, null, starts, lengths, row, column, text, done):
    """Read a column or register into its row; where the next one begins."""
    there, at = get(data, at)
    null[row, column] = 1 - there
    cells[row, column] = 0
    lengths[row, column] = 0
    if there == 0:
        return at
    if kind == NUMBER:
        cells[row, column], at = get(data, at)
        return at
    if kind == FLOAT:
        cells[row, column], at = get_bits(data, at)
        return at
    length, at = get(data, at)
    starts[row, column] = done[TEXT_BYTES]
    lengths[row, column] = length
    for index in range(length):
        text[done[TEXT_BYTES] + index] = data[at + index]
    done[TEXT_BYTES] += length
    return at + length
