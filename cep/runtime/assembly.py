"""A plan put together: the operators of one process, and the ways into and out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ostinato.cep.batch import Batch
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.runtime.frames import decode, encode, schemas_of
from ostinato.cep.runtime.graph import Edge, Graph
from ostinato.cep.runtime.occupation import Meter
from ostinato.cep.runtime.operators import Canonical, Deliver, Exchange, Match
from ostinato.cep.runtime.partition import KEY_GROUPS, Partitioner
from ostinato.cep.runtime.plan import Matching, Plan
from ostinato.cep.runtime.process import Process
from ostinato.cep.runtime.scratch import Scratch

if TYPE_CHECKING:
    from ostinato.cep.nfa.output import Maker, Select
    from ostinato.cep.runtime.job import StateBackend


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A derived stream whose rows change workers: where they leave, and the way in for each worker's rows."""

    matching: Matching
    outgoing: Exchange
    incoming: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Assembly:
    """The graph of one process.

    Attributes:
        graph: all operators.
        sources: the way in for each source stream.
        matchers: by the stream they read.
        whole: the streams that process functions read, who may look at any column.
        exchanged: derived streams that change workers, by stage, then in the plan's order.
        scratch: keeps what the operators have on disk, as long as there is this.
        makers: what `Batch.makers` of delivered rows points into; empty where rows are not attributed.
    """

    graph: Graph
    sources: Mapping[str, Edge]
    matchers: Mapping[str, MatchOperator]
    exchanged: tuple[Exchanged, ...]
    scratch: Scratch
    whole: frozenset[str] = frozenset()
    makers: tuple[Maker, ...] = ()

    def columns(self, stream: str) -> frozenset[str] | None:
        """The columns of a stream that are read; None for all of them."""
        return None if stream in self.whole else self.matchers[stream].columns

    def working(self) -> dict[str, Meter]:
        """How long each operator has been at work, by name; what only hands batches on to the outside left out."""
        operators = self.graph.operators
        return {name: meter for name, meter in self.graph.busy.items() if not isinstance(operators[name], Deliver)}


def assemble(
    plan: Plan,
    deliver: Callable[[Batch], None],
    *,
    selects: Mapping[str, Select] | None = None,
    workers: int = 1,
    key_groups: int = KEY_GROUPS,
    state: StateBackend | None = None,
    worker: int = 0,
    attributed: bool = False,
    draining: frozenset[str] = frozenset(),
    keep_columns: bool = False,
) -> Assembly:
    """Make and join the operators of one of `workers` processes.

    Args:
        plan: what to run.
        deliver: is given each batch that leaves the job.
        selects: for patterns whose rows a Python function makes, by pattern.
        workers: with more than one, streams whose key changes go through an exchange.
        key_groups: over how many groups keys are spread.
        state: where operators keep their state while they run; in memory by default.
        worker: which of the processes this is.
        attributed: rows are to say which pattern made them.
        draining: patterns that begin no match any more, by name.
        keep_columns: events that wait keep all their columns.
    """
    graph = Graph()
    made: dict[str, MatchOperator] = {}
    makers: list[Maker] = []
    exchanged = []
    schemas = schemas_of(plan.streams.values())
    stateful = sum(len(matching.processes) + bool(matching.patterns) for matching in plan.matchings)
    scratch = Scratch(state, stateful, workers=workers, worker=worker)
    for matching in plan.matchings:
        stream = matching.stream.name
        reads = stream
        if matching.merged:
            if matching.rekeyed and workers > 1:
                outgoing = Exchange(stream)
                graph.add(outgoing, stream)
                reads = f"{stream} from all workers"
                incoming = tuple(graph.producer(reads) for _ in range(workers))
                exchanged.append(Exchanged(matching, outgoing, incoming))
            ordered = f"{stream} in order"
            keys = [(column.name, column.type) for column in matching.stream.columns if column.key]
            groups = Partitioner(keys, workers, key_groups).key_groups if workers > 1 else None
            graph.add(Canonical(stream, lambda held: decode(held, schemas), _store, groups), reads, {stream: ordered})
            reads = ordered
        for process in matching.processes:
            given = {each.name: each.name for each in process.outputs}
            operator_ = Process(
                process,
                scratch.backend(f"{process.name}.process"),
                key_groups=key_groups,
                store=_store,
                load=lambda held: decode(held, schemas),
            )
            graph.add(operator_, reads, given)
        if not matching.patterns:
            continue
        own = {
            checked.pattern.name: select
            for checked in matching.patterns
            if (select := (selects or {}).get(checked.pattern.name))
        }
        made[stream] = operator = MatchOperator(
            matching.patterns,
            key_groups=key_groups,
            selects=own,
            spill=scratch.spill(stream),
            draining=draining,
            first_maker=len(makers) if attributed else None,
            keep_columns=keep_columns,
        )
        if attributed:
            makers += operator.makers
        time_column = matching.stream.time.column if matching.stream.source is None else None
        needed = time_column if keep_columns or time_column in operator.columns else None
        graph.add(Match(stream, operator, needed), reads, {name: name for name in matching.emits})
    for stream in plan.delivered:
        graph.add(Deliver(stream, deliver), stream)
    sources = {stream.name: graph.producer(stream.name) for stream in plan.sources}
    exchanged.sort(key=lambda each: each.matching.stage)
    whole = frozenset(matching.stream.name for matching in plan.matchings if matching.processes)
    return Assembly(graph, sources, made, tuple(exchanged), scratch, whole, tuple(makers))


def _store(batch: Batch) -> bytes:
    return b"".join(bytes(piece) for piece in encode(batch))
