"""A job between topics as plain values, so that worker processes make the same job of it themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ostinato.cep.runtime.load import Loaded, ProgramSpec, load
from ostinato.cep.runtime.partitioned.program import setup_of
from ostinato.cep.runtime.partitioned.setup import LostSnapshot, Setup
from ostinato.cep.runtime.partitioned.snapshots import Stores
from ostinato.state.stores import StoreOptions


class PartitionedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told.

    Attributes:
        program: what to run.
        job: its name.
        address: where snapshots go.
        durability: see `StoreOptions`.
        may_drop: see `CheckpointOptions.allow_dropped_state`.
        interval_ms: from one commit to the next; None: the default.
        strict, dead_letters, on_lost_snapshot: see `setup_of`.
        state: the state backend, see `StateBackend`.
        instance: see `Member`.
    """

    program: ProgramSpec
    job: str
    address: str
    durability: str = "proven"
    may_drop: bool = False
    interval_ms: int | None = None
    strict: bool = False
    dead_letters: str | None = None
    on_lost_snapshot: LostSnapshot = "rebuild"
    state: dict[str, Any] = {}
    instance: str | None = None

    def setup(self, loaded: Loaded | None = None) -> Setup:
        """The job. Raises PatternError, LoadError, ConnectorError, ValueError."""
        from ostinato.cep.runtime.job import StateBackend

        loaded = loaded or load(self.program)
        definition = replace(loaded.definition, state=StateBackend(**self.state))
        durability: Any = self.durability
        text = self.program.text or ""
        stores = Stores(self.address, StoreOptions(durability=durability), self.job, text, self.may_drop)
        return setup_of(
            self.job,
            definition,
            loaded.program.outputs,
            stores,
            dead_letters=self.dead_letters,
            interval_ms=self.interval_ms,
            strict=self.strict,
            on_lost_snapshot=self.on_lost_snapshot,
        )
