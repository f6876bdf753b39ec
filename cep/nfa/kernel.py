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
    HEAP_DEADLINE,
    HEAP_GENERATION,
    HEAP_INSTANCE,
    INSTANCE_COUNT,
    INSTANCE_DONE_HEAD,
    INSTANCE_DONE_TAIL,
    INSTANCE_GENERATION,
    INSTANCE_HEAD,
    INSTANCE_HELD_DEADLINE,
    INSTANCE_KEY,
    INSTANCE_NEXT,
    INSTANCE_PATTERN,
    INSTANCE_PRUNED_HEAD,
    INSTANCE_TAIL,
    INSTANCES_LEFT,
    KEY_CHANGED,
    KEY_FIRST,
    KEY_RUNS,
    KEY_SEED,
    KEY_SEED_GROUP,
    KEY_SEEDS,
    KEY_SWEEP,
    LAST_WAITING,
    MARK,
    MARK_DROPPED,
    MARK_EVENT,
    NEW_NODE,
    NEW_STATE,
    NEW_TAKEN,
    NEXT_DEADLINE,
    NODE_PARENT,
    NODE_REFS,
    NODE_SLOT,
    NODE_STAGE,
    NODES_LEFT,
    RESULT_KEY,
    RESULT_KIND,
    RESULT_NODE,
    RESULT_PATTERN,
    RESULT_ROW,
    RESULT_START_SEQ,
    RESULT_START_TIME,
    RESULT_TIME,
    RESULTS,
    RING_KEY,
    RING_TIME,
    RUN_LAST_TIME,
    RUN_NEXT,
    RUN_NODE,
    RUN_START_SEQ,
    RUN_START_TIME,
    RUN_STATE,
    RUNS_LEFT,
    SLOT_REFS,
    SLOT_ROW,
    SLOT_SEQ,
    SLOT_TIME,
    SLOTS_LEFT,
    STATUS,
    SWEEP_AFTER,
    SWEEP_COUNT,
    SWEEP_HEAD,
    WAITING,
    WANTED,
)
from ostinato.cep.nfa.tables import (
    C_BIT,
    C_END,
    C_HOOK,
    C_PRE,
    C_START,
    DIES,
    E_COMPLETES,
    E_GAP,
    E_GUARD,
    E_MOVE,
    E_STAGE,
    E_TARGET,
    G_FACTS,
    G_MEMBERS,
    G_SEEDS,
    G_TERMS,
    G_WITHIN,
    G_WORD,
    GENERAL,
    P_CAP,
    P_CAP_DROPS,
    P_PRECISE,
    P_REPORTS,
    P_SKIP,
    P_SKIP_STAGE,
    P_START,
    P_THROW,
    P_WITHIN,
    P_WORD,
    S_ACTIONS,
    S_CONDITIONS,
    S_EDGES,
    S_FACTS,
    S_GAP,
    S_PENDING,
    S_SILENT,
    S_TIMERS,
    STAYS,
    T_CARE,
    T_WANT,
    U_END,
    U_START,
)

ALLOCATES = False
ENTRIES = ("run_events", "advance", "grow_seeds", "path_lengths", "read_paths", "clear_results")
# what happens for every event or every partial match becomes part of one loop; the rest stays out of its way
INLINED = (
    "holds", "may_begin", "guarded", "completed", "has_room", "meet_beginnings", "step", "iterative", "succeed",
    "take_registers", "finish", "emit", "new_run", "new_node", "new_slot", "new_instance", "release", "release_slot",
    "seed_outcome", "add_seed", "free_run", "free_instance", "is_idle", "is_over", "add_gap_timers", "add_sweep",
)  # fmt: skip

TAKE, IGNORE, KILL = 0, 1, 2
FINAL = -2
DONE = -2
NEVER = 2**63 - 1
"""Later than the end of all time, which is 2**62."""
NO_LIMIT = 2**62

# what `control[STATUS]` says when the kernel stops
RUNNING, FULL, CAPPED, MISSED_STAGE, SKIP_TO_SELF = 0, 1, 2, 3, 4

MOST_SEEDS = 16
"""A chain of seeds is not let grow longer: each of them is looked at for every event of the key."""
NO_SKIP, TO_NEXT, PAST_LAST, TO_FIRST, TO_LAST = 0, 1, 2, 3, 4
MATCH, TIMEOUT = 0, 1


def run_events(tables, machine, space, order, begin, times, keys, bits, seq, hook):
    """Process the events ``order[begin:]`` (rows, in order of time). Returns the position it stopped at.

    `times` int64[rows]; `keys` int64[rows], dense codes; `bits` int64[rows, words]; `seq` is the sequence number of
    ``order[0]``.
    """
    control = space.control
    groups = len(tables.groups) - 1
    for position in range(begin, len(order)):
        row = order[position]
        time = times[row]
        if time >= control[NEXT_DEADLINE]:
            fire(tables, space, time)
            if control[STATUS] != RUNNING:
                return position
        key = keys[row]
        beginning = -1
        for group in range(groups):
            if may_begin(tables, group, bits, row):
                # one group that is alone may leave a seed
                beginning = group if beginning == -1 else groups
        seeds = space.keys[key, KEY_SEEDS]
        idle = space.keys[key, KEY_FIRST] < 0 and seeds == 0
        if idle and beginning < 0:
            continue
        crowd = space.keys[key, KEY_RUNS] + seeds * seeds * len(tables.patterns)
        if not has_room(tables, space, crowd):
            control[WANTED] = crowd
            control[STATUS] = FULL
            return position
        if seeds > 0:
            group = space.keys[key, KEY_SEED_GROUP]
            facts = bits[row, tables.groups[group, G_WORD]]
            outcome = seed_outcome(tables, space, key, facts)
            if outcome == STAYS and beginning < 0:
                continue
            space.keys[key, KEY_CHANGED] = 1
            if outcome == DIES:
                drop_seeds(space, key)
                idle = True
                if beginning < 0:
                    continue
            elif outcome >= 0 and beginning == group and seeds < MOST_SEEDS:
                take_by_seeds(tables, space, key, facts)
                add_seed(tables, space, key, group, row, time, seq + position, facts)
                continue
            else:
                grow_seed(tables, space, key, time)
        space.keys[key, KEY_CHANGED] = 1
        if idle and beginning >= 0 and beginning < groups and tables.groups[beginning, G_SEEDS] >= 0:
            facts = bits[row, tables.groups[beginning, G_WORD]]
            add_seed(tables, space, key, beginning, row, time, seq + position, facts)
            if space.keys[key, KEY_SWEEP] == 0 and control[SWEEP_AFTER] < NO_LIMIT:
                add_sweep(space, key, time + control[SWEEP_AFTER])
            continue
        slot = new_slot(space, time, seq + position)
        begins = beginning >= 0
        control[MARK] += 1
        mark = control[MARK]
        if begins:
            meet_beginnings(tables, space, key, row, bits, mark)
        before = -1
        instance = space.keys[key, KEY_FIRST]
        while instance >= 0:
            following = space.instances[instance, INSTANCE_NEXT]
            starts = begins and space.marks[space.instances[instance, INSTANCE_PATTERN], MARK_EVENT] == mark
            step(tables, machine, space, instance, row, time, seq + position, slot, bits, starts, hook)
            if control[STATUS] != RUNNING:
                return position
            if is_idle(space, instance):
                free_instance(space, instance, before)
            else:
                before = instance
            instance = following
        if space.slots[slot, SLOT_REFS] > 1:
            space.slots[slot, SLOT_ROW] = row
            space.fresh[control[FRESH]] = slot
            control[FRESH] += 1
        release_slot(space, slot)
        if space.keys[key, KEY_FIRST] >= 0 and space.keys[key, KEY_SWEEP] == 0 and control[SWEEP_AFTER] < NO_LIMIT:
            add_sweep(space, key, time + control[SWEEP_AFTER])
    return len(order)


