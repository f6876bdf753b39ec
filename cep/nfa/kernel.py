"""The matcher's kernel: partial matches stepped by events, in the order of time, over all keys and patterns.

Pure: arrays in, arrays out; no clock, no allocation. Plain functions, compiled by `ostinato.cep.jit` or run as they
are; `hook`, where not None, is a Python function that decides conditions the machine cannot (only uncompiled).

Semantics are those of Flink CEP's NFA (org.apache.flink.cep.nfa.NFA): for each event first time moves, then every
partial match of the key takes or leaves the event in the order in which it came to be, then the start state does.
Partial matches of an instance are a list in the order of their first events, because successors stand in the place of
what they come from and new ones are appended.

When a pool may run out, the kernel stops before the event or timer in hand and says what it needs (`control`).
"""

from __future__ import annotations

from ostinato.cep.expressions.machine import condition, take
from ostinato.cep.nfa.pools import (
    FAILED_KEY,
    FAILED_PATTERN,
    FREE_INSTANCE,
    FREE_NODE,
    FREE_RUN,
    FREE_SLOT,
    FRESH,
    HEAP,
    INSTANCES_LEFT,
    LAST_WAITING,
    MARK,
    NEXT_DEADLINE,
    NODES_LEFT,
    RESULTS,
    RUNS_LEFT,
    SLOTS_LEFT,
    STATUS,
    SWEEP_AFTER,
    SWEEP_COUNT,
    SWEEP_HEAD,
    WAITING,
    WANTED,
)

TAKE, IGNORE, KILL = 0, 1, 2
FINAL = -2
DONE = -2
NEVER = 2**63 - 1
"""Later than the end of all time, which is 2**62."""
NO_LIMIT = 2**62

# what `control[STATUS]` says when the kernel stops
RUNNING, FULL, CAPPED, MISSED_STAGE, SKIP_TO_SELF = 0, 1, 2, 3, 4

NO_SKIP, TO_NEXT, PAST_LAST, TO_FIRST, TO_LAST = 0, 1, 2, 3, 4
MATCH, TIMEOUT = 0, 1


def run_events(tables, machine, space, order, begin, times, keys, bits, seq, hook):
    """Process the events ``order[begin:]`` (rows, in order of time). Returns the position it stopped at.

    `times` int64[rows]; `keys` int64[rows], dense codes; `bits` int64[rows, words]; `seq` is the sequence number of
    ``order[0]``.
    """
    control, scratch = space.control, space.scratch
    groups = len(tables.group_word)
    for position in range(begin, len(order)):
        row = order[position]
        time = times[row]
        if time >= control[NEXT_DEADLINE]:
            fire(tables, space, time)
            if control[STATUS] != RUNNING:
                return position
        key = keys[row]
        instance = space.keys.first[key]
        begins = False
        for group in range(groups):
            if holds(
                tables, tables.group_terms[group], tables.group_terms[group + 1], bits[row, tables.group_word[group]]
            ):
                begins = True
                break
        if instance < 0 and not begins:
            continue
        if not has_room(tables, space, space.keys.runs[key]):
            control[WANTED] = space.keys.runs[key]
            control[STATUS] = FULL
            return position
        slot = new_slot(space, time, seq + position)
        control[MARK] += 1
        mark = control[MARK]
        before = -1
        while instance >= 0:
            following = space.instances.next[instance]
            pattern = space.instances.pattern[instance]
            scratch.mark[pattern] = mark
            starts = False
            if begins:
                group = tables.start_group[pattern]
                starts = holds(
                    tables,
                    tables.group_terms[group],
                    tables.group_terms[group + 1],
                    bits[row, tables.group_word[group]],
                )
            step(tables, machine, space, instance, row, time, seq + position, slot, bits, starts, hook)
            if control[STATUS] != RUNNING:
                return position
            if is_idle(space, instance):
                free_instance(space, instance, before)
            else:
                before = instance
            instance = following
        if begins:
            for group in range(groups):
                if not holds(
                    tables,
                    tables.group_terms[group],
                    tables.group_terms[group + 1],
                    bits[row, tables.group_word[group]],
                ):
                    continue
                for member in range(tables.group_patterns[group], tables.group_patterns[group + 1]):
                    pattern = tables.group_members[member]
                    if scratch.mark[pattern] == mark:
                        continue
                    instance = new_instance(space, key, pattern)
                    step(tables, machine, space, instance, row, time, seq + position, slot, bits, True, hook)
                    if control[STATUS] != RUNNING:
                        return position
                    if is_idle(space, instance):
                        free_instance(space, instance, -1)
        if space.slots.refs[slot] > 1:
            space.slots.row[slot] = row
            scratch.fresh[control[FRESH]] = slot
            control[FRESH] += 1
        release_slot(space, slot)
        if space.keys.first[key] >= 0 and space.keys.sweep[key] == 0 and control[SWEEP_AFTER] < NO_LIMIT:
            add_sweep(space, key, time + control[SWEEP_AFTER])
    return len(order)


