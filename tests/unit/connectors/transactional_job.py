"""A job in miniature, for tests that kill it: counts upwards into outputs, with checkpoints in a file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import BadRecord
from ostinato.cep.connectors.dead_letters import TransactionalDeadLetters
from ostinato.cep.connectors.factory import sink_for
from ostinato.cep.connectors.room import Room
from ostinato.cep.runtime.outputs import Outputs
from ostinato.patterns.ast import Connector
from ostinato.patterns.types import BIGINT, STRING
from ostinato.state import steps

NAMES = {
    "json": "out.jsonl",
    "csv": "out.csv",
    "tsv": "out.tsv",
    "parquet": "out.parquet",
    "table": "out.txt",
    "dead": "dead.jsonl",
}
LAST = 40
EVERY = 7
"""Rows of a checkpoint; every third checkpoint fails after the sinks have prepared."""
CONTEXT = ForkServerContext()
CONTEXT.set_forkserver_preload(["tests.unit.connectors.transactional_preload"])


def batch(numbers: Sequence[int]) -> Batch:
    columns = {
        "n": Vector.of(BIGINT, list(numbers)),
        "text": Vector.of(STRING, [f"row {n} " + "x" * (n % 50) for n in numbers]),
    }
    return Batch("out", Vector.of(BIGINT, [0] * len(numbers)).array, columns)


def outputs_of(folder: Path, form: str, said: list[str] | None = None, **options: Any) -> Outputs:
    """Outputs with one transactional file; of `dead` that of the dead letters."""
    room = Room(say=(said if said is not None else []).append)
    path = str(folder / NAMES[form])
    if form == "dead":
        return Outputs({}, TransactionalDeadLetters(path, room), say=room.say)
    sink = sink_for(Connector("file", path, form, tuple(options.items())), "out", room=room)
    return Outputs({"out": [sink]}, say=room.say)


def put(outputs: Outputs, form: str, numbers: Sequence[int]) -> None:
    if form == "dead":
        outputs.reject([BadRecord(b"x" * n, "f", n, 0, "bad") for n in numbers])
    else:
        outputs.deliver(batch(numbers))


def numbers_in(folder: Path, form: str) -> list[int]:
    """What a reader of the output sees; fails on anything that is no whole row."""
    path = folder / NAMES[form]
    if form == "parquet":
        return [row["n"] for row in pyarrow.parquet.read_table(path).to_pylist()]
    lines = path.read_text().splitlines()
    if form == "dead":
        return [json.loads(line)["line"] for line in lines]
    if form == "json":
        return [json.loads(line)["n"] for line in lines]
    if form == "table":
        assert lines[0] == "out"
        return [int(line.split()[0]) for line in lines[3:]]
    delimiter = "\t" if form == "tsv" else ","
    assert lines[0] == f"n{delimiter}text"
    assert not [line for line in lines[1:] if line == lines[0]]
    return [int(line.split(delimiter)[0]) for line in lines[1:]]


def hidden(folder: Path) -> list[str]:
    """Files that are not for people."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def job(folder: str, form: str, fault: str, kill_at: int | None) -> None:
    """Go on from the newest checkpoint to the end. `kill_at`: die when that row has been written, before any other."""
    steps._rules = steps._parse(fault) if fault else []
    here, store = Path(folder), Path(folder).with_suffix(".checkpoint")
    at, number, state = 0, 0, None
    if store.exists():
        at, number, state = msgspec.msgpack.decode(store.read_bytes())
    outputs = outputs_of(here, form)
    outputs.recover(state)
    while at < LAST:
        put(outputs, form, range(at, min(at + 2, LAST)))
        at = min(at + 2, LAST)
        if kill_at is not None and at > kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if at % EVERY < 2 or at == LAST:
            number += 1
            made = outputs.prepare(number)
            if number % 3 == 0 and at < LAST:
                continue
            store.with_suffix(".new").write_bytes(msgspec.msgpack.encode([at, number, made]))
            store.with_suffix(".new").replace(store)
            outputs.commit(made)
    outputs.finish()
    outputs.close()


def run(folder: Path, form: str, fault: str = "", kill_at: int | None = None) -> bool:
    """Run the job in a process of its own; True: it came to its end, False: it was killed."""
    process = CONTEXT.Process(target=job, args=(str(folder), form, fault, kill_at))
    process.start()
    process.join(60)
    code = process.exitcode
    process.close()
    assert code in (0, -signal.SIGKILL), code
    return code == 0