def advance(tables, space, time):
    """Move time to `time` with no event: partial matches expire, matches that waited for that come out."""
    if time >= space.control[NEXT_DEADLINE]:
        fire(tables, space, time)


def holds(tables, begin, end, bits):
    """Does one of the terms hold?"""
    for term in range(begin, end):  # noqa: SIM110 - a generator is slow when compiled, and slower when not
        if bits & tables.terms[term, T_CARE] == tables.terms[term, T_WANT]:
            return True
    return False


# A *seed* is an event that began a partial match of every pattern of a group, where all of them are simple so far: what
# they do with the events that follow depends on nothing but the events, and one number tells the states of them all
# (worked out in advance, `tables.seeds`). It stands for all of them until an event comes that does more than take them
# one step further, end them or pass them by. A key's seeds are a chain, oldest first; each has taken all events that
# the later ones began with. In the pool of runs a seed keeps its event's slot as node and its bits as last time.


def seed_outcome(tables, space, key, facts):
    """What an event does to a key's seeds: DIES or STAYS, 0 where each takes it, GENERAL otherwise."""
    group = space.keys[key, KEY_SEED_GROUP]
    mask = tables.groups[group, G_FACTS]
    seed = space.keys[key, KEY_SEED]
    outcome = tables.seeds[space.runs[seed, RUN_STATE] + (facts & mask)]
    kind = min(outcome, 0)
    seed = space.runs[seed, RUN_NEXT]
    while seed >= 0:
        outcome = tables.seeds[space.runs[seed, RUN_STATE] + (facts & mask)]
        if min(outcome, 0) != kind:
            return GENERAL
        seed = space.runs[seed, RUN_NEXT]
    return kind


def take_by_seeds(tables, space, key, facts):
    """Let every seed of a key take an event."""
    mask = tables.groups[space.keys[key, KEY_SEED_GROUP], G_FACTS]
    seed = space.keys[key, KEY_SEED]
    while seed >= 0:
        space.runs[seed, RUN_STATE] = tables.seeds[space.runs[seed, RUN_STATE] + (facts & mask)]
        seed = space.runs[seed, RUN_NEXT]


def add_seed(tables, space, key, group, row, time, seq, facts):
    """Append the event in hand to a key's seeds."""
    slot = new_slot(space, time, seq)
    space.slots[slot, SLOT_ROW] = row
    space.fresh[space.control[FRESH]] = slot
    space.control[FRESH] += 1
    seed = new_run(space, tables.groups[group, G_SEEDS], slot, time, seq)
    space.runs[seed, RUN_LAST_TIME] = facts
    if space.keys[key, KEY_SEEDS] == 0:
        space.keys[key, KEY_SEED] = seed
        space.keys[key, KEY_SEED_GROUP] = group
    else:
        last = space.keys[key, KEY_SEED]
        while space.runs[last, RUN_NEXT] >= 0:
            last = space.runs[last, RUN_NEXT]
        space.runs[last, RUN_NEXT] = seed
    space.keys[key, KEY_SEEDS] += 1


def drop_oldest_seed(space, key):
    """Forget the first of a key's seeds."""
    seed = space.keys[key, KEY_SEED]
    space.keys[key, KEY_SEED] = space.runs[seed, RUN_NEXT]
    space.keys[key, KEY_SEEDS] -= 1
    release_slot(space, space.runs[seed, RUN_NODE])
    free_run(space, seed)


def drop_seeds(space, key):
    """Forget a key's seeds."""
    while space.keys[key, KEY_SEEDS] > 0:
        drop_oldest_seed(space, key)


