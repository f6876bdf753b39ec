"""From declarations to readers, decoders and sinks."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import Chunk, ConnectorError, SourceError
from ostinato.cep.connectors.csv_lines import CsvLines
from ostinato.cep.connectors.factory import check_source, decoder_for, sink_for, source_for
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.cep.connectors.kafka import options as kafka_options
from ostinato.cep.connectors.parquet import ParquetColumns
from ostinato.cep.connectors.templates import NAMES
from ostinato.cep.connectors.text_lines import TextLines
from ostinato.patterns.ast import Connector, FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, STRING, TIMESTAMP

COLUMNS = (FieldDecl("user", STRING, key=True), FieldDecl("ts", TIMESTAMP), FieldDecl("n", BIGINT))


def stream(source: Connector | None) -> Stream:
    return Stream("logins", COLUMNS, TimeDecl("ts"), source)


def read(source: Connector, **options: Any) -> list[Any]:
    """The rows of a source."""
    made = source_for(stream(source), **options)
    rows: list[Any] = []
    while isinstance(chunk := made.reader.read(), Chunk):
        batch, bad = made.decoder.decode(chunk)
        assert not bad
        rows += [tuple(batch.row(i).values()) for i in range(len(batch))]
    return rows


@pytest.mark.parametrize(
    ("name", "content", "form", "options"),
    [
        ("a.jsonl", b'{"user":"u","ts":1,"n":2}\n', None, {}),
        ("a.json.gz", gzip.compress(b'{"user":"u","ts":1,"n":2}\n', mtime=0), None, {}),
        ("a", b'{"user":"u","ts":1,"n":2}\n', None, {}),
        ("a.csv", b"user,ts,n\nu,1,2\n", None, {}),
        ("a.tsv", b"user\tts\tn\nu\t1\t2\n", None, {}),
        ("a.dat", b"u;1;2\n", "csv", {"delimiter": ";", "header": False}),
        ("a.dat", b"u|1|2\n", "text", {"pattern": r"(?P<user>\w+)\|%{INT:ts}\|%{INT:n}"}),
    ],
)
def test_a_file_is_read_by_its_format(
    tmp_path: Path, name: str, content: bytes, form: str | None, options: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(content)
    connector = Connector("file", str(tmp_path / name), form, tuple(options.items()))
    check_source(stream(connector))
    assert read(connector) == [("u", 1, 2)]
    assert read(connector, columns=frozenset()) == [("u", 1)]


def test_parquet_is_read_by_its_ending(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"user": ["u"], "ts": [1], "n": [2], "more": [3]}), path)
    assert read(Connector("file", path)) == [("u", 1, 2)]


def test_another_file_can_take_the_place_of_the_declared_one(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"user,ts,n\nu,1,2\n")
    assert read(Connector("file", "not/there.csv"), target=str(tmp_path / "b")) == [("u", 1, 2)]


@pytest.mark.parametrize(
    ("form", "decoder"), [("jsonl", JsonLines), ("CSV", CsvLines), ("parquet", ParquetColumns), ("text", TextLines)]
)
def test_formats_have_names(form: str, decoder: type) -> None:
    made = stream(Connector("stdin", None, form, (("pattern", "(?P<user>)(?P<ts>)(?P<n>)"),)))
    assert isinstance(decoder_for(made), decoder)


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (Connector("file", "a", "jsn"), "stream logins: there is no format 'jsn'; did you mean `json`?"),
        (Connector("fil", "a"), "stream logins: there is no connector 'fil' to read from; did you mean `file`?"),
        (Connector("file"), "stream logins: `from file` needs a path"),
        (Connector("file", "a", "csv", (("delimeter", ","),)), "no option 'delimeter'; did you mean `delimiter`?"),
        (Connector("file", "a", "json", (("pattern", ""),)), "stream logins has no option 'pattern'; it has"),
        (Connector("file", "a", "json", (("year", "x"),)), "option 'year' must be a whole number, not 'x'"),
        (Connector("file", "a", "text", (("on_mismatch", "x"),)), "must be 'skip' or 'error', not 'x'"),
        (Connector("file", "a", "csv", (("delimiter", ",,"),)), "must be different single ASCII characters"),
        (Connector("kafak", "a"), "there is no connector 'kafak' to read from; did you mean `kafka`?"),
        (Connector("kafka"), "stream logins: name topics, from kafka 'logins', or give option topic_pattern"),
        (Connector("kafka", "a", None, (("strat", "latest"),)), "no option 'strat'; did you mean `start`?"),
        (Connector("kafka", "a", None, (("follow", True),)), "stream logins has no option 'follow'"),
        (Connector("kafka", "a", None, (("year", "x"),)), "option 'year' must be a whole number, not 'x'"),
        (Connector("kafka", "a", "avro"), "stream logins: format avro is not there yet for Kafka"),
    ],
)
def test_a_wrong_declaration_is_said_without_touching_a_file(connector: Connector, message: str) -> None:
    with pytest.raises((ConnectorError, SourceError)) as caught:
        check_source(stream(connector))
    assert message in str(caught.value)


def test_the_page_on_connectors_knows_every_template_and_option() -> None:
    page = (Path(__file__).parents[3] / "docs" / "connectors.md").read_text()
    words = set(re.findall(r"\w+", page))
    assert set(NAMES) <= words
    assert {"follow", "start", "chunk_bytes", "max_record_bytes", "year", "on_mismatch", "null", "append"} <= words
    assert {*kafka_options.CONNECTION, *kafka_options._SOURCE} <= words


def batch() -> Batch:
    return Batch("alerts", Vector.of(BIGINT, [0]).array, {"n": Vector.of(BIGINT, [1])})


@pytest.mark.parametrize(("name", "expected"), [("a.json", b'{"n":1}\n'), ("a.csv", b"n\n1\n"), ("a", b'{"n":1}\n')])
def test_a_sink_by_its_ending(tmp_path: Path, name: str, expected: bytes) -> None:
    for given in ({"connector": Connector("file", str(tmp_path / name))}, {"connector": Connector("stdout")}):
        target = str(tmp_path / name) if given["connector"].kind == "stdout" else None
        sink = sink_for(given["connector"], "alerts", target=target)
        sink.write(batch())
        sink.close()
        assert (tmp_path / name).read_bytes() == expected


def test_standard_output_in_a_pipe_is_json(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with open(1, "w", closefd=False) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        sink = sink_for(Connector("stdout"), "alerts")
        sink.write(batch())
        sink.close()
    assert capfd.readouterr().out == '{"n":1}\n'


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (Connector("pulsar", "a"), "output alerts: there is no connector 'pulsar' to write to"),
        (Connector("file", "{tmp}/a", "csv", (("headr", False),)), "no option 'headr'; did you mean `header`?"),
        (Connector("file", "{tmp}/a", "text"), "output alerts: text cannot be written"),
    ],
)
def test_a_wrong_sink(tmp_path: Path, connector: Connector, message: str) -> None:
    target = connector.target and connector.target.replace("{tmp}", str(tmp_path))
    with pytest.raises(ConnectorError) as caught:
        sink_for(Connector(connector.kind, target, connector.format, connector.options), "alerts")
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())
