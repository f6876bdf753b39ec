"""Programs that come over HTTP: checked, and held to the files and topics that they may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.factory import KAFKA, check_sink, check_source
from ostinato.cep.runtime.load import Loaded, ProgramSpec, load
from ostinato.patterns.ast import Connector, Declaration, OutputDecl, Program, Stream
from ostinato.patterns.parser import parse_program
from ostinato.patterns.printer import print_program
from ostinato.server.failures import NotAllowedError, NotThereError, RefusedError
from ostinato.server.submitted.folders import Folders

_TLS_FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
SECRETS: Final = ("sasl_plain_password", "ssl_password")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of streams that the command line can name."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A program that may run. `unclaimed`: streams that it makes and sends nowhere."""

    loaded: Loaded
    unclaimed: tuple[str, ...]


def check_program(
    text: str, name: str, params: Mapping[str, str], *, read: Folders, write: Folders, output: Path
) -> Checked:
    """Check the text of a program as it is before it runs. Touches no network and writes nothing.

    Args:
        text: the program.
        name: of the job, for messages.
        params: values of its parameters, as text.
        read, write: where files may be.
        output: the folder that the job runs in: outputs with relative paths are written there.

    Raises:
        PatternError: something is wrong in it.
        NotAllowedError: it names a file that it may not.
        RefusedError: a source or an output is declared wrongly, or is not there.
    """
    loaded = load(ProgramSpec(f"{name}.cep", text, dict(params)))
    plan = loaded.plan
    for stream in plan.sources:
        check_stream(stream, read)
    claimed = set()
    for sink in loaded.program.outputs:
        claimed.add(sink.stream)
        _check_output(sink.sink, sink.stream, read, write, output)
    return Checked(loaded, tuple(each for each in plan.delivered if each not in claimed and _PLAIN.fullmatch(each)))


def check_stream(stream: Stream, read: Folders) -> None:
    """May this be read? Raises as `check_program`."""
    what = f"stream {stream.name}"
    source = stream.source
    if source is None or source.kind == "stdin":
        raise RefusedError(f"{what} has no source that the server could read; write `from file` or `from kafka`")
    try:
        check_source(stream)
    except ConnectorError as error:
        raise RefusedError(str(error)) from error
    if source.kind == KAFKA:
        check_kafka(source, what, read)
    else:
        assert source.target is not None
        read.check_glob(source.target, what)


def check_kafka(connector: Connector, what: str, read: Folders) -> None:
    """Options that name files, or variables of the server's environment, would send what is in them to any broker."""
    options = dict(connector.options)
    for option in _TLS_FILES:
        if option in options:
            read.check(str(options[option]), f"{what}, {option}")
    for option in SECRETS:
        kind, colon, rest = str(options.get(option, "")).partition(":")
        if colon and kind == "file":
            read.check(rest, f"{what}, {option}")
        elif colon and kind == "env":
            raise NotAllowedError(
                f"{what}, {option}: the environment is the server's; write `file:PATH` below {read.setting}"
            )


def _check_output(sink: Connector, name: str, read: Folders, write: Folders, output: Path) -> None:
    what = f"output {name}"
    try:
        if sink.kind == KAFKA:
            from ostinato.cep.connectors.kafka.options import target_options

            target_options(sink, what)
            check_kafka(sink, what, read)
            return
        _, path, _ = check_sink(sink, name)
    except ConnectorError as error:
        raise RefusedError(str(error)) from error
    if path is None:
        return
    given = Path(path)
    if given.is_absolute():
        real = write.check(path, what)
        if real.exists() and not real.is_file():
            raise NotAllowedError(f"{what}: {path} is no file")
    else:
        Folders((output,), "the job's own folder").check(str(output / given), what)


def with_brokers(text: str, options: Mapping[str, str]) -> str:
    """The text, where topics that name no brokers are those of the server, reached as the server does.

    Args:
        text: a program that has been checked.
        options: of connectors.
    """
    program = parse_program(text)

    def reached(connector: Connector | None) -> Connector | None:
        if connector is None or connector.kind != KAFKA or "bootstrap_servers" in dict(connector.options):
            return connector
        return replace(connector, options=(*options.items(), *connector.options))

    # where topics are read, those that are written are in the cluster of the first of them: see `load`
    reads = any(stream.source is not None and stream.source.kind == KAFKA for stream in program.streams)
    declarations: list[Declaration] = []
    for each in program.declarations:
        if isinstance(each, Stream):
            each = replace(each, source=reached(each.source))
        elif isinstance(each, OutputDecl) and not reads:
            sink = reached(each.sink)
            assert sink is not None
            each = replace(each, sink=sink)
        declarations.append(each)
    return text if tuple(declarations) == program.declarations else print_program(Program(tuple(declarations)))


def find_module(path: str, allowed: Folders) -> Path:
    """The file of an ``app.py``: below `modules.paths`, which `path` may be relative to.

    Raises:
        NotAllowedError: it lies elsewhere.
        NotThereError: there is no such file.
        RefusedError: it is no Python file.
    """
    what = "module"
    if not path.endswith(".py"):
        raise RefusedError(f"{what}: {path} is no Python file; programs in .cep files are sent as text")
    if Path(path).is_absolute() or not allowed.paths:
        real = allowed.check(path, what)
        if not real.is_file():
            raise NotThereError(f"{what}: there is no file {path}")
        return real
    for folder in allowed.paths:
        real = allowed.check(str(folder / path), what)
        if real.is_file():
            return real
    raise NotThereError(f"{what}: there is no file {path} in {', '.join(map(str, allowed.paths))} ({allowed.setting})")