def advance(tables, space, time):
    """Move time to `time` with no event: partial matches expire, matches that waited for that come out."""
    if time >= space.control[NEXT_DEADLINE]:
        fire(tables, space, time)


def holds(tables, begin, end, bits):
    """Does one of the terms hold?"""
    for term in range(begin, end):  # noqa: SIM110 - a generator is slow when compiled, and slower when not
        if bits & tables.care[term] == tables.want[term]:
            return True
    return False


def has_room(tables, space, runs):
    """Is there room in every pool for one event that meets so many runs?"""
    control = space.control
    # a run has at most so many successors and completions; each pattern may also begin one
    need = (runs + len(tables.start_state)) * len(space.scratch.state) * 2 + 8
    return (
        control[RUNS_LEFT] > need
        and control[NODES_LEFT] > need
        and control[SLOTS_LEFT] > 1
        and control[INSTANCES_LEFT] > len(tables.start_state)
        and control[RESULTS] + need < len(space.results.node)
        and control[FRESH] + 1 < len(space.scratch.fresh)
        and control[HEAP] + need < len(space.timers.deadline)
        and control[SWEEP_COUNT] + 2 < len(space.timers.sweep_time)
    )


# -- one event and one instance ---------------------------------------------------------------------


def step(tables, machine, space, instance, row, time, seq, slot, bits, starts, hook):
    """Let one event meet the partial matches of one pattern on one key."""
    runs, instances, control, scratch = space.runs, space.instances, space.control, space.scratch
    pattern = instances.pattern[instance]
    within = tables.within[pattern]
    run = instances.head[instance]
    if run >= 0 and within > 0 and time - runs.start_time[run] >= within:
        # nobody watches the moment of expiry, else a timer would have come first
        expire(tables, space, instance, time)
        run = instances.head[instance]
    if instances.pruned_head[instance] >= 0:
        forget_pruned(space, instance)
    word = bits[row, tables.word[pattern]]
    control[WAITING] = -1
    control[LAST_WAITING] = -1
    before = -1
    while run >= 0:
        following = runs.next[run]
        state = runs.state[run]
        facts = word
        if tables.conditions[state + 1] > tables.conditions[state]:
            facts = word | iterative(tables, machine, space, state, run, runs.node[run], row, word, hook)
        start_time = runs.start_time[run]
        start_seq = runs.start_seq[run]
        count = 0
        stays = False
        killed = False
        for edge in range(tables.edges[state], tables.edges[state + 1]):
            if not holds(tables, tables.guard[edge], tables.completes[edge], facts):
                continue
            move = tables.move[edge]
            target = tables.target[edge]
            node = runs.node[run]
            if move == TAKE:
                gap = tables.edge_gap[edge]
                if gap > 0 and time - runs.last_time[run] >= gap:
                    continue
                node = new_node(space, node, tables.stage[edge], slot)
                if target != FINAL and holds(tables, tables.completes[edge], tables.guard[edge + 1], facts):
                    space.nodes.refs[node] += 1
                    finish(tables, space, instance, pattern, node, row, time, start_time, start_seq)
            elif move == IGNORE:
                space.nodes.refs[node] += 1
                stays = True
            else:
                killed = True
                continue
            if target == FINAL:
                finish(tables, space, instance, pattern, node, row, time, start_time, start_seq)
            else:
                scratch.state[count] = target
                scratch.node[count] = node
                scratch.taken[count] = tables.stage[edge]
                count += 1
        if killed:
            for index in range(count):
                release(space, scratch.node[index])
            count = 0
        if count == 1 and stays and scratch.taken[0] < 0:
            # by far the most frequent: the event is left, and only the state may change
            runs.state[run] = scratch.state[0]
            space.nodes.refs[runs.node[run]] -= 1
            before = run
        else:
            before = replace(tables, machine, space, instance, run, before, following, count, row, time)
        run = following
    if starts:
        begin_matches(tables, machine, space, instance, pattern, row, time, seq, slot, word, hook)
    if control[WAITING] >= 0:
        keep_done(space, instance, control[WAITING])
    if instances.done_head[instance] >= 0:
        settle(tables, space, instance, row, time)
        if control[STATUS] != RUNNING:
            return
    if instances.count[instance] > tables.cap[pattern]:
        apply_cap(tables, space, instance, pattern)


