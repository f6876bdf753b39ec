"""Kernel: partial matches of some keys out of the pools and into others."""

from __future__ import annotations

from ostinato.cep.nfa.kernel import (
    TAKE,
    add_gap_timers,
    add_sweep,
    add_timer,
    drop_seeds,
    free_instance,
    free_run,
    new_instance,
    release,
)
from ostinato.cep.nfa.pools import (
    FREE_NODE,
    FREE_RUN,
    FREE_SLOT,
    INSTANCE_COUNT,
    INSTANCE_DONE_HEAD,
    INSTANCE_DONE_TAIL,
    INSTANCE_HEAD,
    INSTANCE_HELD_DEADLINE,
    INSTANCE_KEY,
    INSTANCE_NEXT,
    INSTANCE_PATTERN,
    INSTANCE_PRUNED_HEAD,
    INSTANCE_TAIL,
    KEY_FIRST,
    KEY_RUNS,
    KEY_SEED,
    KEY_SEED_GROUP,
    KEY_SEEDS,
    KEY_SWEEP,
    NODE_PARENT,
    NODE_REFS,
    NODE_SLOT,
    NODE_STAGE,
    NODES_LEFT,
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
    SWEEP_AFTER,
)
from ostinato.cep.nfa.tables import (
    E_MOVE,
    E_TARGET,
    G_MEMBERS,
    P_PRECISE,
    P_START,
    P_WITHIN,
    S_ACTIONS,
    S_EDGES,
    S_FACTS,
)

ALLOCATES = False
ENTRIES = ("count_rows", "export_keys", "import_keys", "free_keys", "count_states")

INSTANCES, RUNS, NODES, EVENTS = 0, 1, 2, 3
LISTS = 3


def count_rows(space, keys, counts):
    """How many instances and runs (held matches included) the keys have."""
    instances, runs = space.instances, space.runs
    for key in keys:
        if key >= len(space.keys):
            continue
        instance = space.keys[key, KEY_FIRST]
        while instance >= 0:
            counts[INSTANCES] += 1
            for which in range(LISTS):
                run = first_of(space, instance, which)
                while run >= 0:
                    counts[RUNS] += 1
                    run = runs[run, RUN_NEXT]
            instance = instances[instance, INSTANCE_NEXT]


def count_states(tables, space, counts):
    """Add to counts int64[states] how many partial matches are in each state, those that seeds stand for included."""
    instances, runs = space.instances, space.runs
    for instance in range(len(instances)):
        if instances[instance, INSTANCE_COUNT] <= 0:
            continue
        run = instances[instance, INSTANCE_HEAD]
        while run >= 0:
            counts[runs[run, RUN_STATE]] += 1
            run = runs[run, RUN_NEXT]
    for key in range(len(space.keys)):
        if space.keys[key, KEY_SEEDS] <= 0:
            continue
        group = space.keys[key, KEY_SEED_GROUP]
        for member in range(tables.groups[group, G_MEMBERS], tables.groups[group + 1, G_MEMBERS]):
            begin = tables.states[tables.patterns[tables.members[member], P_START], S_EDGES]
            while tables.edges[begin, E_MOVE] != TAKE:
                begin += 1
            seed = space.keys[key, KEY_SEED]
            while seed >= 0:
                state = tables.edges[begin, E_TARGET]
                later = runs[seed, RUN_NEXT]
                while later >= 0:
                    facts = runs[later, RUN_LAST_TIME] & tables.states[state, S_FACTS]
                    state = tables.edges[tables.actions[tables.states[state, S_ACTIONS] + facts], E_TARGET]
                    later = runs[later, RUN_NEXT]
                counts[state] += 1
                seed = runs[seed, RUN_NEXT]


