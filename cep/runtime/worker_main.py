"""The entry point of a worker process; `ostinato.cep.runtime.supervisor` starts it.

Arguments: its number, the parent's process id, the descriptor of the connection to the parent, that of the memory that
chunks come in, and ``peer=descriptor`` for every other worker. What to run comes as the first message.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import traceback

from ostinato.cep.runtime import wire
from ostinato.cep.runtime.memory import collect_less_often
from ostinato.cep.runtime.wire import Kind, Wire

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
    try:
        from ostinato.cep.compiling import on_compile
        from ostinato.cep.runtime.load import load
        from ostinato.cep.runtime.slots import Slots
        from ostinato.cep.runtime.worker import Worker

        if number == "0":
            on_compile(lambda what: parent.send(Kind.STATUS, 0, wire.pack(what)))
        slots = Slots(int(memory))
        Worker(int(number), parent, others, slots, load(spec["program"]).definition, spec["times"][:]).run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        if os.environ.get("OSTINATO_DEBUG"):
            traceback.print_exc()
        text = str(error) or type(error).__name__
        parent.send(
            Kind.FAILED, int(number), wire.pack(f"{text}" if _is_plain(error) else f"{type(error).__name__}: {text}")
        )
        # Give the parent time to read it before the connection closes with this process.
        parent.receive()


def _is_plain(error: Exception) -> bool:
    """Is it one of ours, whose message says everything?"""
    return type(error).__module__.startswith("ostinato.")


if __name__ == "__main__":
    main(sys.argv[1:])