def iterative(tables, machine, space, state, run, node, row, word, hook):
    """The bits of the iterative conditions of a state for one run (for a start: the pattern's empty run)."""
    found = 0
    registers = space.registers
    for index in range(tables.conditions[state], tables.conditions[state + 1]):
        needed = tables.condition_pre[index]
        if word & needed != needed:
            continue
        start = tables.condition_start[index]
        if start >= 0:
            holding = condition(
                machine.code,
                machine.constants,
                start,
                tables.condition_end[index],
                row,
                machine.cells,
                machine.doubles,
                machine.null,
                run,
                registers.ints,
                registers.doubles,
                registers.null,
                machine.stack_i,
                machine.stack_f,
                machine.stack_null,
            )
        else:
            holding = False
            if hook is not None:
                holding = hook(tables.condition_hook[index], node, row)
        if holding:
            found |= tables.condition_bit[index]
    return found


def replace(tables, machine, space, instance, run, before, following, count, row, time):
    """Put the `count` successors in scratch in the place of a run. Returns the last of them, or what was before."""
    runs, instances, scratch = space.runs, space.instances, space.scratch
    old = runs.node[run]
    if count == 0:
        free_run(space, run)
        if before >= 0:
            runs.next[before] = following
        else:
            instances.head[instance] = following
        if following < 0:
            instances.tail[instance] = before
        instances.count[instance] -= 1
        space.keys.runs[instances.key[instance]] -= 1
        release(space, old)
        return before
    last = run
    behind = following
    # from the last to the first: the first takes the row itself, whose registers the others still need
    for index in range(count - 1, -1, -1):
        row_of_run = run
        if index > 0:
            row_of_run = new_run(space, 0, 0, runs.start_time[run], runs.start_seq[run])
            runs.last_time[row_of_run] = runs.last_time[run]
            if index == count - 1:
                last = row_of_run
        runs.next[row_of_run] = behind
        runs.state[row_of_run] = scratch.state[index]
        runs.node[row_of_run] = scratch.node[index]
        behind = row_of_run
        take_registers(tables, machine, space, scratch.taken[index], row, run, row_of_run)
        if scratch.taken[index] >= 0:
            runs.last_time[row_of_run] = time
            add_gap_timers(tables, space, instance, scratch.state[index], time)
    if following < 0:
        instances.tail[instance] = last
    instances.count[instance] += count - 1
    space.keys.runs[instances.key[instance]] += count - 1
    release(space, old)
    return last


