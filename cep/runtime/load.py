"""From a file to a job: a ``.cep`` file, or a Python module with decorated patterns.

A program is described by plain values (`ProgramSpec`), so that worker processes make the same job of it themselves.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ostinato.cep.connectors.factory import KAFKA
from ostinato.cep.runtime.plan import LATE, Maker, Plan, plan, streams_made
from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError, Problem, did_you_mean
from ostinato.patterns.parser import parse_program
from ostinato.patterns.processes import check_processes, collect_processes, streams_of
from ostinato.patterns.typecheck import CheckedProgram, check_program
from ostinato.state.typed import convert

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import Definition
    from ostinato.patterns.decorators import DeclaredPattern
    from ostinato.patterns.processes import CheckedProcess, DeclaredProcess


class ConnectorSpec(msgspec.Struct, frozen=True):
    """A source that takes the place of a declared one. `options` are added to those declared."""

    kind: str
    target: str | None = None
    format: str | None = None
    options: dict[str, Any] = {}


class ProgramSpec(msgspec.Struct, frozen=True):
    """A program as plain values.

    Attributes:
        path: the file.
        text: what a ``.cep`` file says; None for a Python module.
        params: values of parameters, as text.
        inputs: sources by stream; under ``""`` that of the only stream.
        outputs: sinks by stream that take the place of declared ones; under ``""`` that of the only output.
        whole_rows: see `Definition`.
    """

    path: str
    text: str | None = None
    params: dict[str, str] = {}
    inputs: dict[str, ConnectorSpec] = {}
    outputs: dict[str, ConnectorSpec] = {}
    whole_rows: bool = False


class LoadError(Exception):
    """The file cannot be read or run; the message says why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program that has been checked."""

    program: CheckedProgram
    declared: tuple[DeclaredPattern, ...]
    whole_rows: bool
    processes: tuple[CheckedProcess, ...] = ()

    @property
    def plan(self) -> Plan:
        """The job laid out. Raises PatternError where it reads its own output in a circle."""
        return plan(self.program, self.processes)

    @property
    def definition(self) -> Definition:
        """The job to run."""
        from ostinato.cep.runtime.job import Definition
        from ostinato.cep.runtime.python_rows import select_for

        selects = {
            declared.name: select_for(declared)
            for declared in self.declared
            if not declared.ast.emit and not declared.ast.count
        }
        return Definition(self.plan, selects, self.whole_rows)


def read_spec(
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    inputs: Mapping[str, ConnectorSpec] | None = None,
    outputs: Mapping[str, ConnectorSpec] | None = None,
    whole_rows: bool = False,
) -> ProgramSpec:
    """The program in a file, its text read.

    Raises:
        LoadError: there is no such file, or it is no text.
    """
    if path.endswith(".py"):
        if not Path(path).is_file():
            raise LoadError(f"{path}: no such file")
        text = None
    else:
        text = read_text(path)
    return ProgramSpec(path, text, dict(params or {}), dict(inputs or {}), dict(outputs or {}), whole_rows)


def read_text(path: str) -> str:
    """The text of a file of patterns.

    Raises:
        LoadError: it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise LoadError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise LoadError(f"{path}: not UTF-8 text (byte {error.start})") from error


def load(spec: ProgramSpec | Mapping[str, Any]) -> Loaded:
    """Check a program.

    Raises:
        PatternError: something is wrong in it; the error knows the file.
        LoadError: a Python module could not be run.
    """
    if not isinstance(spec, ProgramSpec):
        spec = convert(spec, ProgramSpec)
    declared: tuple[DeclaredPattern, ...] = ()
    functions: tuple[DeclaredProcess, ...] = ()
    if spec.text is not None:
        program = parse_program(spec.text, spec.path)
    else:
        program, declared, functions = _load_module(spec.path)
    try:
        checked = check_program(_with_inputs(program, spec.inputs, functions), spec.params)
        processes = check_processes(functions, checked)
    except PatternError as error:
        raise error.located(spec.text, spec.path) if spec.text is not None else error from None
    checked = _connected(_with_outputs(checked, spec.outputs, processes))
    whole_rows = spec.whole_rows or any(output.stream.endswith(LATE) for output in checked.outputs)
    return Loaded(checked, declared, whole_rows, processes)


def readable_streams(program: ast.Program, functions: Sequence[DeclaredProcess] = ()) -> list[str]:
    """The declared streams that are read and that nothing makes."""
    made = {pattern.into or pattern.name for pattern in program.patterns}
    made |= {pattern.timeouts_into for pattern in program.patterns if pattern.timeouts_into}
    made |= {stream.name for function in functions for stream in function.outputs}
    read = {pattern.on for pattern in program.patterns} | {function.on for function in functions}
    return [stream.name for stream in program.streams if stream.name in read - made]


