"""One run of a program from the command line: opens what is read and written, runs, says what came of it."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import ConnectorError, Reader, Sink, SinkError, SourceError
from ostinato.cep.connectors.dead_letters import DeadLetters
from ostinato.cep.connectors.factory import check_source, reader_for, sink_for
from ostinato.cep.runtime.load import Loaded, LoadError, ProgramSpec, load
from ostinato.cep.runtime.outputs import Outputs, StrictError
from ostinato.cep.runtime.plan import LATE, Plan, plan
from ostinato.cep.runtime.stopping import Stop
from ostinato.patterns.ast import Connector, Stream
from ostinato.patterns.errors import PatternError
from ostinato.patterns.types import STRING
from ostinato.server import exits
from ostinato.server.console import Progress, as_json, summary


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says besides the program."""

    workers: int
    strict: bool
    dead_letters: str
    late: str | None
    format: str | None
    limit: int | None
    show: int | None
    as_json: bool
    progress: bool


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
        except ConnectorError as error:
            click.echo(f"ostinato: {error}", err=True)
            return _code_of(error)


def _run(spec: ProgramSpec, options: RunOptions, stop: Stop) -> int:
    try:
        loaded = load(spec)
    except LoadError as error:
        raise Failure(exits.INPUT, str(error)) from error
    laid_out = _with_sources(plan(loaded.program))
    for stream in laid_out.sources:
        check_source(stream)
    readers = [reader_for(stream, workers=options.workers) for stream in laid_out.sources]
    _refuse_overwriting(laid_out, loaded, options)
    dead_letters = DeadLetters(options.dead_letters)
    outputs = Outputs(
        _sinks(loaded, laid_out, options),
        dead_letters,
        strict=options.strict,
        limit=options.limit,
        show=options.show,
        stop=stop,
    )
    progress = Progress(_portion(readers), wanted=options.progress)
    announced = _Announcement(progress)
    job = _make_job(spec, loaded, laid_out, readers, outputs, options, progress, announced)
    failure = None
    try:
        job.run(stop)
    except Exception as error:  # noqa: BLE001 - what is unknown is raised again
        failure = _failure(error)
    finally:
        progress.clear()
        for reader in readers:
            reader.close()
    try:
        outputs.close()
    except SinkError as error:
        failure = failure or _failure(error)
    outputs.report(job.statistics)
    code, ended = _ending(stop, failure)
    if failure is not None and failure.message is not None:
        click.echo(f"ostinato: {failure.message}", err=True)
    if code != exits.CLOSED_PIPE:
        late = options.late
        if options.as_json:
            click.echo(as_json(job.statistics, options.dead_letters, late, ended or "end of input"), err=True)
        else:
            ended = f"{ended}: " if ended else ""
            shown = options.show is not None
            click.echo(summary(job.statistics, options.dead_letters, late, ended, part_shown=shown), err=True)
    return code


def _make_job(
    spec: ProgramSpec,
    loaded: Loaded,
    laid_out: Plan,
    readers: Sequence[Reader],
    outputs: Outputs,
    options: RunOptions,
    progress: Progress,
    announced: Callable[[str], None],
) -> Any:
    if options.workers == 1:
        from ostinato.cep.compiling import on_compile
        from ostinato.cep.runtime.job import LocalJob

        on_compile(announced)
        definition = replace(loaded.definition, plan=laid_out)
        return LocalJob(definition, readers, outputs, observer=progress.update)
    import msgspec

    from ostinato.cep.runtime.supervisor import ParallelJob

    return ParallelJob(
        {"program": msgspec.to_builtins(spec)},
        laid_out,
        readers,
        outputs,
        workers=options.workers,
        observer=progress.update,
        announce=announced,
    )


class _Announcement:
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


def _sinks(loaded: Loaded, laid_out: Plan, options: RunOptions) -> dict[str, list[Sink]]:
    """The sinks of each stream: as declared, else standard output."""
    sinks: dict[str, list[Sink]] = {}
    for output in loaded.program.outputs:
        sinks.setdefault(output.stream, []).append(sink_for(output.sink, output.stream))
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
        sinks.setdefault(name, []).append(sink_for(Connector("file", options.late), name))
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


def _ending(stop: Stop, failure: Failure | None) -> tuple[int, str]:
    """The exit code, and how the run ended where that was not the end of the input."""
    if failure is not None:
        return failure.code, "failed" if failure.message else ""
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
    if isinstance(error, (MatchError, WorkerError)):
        return Failure(exits.FAILED, str(error))
    raise error