def begin_matches(tables, machine, space, instance, pattern, row, time, seq, slot, word, hook):
    """Let the event begin new partial matches."""
    runs, instances = space.runs, space.instances
    state = tables.start_state[pattern]
    facts = word
    if tables.conditions[state + 1] > tables.conditions[state]:
        facts = word | iterative(tables, machine, space, state, pattern, -1, row, word, hook)
    begun = False
    for edge in range(tables.edges[state], tables.edges[state + 1]):
        if tables.move[edge] != TAKE or not holds(tables, tables.guard[edge], tables.completes[edge], facts):
            continue
        target = tables.target[edge]
        node = new_node(space, -1, tables.stage[edge], slot)
        if target == FINAL:
            finish(tables, space, instance, pattern, node, row, time, time, seq)
            continue
        if holds(tables, tables.completes[edge], tables.guard[edge + 1], facts):
            space.nodes.refs[node] += 1
            finish(tables, space, instance, pattern, node, row, time, time, seq)
        run = new_run(space, target, node, time, seq)
        runs.last_time[run] = time
        if instances.tail[instance] >= 0:
            runs.next[instances.tail[instance]] = run
        else:
            instances.head[instance] = run
        instances.tail[instance] = run
        instances.count[instance] += 1
        space.keys.runs[instances.key[instance]] += 1
        take_registers(tables, machine, space, tables.stage[edge], row, pattern, run)
        add_gap_timers(tables, space, instance, target, time)
        begun = True
    if begun and tables.precise[pattern] != 0 and tables.within[pattern] > 0:
        add_timer(space, time + tables.within[pattern], instance)


def take_registers(tables, machine, space, stage, row, source, target):
    """Carry the registers of a run over to its successor, with the event taken for `stage` (-1: none)."""
    registers = space.registers
    begin_program = 0
    end_program = 0
    if stage >= 0:
        begin_program = tables.update_start[stage]
        end_program = tables.update_end[stage]
    if source == target and begin_program == end_program:
        return
    if len(machine.updates) == 0:
        return
    take(
        machine.updates,
        begin_program,
        end_program,
        row,
        machine.cells,
        machine.doubles,
        machine.null,
        source,
        target,
        registers.ints,
        registers.doubles,
        registers.null,
    )


def apply_cap(tables, space, instance, pattern):
    """Too many partial matches: fail, or let go of the oldest."""
    if tables.cap_drops[pattern] == 0:
        space.control[STATUS] = CAPPED
        space.control[FAILED_PATTERN] = pattern
        space.control[FAILED_KEY] = space.instances.key[instance]
        return
    while space.instances.count[instance] > tables.cap[pattern]:
        drop_first(space, instance)
        space.scratch.dropped[pattern] += 1


# -- finished matches -------------------------------------------------------------------------------


def finish(tables, space, instance, pattern, node, row, time, start_time, start_seq):
    """A match is complete; it takes over a reference to `node`. With a skip strategy it may have to wait."""
    if tables.skip[pattern] == NO_SKIP:
        emit(space, pattern, space.instances.key[instance], MATCH, node, row, time, start_time, start_seq)
        return
    run = new_run(space, DONE, node, start_time, start_seq)
    if space.control[LAST_WAITING] < 0:
        space.control[WAITING] = run
    else:
        space.runs.next[space.control[LAST_WAITING]] = run
    space.control[LAST_WAITING] = run


def emit(space, pattern, key, kind, node, row, time, start_time, start_seq):
    """Put out a result; it takes over a reference to `node`."""
    results, at = space.results, space.control[RESULTS]
    results.pattern[at] = pattern
    results.key[at] = key
    results.kind[at] = kind
    results.node[at] = node
    results.row[at] = row
    results.time[at] = time
    results.start_time[at] = start_time
    results.start_seq[at] = start_seq
    space.control[RESULTS] = at + 1


def keep_done(space, instance, waiting):
    """Put newly finished matches (a chain, by first event) among those held, behind those with the same first event."""
    runs, instances = space.runs, space.instances
    before = -1
    at = instances.done_head[instance]
    while waiting >= 0:
        following = runs.next[waiting]
        while at >= 0 and runs.start_seq[at] <= runs.start_seq[waiting]:
            before = at
            at = runs.next[at]
        runs.next[waiting] = at
        if before >= 0:
            runs.next[before] = waiting
        else:
            instances.done_head[instance] = waiting
        if at < 0:
            instances.done_tail[instance] = waiting
        before = waiting
        waiting = following


