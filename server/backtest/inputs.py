"""Where a backtest's events come from: checked against what may be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ostinato.cep.connectors.factory import KAFKA
from ostinato.patterns.ast import Connector, Stream
from ostinato.server.backtest.spec import Input
from ostinato.server.config import KafkaSection
from ostinato.server.failures import RefusedError
from ostinato.server.http.schemas.jobs import BacktestSource
from ostinato.server.journal.format import segment_name
from ostinato.server.journal.segments import bases, read_header
from ostinato.server.submitted.folders import Folders
from ostinato.server.submitted.programs import check_stream


@dataclass(frozen=True, slots=True)
class Range:
    """Which part of the journal may have records of a time; `note`: what is not there any more."""

    start: int
    until: int
    note: str | None = None


def journal_range(folder: Path, from_ms: int | None, durable: int) -> Range:
    """Where to begin to read: a segment begins with the time of its beginning, so those before need not be looked at.

    Raises:
        RefusedError: nothing is held.
    """
    held = bases(folder) if folder.is_dir() else []
    if not held:
        raise RefusedError("the journal holds nothing yet; send events first, or take files or topics as the source")
    start = held[0]
    note = None
    first_ms = _began(folder, held[0])
    if held[0] > 0 and (from_ms is None or from_ms < first_ms):
        note = f"the journal begins at {first_ms} (epoch ms); what came before is not held any more"
    if from_ms is not None:
        for base in held:
            if _began(folder, base) > from_ms:
                break
            start = base
    return Range(start, max(start, durable), note)


def _began(folder: Path, base: int) -> int:
    with (folder / segment_name(base)).open("rb") as file:
        return read_header(folder, base, file.fileno()).time_ms


def inputs_of(
    source: BacktestSource, streams: Mapping[str, Stream], read: Folders, kafka: KafkaSection, *, is_timed: bool
) -> dict[str, Input]:
    """The connector of each stream: what `source.paths` says, else what the stream declares.

    Args:
        source: files or topics.
        streams: those that are read.
        read: where files may be.
        kafka: what the server knows of its brokers.
        is_timed: only a part of the time is wanted.

    Raises:
        NotAllowedError: a file may not be read.
        RefusedError: a stream has no source of this kind, or one that is declared wrongly.
    """
    unknown = [name for name in source.paths if name not in streams]
    if unknown:
        raise RefusedError(f"paths: no pattern reads a stream `{unknown[0]}`; they read {', '.join(streams) or 'none'}")
    found = {}
    for name, stream in streams.items():
        made = _file(name, stream, source) if source.kind == "files" else _topic(name, stream, source, kafka)
        connector = Connector(made.kind, made.target, made.format, tuple(made.options.items()))
        check_stream(replace(stream, source=connector), read)
        if is_timed and source.kind == "files" and stream.time.mode != "event":
            raise RefusedError(
                f"stream {name} has no event time, by which `from` and `to` could choose; leave them out"
            )
        found[name] = _with_secrets(made, source, kafka)
    return found


def _file(name: str, stream: Stream, source: BacktestSource) -> Input:
    declared = stream.source if stream.source is not None and stream.source.kind == "file" else None
    path = source.paths.get(name) or (declared.target if declared is not None else None)
    if path is None:
        raise RefusedError(
            f"stream {name} has no file; name it in source.paths: {{{name!r}: '/path/below/files.read'}}"
        )
    options: dict[str, Any] = {} if declared is None else dict(declared.options)
    for option in ("follow", "start"):
        options.pop(option, None)
    return Input("file", path, None if declared is None else declared.format, options)


def _topic(name: str, stream: Stream, source: BacktestSource, kafka: KafkaSection) -> Input:
    declared = stream.source if stream.source is not None and stream.source.kind == KAFKA else None
    topic = source.paths.get(name) or (declared.target if declared is not None else None)
    if topic is None:
        raise RefusedError(f"stream {name} has no topic; name one in `source.paths`")
    options: dict[str, Any] = {} if declared is None else dict(declared.options)
    for option in ("start", "until", "keying", "on_lost_offsets"):
        options.pop(option, None)
    if source.bootstrap_servers is not None:
        options["bootstrap_servers"] = source.bootstrap_servers
    elif "bootstrap_servers" not in options and kafka.bootstrap_servers is not None:
        options["bootstrap_servers"] = kafka.bootstrap_servers
    return Input("kafka", topic, None if declared is None else declared.format, options)


def _with_secrets(made: Input, source: BacktestSource, kafka: KafkaSection) -> Input:
    """The server's brokers are talked to as the server does; nobody else is told its password."""
    options = made.options
    is_own = kafka.bootstrap_servers is not None and options.get("bootstrap_servers") == kafka.bootstrap_servers
    if made.kind != KAFKA or source.bootstrap_servers is not None or not is_own:
        return made
    known = {
        "security_protocol": kafka.security_protocol,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": None if kafka.sasl_password is None else kafka.sasl_password.reveal(),
        "ssl_cafile": kafka.ssl_cafile,
    }
    given = {name: value for name, value in known.items() if value is not None}
    return Input("kafka", made.target, made.format, options | given)
