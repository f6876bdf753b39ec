"""One partition of a Faust stream: its events through the pattern, and its state as rows of a table."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ostinato import cep
from ostinato.cep.connectors.faust import journal as layout
from ostinato.cep.connectors.faust.found import Counts, Found
from ostinato.cep.connectors.faust.journal import Journal, PartitionRows
from ostinato.cep.connectors.faust.partition import Partition
from ostinato.cep.connectors.faust.pattern import Ready, prepare
from ostinato.patterns.errors import PatternError
from ostinato.state.errors import DamagedError, DroppedStateError, SnapshotError

NOW = 1_700_000_000_000
TEXT = """
stream logins (user string key, ts timestamp(ms) time delay 100 ms, status string) from kafka 'elsewhere'
pattern suspicious on logins match fail{{2,}} -> ok{more}
  define fail as status = 'FAILED', ok as status = 'OK' within 5 s after match skip past last
  emit user, count(fail) as failures, first(fail.ts) as since, ok.ts as ended into found timeouts into given_up
"""
Row = dict[str, Any]


def ready(more: str = "", **options: Any) -> Ready:
    return prepare(TEXT.format(more=more), None, None, None, **options)


def logins(number: int = 300, users: int = 4, seed: int = 3) -> list[Row]:
    """In order of time, but for a little."""
    dice = random.Random(seed)
    statuses = dice.choices(("FAILED", "OK", "OTHER"), (5, 2, 2), k=number)
    return [
        {"user": f"user-{dice.randrange(users)}", "ts": 50 * step + dice.randrange(80), "status": status}
        for step, status in enumerate(statuses)
    ]


def partition(what: Ready | None = None, counts: Counts | None = None) -> Partition:
    return Partition(what or ready(), counts or Counts(), "logins", 0, NOW)


def run(events: Sequence[Row], size: int, into: Partition | None = None) -> list[Found]:
    """What comes of events from the partition's offset on, in pieces of a size."""
    into = into or partition()
    found: list[Found] = []
    while into.offset < len(events):
        part = events[into.offset : into.offset + size]
        outcome = into.take(part, into.offset + len(part), NOW)
        found += [*outcome.matches, *outcome.timeouts]
    return found


def apply(table: dict[bytes, bytes], rows: Sequence[layout.Row]) -> None:
    for key, value in rows:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def restored(table: dict[bytes, bytes], what: Ready | None = None, **options: Any) -> tuple[Partition, PartitionRows]:
    rows = PartitionRows(0, table.items(), "here")
    made = partition(what)
    if rows.held is not None:
        made.restore(rows.held, **{"may_drop": False, "end": None, **options})
    return made, rows


def test_how_events_are_cut_makes_no_difference() -> None:
    events = logins()
    whole = run(events, len(events))
    assert len(whole) > 20
    assert {found.pattern for found in whole} == {"suspicious"}
    for size in (1, 7, 100):
        assert [(found, found.id, found.time) for found in run(events, size)] == [
            (found, found.id, found.time) for found in whole
        ]
    assert len({found.id for found in whole}) == len(whole)


def test_partitions_know_nothing_of_each_other() -> None:
    what, events = ready(), logins()
    both = [Partition(what, Counts(), "logins", number, NOW) for number in (0, 1)]
    found: list[list[Found]] = [[], []]
    for event in events:
        for number, each in enumerate(both):
            outcome = each.take([event], each.offset + 1, NOW)
            found[number] += [*outcome.matches, *outcome.timeouts]
    assert found[0] == found[1] == run(events, 50)
    assert {each.partition for each in found[1]} == {1}
    assert not {each.id for each in found[0]} & {each.id for each in found[1]}


def test_matches_are_those_of_the_same_pattern_elsewhere() -> None:
    events = logins()
    last = {"user": "x", "ts": 60_000, "status": "OTHER"}
    found = [dict(each) for each in run([*events, last], 40) if each["ended"] is not None]
    elsewhere = cep.run(TEXT.format(more="").replace("from kafka 'elsewhere'", ""), events)["found"]
    assert sorted(map(str, found)) == sorted(map(str, elsewhere))