def settle(tables, space, instance, row, time):
    """Put out held matches whose turn has come, and prune what the skip strategy says.

    With a skip strategy a match waits while a partial match with an earlier first event lives.
    """
    runs, instances, control = space.runs, space.instances, space.control
    pattern = instances.pattern[instance]
    skips = tables.skip[pattern] != NO_SKIP
    while instances.done_head[instance] >= 0:
        match = instances.done_head[instance]
        open_run = instances.head[instance]
        if skips and open_run >= 0 and runs.start_seq[match] > runs.start_seq[open_run]:
            deadline = runs.start_time[open_run] + tables.within[pattern]
            if (
                tables.within[pattern] > 0
                and tables.precise[pattern] == 0
                and instances.held_deadline[instance] != deadline
            ):
                # its way is free at the latest when the earlier partial match expires
                instances.held_deadline[instance] = deadline
                add_timer(space, deadline, instance)
            return
        instances.done_head[instance] = runs.next[match]
        if instances.done_head[instance] < 0:
            instances.done_tail[instance] = -1
        first = runs.start_seq[match]
        node = runs.node[match]
        emit(space, pattern, instances.key[instance], MATCH, node, row, time, runs.start_time[match], first)
        free_run(space, match)
        if skips:
            upto = skip_position(tables, space, pattern, node, first)
            if control[STATUS] != RUNNING:
                control[FAILED_KEY] = instances.key[instance]
                return
            while instances.head[instance] >= 0 and runs.start_seq[instances.head[instance]] < upto:
                if row < 0 and tables.reports_timeouts[pattern] != 0:
                    set_aside(tables, space, instance)
                else:
                    drop_first(space, instance)
            while instances.done_head[instance] >= 0 and runs.start_seq[instances.done_head[instance]] < upto:
                pruned = instances.done_head[instance]
                instances.done_head[instance] = runs.next[pruned]
                if instances.done_head[instance] < 0:
                    instances.done_tail[instance] = -1
                release(space, runs.node[pruned])
                free_run(space, pruned)


def set_aside(tables, space, instance):
    """Prune the oldest partial match of an instance, but keep it in mind until the key's next event (see `Instances`)."""
    runs, instances = space.runs, space.instances
    run = instances.head[instance]
    if tables.pending[runs.state[run]] != 0:
        drop_first(space, instance)
        return
    instances.head[instance] = runs.next[run]
    if runs.next[run] < 0:
        instances.tail[instance] = -1
    instances.count[instance] -= 1
    runs.next[run] = -1
    last = instances.pruned_head[instance]
    if last < 0:
        instances.pruned_head[instance] = run
        return
    while runs.next[last] >= 0:
        last = runs.next[last]
    runs.next[last] = run


def forget_pruned(space, instance):
    """The key's next event has come: what was pruned before it is gone."""
    runs, instances = space.runs, space.instances
    run = instances.pruned_head[instance]
    instances.pruned_head[instance] = -1
    while run >= 0:
        following = runs.next[run]
        space.keys.runs[instances.key[instance]] -= 1
        release(space, runs.node[run])
        free_run(space, run)
        run = following


def report_pruned(tables, space, instance, time):
    """Report those of the pruned partial matches whose time is up."""
    runs, instances = space.runs, space.instances
    before = -1
    run = instances.pruned_head[instance]
    while run >= 0:
        following = runs.next[run]
        if is_over(tables, space, instance, run, time):
            if before >= 0:
                runs.next[before] = following
            else:
                instances.pruned_head[instance] = following
            space.keys.runs[instances.key[instance]] -= 1
            time_out(tables, space, instance, run, time)
        else:
            before = run
        run = following


def is_over(tables, space, instance, run, time):
    """Is a partial match's time up?"""
    runs = space.runs
    within = tables.within[space.instances.pattern[instance]]
    gap = tables.gap[runs.state[run]]
    return (gap > 0 and time - runs.last_time[run] >= gap) or (within > 0 and time - runs.start_time[run] >= within)


def time_out(tables, space, instance, run, time):
    """End a partial match that is on no list any more, with a report where one is wanted."""
    runs, instances = space.runs, space.instances
    pattern = instances.pattern[instance]
    within = tables.within[pattern]
    gap = tables.gap[runs.state[run]]
    by_gap = gap > 0 and time - runs.last_time[run] >= gap
    by_start = within > 0 and time - runs.start_time[run] >= within
    if tables.reports_timeouts[pattern] != 0 and (by_start or tables.silent[runs.state[run]] == 0):
        due = runs.last_time[run] + gap if by_gap else runs.start_time[run] + within
        key = instances.key[instance]
        emit(space, pattern, key, TIMEOUT, runs.node[run], -1, due, runs.start_time[run], runs.start_seq[run])
    else:
        release(space, runs.node[run])
    free_run(space, run)


