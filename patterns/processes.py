"""Process functions declared with a decorator: what they read, and the streams that they give.

::

    @cep.process(on=Login, into="new_cities", output=NewCity)
    class NewCities(cep.KeyedProcessFunction):
        def open(self, context): ...
        def process_element(self, value, ctx): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.declarations import Event, snake_case
from ostinato.patterns.errors import PatternError, Problem, did_you_mean
from ostinato.patterns.schema import MATCH_TIME, stream_problems
from ostinato.patterns.typecheck import CheckedProgram
from ostinato.patterns.types import TIMESTAMP, Row

Output = type[Event] | Stream | Row
Function = TypeVar("Function", bound=type)


class OutputTag:
    """Another stream that a process function gives: ``yield TAG, row``."""

    def __init__(self, tag_id: str, type_info: Output | None = None) -> None:
        """`tag_id`: the stream's name; `type_info`: its columns, those of the main output by default."""
        if not tag_id:
            raise PatternError(Problem("an output tag needs a name"))
        self.tag_id = tag_id
        self.type_info = type_info

    def __repr__(self) -> str:
        return f"OutputTag({self.tag_id!r})"


@dataclass(frozen=True, slots=True)
class DeclaredProcess:
    """A process function as declared.

    Attributes:
        name: of the operator, under which its state is kept.
        on: the name of the stream it reads.
        stream: that stream's declaration, where it was given.
        make: makes the function's object.
        outputs: the streams it gives, the main one first.
    """

    name: str
    on: str
    stream: Stream | None
    make: Callable[[], Any]
    outputs: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class CheckedProcess:
    """A process function that can run; `stream` is what it reads."""

    declared: DeclaredProcess
    stream: Stream

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def outputs(self) -> tuple[Stream, ...]:
        return self.declared.outputs


