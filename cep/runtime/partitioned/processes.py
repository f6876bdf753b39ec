"""Several workers of one job on one machine, each a process and a member of the consumer group of its own.

They know nothing of each other, as workers on other machines know nothing of them: the group deals the partitions. What
is here starts them, begins those again that die, and adds up what they have done.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.runtime.occupation import Occupation, OperatorTimes, together
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
from ostinato.cep.runtime.restarts import RestartStrategy
from ostinato.cep.runtime.statistics import PartitionNumbers, PatternNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop
from ostinato.state.typed import decode_json

_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 45.0
_STATISTICS_SECONDS: Final = 0.2


class WorkerDiedError(ConnectorError):
    """A worker has ended and is not begun again."""


class Message(msgspec.Struct, omit_defaults=True):
    """A line that a worker writes: something for people, its numbers, or why it cannot go on.

    `final`: nor could another worker.
    """

    say: str | None = None
    numbers: dict[str, Any] | None = None
    failed: str | None = None
    final: bool = False


def numbers_of(statistics: Statistics) -> dict[str, Any]:
    """A worker's numbers as plain values."""
    patterns = {name: msgspec.to_builtins(numbers) for name, numbers in statistics.patterns.items()}
    own = {name: getattr(statistics, name) for name in ("events", "bad", "late", "bytes", "seconds")}
    partitions = {name: msgspec.to_builtins(numbers) for name, numbers in statistics.partitions.items()}
    return {
        **own,
        "patterns": patterns,
        "written": dict(statistics.written),
        "partitions": partitions,
        "rebalances": statistics.rebalances,
        "times": {name: msgspec.to_builtins(times) for name, times in statistics.measure().operators.items()},
    }


class _Process:
    """One worker."""

    def __init__(self, number: int, spec: PartitionedSpec, instance: str, announce: Callable[[str], None]) -> None:
        self.number = number
        self.numbers: Mapping[str, Any] = {}
        self.failed: Message | None = None
        self._announce = announce
        self.began = time.monotonic()
        # A group of its own: Ctrl-C at the terminal is the parent's business, who ends the workers in good order.
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "ostinato.cep.runtime.partitioned.worker_main", str(number), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(msgspec.json.encode(msgspec.structs.replace(spec, instance=instance)))
            self.process.stdin.close()
        self._reader = threading.Thread(target=self._read, name=f"worker-{number}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = decode_json(line, Message)
            except msgspec.MsgspecError:
                self._announce(f"worker {self.number}: {line.decode('utf-8', 'replace').rstrip()}")
                continue
            if message.say is not None:
                self._announce(f"worker {self.number}: {message.say}")
            if message.numbers is not None:
                self.numbers = message.numbers
            if message.failed is not None:
                self.failed = message

    def obituary(self) -> str:
        self._reader.join(2.0)
        code = self.process.returncode
        if self.failed is not None:
            return f"worker {self.number}: {self.failed.failed}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"worker {self.number} (process {self.process.pid}) {how}"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(2.0)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Processes:
    """Runs workers until it is asked to stop."""

    def __init__(
        self,
        spec: PartitionedSpec,
        count: int,
        strategies: Callable[[], RestartStrategy],
        *,
        announce: Callable[[str], None],
        observer: Callable[[Statistics], None] | None = None,
    ) -> None:
        """`strategies` makes one for each worker: what befalls one says nothing of the others."""
        self.statistics = Statistics()
        self.restarts = 0
        self._spec = spec
        # A worker that is begun again is the same member of the group: it gets its partitions back at once, where the
        # group would wait until its former self has been silent for session_timeout_ms.
        self._instance = f"{spec.job}-{secrets.token_hex(4)}"
        self._announce = announce
        self._observer = observer
        self._strategies = [strategies() for _ in range(count)]
        self._running: dict[int, _Process] = {}
        self._due: dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._gone: list[Mapping[str, Any]] = []
        self.statistics.measure = self._measure

    @property
    def processes(self) -> tuple[int, ...]:
        """Of the workers, by their number."""
        return tuple(each.process.pid for _, each in sorted(self._running.items()))

    def run(self, stop: Stop) -> None:
        """Raises WorkerDiedError where a worker has failed for good."""
        began, told = time.monotonic(), 0.0
        try:
            while not stop.requested:
                now = time.monotonic()
                for number, due in list(self._due.items()):
                    if now >= due:
                        del self._due[number]
                        self._running[number] = _Process(
                            number, self._spec, f"{self._instance}-{number}", self._announce
                        )
                for worker in list(self._running.values()):
                    if worker.process.poll() is not None:
                        self._bury(worker)
                if self._observer is not None and now - told >= _STATISTICS_SECONDS:
                    told = now
                    self._count(now - began)
                    self._observer(self.statistics)
                time.sleep(_LOOK_SECONDS)
            self._stop()
        finally:
            for worker in self._running.values():
                worker.close()
            self._count(time.monotonic() - began)

    def _bury(self, worker: _Process) -> None:
        del self._running[worker.number]
        said = worker.obituary()
        worker.close()
        # where a partition stands is known to whoever has it next
        partitions = {
            name: {**own, "lag": {}, "watermarks": {}} for name, own in worker.numbers.get("partitions", {}).items()
        }
        self._gone.append({**worker.numbers, "partitions": partitions})
        now = time.monotonic()
        delay = self._strategies[worker.number].next_delay_ms(round(now * 1000), round((now - worker.began) * 1000))
        if delay is None or (worker.failed is not None and worker.failed.final):
            raise WorkerDiedError(said)
        self.restarts += 1
        self._announce(f"{said}; it is begun again in {delay / 1000:g} s")
        self._due[worker.number] = now + delay / 1000

    def _stop(self) -> None:
        for worker in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        for worker in self._running.values():
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._announce(f"worker {worker.number} has not ended within {_STOP_SECONDS:g} s and is killed")

    def _measure(self) -> Occupation:
        """What the time of all workers went into, as of when they last said so; any thread may ask."""
        parts = [*self._gone, *(each.numbers for each in self._running.copy().values())]
        return Occupation(
            together({name: OperatorTimes(**own) for name, own in part.get("times", {}).items()} for part in parts)
        )

    def _count(self, seconds: float) -> None:
        total = self.statistics
        parts = [*self._gone, *(each.numbers for each in self._running.values())]
        for name in ("events", "bad", "late", "bytes"):
            setattr(total, name, sum(part.get(name, 0) for part in parts))
        # all are members of one group
        total.rebalances = max((part.get("rebalances", 0) for part in parts), default=0)
        total.seconds = seconds
        total.set_patterns(
            [{name: PatternNumbers(**own) for name, own in part.get("patterns", {}).items()} for part in parts]
        )
        total.set_partitions(
            [{name: PartitionNumbers(**own) for name, own in part.get("partitions", {}).items()} for part in parts]
        )
        written: dict[str, int] = {}
        for part in parts:
            for name, rows in part.get("written", {}).items():
                written[name] = written.get(name, 0) + rows
        total.written = written