def skip_position(tables, space, pattern, node, first):
    """The event before which no partial match may begin any more after a match that ends at `node`."""
    nodes, slots = space.nodes, space.slots
    mode = tables.skip[pattern]
    if mode == TO_NEXT:
        return first + 1
    if mode == PAST_LAST:
        return slots.seq[nodes.slot[node]] + 1
    wanted = tables.skip_stage[pattern]
    found = -1
    while node >= 0:
        if nodes.stage[node] == wanted:
            found = slots.seq[nodes.slot[node]]
            if mode == TO_LAST:
                break
        node = nodes.parent[node]
    if tables.throw_on_miss[pattern] != 0 and (found < 0 or found == first):
        space.control[STATUS] = MISSED_STAGE if found < 0 else SKIP_TO_SELF
        space.control[FAILED_PATTERN] = pattern
    return found


# -- time -------------------------------------------------------------------------------------------


def fire(tables, space, time):
    """Fire what is due at `time`, in the order of deadlines."""
    control, timers, instances = space.control, space.timers, space.instances
    while True:
        deadline = timers.deadline[0] if control[HEAP] > 0 else NEVER
        sweep = timers.sweep_time[control[SWEEP_HEAD]] if control[SWEEP_COUNT] > 0 else NEVER
        if deadline > time and sweep > time:
            control[NEXT_DEADLINE] = min(deadline, sweep)
            return
        if deadline <= sweep:
            instance = timers.instance[0]
            current = timers.generation[0] == instances.generation[instance]
            if current:
                key = instances.key[instance]
                if not has_room(tables, space, space.keys.runs[key] + count_done(space, instance)):
                    control[WANTED] = space.keys.runs[key] + count_done(space, instance)
                    control[STATUS] = FULL
                    return
            pop_timer(space)
            if current:
                if instances.held_deadline[instance] == deadline:
                    instances.held_deadline[instance] = -1
                expire(tables, space, instance, deadline)
                if control[STATUS] != RUNNING:
                    return
                if is_idle(space, instance):
                    free_instance(space, instance, find_before(space, instance))
        else:
            key = timers.sweep_key[control[SWEEP_HEAD]]
            if not has_room(tables, space, space.keys.runs[key]):
                control[WANTED] = space.keys.runs[key]
                control[STATUS] = FULL
                return
            control[SWEEP_HEAD] = (control[SWEEP_HEAD] + 1) % len(timers.sweep_time)
            control[SWEEP_COUNT] -= 1
            space.keys.sweep[key] = 0
            sweep_key(tables, space, key, sweep)


def sweep_key(tables, space, key, time):
    """Let go of what has expired on a key to which no event came for long; nobody sees the moment."""
    instances = space.instances
    before = -1
    instance = space.keys.first[key]
    while instance >= 0:
        following = instances.next[instance]
        if tables.within[instances.pattern[instance]] > 0:
            expire(tables, space, instance, time)
        if is_idle(space, instance):
            free_instance(space, instance, before)
        else:
            before = instance
        instance = following
    if space.keys.first[key] >= 0:
        add_sweep(space, key, time + space.control[SWEEP_AFTER])


def expire(tables, space, instance, time):
    """End the partial matches of an instance whose time is up, and put out what waited for that.

    A partial match in a pending state has outlasted the negation at the pattern's end: it is a match.
    """
    runs, instances = space.runs, space.instances
    if instances.pruned_head[instance] >= 0:
        report_pruned(tables, space, instance, time)
    before = -1
    run = instances.head[instance]
    waiting = -1
    last_waiting = -1
    while run >= 0:
        following = runs.next[run]
        if not is_over(tables, space, instance, run, time):
            before = run
            run = following
            continue
        if before >= 0:
            runs.next[before] = following
        else:
            instances.head[instance] = following
        if following < 0:
            instances.tail[instance] = before
        instances.count[instance] -= 1
        space.keys.runs[instances.key[instance]] -= 1
        if tables.pending[runs.state[run]] != 0:
            runs.state[run] = DONE
            runs.next[run] = -1
            if last_waiting < 0:
                waiting = run
            else:
                runs.next[last_waiting] = run
            last_waiting = run
        else:
            time_out(tables, space, instance, run, time)
        run = following
    if waiting >= 0:
        keep_done(space, instance, waiting)
    if instances.done_head[instance] >= 0:
        settle(tables, space, instance, -1, time)


