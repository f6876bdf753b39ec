"""One run of a program from the command line: opens what is read and written, runs, says what came of it."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import FrameType

import click

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import ConnectorError, Reader, Sink, SinkError, SourceError, TransactionalSink
from ostinato.cep.connectors.dead_letters import DeadLetters, TransactionalDeadLetters
from ostinato.cep.connectors.factory import check_repeatable, check_source, reader_for, sink_for
from ostinato.cep.connectors.room import Room
from ostinato.cep.runtime.attempt import Attempt, Ending
from ostinato.cep.runtime.commands import Commands
from ostinato.cep.runtime.load import Loaded, LoadError, ProgramSpec, load
from ostinato.cep.runtime.outputs import Outputs, StrictError
from ostinato.cep.runtime.partitioned.program import has_topics, runs_by_partitions
from ostinato.cep.runtime.plan import LATE, Plan
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.supervised import RunningJob, SupervisedJob
from ostinato.patterns.ast import Connector, Stream
from ostinato.patterns.errors import PatternError
from ostinato.patterns.types import STRING
from ostinato.server import exits
from ostinato.server.console import Progress, as_json, summary
from ostinato.server.lasting_options import Lasting
from ostinato.server.presence import Presence
from ostinato.server.restart_option import restart_strategy
from ostinato.server.stores import close_stores, open_stores
from ostinato.state.errors import StateError


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says besides the program."""

    workers: int
    strict: bool
    dead_letters: str | None
    late: str | None
    format: str | None
    limit: int | None
    show: int | None
    as_json: bool
    progress: bool
    lasting: Lasting


