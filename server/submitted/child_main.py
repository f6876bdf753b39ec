"""The entry point of a job's process: the command `ostinato run`, which ends with the server.

Arguments: the server's process id, the descriptor of a pipe whose other end the server holds, then those of the
command. The job must not outlive its server: the next one begins it again, and it would run twice.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from ostinato.cep.runtime.worker_main import die_with


def main(arguments: list[str]) -> None:
    """Run the command; does not return."""
    parent, pipe, *command = arguments
    die_with(int(parent))
    threading.Thread(target=_watch, args=(int(pipe),), name="server", daemon=True).start()
    # A program that says nothing of its input must not take an empty standard input for it.
    sys.stdin = None
    sys.argv = ["ostinato", *command]
    from ostinato.server.cli import main as ostinato

    ostinato()


def _watch(pipe: int) -> None:
    """Nothing is ever written: it ends with the server, also where the system has no other way to notice."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