def add_gap_timers(tables, space, instance, state, time):
    """Timers for the bounds between events that a run may meet from this state on."""
    for index in range(tables.timers[state], tables.timers[state + 1]):
        add_timer(space, time + tables.timer_gap[index], instance)


def add_timer(space, deadline, instance):
    """Push a deadline on the heap."""
    timers, control = space.timers, space.control
    at = control[HEAP]
    control[HEAP] = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        if timers.deadline[parent] <= deadline:
            break
        timers.deadline[at] = timers.deadline[parent]
        timers.instance[at] = timers.instance[parent]
        timers.generation[at] = timers.generation[parent]
        at = parent
    timers.deadline[at] = deadline
    timers.instance[at] = instance
    timers.generation[at] = space.instances.generation[instance]
    control[NEXT_DEADLINE] = min(control[NEXT_DEADLINE], deadline)


def pop_timer(space):
    """Take the earliest deadline off the heap."""
    timers, control = space.timers, space.control
    last = control[HEAP] - 1
    control[HEAP] = last
    deadline = timers.deadline[last]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and timers.deadline[child + 1] < timers.deadline[child]:
            child += 1
        if timers.deadline[child] >= deadline:
            break
        timers.deadline[at] = timers.deadline[child]
        timers.instance[at] = timers.instance[child]
        timers.generation[at] = timers.generation[child]
        at = child
    timers.deadline[at] = deadline
    timers.instance[at] = timers.instance[last]
    timers.generation[at] = timers.generation[last]


def add_sweep(space, key, time):
    """Remember to look after a key; times come in ascending order, so that a ring will do."""
    timers, control = space.timers, space.control
    at = (control[SWEEP_HEAD] + control[SWEEP_COUNT]) % len(timers.sweep_time)
    timers.sweep_time[at] = time
    timers.sweep_key[at] = key
    control[SWEEP_COUNT] += 1
    space.keys.sweep[key] = 1
    control[NEXT_DEADLINE] = min(control[NEXT_DEADLINE], time)


# -- rows -------------------------------------------------------------------------------------------


def new_node(space, parent, stage, slot):
    """A node with one reference, which is the caller's."""
    nodes, control = space.nodes, space.control
    node = control[FREE_NODE]
    control[FREE_NODE] = nodes.parent[node]
    control[NODES_LEFT] -= 1
    nodes.parent[node] = parent
    nodes.stage[node] = stage
    nodes.slot[node] = slot
    nodes.refs[node] = 1
    space.slots.refs[slot] += 1
    if parent >= 0:
        nodes.refs[parent] += 1
    return node


def release(space, node):
    """Give up one reference to a node; nodes and slots that nobody refers to any more are freed."""
    nodes, control = space.nodes, space.control
    while node >= 0:
        nodes.refs[node] -= 1
        if nodes.refs[node] > 0:
            return
        release_slot(space, nodes.slot[node])
        parent = nodes.parent[node]
        nodes.parent[node] = control[FREE_NODE]
        control[FREE_NODE] = node
        control[NODES_LEFT] += 1
        node = parent


def new_run(space, state, node, start_time, start_seq):
    """A run of its own; it takes over a reference to `node`."""
    runs, control = space.runs, space.control
    run = control[FREE_RUN]
    control[FREE_RUN] = runs.next[run]
    control[RUNS_LEFT] -= 1
    runs.next[run] = -1
    runs.state[run] = state
    runs.node[run] = node
    runs.start_time[run] = start_time
    runs.start_seq[run] = start_seq
    return run


