"""Kernels are loaded when they are called first: before anything waits for them, if somebody calls them before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import BadRecord, Chunk
from ostinato.cep.connectors.kafka.rows import values_of
from ostinato.cep.nfa.matcher import MatchError
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.patterns.types import STRING, Array, DataType, Row

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import Definition


class _Nowhere:
    """An outlet for what nobody wants."""

    def deliver(self, batch: Batch) -> None:
        pass

    def reject(self, records: Sequence[BadRecord]) -> None:
        pass

    def breathe(self, *, idle: bool) -> None:
        pass


def load_kernels(definition: Definition) -> None:
    """Call what the definition's patterns will call, over one event that says nothing: to decode, to match, to write
    what was found, to take a snapshot, to hand the state over. All patterns have the same kernels. Loading them takes
    the better part of a second, for which events would wait."""
    sources = definition.plan.sources
    first, then = (Pipeline(definition, _Nowhere(), [1] * len(sources), 0) for _ in range(2))
    for intake in first.intakes:
        intake.decode(Chunk.of(b"{}\n"))
        operator = first.matchers.get(intake.stream.name)
        if operator is None:
            continue
        columns = {column.name: _anything(column.type) for column in intake.stream.columns}
        event = Batch(intake.stream.name, np.zeros(1, np.int64), columns)
        with suppress(MatchError):
            operator.process(event)
            operator.advance(0)
        operator.parts.matcher.paths()
        operator.parts.matcher.clear_results()
        values_of(event)
    first.snapshot(0, None)
    then.restore(first.hand_over(), None)


def _anything(type_: DataType) -> Vector:
    """A column of one row."""
    if type_ == STRING:
        return Vector.of(type_, ["-"])
    return Vector.of(type_, [None if isinstance(type_, (Array, Row)) else 0])
