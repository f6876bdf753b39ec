"""From what a program declares to what reads, decodes and writes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ostinato.cep.connectors.base import ConnectorError, Decoder, Options, Reader, Sink, SourceError
from ostinato.patterns.ast import Connector, Stream
from ostinato.patterns.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostinato.cep.connectors.pending import PendingFile
    from ostinato.cep.connectors.room import Room

KAFKA = "kafka"
"""The kind of connectors to topics."""
FORMATS = ("json", "csv", "tsv", "parquet", "text")
_SYNONYMS = {"jsonl": "json", "ndjson": "json", "line": "text", "lines": "text", "log": "text", "pq": "parquet"}
_CSV_RECORD_BYTES = 16 << 20
"""A stray quote may join all that follows to one record; it ends here."""


class Source(NamedTuple):
    """What a stream is read with."""

    reader: Reader
    decoder: Decoder


def source_for(
    stream: Stream, columns: frozenset[str] | None = None, *, target: str | None = None, follow: bool | None = None
) -> Source:
    """The reader and the decoder of a stream's source.

    `columns` are those needed besides keys and time (None: all). `target` and `follow`, where given, take the place
    of what the stream says; a target of ``-`` is standard input. Raises ConnectorError for what is declared wrongly,
    SourceError where there is nothing to read.
    """
    return Source(reader_for(stream, columns, target=target, follow=follow), decoder_for(stream, columns))


def reader_for(
    stream: Stream,
    columns: frozenset[str] | None = None,
    *,
    target: str | None = None,
    follow: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> Reader:
    """The reader of a stream's source; see `source_for`. `say` is told what the user should know while it reads."""
    from ostinato.cep.connectors.base import MAX_RECORD_BYTES
    from ostinato.cep.connectors.files import unbuffered
    from ostinato.cep.connectors.reader import FileReader, Framing, StreamReader

    if target is None and _is_kafka(stream):
        return _kafka_reader(stream, say)
    connector, form, options = _declared(stream)
    kind, path = _place(connector, target, f"stream {stream.name}")
    follows = options.flag("follow") if follow is None else follow
    from_end = options.text("start", "beginning") == "end"
    csv = form in ("csv", "tsv")
    quote = options.text("quote", '"') if csv else None
    framing = Framing(
        quote=ord(quote) if quote else None,
        header=options.flag("header", True) if csv else False,
        chunk_bytes=max(1, options.number("chunk_bytes", _chunk_bytes(kind, path))),
        max_record_bytes=options.number("max_record_bytes", _CSV_RECORD_BYTES if csv else MAX_RECORD_BYTES),
    )
    if form == "parquet":
        from ostinato.cep.connectors.parquet import ParquetColumns, ParquetReader

        if kind == "stdin" or follows:
            raise ConnectorError(f"stream {stream.name}: Parquet can be read only from whole files")
        return ParquetReader(path, ParquetColumns(stream, columns).columns)
    if kind == "stdin":
        return StreamReader(unbuffered(sys.stdin), framing)
    return FileReader(path, framing, follow=follows, from_end=from_end)