def export_keys(space, keys, instance_rows, run_rows, node_rows, event_slots, node_map, slot_map, counts, ends):
    """Write out what the keys have.

    Args:
        instance_rows int64[n, 5]: position of the key in `keys`, pattern, and the lengths of its lists.
        run_rows int64[n, 6]: state, time and number of the first event, time of the last, node, row in the pool.
        node_rows int64[n, 3]: parent, stage, event; by position in this array.
        event_slots int64[n]: the slots of the events.
        node_map, slot_map int32[...]: all -1, and -1 again afterwards.
        counts int64[4]: how many rows of each were written; ends int64[keys, 4]: the same after each key.
    """
    instances, runs, nodes = space.instances, space.runs, space.nodes
    counts[:] = 0
    for index in range(len(keys)):
        instance = -1
        if keys[index] < len(space.keys):
            instance = space.keys[keys[index], KEY_FIRST]
        while instance >= 0:
            at = counts[INSTANCES]
            counts[INSTANCES] += 1
            instance_rows[at, 0] = index
            instance_rows[at, 1] = instances[instance, INSTANCE_PATTERN]
            for which in range(LISTS):
                run = first_of(space, instance, which)
                before = counts[RUNS]
                while run >= 0:
                    row = counts[RUNS]
                    counts[RUNS] += 1
                    run_rows[row, 0] = runs[run, RUN_STATE]
                    run_rows[row, 1] = runs[run, RUN_START_TIME]
                    run_rows[row, 2] = runs[run, RUN_START_SEQ]
                    run_rows[row, 3] = runs[run, RUN_LAST_TIME]
                    run_rows[row, 4] = export_node(
                        space, runs[run, RUN_NODE], node_rows, event_slots, node_map, slot_map, counts
                    )
                    run_rows[row, 5] = run
                    run = runs[run, RUN_NEXT]
                instance_rows[at, 2 + which] = counts[RUNS] - before
            instance = instances[instance, INSTANCE_NEXT]
        for column in range(4):
            ends[index, column] = counts[column]
    # the maps are left as they were found
    for row in range(counts[RUNS]):
        node = runs[run_rows[row, 5], RUN_NODE]
        while node >= 0 and node_map[node] >= 0:
            node_map[node] = -1
            slot_map[nodes[node, NODE_SLOT]] = -1
            node = nodes[node, NODE_PARENT]


def export_node(space, node, node_rows, event_slots, node_map, slot_map, counts):
    """The number of a node in `node_rows`; it and its ancestors are written where they are new."""
    nodes = space.nodes
    first = -1
    child = -1
    while node >= 0:
        known = node_map[node]
        number = known
        if known < 0:
            number = counts[NODES]
            counts[NODES] += 1
            node_map[node] = number
            slot = nodes[node, NODE_SLOT]
            if slot_map[slot] < 0:
                slot_map[slot] = counts[EVENTS]
                event_slots[counts[EVENTS]] = slot
                counts[EVENTS] += 1
            node_rows[number, 0] = -1
            node_rows[number, 1] = nodes[node, NODE_STAGE]
            node_rows[number, 2] = slot_map[slot]
        if child >= 0:
            node_rows[child, 0] = number
        if first < 0:
            first = number
        if known >= 0:
            break
        child = number
        node = nodes[node, NODE_PARENT]
    return first


def import_keys(tables, space, keys, instance_rows, run_rows, node_rows, event_times, slots, pool_rows, now):
    """Take in what `export_keys` wrote, for keys that now have the codes `keys`. There must be room for all of it.

    `slots` int64[events] and `pool_rows` int64[runs] receive the rows that events and runs got; `now` is the watermark.
    """
    control, runs, nodes = space.control, space.runs, space.nodes
    for event in range(len(slots)):
        slot = control[FREE_SLOT]
        control[FREE_SLOT] = space.slots[slot, SLOT_ROW]
        control[SLOTS_LEFT] -= 1
        space.slots[slot, SLOT_REFS] = 0
        space.slots[slot, SLOT_ROW] = -1
        space.slots[slot, SLOT_TIME] = event_times[event, 0]
        space.slots[slot, SLOT_SEQ] = event_times[event, 1]
        slots[event] = slot
    # nodes are taken off the free list in order, which makes their numbers known before their parents are set
    first_nodes = control[FREE_NODE]
    node = first_nodes
    for index in range(len(node_rows)):
        following = nodes[node, NODE_PARENT]
        nodes[node, NODE_REFS] = 0
        nodes[node, NODE_STAGE] = node_rows[index, 1]
        slot = slots[node_rows[index, 2]]
        nodes[node, NODE_SLOT] = slot
        space.slots[slot, SLOT_REFS] += 1
        parent = node_rows[index, 0]
        node_rows[index, 1] = node
        node_rows[index, 2] = parent
        node = following
    control[FREE_NODE] = node
    control[NODES_LEFT] -= len(node_rows)
    for index in range(len(node_rows)):
        parent = node_rows[index, 2]
        own = node_rows[index, 1]
        nodes[own, NODE_PARENT] = -1
        if parent >= 0:
            nodes[own, NODE_PARENT] = node_rows[parent, 1]
            nodes[node_rows[parent, 1], NODE_REFS] += 1
    row = 0
    for index in range(len(instance_rows)):
        key = keys[instance_rows[index, 0]]
        pattern = instance_rows[index, 1]
        instance = new_instance(space, key, pattern)
        for which in range(LISTS):
            before = -1
            for _ in range(instance_rows[index, 2 + which]):
                run = control[FREE_RUN]
                control[FREE_RUN] = runs[run, RUN_NEXT]
                control[RUNS_LEFT] -= 1
                pool_rows[row] = run
                runs[run, RUN_NEXT] = -1
                runs[run, RUN_STATE] = run_rows[row, 0]
                runs[run, RUN_START_TIME] = run_rows[row, 1]
                runs[run, RUN_START_SEQ] = run_rows[row, 2]
                runs[run, RUN_LAST_TIME] = run_rows[row, 3]
                node = node_rows[run_rows[row, 4], 1]
                runs[run, RUN_NODE] = node
                nodes[node, NODE_REFS] += 1
                row += 1
                link(space, instance, which, before, run)
                before = run
        set_timers(tables, space, instance, pattern)
        if control[SWEEP_AFTER] < 2**62 and space.keys[key, KEY_SWEEP] == 0:
            add_sweep(space, key, now + control[SWEEP_AFTER])