def grow_seed(tables, space, key, time):
    """Put the partial matches that a key's seeds stand for in their place."""
    slots, instances, runs, nodes = space.slots, space.instances, space.runs, space.nodes
    group = space.keys[key, KEY_SEED_GROUP]
    for member in range(tables.groups[group, G_MEMBERS], tables.groups[group + 1, G_MEMBERS]):
        pattern = tables.members[member]
        within = tables.patterns[pattern, P_WITHIN]
        begin = tables.states[tables.patterns[pattern, P_START], S_EDGES]
        while tables.edges[begin, E_MOVE] != TAKE:
            begin += 1
        instance = -1
        seed = space.keys[key, KEY_SEED]
        while seed >= 0:
            slot = runs[seed, RUN_NODE]
            start_time = slots[slot, SLOT_TIME]
            if within > 0 and time - start_time >= within:
                seed = runs[seed, RUN_NEXT]
                continue
            node = new_node(space, -1, tables.edges[begin, E_STAGE], slot)
            state = tables.edges[begin, E_TARGET]
            last_time = start_time
            later = runs[seed, RUN_NEXT]
            while later >= 0:
                facts = runs[later, RUN_LAST_TIME] & tables.states[state, S_FACTS]
                edge = tables.actions[tables.states[state, S_ACTIONS] + facts]
                child = new_node(space, -1, tables.edges[edge, E_STAGE], runs[later, RUN_NODE])
                nodes[child, NODE_PARENT] = node
                node = child
                state = tables.edges[edge, E_TARGET]
                last_time = runs[later, RUN_START_TIME]
                later = runs[later, RUN_NEXT]
            run = new_run(space, state, node, start_time, slots[slot, SLOT_SEQ])
            runs[run, RUN_LAST_TIME] = last_time
            if instance < 0:
                instance = new_instance(space, key, pattern)
                instances[instance, INSTANCE_HEAD] = run
            else:
                runs[instances[instance, INSTANCE_TAIL], RUN_NEXT] = run
            instances[instance, INSTANCE_TAIL] = run
            instances[instance, INSTANCE_COUNT] += 1
            space.keys[key, KEY_RUNS] += 1
            seed = runs[seed, RUN_NEXT]
    drop_seeds(space, key)


def grow_seeds(tables, space, keys, time):
    """Grow the seeds of some keys, as far as there is room. Returns how many keys were done."""
    for index in range(len(keys)):
        key = keys[index]
        if key < len(space.keys) and space.keys[key, KEY_SEEDS] > 0:
            crowd = space.keys[key, KEY_SEEDS] ** 2 * len(tables.patterns)
            if not has_room(tables, space, crowd):
                space.control[WANTED] = crowd
                space.control[STATUS] = FULL
                return index
            grow_seed(tables, space, key, time)
    return len(keys)


def meet_beginnings(tables, space, key, row, bits, mark):
    """Mark the patterns that the event may begin, and put those to work on the key that were not yet."""
    instances, marks = space.instances, space.marks
    for group in range(len(tables.groups) - 1):
        if may_begin(tables, group, bits, row):
            for member in range(tables.groups[group, G_MEMBERS], tables.groups[group + 1, G_MEMBERS]):
                marks[tables.members[member], MARK_EVENT] = -mark
    instance = space.keys[key, KEY_FIRST]
    while instance >= 0:
        pattern = instances[instance, INSTANCE_PATTERN]
        if marks[pattern, MARK_EVENT] == -mark:
            marks[pattern, MARK_EVENT] = mark
        instance = instances[instance, INSTANCE_NEXT]
    for group in range(len(tables.groups) - 1):
        for member in range(tables.groups[group, G_MEMBERS], tables.groups[group + 1, G_MEMBERS]):
            pattern = tables.members[member]
            if marks[pattern, MARK_EVENT] == -mark:
                marks[pattern, MARK_EVENT] = mark
                new_instance(space, key, pattern)


def may_begin(tables, group, bits, row):
    """Can the event begin a match of the patterns of a group?"""
    facts = bits[row, tables.groups[group, G_WORD]]
    return holds(tables, tables.groups[group, G_TERMS], tables.groups[group + 1, G_TERMS], facts)


def guarded(tables, edge, facts):
    """Does an edge's guard hold?"""
    return holds(tables, tables.edges[edge, E_GUARD], tables.edges[edge, E_COMPLETES], facts)


def completed(tables, edge, facts):
    """Is a match complete when the edge is taken?"""
    return holds(tables, tables.edges[edge, E_COMPLETES], tables.edges[edge + 1, E_GUARD], facts)


def has_room(tables, space, runs):
    """Is there room in every pool for one event that meets so many runs?"""
    control = space.control
    # a run has at most so many successors and completions; each pattern may also begin one
    need = (runs + len(tables.patterns)) * len(space.successors) * 2 + 8
    return (
        control[RUNS_LEFT] > need
        and control[NODES_LEFT] > need
        and control[SLOTS_LEFT] > 1
        and control[INSTANCES_LEFT] > len(tables.patterns)
        and control[RESULTS] + need < len(space.results)
        and control[FRESH] + 1 < len(space.fresh)
        and control[HEAP] + need < len(space.heap)
        and control[SWEEP_COUNT] + 2 < len(space.ring)
    )


# -- one event and one instance ---------------------------------------------------------------------