def process(
    *,
    on: Any,
    into: str | None = None,
    output: Output | None = None,
    side_outputs: Sequence[OutputTag] = (),
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Declare that the decorated class, a `KeyedProcessFunction`, reads a stream. It is keyed by the stream's key.

    Args:
        on: a class derived from `Event`, a decorated pattern or process function, or the name of a stream.
        into: the stream that its rows become; the name of the class in snake_case by default.
        output: the columns of these rows: those of an event class, or a `Row` type. By default those of what it reads.
            The time column is filled in: it is the time of the event, or of the timer.
        side_outputs: the tags of other streams that it gives.
        name: what its state is kept under; the name of the class in snake_case by default.

    Raises:
        PatternError: it is no process function, or the columns of a stream cannot be known.
    """

    def declare(function: Function) -> Function:
        own = name or snake_case(function.__name__)
        if not own.isidentifier():
            raise PatternError(Problem(f"a process cannot be called {own!r}", hint="use letters, digits and _"))
        if not callable(getattr(function, "process_element", None)):
            raise PatternError(
                Problem(f"{function.__name__} has no process_element", hint="derive it from cep.KeyedProcessFunction")
            )
        source, reads = _source(on)
        main = _stream(into or snake_case(function.__name__), output, source, f"process `{own}`")
        tags = [_stream(tag.tag_id, tag.type_info, main, f"side output `{tag.tag_id}`") for tag in side_outputs]
        outputs = (main, *tags)
        for stream in outputs:
            if stream.name == reads:
                raise PatternError(
                    Problem(f"process `{own}` would give the stream `{reads}`, which it reads", hint="give into=...")
                )
            if sum(each.name == stream.name for each in outputs) > 1:
                raise PatternError(Problem(f"process `{own}` gives two streams `{stream.name}`"))
            problems = list(stream_problems(stream))
            if problems:
                raise PatternError(problems)
        function.__process__ = DeclaredProcess(own, reads, source, function, outputs)  # type: ignore[attr-defined]
        function.__stream__ = main  # type: ignore[attr-defined] # so that patterns can say on=
        return function

    return declare


def collect_processes(namespace: Mapping[str, Any]) -> tuple[DeclaredProcess, ...]:
    """The process functions of a module (its ``vars()``), in the order of the text, each once.

    Raises:
        PatternError: two have one name.
    """
    return declared_processes(value for value in namespace.values() if isinstance(value, type))


def declared_processes(functions: Iterable[type]) -> tuple[DeclaredProcess, ...]:
    """What was declared of those classes that are process functions. Raises PatternError: two have one name."""
    found: dict[str, DeclaredProcess] = {}
    for function in functions:
        declared = vars(function).get("__process__")
        if isinstance(declared, DeclaredProcess) and found.setdefault(declared.name, declared) is not declared:
            raise PatternError(Problem(f"there are two processes `{declared.name}`", hint="give one of them name=..."))
    return tuple(found.values())


def streams_of(processes: Iterable[DeclaredProcess]) -> tuple[Stream, ...]:
    """The streams that processes read, as far as they know their columns, and those that they give, each once.

    Raises:
        PatternError: two give different columns under one name.
    """
    streams: dict[str, Stream] = {}
    for declared in processes:
        for stream in (*([declared.stream] if declared.stream is not None else []), *declared.outputs):
            if streams.setdefault(stream.name, stream) != stream:
                raise PatternError(
                    Problem(f"there are two different streams `{stream.name}`", hint="give one of them into=...")
                )
    return tuple(streams.values())


def check_processes(declared: Sequence[DeclaredProcess], program: CheckedProgram) -> tuple[CheckedProcess, ...]:
    """The processes with the streams of the program that they read.

    Raises:
        PatternError: there is no such stream.
    """
    checked, problems = [], []
    for each in declared:
        stream = program.streams.get(each.on)
        if stream is None:
            hint = did_you_mean(each.on, program.streams) or f"there are {', '.join(program.streams)}"
            problems.append(Problem(f"process `{each.name}` reads `{each.on}`, which is no stream", hint=hint))
        else:
            checked.append(CheckedProcess(each, stream))
    if problems:
        raise PatternError(problems)
    return tuple(checked)


def _source(on: Any) -> tuple[Stream | None, str]:
    if isinstance(on, Stream):
        return on, on.name
    if isinstance(on, str):
        return None, on
    found = vars(on).get("__stream__") if isinstance(on, type) else None
    if isinstance(found, Stream):
        return found, found.name
    tree = getattr(on, "ast", None)
    if tree is not None:
        return None, tree.into or tree.name
    raise PatternError(
        Problem(f"{on!r} is no stream", hint="give a class derived from cep.Event, a pattern, or a stream's name")
    )


def _stream(name: str, output: Output | None, source: Stream | None, where: str) -> Stream:
    """The stream `name` with the columns of an output; its time is filled in by whoever makes its rows."""
    given: Stream | None
    if isinstance(output, Row):
        keys = source.keys if source is not None else ()
        fields = tuple(FieldDecl(column, type_, column in keys) for column, type_ in output.fields)
        given = Stream(name, fields, TimeDecl(column=None))
    elif output is None:
        given = source
    else:
        given = output if isinstance(output, Stream) else getattr(output, "__stream__", None)
        if not isinstance(given, Stream):
            raise PatternError(
                Problem(f"{where}: {output!r} has no columns", hint="give a class derived from cep.Event")
            )
    if given is None:
        raise PatternError(Problem(f"{where}: what columns do its rows have?", hint="give output=: a cep.Event class"))
    columns = tuple(replace(column, source=None, span=None) for column in given.columns)
    time = given.time.column
    if time is None and all(column.name != MATCH_TIME for column in columns):
        columns = (*columns, FieldDecl(MATCH_TIME, TIMESTAMP))
    else:
        columns = tuple(replace(each, type=TIMESTAMP) if each.name == time else each for each in columns)
    return Stream(name, columns, TimeDecl(column=time or MATCH_TIME))
