"""The entry point of a worker process; `ostinato.cep.runtime.partitioned.processes` starts it.

Arguments: its number and the parent's process id. What to run comes on standard input (`PartitionedSpec`, JSON); what
there is to say goes to standard output, a `Message` a line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

import msgspec

from ostinato.cep.runtime.memory import collect_less_often
from ostinato.cep.runtime.partitioned.processes import Message, numbers_of
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.supervised import is_final
from ostinato.cep.runtime.worker_main import die_with
from ostinato.state.steps import become_worker
from ostinato.state.typed import decode_json

_lock = threading.Lock()


def _tell(message: Message) -> None:
    with _lock:
        os.write(sys.stdout.fileno(), msgspec.json.encode(message) + b"\n")


def main(arguments: list[str]) -> None:
    """Run one worker until it is told to stop, or fails."""
    number, parent = arguments
    die_with(int(parent))
    collect_less_often()
    become_worker(int(number))
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda number, _: stop.request(number))
    spec = decode_json(sys.stdin.buffer.read(), PartitionedSpec)
    try:
        from ostinato.cep.compiling import on_compile
        from ostinato.cep.connectors.kafka.errors import quiet_clients
        from ostinato.cep.runtime.partitioned.worker import Worker

        quiet_clients()
        if number == "0":
            on_compile(lambda what: _tell(Message(say=f"compiling {what}")))
        worker = Worker(
            spec.setup(),
            announce=lambda text: _tell(Message(say=text)),
            observer=lambda numbers: _tell(Message(numbers=numbers_of(numbers))),
            instance=spec.instance,
        )
        worker.run(stop)
        _tell(Message(numbers=numbers_of(worker.statistics)))
    except StopRequested:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        if os.environ.get("OSTINATO_DEBUG"):
            traceback.print_exc()
        _tell(Message(failed=str(error) or type(error).__name__, final=is_final(error)))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