def step(tables, machine, space, instance, row, time, seq, slot, bits, starts, hook):
    """Let one event meet the partial matches of one pattern on one key."""
    runs, instances, control = space.runs, space.instances, space.control
    pattern = instances[instance, INSTANCE_PATTERN]
    within = tables.patterns[pattern, P_WITHIN]
    run = instances[instance, INSTANCE_HEAD]
    if run >= 0 and within > 0 and time - runs[run, RUN_START_TIME] >= within:
        # nobody watches the moment of expiry, else a timer would have come first
        expire(tables, space, instance, time)
        run = instances[instance, INSTANCE_HEAD]
    if instances[instance, INSTANCE_PRUNED_HEAD] >= 0:
        forget_pruned(space, instance)
    word = bits[row, tables.patterns[pattern, P_WORD]]
    control[WAITING] = -1
    control[LAST_WAITING] = -1
    before = -1
    while run >= 0 or starts:
        # behind the last run stands the start state, which is always there
        starting = run < 0
        following = -1
        state = tables.patterns[pattern, P_START]
        context = pattern
        last = -1
        start_time = time
        start_seq = seq
        if not starting:
            following = runs[run, RUN_NEXT]
            state = runs[run, RUN_STATE]
            context = run
            last = runs[run, RUN_NODE]
            start_time = runs[run, RUN_START_TIME]
            start_seq = runs[run, RUN_START_SEQ]
        facts = word
        action = GENERAL
        if tables.states[state, S_ACTIONS] >= 0:
            action = tables.actions[tables.states[state, S_ACTIONS] + (word & tables.states[state, S_FACTS])]
        elif tables.states[state + 1, S_CONDITIONS] > tables.states[state, S_CONDITIONS]:
            facts = word | iterative(tables, machine, space, state, context, last, row, word, hook)
        count = 0
        killed = False
        if not starting:
            if action == STAYS:
                before = run
                run = following
                continue
            if action >= 0:
                # the event is taken and nothing else: the run's reference to the node before becomes the new node's
                node = new_node(space, -1, tables.edges[action, E_STAGE], slot)
                space.nodes[node, NODE_PARENT] = last
                runs[run, RUN_NODE] = node
                runs[run, RUN_STATE] = tables.edges[action, E_TARGET]
                runs[run, RUN_LAST_TIME] = time
                before = run
                run = following
                continue
        if action != DIES:
            for edge in range(tables.states[state, S_EDGES], tables.states[state + 1, S_EDGES]):
                if not guarded(tables, edge, facts):
                    continue
                move = tables.edges[edge, E_MOVE]
                target = tables.edges[edge, E_TARGET]
                node = last
                ends = target == FINAL
                if move == TAKE:
                    gap = tables.edges[edge, E_GAP]
                    if gap > 0 and not starting and time - runs[run, RUN_LAST_TIME] >= gap:
                        continue
                    node = new_node(space, last, tables.edges[edge, E_STAGE], slot)
                    if not ends and completed(tables, edge, facts):
                        space.nodes[node, NODE_REFS] += 1
                        ends = True
                elif move == IGNORE:
                    space.nodes[node, NODE_REFS] += 1
                else:
                    killed = True
                    continue
                if target != FINAL:
                    space.successors[count, NEW_STATE] = target
                    space.successors[count, NEW_NODE] = node
                    space.successors[count, NEW_TAKEN] = tables.edges[edge, E_STAGE]
                    count += 1
                if ends:
                    finish(tables, space, instance, pattern, node, row, time, start_time, start_seq)
        if killed and not starting:
            for index in range(count):
                release(space, space.successors[index, NEW_NODE])
            count = 0
        if count == 1 and not starting and space.successors[0, NEW_TAKEN] < 0:
            # the event is left, which is by far the most frequent: only the state may change
            space.nodes[last, NODE_REFS] -= 1
            if runs[run, RUN_STATE] != space.successors[0, NEW_STATE]:
                runs[run, RUN_STATE] = space.successors[0, NEW_STATE]
                # a bound of the state before may have kept its timer silent
                add_gap_timers(tables, space, instance, runs[run, RUN_STATE], runs[run, RUN_LAST_TIME])
            before = run
            run = following
            continue
        before = succeed(
            tables, machine, space, instance, run, before, count, row, time, start_time, start_seq, context
        )
        if starting:
            break
        release(space, last)
        run = following
    if control[WAITING] >= 0:
        keep_done(space, instance, control[WAITING])
    if instances[instance, INSTANCE_DONE_HEAD] >= 0:
        settle(tables, space, instance, row, time)
        if control[STATUS] != RUNNING:
            return
    if instances[instance, INSTANCE_COUNT] > tables.patterns[pattern, P_CAP]:
        apply_cap(tables, space, instance, pattern)


def iterative(tables, machine, space, state, run, node, row, word, hook):
    """The bits of the iterative conditions of a state for one run (for a start: the pattern's empty run)."""
    found = 0
    registers = space.registers
    for index in range(tables.states[state, S_CONDITIONS], tables.states[state + 1, S_CONDITIONS]):
        needed = tables.conditions[index, C_PRE]
        if word & needed != needed:
            continue
        start = tables.conditions[index, C_START]
        if start >= 0:
            holding = condition(
                machine.code,
                machine.constants,
                start,
                tables.conditions[index, C_END],
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
                holding = hook(tables.conditions[index, C_HOOK], node, row)
        if holding:
            found |= tables.conditions[index, C_BIT]
    return found


def succeed(tables, machine, space, instance, run, before, count, row, time, start_time, start_seq, context):
    """Put the `count` successors in hand in the place of a run, or of the start (`run` -1) at the end of the list.

    `before` is the run before that place, `context` the row whose registers they carry on. Returns the last of them,
    or what was before.
    """
    runs, instances = space.runs, space.instances
    starting = run < 0
    following = -1 if starting else runs[run, RUN_NEXT]
    last_time = time if starting else runs[run, RUN_LAST_TIME]
    state = -1 if starting else runs[run, RUN_STATE]
    first = following
    end = before
    began = False
    # from the last to the first: the first takes the run's row itself, whose registers the others still need
    for index in range(count - 1, -1, -1):
        target = space.successors[index, NEW_STATE]
        taken = space.successors[index, NEW_TAKEN]
        successor = run
        if starting or index > 0:
            successor = new_run(space, target, space.successors[index, NEW_NODE], start_time, start_seq)
        else:
            runs[successor, RUN_STATE] = target
            runs[successor, RUN_NODE] = space.successors[index, NEW_NODE]
        runs[successor, RUN_LAST_TIME] = last_time
        runs[successor, RUN_NEXT] = first
        if index == count - 1:
            end = successor
        first = successor
        take_registers(tables, machine, space, taken, row, context, successor)
        if taken >= 0:
            runs[successor, RUN_LAST_TIME] = time
            began = starting
        if taken >= 0 or target != state:
            add_gap_timers(tables, space, instance, target, runs[successor, RUN_LAST_TIME])
    change = count
    if not starting:
        change = count - 1
        if count == 0:
            free_run(space, run)
    if first != run:
        if before >= 0:
            runs[before, RUN_NEXT] = first
        else:
            instances[instance, INSTANCE_HEAD] = first
    if following < 0:
        instances[instance, INSTANCE_TAIL] = end
    instances[instance, INSTANCE_COUNT] += change
    space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] += change
    pattern = instances[instance, INSTANCE_PATTERN]
    if began and tables.patterns[pattern, P_PRECISE] != 0 and tables.patterns[pattern, P_WITHIN] > 0:
        add_timer(space, time + tables.patterns[pattern, P_WITHIN], instance)
    return end