def _with_inputs(
    program: ast.Program, inputs: Mapping[str, ConnectorSpec], functions: Sequence[DeclaredProcess]
) -> ast.Program:
    """The program with other sources for some streams."""
    if not inputs:
        return program
    known = readable_streams(program, functions)
    chosen = {}
    for name, connector in inputs.items():
        if name == "" and len(known) != 1:
            streams = ", ".join(known) or "none"
            raise PatternError(Problem("which stream is --input for?", hint=f"write --input STREAM=FILE ({streams})"))
        if name and name not in known:
            hint = did_you_mean(name, known) or f"the streams that are read are {', '.join(known)}"
            raise PatternError(Problem(f"--input: there is no stream `{name}` to read", hint=hint))
        chosen[name or known[0]] = connector
    declarations = tuple(
        replace(each, source=_merged(each.source, chosen[each.name]))
        if isinstance(each, ast.Stream) and each.name in chosen
        else each
        for each in program.declarations
    )
    return ast.Program(declarations)


def _with_outputs(
    checked: CheckedProgram, outputs: Mapping[str, ConnectorSpec], processes: Sequence[CheckedProcess]
) -> CheckedProgram:
    """The program with other sinks for some streams."""
    if not outputs:
        return checked
    makers: list[Maker] = [*checked.patterns, *processes]
    made = dict.fromkeys(name for maker in makers for name in streams_made(maker))
    known = [*made, *(stream + LATE for stream in checked.streams if stream not in made)]
    read = {maker.stream.name for maker in makers}
    likely = list(dict.fromkeys([*(output.stream for output in checked.outputs), *(n for n in made if n not in read)]))
    chosen = {}
    for name, connector in outputs.items():
        if name == LATE:
            only = readable_streams_of(checked, made)
            if len(only) != 1:
                names = ", ".join(stream + LATE for stream in only)
                raise PatternError(Problem("which stream is --late for?", hint=f"write --output NAME=... ({names})"))
            name = only[0] + LATE
        if name == "" and len(likely) != 1:
            raise PatternError(Problem("what is --output for?", hint=f"write --output NAME=FILE ({', '.join(likely)})"))
        if name and name not in known:
            hint = did_you_mean(name, known) or f"what comes out is {', '.join(made)}"
            raise PatternError(Problem(f"--output: there is no `{name}`", hint=hint))
        options = tuple(connector.options.items())
        sink = ast.Connector(connector.kind, connector.target, connector.format, options)
        chosen[name or likely[0]] = ast.OutputDecl(name or likely[0], sink)
    kept = tuple(output for output in checked.outputs if output.stream not in chosen)
    return replace(checked, outputs=(*kept, *chosen.values()))


def readable_streams_of(checked: CheckedProgram, made: Collection[str]) -> list[str]:
    """The streams that patterns read and that none of them makes."""
    return list(dict.fromkeys(each.stream.name for each in checked.patterns if each.stream.name not in made))


def _connected(checked: CheckedProgram) -> CheckedProgram:
    """The program, where topics that are written without a word about the cluster are in that of the sources."""
    from ostinato.cep.connectors.kafka.options import CONNECTION

    sources = [stream.source for stream in checked.streams.values() if stream.source is not None]
    known = next((dict(source.options) for source in sources if source.kind == KAFKA), {})
    how = {name: value for name, value in known.items() if name in CONNECTION}
    if "bootstrap_servers" not in how:
        return checked
    outputs = tuple(
        replace(output, sink=replace(output.sink, options=(*how.items(), *output.sink.options)))
        if output.sink.kind == KAFKA and "bootstrap_servers" not in dict(output.sink.options)
        else output
        for output in checked.outputs
    )
    return replace(checked, outputs=outputs)


def _merged(declared: ast.Connector | None, given: ConnectorSpec) -> ast.Connector:
    """Another place to read from; how the stream is written stays as declared, unless said otherwise."""
    format_, options = given.format, dict(given.options)
    is_moved = declared is not None and (declared.kind == KAFKA) != (given.kind == KAFKA)
    if is_moved:
        return ast.Connector(given.kind, given.target, format_, tuple(options.items()))
    if declared is not None and (format_ is None or format_ == declared.format):
        format_ = declared.format
        options = {**dict(declared.options), **options}
        if given.kind != "file":
            options.pop("follow", None)
    return ast.Connector(given.kind, given.target, format_, tuple(options.items()))


def _load_module(path: str) -> tuple[ast.Program, tuple[DeclaredPattern, ...], tuple[DeclaredProcess, ...]]:
    """Run a Python file and collect its streams, patterns and process functions."""
    from ostinato.patterns.decorators import collect

    file = Path(path).resolve()
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for `python app.py`: the file may import its neighbours
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Functions find their globals, and dataclasses their module, by this name.
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    except PatternError as error:
        raise error.located(error.source or "", path) if error.filename == "<pattern>" else error from None
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{path}:{frames[-1].lineno}" if frames else path
        raise LoadError(f"{where}: {type(error).__name__}: {error}") from error
    streams, patterns = collect(vars(module))
    functions = collect_processes(vars(module))
    if not patterns and not functions:
        hint = "decorate a function with @cep.pattern(...) at the top level of the module"
        raise PatternError(Problem("there is no pattern in it", hint=hint), filename=path)
    declared = dict.fromkeys((*streams, *streams_of(functions)))
    return ast.Program((*declared, *(pattern.ast for pattern in patterns))), patterns, functions
