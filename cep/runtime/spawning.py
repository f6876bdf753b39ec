"""Starting the workers of a job, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ostinato.cep.runtime import wire
from ostinato.cep.runtime.heartbeats import Heartbeats, Watch
from ostinato.cep.runtime.statistics import PatternNumbers
from ostinato.cep.runtime.wire import Kind, Wire

_DYING_SECONDS = 3.0
"""How long a process takes at most whose connection has closed because it ended."""


@dataclass(slots=True)
class WorkerProcess:
    """A worker as its parent sees it; `patterns` are the numbers it has told last."""

    process: subprocess.Popen[bytes]
    wire: Wire
    watch: Watch
    patterns: Mapping[str, PatternNumbers] = field(default_factory=dict)

    def obituary(self, number: int) -> str:
        """What has become of it, when it has closed its connection."""
        process = self.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_DYING_SECONDS)
        code = process.returncode
        if code is None:
            how = "closed its connection"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"worker {number} (process {process.pid}) {how}{hint}"


def start(count: int, spec: Mapping[str, Any], memory: int, heartbeats: Heartbeats) -> list[WorkerProcess]:
    """Spawn the workers, each joined to the parent and to every other one by a socket of its own.

    Args:
        count: how many.
        spec: what they are told, see `worker_main`.
        memory: the descriptor of the slots that chunks are handed over in.
        heartbeats: how they are watched.
    """
    ends: list[dict[int, socket.socket]] = [{} for _ in range(count)]
    for left in range(count):
        for right in range(left + 1, count):
            ends[left][right], ends[right][left] = socket.socketpair()
    workers = []
    try:
        for number in range(count):
            ours, theirs = socket.socketpair()
            peers = {str(peer): end.fileno() for peer, end in ends[number].items()}
            process = _spawn(number, theirs.fileno(), memory, peers)
            theirs.close()
            worker = WorkerProcess(process, Wire(ours), Watch(heartbeats.timeout_ms / 1000))
            workers.append(worker)
            worker.wire.send(Kind.JOB, number, wire.pack({**spec, "worker": number}))
    except BaseException:
        for worker in workers:
            worker.wire.close()
            worker.process.kill()
            worker.process.wait()
        raise
    finally:
        for own in ends:
            for end in own.values():
                end.close()
    return workers


def _spawn(number: int, parent: int, memory: int, peers: Mapping[str, int]) -> subprocess.Popen[bytes]:
    arguments = [str(os.getpid()), str(parent), str(memory), *(f"{peer}={fd}" for peer, fd in peers.items())]
    # A group of its own: Ctrl-C at the terminal is the parent's business, who ends the workers in good order.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "ostinato.cep.runtime.worker_main", str(number), *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[parent, memory, *peers.values()],
        process_group=0,
    )
