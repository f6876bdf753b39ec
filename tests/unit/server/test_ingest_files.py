"""Files to the journal: each line once, whatever happens in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError
from ostinato.cep.connectors.factory import source_for
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from ostinato.server.ingest.feeder import Feeder
from ostinato.server.ingest.file_feeder import FileFeeder
from ostinato.server.ingest.gate import decoder_of
from ostinato.server.journal import Entry, Journal, JournalBusyError, JournalFullError, JournalReader

COLUMNS = "user string key, ts timestamp(ms) time, n bigint"


def stream(target: Path | str, options: str = "", columns: str = COLUMNS, form: str = "") -> Stream:
    return parse_program(f"stream s ({columns}) from file '{target}' {form} {options}").streams[0]


def line(number: int) -> str:
    return f'{{"user":"u{number % 3}","ts":{number},"n":{number}}}\n'


def entries(journal: Journal) -> list[Entry]:
    with JournalReader(journal.folder) as reader:
        found: list[Entry] = []
        while some := reader.read(journal.durable):
            found += some
        return found


def lines(journal: Journal) -> list[bytes]:
    return b"".join(entry.data for entry in entries(journal)).splitlines(keepends=True)


def until(condition: Callable[[], bool], feeder: Feeder) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, feeder.status()
        time.sleep(0.01)


def until_lines(journal: Journal, count: int, feeder: Feeder) -> None:
    until(lambda: len(lines(journal)) >= count, feeder)


def nobody(stream: str, bad: Sequence[BadRecord]) -> None:
    raise AssertionError(f"{stream}: {bad}")


def run(declared: Stream, journal: Journal) -> Feeder:
    """Feed all there is."""
    feeder = FileFeeder(declared, journal, nobody)
    feeder.start()
    until(lambda: feeder.status().state == "ended", feeder)
    assert feeder.stop()
    return feeder


def test_a_file_is_fed_once(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line(number) for number in range(100)))
    for _ in range(2):
        with Journal(tmp_path / "journal") as journal:
            run(stream(path), journal)
            assert lines(journal) == [line(number).encode() for number in range(100)]
            assert {(entry.stream, entry.lane) for entry in entries(journal)} == {("s", f"file:{path}")}


def test_a_file_that_grows_is_followed_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("")
    count = 0
    for _ in range(3):
        with Journal(tmp_path / "journal") as journal:
            feeder = FileFeeder(stream(path, "(follow = true)"), journal, nobody)
            feeder.start()
            for _ in range(3):
                with path.open("a") as file:
                    file.write("".join(line(number) for number in range(count, count + 10)))
                count += 10
                until_lines(journal, count, feeder)
            assert feeder.status().state == "reading"
            assert feeder.stop()
            # written while nobody reads
            with path.open("a") as file:
                file.write(line(count))
            count += 1
    with Journal(tmp_path / "journal") as journal:
        feeder = FileFeeder(stream(path, "(follow = true)"), journal, nobody)
        feeder.start()
        until_lines(journal, count, feeder)
        assert feeder.stop()
        assert lines(journal) == [line(number).encode() for number in range(count)]


def test_bad_lines_are_dead_letters_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    wrong = ["{}\n", "no json\n"]
    path.write_text(line(0) + wrong[0] + "\n" + line(1) + wrong[1] + line(2).rstrip())
    letters: list[tuple[str, BadRecord]] = []
    with Journal(tmp_path / "journal") as journal:
        feeder = FileFeeder(stream(path), journal, lambda name, bad: letters.extend((name, each) for each in bad))
        feeder.start()
        until(lambda: feeder.status().state == "ended", feeder)
        feeder.stop()
        assert lines(journal) == [line(number).encode() for number in range(3)]
        assert (feeder.status().rows, feeder.status().bad) == (3, 2)
    assert [(name, each.line, each.raw, each.source) for name, each in letters] == [
        ("s", 2, b"{}", str(path)),
        ("s", 5, b"no json", str(path)),
    ]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_other_formats_are_the_same_events_in_the_journal(tmp_path: Path, form: str) -> None:
    columns = (
        "user string key from who, at timestamp('%d.%m.%Y %H:%M:%S') time, n bigint, amount decimal(8,2), x double, "
        "day date, ok boolean, seen timestamp"
    )
    table = {
        "who": ["a,b", 'say "x"\\', "é", "d"],
        "at": ["01.02.2024 10:00:00", "01.02.2024 10:00:01", "29.02.2024 23:59:59", "01.03.2024 00:00:00"],
        "n": [1, None, -(2**62), 4],
        "amount": ["12.50", None, "-0.01", "999999.99"],
        "x": [0.1, None, 1e300, -2.5],
        "day": ["2024-02-29", None, "1969-12-31", "2024-01-01"],
        "ok": [True, None, False, True],
        "seen": ["2024-02-29T10:00:00.123Z", None, "2024-02-29T10:00:00.000Z", "2024-02-29T10:00:00.000Z"],
    }
    path = tmp_path / f"in.{form}"
    if form == "csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(table), path)
    declared = stream(path, columns=columns)
    source = source_for(declared)
    chunk = source.reader.read()
    assert isinstance(chunk, Chunk)
    expected, bad = source.decoder.decode(chunk)
    source.reader.close()
    assert bad == []
    with Journal(tmp_path / "journal") as journal:
        run(declared, journal)
        stored = b"".join(lines(journal))
    assert [sorted(json.loads(each)) for each in stored.splitlines()] == [sorted(expected.columns)] * 4
    found, bad = decoder_of(declared).decode(Chunk.of(stored))
    assert bad == []
    assert [found.row(number) for number in range(4)] == [expected.row(number) for number in range(4)]
    assert found.time.tolist() == expected.time.tolist()


def test_what_is_not_there_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with Journal(tmp_path / "journal") as journal:
        feeder = FileFeeder(stream(path), journal, nobody)
        feeder.start()
        until(lambda: feeder.status().failures > 1, feeder)
        assert "in.jsonl" in str(feeder.status().error)
        assert feeder.status().state in ("waiting", "reading")
        path.write_text(line(0))
        until(lambda: feeder.status().state == "ended", feeder)
        assert feeder.status().error is None
        assert feeder.stop()
        assert lines(journal) == [line(0).encode()]


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line(number) for number in range(100)))
    with Journal(tmp_path / "journal") as journal:
        real, left = journal._records, [2]

        def records(*arguments: object) -> object:
            left[0] -= 1
            if left[0] >= 0:
                raise JournalFullError("no room")
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(journal, "_records", records)
        feeder = run(stream(path), journal)
        assert feeder.status().failures == 2
        assert lines(journal) == [line(number).encode() for number in range(100)]


def test_dead_letters_that_find_no_room_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line(0) + "{}\n" + line(1))
    letters: list[BadRecord] = []
    failures: list[Exception] = [JournalFullError("no room"), JournalBusyError("too much"), OSError("gone")]

    def tell(stream: str, bad: Sequence[BadRecord]) -> None:
        if failures:
            raise failures.pop()
        letters.extend(bad)

    with Journal(tmp_path / "journal") as journal:
        feeder = FileFeeder(stream(path), journal, tell)
        feeder.start()
        until(lambda: feeder.status().state == "ended", feeder)
        assert feeder.stop()
        assert lines(journal) == [line(0).encode(), line(1).encode()]
        assert feeder.status().failures == 2
    assert [letter.raw for letter in letters] == [b"{}"]


def test_a_feeder_ends_with_its_journal_and_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line(0))
    journal = Journal(tmp_path / "journal")
    journal.close()
    feeder = FileFeeder(stream(path), journal, nobody)
    feeder.start()
    until(lambda: feeder.status().state == "failed", feeder)
    assert "closed" in str(feeder.status().error)
    assert feeder.stop()


def test_streams_that_cannot_be_fed() -> None:
    with pytest.raises(ConnectorError, match="not declared `from file`"):
        FileFeeder(parse_program(f"stream s ({COLUMNS}) from stdin").streams[0], None, nobody)  # type: ignore[arg-type]
    with pytest.raises(ConnectorError, match="has no option 'folow'"):
        FileFeeder(stream("x.jsonl", "(folow = true)"), None, nobody)  # type: ignore[arg-type]
