"""The entry point of a worker process; `ostinato.cep.runtime.supervisor` starts it.

Arguments: its number, the parent's process id, the descriptor of the connection to the parent, that of the memory that
chunks come in, and ``peer=descriptor`` for every other worker. What to run comes as the first message, plain values:
`program` (see `load`), `state` (`StateBackend`, if not the default), `times` (of the sources), `heartbeats`, `store`
(`StoreSpec`, where checkpoints go), `restore` (`RestoreSpec`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import traceback
from dataclasses import replace

from ostinato.cep.runtime import wire
from ostinato.cep.runtime.heartbeats import Heartbeats, Pulse, Watch
from ostinato.cep.runtime.memory import collect_less_often
from ostinato.cep.runtime.wire import Kind, Wire
from ostinato.state.steps import become_worker
from ostinato.state.typed import convert

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the system end this process when its parent ends, however that comes about."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Run one worker until its parent hangs up."""
    number, parent_id, parent_end, memory, *peers = arguments
    die_with(int(parent_id))
    collect_less_often()
    parent = Wire(socket.socket(fileno=int(parent_end)))
    others = {int(peer): Wire(socket.socket(fileno=int(end))) for peer, end in (each.split("=") for each in peers)}
    message = parent.receive()
    if message is None:
        return
    spec, _ = wire.unpack(message.payload)
    become_worker(int(number))
    heartbeats = convert(spec["heartbeats"], Heartbeats)
    watch = Watch(heartbeats.timeout_ms / 1000)
    Pulse(heartbeats, lambda: _beat(parent, watch)).start()
    try:
        from ostinato.cep.compiling import on_compile
        from ostinato.cep.runtime.job import StateBackend
        from ostinato.cep.runtime.load import load
        from ostinato.cep.runtime.slots import Slots
        from ostinato.cep.runtime.snapshots import StoreSpec
        from ostinato.cep.runtime.worker import Worker
        from ostinato.cep.runtime.worker_state import RestoreSpec

        if number == "0":
            on_compile(lambda what: parent.send(Kind.STATUS, 0, wire.pack(what)))
        slots = Slots(int(memory))
        job = load(spec["program"]).definition
        if spec.get("state") is not None:
            job = replace(job, state=StateBackend(**spec["state"]))
        store = convert(spec["store"], StoreSpec | None)
        restore = convert(spec["restore"], RestoreSpec | None)
        times = spec["times"][:]
        worker = Worker(int(number), parent, others, slots, job, times, watch=watch, store=store, restore=restore)
        worker.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        if os.environ.get("OSTINATO_DEBUG"):
            traceback.print_exc()
        name = type(error).__name__
        text = str(error) or name
        parent.send(Kind.FAILED, int(number), wire.pack([name, text if _is_plain(error) else f"{name}: {text}"]))
        # Give the parent time to read it before the connection closes with this process.
        while parent.receive() is not None:
            pass


def _beat(parent: Wire, watch: Watch) -> None:
    if watch.silence() is not None:
        # It hangs, or was stopped. Another one may take its place, and must find nobody who still works for it.
        os._exit(1)
    parent.beat()


def _is_plain(error: Exception) -> bool:
    """Is it one of ours, whose message says everything?"""
    return type(error).__module__.startswith("ostinato.")


if __name__ == "__main__":
    main(sys.argv[1:])
