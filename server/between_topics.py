"""One run of a program whose sources and outputs are all Kafka topics: `ostinato run` sends it here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.runtime.commands import CommandError, Commands, JobState, JobStatus, What
from ostinato.cep.runtime.restarts import NoRestart
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.supervised import is_final
from ostinato.server import exits
from ostinato.server.console import Progress, as_json, summary
from ostinato.server.presence import Presence
from ostinato.server.restart_option import restart_strategy

if TYPE_CHECKING:
    from ostinato.cep.runtime.load import Loaded, ProgramSpec
    from ostinato.cep.runtime.partitioned.processes import Processes
    from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
    from ostinato.cep.runtime.partitioned.worker import Worker
    from ostinato.server.running import RunOptions

_LOOK_SECONDS: Final = 0.05
_NO_SAVEPOINTS: Final = (
    "a job between topics takes no savepoints: what it has committed is in Kafka and in its snapshots at every moment. "
    "End it with Ctrl-C, SIGTERM or `ostinato cancel`, and start it again when you like"
)


def spec_of(spec: ProgramSpec, options: RunOptions) -> PartitionedSpec:
    """What the command line says, for workers. Raises ConnectorError where it does not go with topics."""
    from ostinato.cep.runtime.partitioned.spec import PartitionedSpec

    lasting = options.lasting
    if lasting.address is None:
        raise ConnectorError(
            "a program from topics to topics keeps its state in snapshots, which its offsets name: say where, "
            "with --checkpoint-redis URL (workers on any number of machines) or --checkpoint-dir DIR (one machine)"
        )
    if options.limit is not None or options.show is not None:
        raise ConnectorError("--limit and --show are for output that ends; leave them out where it goes to topics")
    if options.late is not None:
        raise ConnectorError(f"--late {options.late}: output is in topics here; write --late kafka:TOPIC")
    letters = options.dead_letters
    return PartitionedSpec(
        program=spec,
        job=lasting.name,
        address=lasting.address,
        durability=lasting.durability,
        may_drop=lasting.options.allow_dropped_state,
        interval_ms=lasting.given_interval,
        strict=options.strict,
        dead_letters=None if letters is None else letters.removeprefix("kafka:"),
        on_lost_snapshot=lasting.on_lost_snapshot,
        state=msgspec.to_builtins(lasting.state),
    )


def run_between_topics(spec: PartitionedSpec, loaded: Loaded, options: RunOptions, stop: Stop) -> int:
    """Run until it is stopped; returns the exit code.

    Raises:
        ConnectorError, StateError, PatternError, Exception: it has failed for good.
    """
    from ostinato.cep.connectors.kafka.errors import quiet_clients

    quiet_clients()
    setup = spec.setup(loaded)
    lasting = options.lasting
    progress = Progress(wanted=options.progress)
    commands = Commands()
    presence = Presence(commands)
    running = _Running(spec, options, progress, presence)
    commands.attach(running.status)
    why = presence.begin(
        name=setup.job, parallelism=options.workers, program=spec.program.path, checkpoints=setup.stores.address
    )
    if why is not None and lasting.given_name:
        progress.say(f"the job runs, but `ostinato list` will not find it: {why}")
    failed = True
    try:
        running.run(loaded, stop)
        failed = False
    finally:
        running.state = JobState.FAILED if failed else JobState.CANCELED if running.cancelled else JobState.SUSPENDED
        progress.clear()
        commands.close("the job has ended")
        presence.end()
        ended = "failed" if failed else "cancelled" if running.cancelled else "stopped"
        letters = setup.dead_letters.topic
        status = running.status()
        said = (
            as_json(status, letters, None, ended) if options.as_json else summary(status, letters, None, f"{ended}: ")
        )
        click.echo(said, err=True)
    if running.cancelled:
        return exits.CANCELED
    return exits.INTERRUPTED if stop.signal == 2 else exits.TERMINATED


class _Running:
    """The workers, in this process or in others, begun again when they fail."""

    def __init__(self, spec: PartitionedSpec, options: RunOptions, progress: Progress, presence: Presence) -> None:
        self.state = JobState.INITIALIZING
        self.cancelled = False
        self._spec = spec
        self._options = options
        self._progress = progress
        self._presence = presence
        self._restarts = 0
        self._failure: str | None = None
        self._runs: Worker | Processes | None = None
        self._statistics = Statistics()

    def status(self) -> JobStatus:
        """From any thread."""
        runs = self._runs
        processes = getattr(runs, "processes", ())
        restarts = self._restarts + getattr(runs, "restarts", 0)
        numbers = runs.statistics if runs is not None else self._statistics
        return JobStatus(self.state, numbers, None, restarts, self._failure, processes)

    def run(self, loaded: Loaded, stop: Stop) -> None:
        options = self._options
        if options.workers > 1:
            from ostinato.cep.runtime.partitioned.processes import Processes

            self._runs = Processes(
                self._spec,
                options.workers,
                lambda: restart_strategy(options.lasting.restart),
                announce=self._progress.say,
                observer=lambda numbers: self._observe(numbers, stop),
            )
            self.state = JobState.RUNNING
            self._runs.run(stop)
            return
        from ostinato.cep.compiling import on_compile
        from ostinato.cep.runtime.partitioned.worker import Worker
        from ostinato.server.running import Announcement

        on_compile(Announcement(self._progress))
        strategy = restart_strategy(options.lasting.restart)
        while True:
            began = time.monotonic()
            try:
                self._runs = Worker(
                    self._spec.setup(loaded),
                    announce=self._progress.say,
                    observer=lambda numbers: self._observe(numbers, stop),
                )
                self.state = JobState.RUNNING
                self._runs.run(stop)
                return
            except StopRequested:
                raise
            except Exception as error:
                self._failure = str(error) or type(error).__name__
                if is_final(error) or stop.requested or isinstance(strategy, NoRestart):
                    raise
                now = time.monotonic()
                delay = strategy.next_delay_ms(round(now * 1000), round((now - began) * 1000))
                if delay is None:
                    self._progress.say(f"the job is given up after {self._restarts + 1} failures: {strategy}")
                    raise
            self.state = JobState.RESTARTING
            self._progress.say(f"the job has failed: {self._failure}; it is begun again in {delay / 1000:g} s")
            until = now + delay / 1000
            while time.monotonic() < until and not stop.requested:
                self._attend(stop)
                time.sleep(_LOOK_SECONDS)
            if stop.requested:
                return
            self._restarts += 1

    def _observe(self, numbers: Statistics, stop: Stop) -> None:
        self._presence.note(numbers)
        self._progress.update(numbers)
        self._attend(stop)

    def _attend(self, stop: Stop) -> None:
        """Answer what others on this machine ask."""
        while (request := self._presence.commands.take()) is not None:
            if request.what == What.CANCEL:
                self.cancelled = stop.requested = True
                request.answer(None)
            else:
                request.refuse(CommandError(_NO_SAVEPOINTS))