class Failure(Exception):  # noqa: N818 - it carries an exit code to where the run ends
    """The run has come to an end that is not a good one. `message` None: say nothing."""

    def __init__(self, code: int, message: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def run(spec: ProgramSpec, options: RunOptions) -> int:
    """Run a program; returns the exit code. Everything is said on standard error."""
    stop = Stop()
    with _signals(stop):
        try:
            return _run(spec, options, stop)
        except Failure as failure:
            if failure.message is not None:
                click.echo(f"ostinato: {failure.message}", err=True)
            return failure.code
        except PatternError as error:
            click.echo(str(error), err=True)
            return exits.PROBLEMS
        except StateError as error:
            click.echo(f"ostinato: {error}", err=True)
            return exits.STATE
        except StopRequested:
            return exits.INTERRUPTED if stop.signal == signal.SIGINT else exits.TERMINATED
        except ConnectorError as error:
            click.echo(f"ostinato: {error}", err=True)
            return _code_of(error)


def _run(spec: ProgramSpec, options: RunOptions, stop: Stop) -> int:
    try:
        loaded = load(spec)
    except LoadError as error:
        raise Failure(exits.INPUT, str(error)) from error
    laid_out = _with_sources(loaded.plan)
    for stream in laid_out.sources:
        check_source(stream)
    if has_topics(loaded.program.outputs) and runs_by_partitions(laid_out, loaded.program.outputs):
        from ostinato.server.between_topics import run_between_topics, spec_of

        try:
            return run_between_topics(spec_of(spec, options), loaded, options, stop)
        except Exception as error:
            raise _failure(error) from error
    lasting = options.lasting
    progress = Progress(wanted=options.progress)
    checkpointing, savepoint = open_stores(lasting, spec)
    readers = _open_sources(laid_out, progress.say, repeatable=checkpointing is not None)
    progress.portion = _portion(readers)
    _refuse_overwriting(laid_out, loaded, options)
    room = Room(lambda: stop.requested, progress.say) if checkpointing is not None else None
    letters = options.dead_letters or f"{PurePath(spec.path).stem}.dead-letters.jsonl"
    options = replace(options, dead_letters=letters)
    dead_letters = DeadLetters(letters) if room is None else TransactionalDeadLetters(letters, room)
    sinks = _sinks(loaded, laid_out, options, room)
    outputs = Outputs(
        sinks,
        dead_letters,
        strict=options.strict,
        limit=options.limit,
        show=options.show,
        stop=stop,
        say=progress.say,
    )
    commands = Commands()
    presence = Presence(commands)
    makes = _Jobs(spec, loaded, laid_out, readers, outputs, options, progress, presence)
    job = SupervisedJob(
        makes.make,
        outputs,
        checkpointing=checkpointing,
        restarts=restart_strategy(lasting.restart),
        commands=commands,
        resume=lasting.start,
        savepoint=savepoint,
        key_groups=loaded.definition.key_groups,
        announce=progress.say,
    )
    progress.checkpoints = lambda: job.checkpoints
    if checkpointing is not None:
        _warn_of_repeats(sinks, progress)
    address = None if checkpointing is None else checkpointing.store.address
    _list(presence, options, spec, progress, address)
    failure = None
    try:
        job.run(stop)
    except StopRequested:
        stop.requested = True
    except Exception as error:  # noqa: BLE001 - what is unknown is raised again
        failure = _failure(error)
    finally:
        progress.clear()
        makes.close()
        try:
            failure = _close(outputs, failure)
            close_stores(checkpointing, savepoint)
        finally:
            presence.end()
    outputs.report(job.statistics)
    code, ended = _ending(stop, failure, job.ending, cancelled=presence.interrupted)
    if failure is not None and failure.message is not None:
        click.echo(f"ostinato: {failure.message}", err=True)
    if code != exits.CLOSED_PIPE:
        _sum_up(job, options, ended)
    return code


def _sum_up(job: SupervisedJob, options: RunOptions, ended: str) -> None:
    late = options.late
    if options.as_json:
        ended = ended or "end of input"
        click.echo(as_json(job.status(), options.dead_letters, late, ended), err=True)
    else:
        ended = f"{ended}: " if ended else ""
        shown = options.show is not None
        click.echo(summary(job.status(), options.dead_letters, late, ended, part_shown=shown), err=True)


def _close(outputs: Outputs, failure: Failure | None) -> Failure | None:
    try:
        outputs.close()
    except SinkError as error:
        return failure or _failure(error)
    return failure


def _open_sources(laid_out: Plan, say: Callable[[str], None], *, repeatable: bool) -> list[Reader]:
    readers: list[Reader] = []
    try:
        for stream in laid_out.sources:
            reader = reader_for(stream, say=say)
            readers.append(reader)
            if repeatable:
                check_repeatable(stream, reader)
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers


def _list(presence: Presence, options: RunOptions, spec: ProgramSpec, progress: Progress, address: str | None) -> None:
    """Let other commands find the job. Where that cannot be, it is said if somebody is likely to want it."""
    lasting = options.lasting
    why = presence.begin(name=lasting.name, parallelism=options.workers, program=spec.path, checkpoints=address)
    if why is not None and (lasting.given_name or address is not None):
        progress.say(f"the job runs, but `ostinato list` will not find it: {why}")


def _warn_of_repeats(sinks: Mapping[str, Sequence[Sink]], progress: Progress) -> None:
    open_ = [name for name, own in sinks.items() if not all(isinstance(sink, TransactionalSink) for sink in own)]
    if open_:
        progress.say(
            f"{', '.join(open_)}: only files take part in checkpoints, so after a failure rows may come twice; with "
            "--output FILE each comes exactly once, or in a topic if all input comes from topics too"
        )


class _Jobs:
    """Makes the job of each attempt, with sources of its own; the first one gets those that are open already."""

    def __init__(
        self,
        spec: ProgramSpec,
        loaded: Loaded,
        laid_out: Plan,
        readers: list[Reader],
        outputs: Outputs,
        options: RunOptions,
        progress: Progress,
        presence: Presence,
    ) -> None:
        self._spec = spec
        self._definition = replace(loaded.definition, plan=laid_out, state=options.lasting.state)
        self._readers: list[Reader] | None = readers
        self._outputs = outputs
        self._workers = options.workers
        self._progress = progress
        self._presence = presence
        self._announced = Announcement(progress)
        self._is_watched = False

    def make(self, attempt: Attempt) -> RunningJob:
        readers, self._readers = self._readers, None
        if readers is None:
            readers = _open_sources(self._definition.plan, self._progress.say, repeatable=False)
            self._progress.portion = _portion(readers)
        try:
            return self._make(readers, attempt)
        except BaseException:
            for reader in readers:
                reader.close()
            raise

    def close(self) -> None:
        """Close sources that no job was made of."""
        for reader in self._readers or ():
            reader.close()

    def _observe(self, statistics: Statistics) -> None:
        self._presence.note(statistics)
        self._progress.update(statistics)

    def _make(self, readers: Sequence[Reader], attempt: Attempt) -> RunningJob:
        if self._workers == 1:
            from ostinato.cep.compiling import on_compile
            from ostinato.cep.runtime.job import LocalJob

            if not self._is_watched:
                self._is_watched = True
                on_compile(self._announced)
            return LocalJob(self._definition, readers, self._outputs, observer=self._observe, attempt=attempt)
        import msgspec

        from ostinato.cep.runtime.supervisor import ParallelJob

        return ParallelJob(
            {"program": msgspec.to_builtins(self._spec), "state": msgspec.to_builtins(self._definition.state)},
            self._definition.plan,
            readers,
            self._outputs,
            workers=self._workers,
            observer=self._observe,
            announce=self._announced,
            attempt=attempt,
        )


class Announcement:
    """Says once that kernels are being compiled, and on a terminal which."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._said = False

    def __call__(self, kernel: str) -> None:
        if not self._said:
            self._said = True
            self._progress.clear()
            click.echo(
                "ostinato: compiling kernels for this machine; later starts take them from a cache ...", err=True
            )
        self._progress.status(f"compiling {kernel}")


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    def ask(number: int, _: FrameType | None) -> None:
        stop.request(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_sources(laid_out: Plan) -> Plan:
    """Standard input for the one stream without a source, where something is piped in."""
    open_ = [stream.name for stream in laid_out.sources if stream.source is None]
    if not open_:
        return laid_out
    if len(open_) > 1 or sys.stdin is None or sys.stdin.isatty():
        example = f"{open_[0]}=FILE" if len(laid_out.sources) > 1 else "FILE"
        raise Failure(
            exits.USAGE,
            f"stream {open_[0]} has no source; give --input {example}, or declare `from file '...'` in the program",
        )
    sources = tuple(
        replace(stream, source=Connector("stdin")) if stream.source is None else stream for stream in laid_out.sources
    )
    return replace(laid_out, sources=sources)


def _sinks(loaded: Loaded, laid_out: Plan, options: RunOptions, room: Room | None) -> dict[str, list[Sink]]:
    """The sinks of each stream: as declared, else standard output."""
    sinks: dict[str, list[Sink]] = {}
    for output in loaded.program.outputs:
        stream = laid_out.streams.get(output.stream)
        keys = stream.keys if stream is not None else ()
        sinks.setdefault(output.stream, []).append(sink_for(output.sink, output.stream, room=room, keys=keys))
    unclaimed = [name for name in laid_out.delivered if name not in sinks]
    for name in unclaimed:
        form = options.format or ("json" if options.as_json else None)
        sink = sink_for(Connector("stdout", None, form), name)
        is_json = form == "json" or (form is None and not sys.stdout.isatty())
        sinks[name] = [_Labelled(sink, name) if len(unclaimed) > 1 and is_json else sink]
    if options.late is not None:
        if len(laid_out.sources) > 1:
            names = ", ".join(stream.name + LATE for stream in laid_out.sources)
            raise Failure(exits.USAGE, f"--late is for one stream; write --output NAME=FILE for each of {names}")
        name = laid_out.sources[0].name + LATE
        sinks.setdefault(name, []).append(sink_for(Connector("file", options.late), name, room=room))
    return sinks


class _Labelled:
    """Puts the stream's name in front of each row, where several streams share standard output."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._name = name

    def write(self, batch: Batch) -> None:
        label = Vector.of(STRING, [self._name] * len(batch))
        self._sink.write(Batch(batch.stream, batch.time, {"stream": label, **batch.columns}))

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()


def _refuse_overwriting(laid_out: Plan, loaded: Loaded, options: RunOptions) -> None:
    """An output may be neither an input nor another output: opening it would destroy that."""
    taken = {_identity(stream): f"the input of {stream.name}" for stream in laid_out.sources}
    outputs = [(output.sink.target, output.stream) for output in loaded.program.outputs if output.sink.kind == "file"]
    for target, name in [*outputs, (options.late, "late rows"), (options.dead_letters, "the dead letters")]:
        if target is None:
            continue
        path = Path(target)
        if path.exists() and not path.is_file():
            continue  # a device or a pipe can be written to by many
        identity = str(path.resolve())
        if identity in taken:
            raise Failure(exits.USAGE, f"{target}: the output of {name} would overwrite {taken[identity]}")
        taken[identity] = f"the output of {name}"


def _identity(stream: Stream) -> str:
    target = stream.source.target if stream.source is not None else None
    return str(Path(target).resolve()) if target else f"<{stream.name}>"


def _portion(readers: Sequence[Reader]) -> Callable[[], float | None]:
    """How much of the input has been read, where that is known."""

    def portion() -> float | None:
        totals = [getattr(reader, "total_bytes", None) for reader in readers]
        if not totals or any(total is None for total in totals):
            return None
        read = sum(getattr(reader, "read_bytes", 0) for reader in readers)
        whole = sum(total for total in totals if total is not None)
        return min(1.0, read / whole) if whole else None

    return portion


def _ending(stop: Stop, failure: Failure | None, ending: Ending | None, *, cancelled: bool) -> tuple[int, str]:
    """The exit code, and how the run ended where that was not the end of the input."""
    if failure is not None:
        return failure.code, "failed" if failure.message else ""
    if cancelled or ending == Ending.CANCELED:
        return exits.CANCELED, "cancelled"
    if ending == Ending.STOPPED:
        return exits.OK, "stopped with a savepoint"
    if stop.signal == signal.SIGINT:
        return exits.INTERRUPTED, "interrupted"
    if stop.signal == signal.SIGTERM:
        return exits.TERMINATED, "terminated"
    return exits.OK, ""


def _code_of(error: ConnectorError) -> int:
    if isinstance(error, SourceError):
        return exits.INPUT
    return exits.OUTPUT if isinstance(error, SinkError) else exits.PROBLEMS


def _failure(error: Exception) -> Failure:
    """The exit code and the one line for what ended a run."""
    from ostinato.cep.nfa.matcher import MatchError
    from ostinato.cep.runtime.supervisor import WorkerError

    if isinstance(error, SinkError) and isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EPIPE:
        return Failure(exits.CLOSED_PIPE, None)
    if isinstance(error, ConnectorError):
        return Failure(_code_of(error), str(error))
    if isinstance(error, StrictError):
        return Failure(exits.STRICT, f"bad event at {error} (--strict)")
    if isinstance(error, StateError):
        return Failure(exits.STATE, str(error))
    if isinstance(error, (MatchError, WorkerError)):
        return Failure(exits.FAILED, str(error))
    raise error