@pytest.mark.parametrize("part_bytes", [layout.PART_BYTES, 200])
def test_a_crash_at_any_row_leaves_state_that_goes_on_as_if_nothing_had_been(
    monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    """With rows written before their journal, with one place for both journals, or with a journal's records left out
    when state is read, matches differ."""
    monkeypatch.setattr(layout, "PART_BYTES", part_bytes)
    events = logins(160)
    wanted = {found.id for found in run(events, 10)}
    table: dict[bytes, bytes] = {}
    given: list[Found] = []
    working, rows = restored(table)
    crashes = 0
    while working.offset < len(events):
        part = events[working.offset : working.offset + 10]
        outcome = working.take(part, working.offset + len(part), NOW)
        given += [*outcome.matches, *outcome.timeouts]
        for step in rows.steps(working.journal()):
            for row in step:
                apply(table, [row])
                again, _ = restored(dict(table))
                late = run(events, 10, again)
                assert {found.id for found in [*given, *late]} == wanted
                crashes += 1
    assert crashes > 50


@pytest.mark.parametrize("at", range(0, 20, 3))
def test_crash_upon_crash(at: int) -> None:
    """A worker that was restored writes a few rows and dies again, time after time."""
    events = logins(200, seed=11)
    wanted = {found.id for found in run(events, 10)}
    dice = random.Random(at)
    table: dict[bytes, bytes] = {}
    given: set[str] = set()
    lives = 0
    while lives < 500:
        working, rows = restored(table)
        lives += 1
        left = dice.randrange(1, 12 + at)
        while working.offset < len(events) and left > 0:
            part = events[working.offset : working.offset + dice.randrange(1, 20)]
            outcome = working.take(part, working.offset + len(part), NOW)
            given |= {found.id for found in [*outcome.matches, *outcome.timeouts]}
            for row in [row for step in rows.steps(working.journal()) for row in step][:left]:
                apply(table, [row])
                left -= 1
        if working.offset >= len(events) and left > 0:
            break
    assert given == wanted
    assert lives > 4


def test_no_rows_are_left_of_keys_that_have_nothing() -> None:
    table: dict[bytes, bytes] = {}
    working, rows = restored(table)
    events = [
        *logins(300),
        *({"user": "user-0", "ts": 100_000 + 10_000 * n, "status": "OTHER"} for n in range(4)),
    ]
    for begin in range(0, len(events), 20):
        part = events[begin : begin + 20]
        working.take(part, begin + len(part), NOW)
        for step in rows.steps(working.journal()):
            apply(table, step)
    assert [key for key in table if key.startswith(b"k")] == []


def test_a_shorter_journal_leaves_nothing_of_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PART_BYTES", 200)
    table: dict[bytes, bytes] = {}
    working, rows = restored(table)
    working.take(logins(200, users=60), 200, NOW)
    for step in rows.steps(working.journal()):
        apply(table, step)
    many = sum(key.startswith(b"j") for key in table)
    again, rows = restored(table)
    for number in range(2):
        again.take([{"user": "x", "ts": 20_000 + number, "status": "OTHER"}], 201 + number, NOW)
        for step in rows.steps(again.journal()):
            apply(table, step)
    assert sum(key.startswith(b"j") for key in table) < many


def written(what: Ready | None = None) -> dict[bytes, bytes]:
    """The table of a worker that has ended in good order with partial matches open."""
    table: dict[bytes, bytes] = {}
    working = partition(what)
    rows = PartitionRows(0)
    for begin in (0, 100):
        working.take(logins(200)[begin : begin + 100], begin + 100, NOW)
        for step in rows.steps(working.journal()):
            apply(table, step)
    assert any(key.startswith(b"k") for key in table)
    return table


def test_what_was_restored_is_not_written_again() -> None:
    table = written()
    working, _ = restored(table)
    assert not working.changed
    working.take([{"user": "user-1", "ts": 10_020, "status": "FAILED"}], 201, NOW)
    made = working.journal()
    assert not made.whole
    assert len(made.records) <= 4


def test_state_of_a_pattern_that_has_changed() -> None:
    changed = ready(" -> again")  # another structure
    with pytest.raises(DroppedStateError, match="another structure"):
        restored(written(), changed)
    working, rows = restored(table := written(), changed, may_drop=True)
    _, parts, last = rows.steps(made := working.journal())
    assert made.whole
    assert made.records == []
    apply(table, parts)
    _, again = restored(dict(table), changed)  # it crashes before the old rows are gone
    assert again.held is not None
    assert again.held.records == {}
    apply(table, last)
    for number in range(3):  # until no journal says that it is all there is
        working.take([{"user": "user-1", "ts": 11_000 + number, "status": "OTHER"}], working.offset + 1, NOW)
        for step in rows.steps(working.journal()):
            apply(table, step)
    once_more, rows = restored(table, changed)
    assert once_more.offset == 203
    assert rows.held is not None
    assert rows.held.records.keys() == {b"user-0", b"user-3"}  # of events that waited


def test_state_that_is_not_whole_is_refused() -> None:
    table = written()
    journals = sorted(key for key in table if key.startswith(b"j"))
    with pytest.raises(DamagedError, match="here: no journal is whole, although"):
        restored({key: value for key, value in table.items() if key not in journals})
    damaged = dict(table)
    for key in journals:
        damaged[key] = damaged[key][:-1] + bytes([damaged[key][-1] ^ 1])
    with pytest.raises(DamagedError, match="here: journal 2 is damaged"):
        restored(damaged)
    later = Journal(3, True, 1, "logins", b"", b"", {}, [], format=2)
    with pytest.raises(SnapshotError, match="has format 2; this release reads format 1"):
        restored({key: value for key, value in later.parts(0) if value is not None})


def test_state_of_another_topic_is_refused() -> None:
    with pytest.raises(SnapshotError, match="the partition ends at 5: the topic was made anew"):
        restored(written(), end=5)
    made = Partition(ready(), Counts(), "others", 0, NOW)
    held = PartitionRows(0, written().items()).held
    assert held is not None
    with pytest.raises(SnapshotError, match="holds state of topic logins"):
        made.restore(held, may_drop=False, end=None)


def test_late_and_bad_values_are_told_by_their_place() -> None:
    counts = Counts()
    working = partition(counts=counts)
    values = [
        {"user": "a", "ts": 5_000, "status": "OK"},
        b'{"user": "a", "ts": 5001,\n "status": "OK"}',
        "not JSON",
        {"user": "a", "ts": 10, "status": "late"},
        {"user": None, "ts": 5_002, "status": "OK"},
        b"",
        {"user": "a", "ts": NOW + 100_000_000, "status": "OK"},
        b'{"user": "a", "ts": 5003, "status": "a\nb"}',
        json.dumps({"user": "a", "ts": 5_003, "status": "OK"}).encode(),
    ]
    outcome = working.take(values, len(values), NOW)
    assert list(outcome.late) == [3]
    reasons = dict(outcome.bad)
    assert list(reasons) == [2, 4, 5, 6, 7]
    assert reasons[4] == "column user: the key is missing or null"
    assert "too far in the future" in reasons[6]
    assert (counts.events, counts.late, counts.bad) == (9, 1, 5)
    assert working.waiting == 3


def test_processing_time_goes_on_by_the_clock() -> None:
    @cep.pattern(
        "a b",
        on=cep.stream("clicks", {"user": str, "page": str}, key="user"),
        a=lambda e: e.page == "a",
        b=lambda e: e.page == "b",
    )
    def pair(match: cep.Match) -> Row:
        return {"user": match.key}

    working = Partition(prepare(pair, None, None, None), Counts(), "clicks", 0, NOW)
    events = [{"user": "u", "page": "a"}, {"user": "u", "page": "b"}]
    assert not working.take(events, 2, NOW).matches
    assert not working.tick(NOW).matches
    (found,) = working.tick(NOW + 1).matches
    assert found["user"] == "u"
    assert found.time == NOW


def test_which_pattern_is_meant() -> None:
    two = TEXT.format(more="") + "pattern other on logins match fail define fail as status = 'x'"
    with pytest.raises(PatternError, match=r"which of the patterns\? suspicious, other"):
        prepare(two, None, None, None)
    assert prepare(two, None, None, "other").name == "other"
    with pytest.raises(PatternError, match="no pattern `othr`"):
        prepare(two, None, None, "othr")
    chained = TEXT.format(more="") + "pattern second on found match a{2} within 1 min"
    with pytest.raises(PatternError, match="`second` reads the matches of `suspicious`"):
        prepare(chained, None, None, "second")
    placed = TEXT.format(more="").replace("status string", "status string, at bigint from metadata 'offset'")
    with pytest.raises(PatternError, match="column `at` is of the record's metadata"):
        prepare(placed, None, None, None)
