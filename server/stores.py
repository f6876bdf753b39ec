"""The stores of a run: where its checkpoints go, and the savepoint that it goes on from."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ostinato.cep.runtime.coordinator import Checkpointing
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.recovery import RestorePoint, read_point
from ostinato.server.lasting_options import Lasting
from ostinato.state.errors import StoreError
from ostinato.state.savepoints import resolve
from ostinato.state.stores import StoreOptions, open_store


def open_stores(lasting: Lasting, spec: ProgramSpec) -> tuple[Checkpointing | None, RestorePoint | None]:
    """Checkpointing as it was asked for, and where to go on from.

    Raises:
        SnapshotError: there is no such savepoint, or it is damaged.
        StoreError: its store cannot be reached.
    """
    if lasting.address is None:
        return None, None
    options = StoreOptions(durability=lasting.durability)
    try:
        store = open_store(lasting.address, job=lasting.name, options=options)
        savepoint = None
        if lasting.savepoint is not None:
            place = resolve(lasting.savepoint, job=lasting.name, options=options)
            savepoint = read_point(place.store, place.chosen(), may_drop=lasting.options.allow_dropped_state)
    except ValueError as error:
        raise StoreError(str(error)) from error
    owner = f"job {lasting.name}, process {os.getpid()} on {socket.gethostname()}"
    text = Path(spec.path).read_text("utf-8", "replace") if spec.text is None else spec.text
    return Checkpointing(store, lasting.name, lasting.options, text, owner, options), savepoint


def close_stores(checkpointing: Checkpointing | None, savepoint: RestorePoint | None) -> None:
    """Let go of both."""
    if savepoint is not None:
        savepoint.store.close()
    if checkpointing is not None:
        checkpointing.store.close()
