"""Where the operators of one process keep their state while they run, and how they share the memory for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ostinato.cep.nfa.spill import Spill
from ostinato.state.backends.base import Backend
from ostinato.state.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import StateBackend

MEMORY_BYTES = 384 << 20
"""What state takes in memory where the rest is on disk, all workers together, unless told otherwise."""
_PREFIX = "ostinato-state-"
_LEAST = 4 << 20
"""What each operator gets at least: with less, RocksDB would do nothing but sort."""


class Scratch:
    """Gives each operator its place. What is on disk is deleted with this, and means nothing after a crash."""

    def __init__(self, state: StateBackend | None, operators: int, *, workers: int = 1, worker: int = 0) -> None:
        """`operators`: how many share what there is in each of `workers` processes, of which this is `worker`."""
        self._folder: Path | None = None
        if state is None or state.kind == "memory":
            return
        self._share = max(_LEAST, (state.memory_bytes or MEMORY_BYTES) // (workers * max(1, operators)))
        if state.directory is None:
            _sweep()
            self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        else:
            self._folder = Path(state.directory) / f"worker-{worker}"
            self._folder.mkdir(parents=True, exist_ok=True)
        self._deletion = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def delete(self) -> None:
        """Delete what is on disk, at once; whoever uses it must be about to end."""
        if self._folder is not None:
            self._deletion()

    def backend(self, operator: str) -> Backend:
        """For the keyed state of a process function."""
        if self._folder is None:
            return MemoryBackend()
        from ostinato.state.backends.rocksdb import RocksDBBackend

        return RocksDBBackend(
            self._folder / operator, cache_bytes=self._share // 2, write_buffer_bytes=self._share // 4
        )

    def spill(self, operator: str) -> Spill | None:
        """For partial matches; None: they stay in memory."""
        if self._folder is None:
            return None
        from ostinato.state.rocks import Rocks

        # the matcher's tables are twice as large for a moment when they grow; there are two write buffers
        rocks = Rocks(self._folder / operator, self._share // 4, self._share // 8)
        return Spill(rocks, self._share // 4)


def _sweep() -> None:
    """Delete what processes have left behind that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid != os.getuid():
                continue
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