def take_registers(tables, machine, space, stage, row, source, target):
    """Carry the registers of a run over to its successor, with the event taken for `stage` (-1: none)."""
    registers = space.registers
    begin_program = 0
    end_program = 0
    if stage >= 0:
        begin_program = tables.stages[stage, U_START]
        end_program = tables.stages[stage, U_END]
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
    if tables.patterns[pattern, P_CAP_DROPS] == 0:
        space.control[STATUS] = CAPPED
        space.control[FAILED_PATTERN] = pattern
        space.control[FAILED_KEY] = space.instances[instance, INSTANCE_KEY]
        return
    while space.instances[instance, INSTANCE_COUNT] > tables.patterns[pattern, P_CAP]:
        drop_first(space, instance)
        space.marks[pattern, MARK_DROPPED] += 1


# -- finished matches -------------------------------------------------------------------------------


def finish(tables, space, instance, pattern, node, row, time, start_time, start_seq):
    """A match is complete; it takes over a reference to `node`. With a skip strategy it may have to wait."""
    if tables.patterns[pattern, P_SKIP] == NO_SKIP:
        emit(space, pattern, space.instances[instance, INSTANCE_KEY], MATCH, node, row, time, start_time, start_seq)
        return
    run = new_run(space, DONE, node, start_time, start_seq)
    if space.control[LAST_WAITING] < 0:
        space.control[WAITING] = run
    else:
        space.runs[space.control[LAST_WAITING], RUN_NEXT] = run
    space.control[LAST_WAITING] = run


def emit(space, pattern, key, kind, node, row, time, start_time, start_seq):
    """Put out a result; it takes over a reference to `node`."""
    results, at = space.results, space.control[RESULTS]
    results[at, RESULT_PATTERN] = pattern
    results[at, RESULT_KEY] = key
    results[at, RESULT_KIND] = kind
    results[at, RESULT_NODE] = node
    results[at, RESULT_ROW] = row
    results[at, RESULT_TIME] = time
    results[at, RESULT_START_TIME] = start_time
    results[at, RESULT_START_SEQ] = start_seq
    space.control[RESULTS] = at + 1


def keep_done(space, instance, waiting):
    """Put newly finished matches (a chain, by first event) among those held, behind those with the same first event."""
    runs, instances = space.runs, space.instances
    before = -1
    at = instances[instance, INSTANCE_DONE_HEAD]
    while waiting >= 0:
        following = runs[waiting, RUN_NEXT]
        while at >= 0 and runs[at, RUN_START_SEQ] <= runs[waiting, RUN_START_SEQ]:
            before = at
            at = runs[at, RUN_NEXT]
        runs[waiting, RUN_NEXT] = at
        if before >= 0:
            runs[before, RUN_NEXT] = waiting
        else:
            instances[instance, INSTANCE_DONE_HEAD] = waiting
        if at < 0:
            instances[instance, INSTANCE_DONE_TAIL] = waiting
        before = waiting
        waiting = following


def settle(tables, space, instance, row, time):
    """Put out held matches whose turn has come, and prune what the skip strategy says.

    With a skip strategy a match waits while a partial match with an earlier first event lives.
    """
    runs, instances, control = space.runs, space.instances, space.control
    pattern = instances[instance, INSTANCE_PATTERN]
    skips = tables.patterns[pattern, P_SKIP] != NO_SKIP
    while instances[instance, INSTANCE_DONE_HEAD] >= 0:
        match = instances[instance, INSTANCE_DONE_HEAD]
        open_run = instances[instance, INSTANCE_HEAD]
        if skips and open_run >= 0 and runs[match, RUN_START_SEQ] > runs[open_run, RUN_START_SEQ]:
            deadline = runs[open_run, RUN_START_TIME] + tables.patterns[pattern, P_WITHIN]
            if (
                tables.patterns[pattern, P_WITHIN] > 0
                and tables.patterns[pattern, P_PRECISE] == 0
                and instances[instance, INSTANCE_HELD_DEADLINE] != deadline
            ):
                # its way is free at the latest when the earlier partial match expires
                instances[instance, INSTANCE_HELD_DEADLINE] = deadline
                add_timer(space, deadline, instance)
            return
        instances[instance, INSTANCE_DONE_HEAD] = runs[match, RUN_NEXT]
        if instances[instance, INSTANCE_DONE_HEAD] < 0:
            instances[instance, INSTANCE_DONE_TAIL] = -1
        first = runs[match, RUN_START_SEQ]
        node = runs[match, RUN_NODE]
        emit(
            space,
            pattern,
            instances[instance, INSTANCE_KEY],
            MATCH,
            node,
            row,
            time,
            runs[match, RUN_START_TIME],
            first,
        )
        free_run(space, match)
        if skips:
            upto = skip_position(tables, space, pattern, node, first)
            if control[STATUS] != RUNNING:
                control[FAILED_KEY] = instances[instance, INSTANCE_KEY]
                return
            while (
                instances[instance, INSTANCE_HEAD] >= 0
                and runs[instances[instance, INSTANCE_HEAD], RUN_START_SEQ] < upto
            ):
                if row < 0 and tables.patterns[pattern, P_REPORTS] != 0:
                    set_aside(tables, space, instance)
                else:
                    drop_first(space, instance)
            while (
                instances[instance, INSTANCE_DONE_HEAD] >= 0
                and runs[instances[instance, INSTANCE_DONE_HEAD], RUN_START_SEQ] < upto
            ):
                pruned = instances[instance, INSTANCE_DONE_HEAD]
                instances[instance, INSTANCE_DONE_HEAD] = runs[pruned, RUN_NEXT]
                if instances[instance, INSTANCE_DONE_HEAD] < 0:
                    instances[instance, INSTANCE_DONE_TAIL] = -1
                release(space, runs[pruned, RUN_NODE])
                free_run(space, pruned)


