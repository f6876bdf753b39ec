"""The entry point of the live worker's process; `ostinato.server.live.process` starts it.

Arguments: the parent's process id, the descriptor of the socket to it. What to run comes on standard input
(`WorkerSpec`, JSON).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import traceback
import zlib
from pathlib import Path

import msgspec

from ostinato.cep.runtime.worker_main import die_with
from ostinato.server import exits
from ostinato.server.live.generation import Generation
from ostinato.server.live.spec import WorkerSpec
from ostinato.server.quickness import be_quick
from ostinato.state.steps import become_worker
from ostinato.state.typed import decode_json


class _Body(msgspec.Struct):
    generation: Generation


def find_in(catalog: Path, number: int) -> Generation:
    """A generation, from the server's catalog. Raises LookupError where it is not there."""
    if number == 0:
        return Generation(0)
    connection = sqlite3.connect(f"{catalog.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
    try:
        row = connection.execute("SELECT body FROM changes WHERE generation = ?", (number,)).fetchone()
    finally:
        connection.close()
    if row is None or row[0] is None:
        raise LookupError(f"generation {number} is not in {catalog}; was it put back from an older copy?")
    return decode_json(zlib.decompress(row[0]), _Body).generation


def main(arguments: list[str]) -> int:
    """Run until told to stop; returns the exit code."""
    parent, descriptor = arguments
    die_with(int(parent))
    be_quick()
    become_worker(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it in good order
    spec = decode_json(sys.stdin.buffer.read(), WorkerSpec)
    try:
        from ostinato.server.live.worker import Setup, serve
        from ostinato.server.matches import MatchLogOptions

        folder = Path(spec.data)
        setup = Setup(
            journal=folder / "journal",
            matches=folder / "matches",
            snapshots=spec.snapshots,
            interval_ms=spec.interval_ms,
            find=lambda number: find_in(folder / "catalog.sqlite", number),
            log=MatchLogOptions(**spec.log),
            server=spec.server,
        )
        return serve(setup, int(descriptor))
    except Exception as error:  # noqa: BLE001 - whatever it is, the server has to know
        if os.environ.get("OSTINATO_DEBUG"):
            traceback.print_exc()
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return exits.FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