def free_keys(space, keys):
    """Let go of all that some keys have. Their timers stay, and find nothing; their sweeps have to be taken out."""
    for index in range(len(keys)):
        key = keys[index]
        if key >= len(space.keys):
            continue
        drop_seeds(space, key)
        while space.keys[key, KEY_FIRST] >= 0:
            instance = space.keys[key, KEY_FIRST]
            for which in range(LISTS):
                run = first_of(space, instance, which)
                while run >= 0:
                    following = space.runs[run, RUN_NEXT]
                    release(space, space.runs[run, RUN_NODE])
                    free_run(space, run)
                    run = following
            # a free row must not look used
            space.instances[instance, INSTANCE_HEAD] = -1
            space.instances[instance, INSTANCE_DONE_HEAD] = -1
            space.instances[instance, INSTANCE_PRUNED_HEAD] = -1
            space.instances[instance, INSTANCE_COUNT] = 0
            free_instance(space, instance, -1)
        space.keys[key, KEY_RUNS] = 0
        space.keys[key, KEY_SWEEP] = 0


def first_of(space, instance, which):
    """The first of an instance's runs (0), held matches (1), or pruned runs (2)."""
    instances = space.instances
    if which == 0:
        return instances[instance, INSTANCE_HEAD]
    return instances[instance, INSTANCE_DONE_HEAD] if which == 1 else instances[instance, INSTANCE_PRUNED_HEAD]


def link(space, instance, which, before, run):
    """Append a run to one of an instance's lists."""
    instances = space.instances
    if before >= 0:
        space.runs[before, RUN_NEXT] = run
    elif which == 0:
        instances[instance, INSTANCE_HEAD] = run
    elif which == 1:
        instances[instance, INSTANCE_DONE_HEAD] = run
    else:
        instances[instance, INSTANCE_PRUNED_HEAD] = run
    if which == 1:
        instances[instance, INSTANCE_DONE_TAIL] = run
        return
    space.keys[instances[instance, INSTANCE_KEY], KEY_RUNS] += 1
    if which == 0:
        instances[instance, INSTANCE_TAIL] = run
        instances[instance, INSTANCE_COUNT] += 1


def set_timers(tables, space, instance, pattern):
    """The timers that the runs of an instance had."""
    runs, instances = space.runs, space.instances
    within = tables.patterns[pattern, P_WITHIN]
    run = instances[instance, INSTANCE_HEAD]
    if (
        within > 0
        and run >= 0
        and tables.patterns[pattern, P_PRECISE] == 0
        and instances[instance, INSTANCE_DONE_HEAD] >= 0
    ):
        instances[instance, INSTANCE_HELD_DEADLINE] = runs[run, RUN_START_TIME] + within
        add_timer(space, instances[instance, INSTANCE_HELD_DEADLINE], instance)
    for which in (0, 2):
        run = first_of(space, instance, which)
        before = -1
        while run >= 0:
            if tables.patterns[pattern, P_PRECISE] != 0 and within > 0 and runs[run, RUN_START_SEQ] != before:
                add_timer(space, runs[run, RUN_START_TIME] + within, instance)
            before = runs[run, RUN_START_SEQ]
            add_gap_timers(tables, space, instance, runs[run, RUN_STATE], runs[run, RUN_LAST_TIME])
            run = runs[run, RUN_NEXT]