def set_aside(tables, space, instance):
    """Prune the oldest partial match of an instance, but keep it in mind until the key's next event (see `pools`)."""
    runs, instances = space.runs, space.instances
    run = instances[instance, INSTANCE_HEAD]
    if tables.states[runs[run, RUN_STATE], S_PENDING] != 0:
        drop_first(space, instance)
        return
    instances[instance, INSTANCE_HEAD] = runs[run, RUN_NEXT]
    if runs[run, RUN_NEXT] < 0:
        instances[instance, INSTANCE_TAIL] = -1
    instances[instance, INSTANCE_COUNT] -= 1
    runs[run, RUN_NEXT] = -1
    last = instances[instance, INSTANCE_PRUNED_HEAD]
    if last < 0:
        instances[instance, INSTANCE_PRUNED_HEAD] = run
        return
    while runs[last, RUN_NEXT] >= 0:
        last = runs[last, RUN_NEXT]
    runs[last, RUN_NEXT] = run


def forget_pruned(space, instance):
    """The key's next event has come: what was pruned before it is gone."""
    runs, instances = space.runs, space.instances
    run = instances[instance, INSTANCE_PRUNED_HEAD]
    instances[instance, INSTANCE_PRUNED_HEAD] = -1
    while run >= 0:
        following = runs[run, RUN_NEXT]
        space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] -= 1
        release(space, runs[run, RUN_NODE])
        free_run(space, run)
        run = following


def report_pruned(tables, space, instance, time):
    """Report those of the pruned partial matches whose time is up."""
    runs, instances = space.runs, space.instances
    before = -1
    run = instances[instance, INSTANCE_PRUNED_HEAD]
    while run >= 0:
        following = runs[run, RUN_NEXT]
        if is_over(tables, space, instance, run, time):
            if before >= 0:
                runs[before, RUN_NEXT] = following
            else:
                instances[instance, INSTANCE_PRUNED_HEAD] = following
            space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] -= 1
            time_out(tables, space, instance, run, time)
        else:
            before = run
        run = following


def is_over(tables, space, instance, run, time):
    """Is a partial match's time up?"""
    runs = space.runs
    within = tables.patterns[space.instances[instance, INSTANCE_PATTERN], P_WITHIN]
    gap = tables.states[runs[run, RUN_STATE], S_GAP]
    if gap > 0 and time - runs[run, RUN_LAST_TIME] >= gap:
        return True
    return within > 0 and time - runs[run, RUN_START_TIME] >= within


def time_out(tables, space, instance, run, time):
    """End a partial match that is on no list any more, with a report where one is wanted."""
    runs, instances = space.runs, space.instances
    pattern = instances[instance, INSTANCE_PATTERN]
    within = tables.patterns[pattern, P_WITHIN]
    gap = tables.states[runs[run, RUN_STATE], S_GAP]
    by_gap = gap > 0 and time - runs[run, RUN_LAST_TIME] >= gap
    by_start = within > 0 and time - runs[run, RUN_START_TIME] >= within
    if tables.patterns[pattern, P_REPORTS] != 0 and (by_start or tables.states[runs[run, RUN_STATE], S_SILENT] == 0):
        due = runs[run, RUN_LAST_TIME] + gap if by_gap else runs[run, RUN_START_TIME] + within
        key = instances[instance, INSTANCE_KEY]
        emit(
            space,
            pattern,
            key,
            TIMEOUT,
            runs[run, RUN_NODE],
            -1,
            due,
            runs[run, RUN_START_TIME],
            runs[run, RUN_START_SEQ],
        )
    else:
        release(space, runs[run, RUN_NODE])
    free_run(space, run)


def skip_position(tables, space, pattern, node, first):
    """The event before which no partial match may begin any more after a match that ends at `node`."""
    nodes, slots = space.nodes, space.slots
    mode = tables.patterns[pattern, P_SKIP]
    if mode == TO_NEXT:
        return first + 1
    if mode == PAST_LAST:
        return slots[nodes[node, NODE_SLOT], SLOT_SEQ] + 1
    wanted = tables.patterns[pattern, P_SKIP_STAGE]
    found = -1
    while node >= 0:
        if nodes[node, NODE_STAGE] == wanted:
            found = slots[nodes[node, NODE_SLOT], SLOT_SEQ]
            if mode == TO_LAST:
                break
        node = nodes[node, NODE_PARENT]
    if tables.patterns[pattern, P_THROW] != 0 and (found < 0 or found == first):
        space.control[STATUS] = MISSED_STAGE if found < 0 else SKIP_TO_SELF
        space.control[FAILED_PATTERN] = pattern
    return found


# -- time -------------------------------------------------------------------------------------------


def fire(tables, space, time):
    """Fire what is due at `time`, in the order of deadlines."""
    control, instances = space.control, space.instances
    while True:
        deadline = space.heap[0, HEAP_DEADLINE] if control[HEAP] > 0 else NEVER
        sweep = space.ring[control[SWEEP_HEAD], RING_TIME] if control[SWEEP_COUNT] > 0 else NEVER
        if deadline > time and sweep > time:
            control[NEXT_DEADLINE] = min(deadline, sweep)
            return
        if deadline <= sweep:
            instance = space.heap[0, HEAP_INSTANCE]
            current = space.heap[0, HEAP_GENERATION] == instances[instance, INSTANCE_GENERATION]
            if current:
                key = instances[instance, INSTANCE_KEY]
                if not has_room(tables, space, space.keys[key, KEY_RUNS] + count_done(space, instance)):
                    control[WANTED] = space.keys[key, KEY_RUNS] + count_done(space, instance)
                    control[STATUS] = FULL
                    return
            pop_timer(space)
            if current:
                space.keys[instances[instance, INSTANCE_KEY], KEY_CHANGED] = 1
                if instances[instance, INSTANCE_HELD_DEADLINE] == deadline:
                    instances[instance, INSTANCE_HELD_DEADLINE] = -1
                expire(tables, space, instance, deadline)
                if control[STATUS] != RUNNING:
                    return
                if is_idle(space, instance):
                    free_instance(space, instance, find_before(space, instance))
        else:
            key = space.ring[control[SWEEP_HEAD], RING_KEY]
            if not has_room(tables, space, space.keys[key, KEY_RUNS]):
                control[WANTED] = space.keys[key, KEY_RUNS]
                control[STATUS] = FULL
                return
            control[SWEEP_HEAD] = (control[SWEEP_HEAD] + 1) % len(space.ring)
            control[SWEEP_COUNT] -= 1
            space.keys[key, KEY_SWEEP] = 0
            space.keys[key, KEY_CHANGED] = 1
            sweep_key(tables, space, key, sweep)