def new_slot(space, time, seq):
    """A slot for the event in hand, with one reference, which is the caller's."""
    slots, control = space.slots, space.control
    slot = control[FREE_SLOT]
    control[FREE_SLOT] = slots.row[slot]
    control[SLOTS_LEFT] -= 1
    slots.refs[slot] = 1
    slots.time[slot] = time
    slots.seq[slot] = seq
    return slot


def release_slot(space, slot):
    """Give up one reference to a buffered event."""
    slots, control = space.slots, space.control
    slots.refs[slot] -= 1
    if slots.refs[slot] == 0:
        slots.row[slot] = control[FREE_SLOT]
        control[FREE_SLOT] = slot
        control[SLOTS_LEFT] += 1


def free_run(space, run):
    """Give back a run's row; its node is the caller's affair."""
    space.runs.next[run] = space.control[FREE_RUN]
    space.control[FREE_RUN] = run
    space.control[RUNS_LEFT] += 1


def drop_first(space, instance):
    """Let go of the oldest partial match of an instance."""
    runs, instances = space.runs, space.instances
    run = instances.head[instance]
    instances.head[instance] = runs.next[run]
    if runs.next[run] < 0:
        instances.tail[instance] = -1
    instances.count[instance] -= 1
    space.keys.runs[instances.key[instance]] -= 1
    release(space, runs.node[run])
    free_run(space, run)


def new_instance(space, key, pattern):
    """Put a pattern to work on a key."""
    instances, control = space.instances, space.control
    instance = control[FREE_INSTANCE]
    control[FREE_INSTANCE] = instances.next[instance]
    control[INSTANCES_LEFT] -= 1
    instances.key[instance] = key
    instances.pattern[instance] = pattern
    instances.head[instance] = -1
    instances.tail[instance] = -1
    instances.done_head[instance] = -1
    instances.done_tail[instance] = -1
    instances.pruned_head[instance] = -1
    instances.count[instance] = 0
    instances.held_deadline[instance] = -1
    instances.next[instance] = space.keys.first[key]
    space.keys.first[key] = instance
    return instance


def free_instance(space, instance, before):
    """Give back an instance; `before` is the one before it on the same key, or -1."""
    instances, control = space.instances, space.control
    if before >= 0:
        instances.next[before] = instances.next[instance]
    else:
        space.keys.first[instances.key[instance]] = instances.next[instance]
    instances.generation[instance] += 1
    instances.next[instance] = control[FREE_INSTANCE]
    control[FREE_INSTANCE] = instance
    control[INSTANCES_LEFT] += 1


def find_before(space, instance):
    """The instance before this one on its key, or -1."""
    before = -1
    at = space.keys.first[space.instances.key[instance]]
    while at != instance:
        before = at
        at = space.instances.next[at]
    return before


def is_idle(space, instance):
    """Is only the start state left?"""
    instances = space.instances
    return instances.head[instance] < 0 and instances.done_head[instance] < 0 and instances.pruned_head[instance] < 0


def count_done(space, instance):
    """How many finished matches wait."""
    count = 0
    run = space.instances.done_head[instance]
    while run >= 0:
        count += 1
        run = space.runs.next[run]
    return count


# -- reading results --------------------------------------------------------------------------------


def path_lengths(space, lengths):
    """The number of events of each result. lengths: int64[results]."""
    nodes = space.nodes
    for at in range(len(lengths)):
        node = space.results.node[at]
        count = 0
        while node >= 0:
            count += 1
            node = nodes.parent[node]
        lengths[at] = count


def read_paths(space, offsets, stages, slots):
    """The stage and slot of every event of every result, in match order: ``offsets[i] : offsets[i+1]`` is result i."""
    nodes = space.nodes
    for at in range(len(offsets) - 1):
        node = space.results.node[at]
        position = offsets[at + 1]
        while node >= 0:
            position -= 1
            stages[position] = nodes.stage[node]
            slots[position] = nodes.slot[node]
            node = nodes.parent[node]


def clear_results(space):
    """Forget the results, with their references."""
    for at in range(space.control[RESULTS]):
        release(space, space.results.node[at])
    space.control[RESULTS] = 0