def _chunk_bytes(kind: str, path: str) -> int:
    """How much is read at a time where nothing is said about it; a source that has less at the moment gives less."""
    from ostinato.cep.connectors.base import CHUNK_BYTES, CHUNKS_OF_A_FILE, LARGE_CHUNK_BYTES
    from ostinato.cep.connectors.files import total_size

    size = total_size(glob(path, recursive=True)) if kind == "file" else 0  # noqa: PTH207
    return max(CHUNK_BYTES, min(LARGE_CHUNK_BYTES, size // CHUNKS_OF_A_FILE))


def decoder_for(stream: Stream, columns: frozenset[str] | None = None, *, by_partition: bool = False) -> Decoder:
    """The decoder of a stream's source; columns not in `columns` are left out, save keys and the event time.

    `by_partition`: each partition of a topic is a job of its own, so the keys of records must be those of the stream.
    """
    if _is_kafka(stream):
        return _kafka_decoder(stream, columns, by_partition=by_partition)
    _, form, options = _declared(stream)
    year = options.number("year", 0) or None
    if form == "json":
        from ostinato.cep.connectors.json_lines import JsonLines

        return JsonLines(stream, columns, year=year)
    if form in ("csv", "tsv"):
        from ostinato.cep.connectors.csv_lines import CsvLines

        return CsvLines(
            stream,
            columns,
            delimiter=options.text("delimiter", "\t" if form == "tsv" else ",") or "",
            quote=options.text("quote", '"') or "",
            null=options.text("null", "") or "",
            year=year,
        )
    if form == "parquet":
        from ostinato.cep.connectors.parquet import ParquetColumns

        return ParquetColumns(stream, columns, year=year)
    from ostinato.cep.connectors.text_lines import TextLines

    mismatch = options.text("on_mismatch", "skip")
    if mismatch not in ("skip", "error"):
        raise ConnectorError(f"stream {stream.name}: option `on_mismatch` must be 'skip' or 'error', not {mismatch!r}")
    return TextLines(
        stream,
        columns,
        pattern=options.text("pattern"),
        strict=mismatch == "error",
        repeat=options.text("repeat"),
        year=year,
    )


def check_source(stream: Stream) -> None:
    """Raise ConnectorError for whatever is wrong in a stream's declared source, without touching files or a network."""
    if _is_kafka(stream):
        decoder_for(stream, by_partition=True)
        return
    _, form, options = _declared(stream)
    _place(stream.source or Connector("stdin"), None, f"stream {stream.name}")
    known = {"follow", "start", "chunk_bytes", "max_record_bytes", "year"}
    known |= {
        "csv": {"header", "quote", "delimiter", "null"},
        "tsv": {"header", "quote", "delimiter", "null"},
        "text": {"pattern", "on_mismatch", "repeat"},
    }.get(form, set())
    options.finish(known)
    decoder_for(stream)


def text_format(stream: Stream) -> str | None:
    """``json``, ``csv``, ...: the format of what is read for a stream; None: of Kafka's records."""
    return None if _is_kafka(stream) else _declared(stream)[1]


def is_live(stream: Stream) -> bool:
    """Are events read as they are made, so that the clock says what is the future?"""
    return stream.source is not None and (_is_kafka(stream) or bool(dict(stream.source.options).get("follow")))


def _is_kafka(stream: Stream) -> bool:
    return stream.source is not None and stream.source.kind == "kafka"


def _kafka_reader(stream: Stream, say: Callable[[str], None] | None) -> Reader:
    from ostinato.cep.connectors.kafka.options import source_options

    assert stream.source is not None
    source = source_options(stream.source, f"stream {stream.name}")
    try:
        from ostinato.cep.connectors.kafka.reader import KafkaReader
    except ImportError as error:
        raise ConnectorError(
            f"stream {stream.name}: reading Kafka needs {error.name}; install it with pip install 'ostinato[kafka]'"
        ) from error
    return KafkaReader(source, say=say)


def _kafka_decoder(stream: Stream, columns: frozenset[str] | None, *, by_partition: bool) -> Decoder:
    from ostinato.cep.connectors.kafka.decoding import KafkaDecoder
    from ostinato.cep.connectors.kafka.options import source_options

    assert stream.source is not None
    owner = f"stream {stream.name}"
    keying = source_options(stream.source, owner).keying if by_partition else "trust"
    year = Options(owner, stream.source.options).number("year", 0) or None
    return KafkaDecoder(stream, columns, year=year, keying=keying, form=stream.source.format)


def check_repeatable(stream: Stream, reader: Reader) -> None:
    """Raise SourceError where a job that is resumed could not read again what it had read."""
    if not getattr(reader, "repeatable", True):
        place = stream.source.target if stream.source is not None and stream.source.target else "standard input"
        raise SourceError(
            f"stream {stream.name}: {place} cannot be read a second time, so a job that is resumed from a checkpoint "
            "would miss events; read from a file, or run without checkpoints"
        )


def sink_for(
    connector: Connector,
    name: str,
    *,
    target: str | None = None,
    room: Room | None = None,
    keys: Sequence[str] = (),
) -> Sink:
    """The sink of the stream `name`. A `target` takes the place of the connector's; ``-`` is standard output.

    Standard output is a table where it is a terminal and no format is declared, else JSON lines. With a `room` files
    are written by `TransactionalSink`; what is no regular file (a device, a pipe) cannot be, nor can standard output.
    `keys`: the stream's, which are the key of a record for Kafka.
    """
    if target is None and connector.kind == KAFKA:
        from ostinato.cep.connectors.kafka.options import target_options
        from ostinato.cep.connectors.kafka.sink import KafkaSink

        topic = target_options(connector, f"output {name}")
        return KafkaSink(topic, topic.key or keys)
    from ostinato.cep.connectors.output import LineFile
    from ostinato.cep.connectors.sinks import CsvSink, JsonSink, TableSink

    form, path, options = check_sink(connector, name, target=target)
    delimiter = options.text("delimiter", "\t" if form == "tsv" else ",") or ","
    append = options.flag("append")
    header = options.flag("header", not (append and path is not None and _has_content(path)))
    transactional = room is not None and path is not None and (Path(path).is_file() or not Path(path).exists())
    identity = f"{name} -> {os.path.realpath(path)}" if path is not None else name
    if form == "parquet":
        assert path is not None
        if transactional:
            from ostinato.cep.connectors.parquet_rows import TransactionalParquet

            assert room is not None
            return TransactionalParquet(identity, path, room)
        from ostinato.cep.connectors.parquet_sink import ParquetSink

        return ParquetSink(path)
    output: LineFile | PendingFile
    if transactional:
        from ostinato.cep.connectors.pending import PendingFile
        from ostinato.cep.connectors.transactional import TransactionalLines

        assert path is not None
        assert room is not None
        output = PendingFile(path, room, append=append)
    else:
        output = LineFile.of_stream(sys.stdout, "<stdout>") if path is None else LineFile.create(path, append=append)
    sink: CsvSink | TableSink | JsonSink
    if form in ("csv", "tsv"):
        sink = CsvSink(output, delimiter=delimiter, header=header)
    elif form == "table":
        sink = TableSink(output, title=name, colour=path is None and sys.stdout.isatty())
    else:
        sink = JsonSink(output)
    if isinstance(output, LineFile):
        return sink
    return TransactionalLines(identity, sink, output)


def check_sink(connector: Connector, name: str, *, target: str | None = None) -> tuple[str, str | None, Options]:
    """Format, path (None: standard output) and options of a sink; raises ConnectorError for whatever is wrong in
    them, without touching a file."""
    owner = f"output {name}"
    options = Options(owner, connector.options)
    path = None if target == "-" else target
    if target is None and connector.kind != "stdout":
        path = connector.target
        if connector.kind != "file" or path is None:
            kinds = ["file", "kafka", "stdout"]
            hint = did_you_mean(connector.kind, kinds) or "use file 'path', kafka 'topic' or stdout"
            raise ConnectorError(f"{owner}: there is no connector {connector.kind!r} to write to; {hint}")
    declared = connector.format if target in (None, "-") else None
    form = _form(declared, path, owner, default="table" if path is None and sys.stdout.isatty() else "json")
    if form == "text":
        raise ConnectorError(f"{owner}: text cannot be written; use json, csv, tsv, parquet or table")
    if form == "parquet" and path is None:
        raise ConnectorError(f"{owner}: Parquet can be written only to a file")
    known = {"csv": {"append", "delimiter", "header"}, "parquet": set[str]()}
    options.finish(known.get("csv" if form == "tsv" else form, {"append"}))
    return form, path, options


def _has_content(path: str) -> bool:
    return Path(path).is_file() and Path(path).stat().st_size > 0


def _declared(stream: Stream) -> tuple[Connector, str, Options]:
    connector = stream.source or Connector("stdin")
    owner = f"stream {stream.name}"
    return (
        connector,
        _form(connector.format, connector.target, owner, default="json"),
        Options(owner, connector.options),
    )


def _place(connector: Connector, target: str | None, owner: str) -> tuple[str, str]:
    """The kind of place and the path that are read."""
    if target is not None:
        return ("stdin", "") if target == "-" else ("file", target)
    if connector.kind == "stdin":
        return "stdin", ""
    if connector.kind == "file":
        if not connector.target:
            raise SourceError(f"{owner}: `from file` needs a path, such as from file 'events.jsonl'")
        return "file", connector.target
    hint = did_you_mean(connector.kind, ["file", "stdin", "kafka"]) or "use file, stdin or kafka"
    raise ConnectorError(f"{owner}: there is no connector {connector.kind!r} to read from; {hint}")


def _form(declared: str | None, path: str | None, owner: str, *, default: str) -> str:
    """The format: as declared, else by the ending of the path, else the default."""
    if declared is not None:
        form = _SYNONYMS.get(declared.lower(), declared.lower())
        if form not in (*FORMATS, "table"):
            hint = did_you_mean(form, FORMATS) or f"use one of {', '.join(FORMATS)}"
            raise ConnectorError(f"{owner}: there is no format {declared!r}; {hint}")
        return form
    endings = [ending[1:].lower() for ending in Path(path or "").suffixes]
    for ending in reversed(endings):
        if ending in ("gz", "zst"):
            continue
        form = {**_SYNONYMS, "txt": "text"}.get(ending, ending)
        return form if form in FORMATS else default
    return default