def sweep_key(tables, space, key, time):
    """Let go of what has expired on a key to which no event came for long; nobody sees the moment."""
    instances = space.instances
    longest = tables.groups[space.keys[key, KEY_SEED_GROUP], G_WITHIN]
    while space.keys[key, KEY_SEEDS] > 0 and longest > 0:
        if time - space.runs[space.keys[key, KEY_SEED], RUN_START_TIME] < longest:
            add_sweep(space, key, time + space.control[SWEEP_AFTER])
            return
        drop_oldest_seed(space, key)
    bounded = False
    before = -1
    instance = space.keys[key, KEY_FIRST]
    while instance >= 0:
        following = instances[instance, INSTANCE_NEXT]
        expires = tables.patterns[instances[instance, INSTANCE_PATTERN], P_WITHIN] > 0
        if expires:
            expire(tables, space, instance, time)
        if is_idle(space, instance):
            free_instance(space, instance, before)
        else:
            before = instance
            bounded = bounded or expires
        instance = following
    if bounded:
        add_sweep(space, key, time + space.control[SWEEP_AFTER])


def expire(tables, space, instance, time):
    """End the partial matches of an instance whose time is up, and put out what waited for that.

    A partial match in a pending state has outlasted the negation at the pattern's end: it is a match.
    """
    runs, instances = space.runs, space.instances
    if instances[instance, INSTANCE_PRUNED_HEAD] >= 0:
        report_pruned(tables, space, instance, time)
    before = -1
    run = instances[instance, INSTANCE_HEAD]
    waiting = -1
    last_waiting = -1
    while run >= 0:
        following = runs[run, RUN_NEXT]
        if not is_over(tables, space, instance, run, time):
            before = run
            run = following
            continue
        if before >= 0:
            runs[before, RUN_NEXT] = following
        else:
            instances[instance, INSTANCE_HEAD] = following
        if following < 0:
            instances[instance, INSTANCE_TAIL] = before
        instances[instance, INSTANCE_COUNT] -= 1
        space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] -= 1
        if tables.states[runs[run, RUN_STATE], S_PENDING] != 0:
            runs[run, RUN_STATE] = DONE
            runs[run, RUN_NEXT] = -1
            if last_waiting < 0:
                waiting = run
            else:
                runs[last_waiting, RUN_NEXT] = run
            last_waiting = run
        else:
            time_out(tables, space, instance, run, time)
        run = following
    if waiting >= 0:
        keep_done(space, instance, waiting)
    if instances[instance, INSTANCE_DONE_HEAD] >= 0:
        settle(tables, space, instance, -1, time)


def add_gap_timers(tables, space, instance, state, time):
    """Timers for the bounds between events that a run may meet from this state on."""
    for index in range(tables.states[state, S_TIMERS], tables.states[state + 1, S_TIMERS]):
        add_timer(space, time + tables.timer_gap[index], instance)


def add_timer(space, deadline, instance):
    """Push a deadline on the heap."""
    control = space.control
    at = control[HEAP]
    control[HEAP] = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        if space.heap[parent, HEAP_DEADLINE] <= deadline:
            break
        space.heap[at, HEAP_DEADLINE] = space.heap[parent, HEAP_DEADLINE]
        space.heap[at, HEAP_INSTANCE] = space.heap[parent, HEAP_INSTANCE]
        space.heap[at, HEAP_GENERATION] = space.heap[parent, HEAP_GENERATION]
        at = parent
    space.heap[at, HEAP_DEADLINE] = deadline
    space.heap[at, HEAP_INSTANCE] = instance
    space.heap[at, HEAP_GENERATION] = space.instances[instance, INSTANCE_GENERATION]
    control[NEXT_DEADLINE] = min(control[NEXT_DEADLINE], deadline)


def pop_timer(space):
    """Take the earliest deadline off the heap."""
    control = space.control
    last = control[HEAP] - 1
    control[HEAP] = last
    deadline = space.heap[last, HEAP_DEADLINE]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and space.heap[child + 1, HEAP_DEADLINE] < space.heap[child, HEAP_DEADLINE]:
            child += 1
        if space.heap[child, HEAP_DEADLINE] >= deadline:
            break
        space.heap[at, HEAP_DEADLINE] = space.heap[child, HEAP_DEADLINE]
        space.heap[at, HEAP_INSTANCE] = space.heap[child, HEAP_INSTANCE]
        space.heap[at, HEAP_GENERATION] = space.heap[child, HEAP_GENERATION]
        at = child
    space.heap[at, HEAP_DEADLINE] = deadline
    space.heap[at, HEAP_INSTANCE] = space.heap[last, HEAP_INSTANCE]
    space.heap[at, HEAP_GENERATION] = space.heap[last, HEAP_GENERATION]


def add_sweep(space, key, time):
    """Remember to look after a key; times come in ascending order, so that a ring will do."""
    control = space.control
    at = (control[SWEEP_HEAD] + control[SWEEP_COUNT]) % len(space.ring)
    space.ring[at, RING_TIME] = time
    space.ring[at, RING_KEY] = key
    control[SWEEP_COUNT] += 1
    space.keys[key, KEY_SWEEP] = 1
    control[NEXT_DEADLINE] = min(control[NEXT_DEADLINE], time)


# -- rows -------------------------------------------------------------------------------------------


def new_node(space, parent, stage, slot):
    """A node with one reference, which is the caller's."""
    nodes, control = space.nodes, space.control
    node = control[FREE_NODE]
    control[FREE_NODE] = nodes[node, NODE_PARENT]
    control[NODES_LEFT] -= 1
    nodes[node, NODE_PARENT] = parent
    nodes[node, NODE_STAGE] = stage
    nodes[node, NODE_SLOT] = slot
    nodes[node, NODE_REFS] = 1
    space.slots[slot, SLOT_REFS] += 1
    if parent >= 0:
        nodes[parent, NODE_REFS] += 1
    return node


def release(space, node):
    """Give up one reference to a node; nodes and slots that nobody refers to any more are freed."""
    nodes, control = space.nodes, space.control
    while node >= 0:
        nodes[node, NODE_REFS] -= 1
        if nodes[node, NODE_REFS] > 0:
            return
        release_slot(space, nodes[node, NODE_SLOT])
        parent = nodes[node, NODE_PARENT]
        nodes[node, NODE_PARENT] = control[FREE_NODE]
        control[FREE_NODE] = node
        control[NODES_LEFT] += 1
        node = parent


def new_run(space, state, node, start_time, start_seq):
    """A run of its own; it takes over a reference to `node`."""
    runs, control = space.runs, space.control
    run = control[FREE_RUN]
    control[FREE_RUN] = runs[run, RUN_NEXT]
    control[RUNS_LEFT] -= 1
    runs[run, RUN_NEXT] = -1
    runs[run, RUN_STATE] = state
    runs[run, RUN_NODE] = node
    runs[run, RUN_START_TIME] = start_time
    runs[run, RUN_START_SEQ] = start_seq
    return run


def new_slot(space, time, seq):
    """A slot for the event in hand, with one reference, which is the caller's."""
    slots, control = space.slots, space.control
    slot = control[FREE_SLOT]
    control[FREE_SLOT] = slots[slot, SLOT_ROW]
    control[SLOTS_LEFT] -= 1
    slots[slot, SLOT_REFS] = 1
    slots[slot, SLOT_TIME] = time
    slots[slot, SLOT_SEQ] = seq
    return slot


def release_slot(space, slot):
    """Give up one reference to a buffered event."""
    slots, control = space.slots, space.control
    slots[slot, SLOT_REFS] -= 1
    if slots[slot, SLOT_REFS] == 0:
        slots[slot, SLOT_ROW] = control[FREE_SLOT]
        control[FREE_SLOT] = slot
        control[SLOTS_LEFT] += 1


def free_run(space, run):
    """Give back a run's row; its node is the caller's affair."""
    space.runs[run, RUN_NEXT] = space.control[FREE_RUN]
    space.control[FREE_RUN] = run
    space.control[RUNS_LEFT] += 1


def drop_first(space, instance):
    """Let go of the oldest partial match of an instance."""
    runs, instances = space.runs, space.instances
    run = instances[instance, INSTANCE_HEAD]
    instances[instance, INSTANCE_HEAD] = runs[run, RUN_NEXT]
    if runs[run, RUN_NEXT] < 0:
        instances[instance, INSTANCE_TAIL] = -1
    instances[instance, INSTANCE_COUNT] -= 1
    space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] -= 1
    release(space, runs[run, RUN_NODE])
    free_run(space, run)


def new_instance(space, key, pattern):
    """Put a pattern to work on a key."""
    instances, control = space.instances, space.control
    instance = control[FREE_INSTANCE]
    control[FREE_INSTANCE] = instances[instance, INSTANCE_NEXT]
    control[INSTANCES_LEFT] -= 1
    instances[instance, INSTANCE_KEY] = key
    instances[instance, INSTANCE_PATTERN] = pattern
    instances[instance, INSTANCE_HEAD] = -1
    instances[instance, INSTANCE_TAIL] = -1
    instances[instance, INSTANCE_DONE_HEAD] = -1
    instances[instance, INSTANCE_DONE_TAIL] = -1
    instances[instance, INSTANCE_PRUNED_HEAD] = -1
    instances[instance, INSTANCE_COUNT] = 0
    instances[instance, INSTANCE_HELD_DEADLINE] = -1
    instances[instance, INSTANCE_NEXT] = space.keys[key, KEY_FIRST]
    space.keys[key, KEY_FIRST] = instance
    return instance


def free_instance(space, instance, before):
    """Give back an instance; `before` is the one before it on the same key, or -1."""
    instances, control = space.instances, space.control
    if before >= 0:
        instances[before, INSTANCE_NEXT] = instances[instance, INSTANCE_NEXT]
    else:
        space.keys[instances[instance, INSTANCE_KEY], KEY_FIRST] = instances[instance, INSTANCE_NEXT]
    instances[instance, INSTANCE_GENERATION] += 1
    instances[instance, INSTANCE_NEXT] = control[FREE_INSTANCE]
    control[FREE_INSTANCE] = instance
    control[INSTANCES_LEFT] += 1


def find_before(space, instance):
    """The instance before this one on its key, or -1."""
    before = -1
    at = space.keys[space.instances[instance, INSTANCE_KEY], KEY_FIRST]
    while at != instance:
        before = at
        at = space.instances[at, INSTANCE_NEXT]
    return before


def is_idle(space, instance):
    """Is only the start state left?"""
    instances = space.instances
    return (
        instances[instance, INSTANCE_HEAD] < 0
        and instances[instance, INSTANCE_DONE_HEAD] < 0
        and instances[instance, INSTANCE_PRUNED_HEAD] < 0
    )


def count_done(space, instance):
    """How many finished matches wait."""
    count = 0
    run = space.instances[instance, INSTANCE_DONE_HEAD]
    while run >= 0:
        count += 1
        run = space.runs[run, RUN_NEXT]
    return count


# -- reading results --------------------------------------------------------------------------------


def path_lengths(space, lengths):
    """The number of events of each result. lengths: int64[results]."""
    nodes = space.nodes
    for at in range(len(lengths)):
        node = space.results[at, RESULT_NODE]
        count = 0
        while node >= 0:
            count += 1
            node = nodes[node, NODE_PARENT]
        lengths[at] = count


def read_paths(space, offsets, stages, slots):
    """The stage and slot of every event of every result, in match order: ``offsets[i] : offsets[i+1]`` is result i."""
    nodes = space.nodes
    for at in range(len(offsets) - 1):
        node = space.results[at, RESULT_NODE]
        position = offsets[at + 1]
        while node >= 0:
            position -= 1
            stages[position] = nodes[node, NODE_STAGE]
            slots[position] = nodes[node, NODE_SLOT]
            node = nodes[node, NODE_PARENT]


def clear_results(space):
    """Forget the results, with their references."""
    for at in range(space.control[RESULTS]):
        release(space, space.results[at, RESULT_NODE])
    space.control[RESULTS] = 0
