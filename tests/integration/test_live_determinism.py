"""The live engine is a function of its journal: over one journal with events, ticks and changes of every kind, made at
random, what comes out is the same wherever it was interrupted, and what each pattern gives is its own affair."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest

from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.partitioned.snapshots import Cut, Snapshots, Stores
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.server.journal import Entry, Journal, JournalReader
from ostinato.server.live.engine import Engine, PatternFailedError
from ostinato.server.live.generation import Activation, Generation, Member, Role
from ostinato.server.matches import Match, MatchLogReader, MatchLogWriter
from ostinato.state.stores import StoreOptions

STREAMS: Final = (
    "stream readings (sensor string key, at timestamp(ms) time delay 2 s idle 3 s, n bigint, level bigint)",
    "stream orders (sensor string key, at timestamp(ms) time delay 1 s, n bigint, level bigint)",
)
_TEXTS: Final = {
    # never changed; `second` reads what `steady` gives
    "steady": "on readings match low -> high define low as level < 20, high as level > 80 within 40 s "
    "emit sensor, low.n as low, high.n as high into pairs timeouts into alone",
    "second": "on pairs match a b define b as b.low >= a.low emit sensor, a.low as first, b.high as last",
    "rare": "on orders match a{2} relaxed define a as level < 30 emit sensor, last(a.n) as n",
    # the same, however often it is changed
    "kept": "on readings match a -> b define a as level > 70 and n >= 0 - {v}, b as level < 25 within 30 s "
    "emit sensor, a.n as a, b.n as b",
    "drained": "on readings match a -> b define a as level > 75 and n >= 0 - {v}, b as level < 20 within 30 s "
    "emit sensor, a.n as a, b.n as b",
    # another one with each change
    "moving": "on readings match {shape} define a as level > 60 + {v}, b as level < 25, c as level > $bound "
    "within 20 s emit sensor, a.n as a, b.n as b timeouts into slow",
    "plain": "on orders match a -> b define a as level > 50 + {v}, b as level < $bound emit sensor, a.n as a, b.n as b",
}
_SHAPES: Final = ("a -> b", "a -> c -> b", "a{2,} relaxed -> b", "a c? -> b")
FIXED: Final = ("steady", "second", "rare")


def text_of(name: str, version: int) -> str:
    body = _TEXTS[name].replace("{v}", str(version)).replace("{shape}", _SHAPES[version % len(_SHAPES)])
    if "c as" in body and "c" not in _SHAPES[version % len(_SHAPES)]:
        body = body.replace(", c as level > $bound", "")
    return f"pattern {name} {body}"


@dataclass
class Author:
    """Makes generations at random, as the server's planner would."""

    chance: random.Random
    made: dict[int, Generation] = field(default_factory=lambda: {0: Generation(0)})
    bound: int = 50
    last: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    shadow: dict[str, int] = field(default_factory=dict)
    draining: list[Member] = field(default_factory=list)

    def begin(self) -> int:
        self.live = dict.fromkeys(_TEXTS, 1)
        self.last = dict(self.live)
        return self._make()

    def change(self) -> int:
        """One change, or several at once."""
        renamed: dict[str, str] = {}
        dropped: list[str] = []
        for _ in range(self.chance.choice((1, 1, 2))):
            self._one(renamed, dropped)
        return self._make(renamed, dropped)

    def _one(self, renamed: dict[str, str], dropped: list[str]) -> None:
        name = self.chance.choice(("kept", "drained", "moving", "moving", "plain"))
        what = self.chance.choice(("version", "version", "rollback", "param", "pause", "shadow", "drained"))
        if what == "param":
            self.bound = self.chance.randrange(20, 80)
        elif what == "drained":
            # versions that drain may be given up at any time: of these nothing is left
            self.draining = [each for each in self.draining if each.pattern == "drained"]
        elif name in renamed or name in dropped:
            pass
        elif what == "pause" and name not in ("kept", "drained"):
            if name in self.live:
                del self.live[name]
                self.draining = [each for each in self.draining if each.pattern != name]
            else:
                self.live[name] = self.last[name]
        elif what == "shadow":
            if name in self.shadow:
                del self.shadow[name]
            else:
                self.last[name] += 1
                self.shadow[name] = self.last[name]
        elif name in self.live:
            before = self.live[name]
            if what == "rollback":
                version = self.chance.randrange(1, self.last[name] + 1)
            else:
                self.last[name] += 1
                version = self.last[name]
            if version == before:
                return
            self.live[name] = version
            fate = {"kept": "keep", "drained": "drain"}.get(name) or self.chance.choice(("drain", "drop"))
            if fate == "drain" and "within" in _TEXTS[name]:
                self.draining.append(Member(name, before, "draining", text_of(name, before), len(self.made)))
                renamed[name] = self.draining[-1].name
            elif fate != "keep":
                dropped.append(name)

    def _make(self, renamed: dict[str, str] | None = None, dropped: Sequence[str] = ()) -> int:
        roles: list[tuple[str, int, Role]] = [(name, version, "live") for name, version in self.live.items()]
        roles += [(name, version, "shadow") for name, version in self.shadow.items()]
        members = tuple(Member(name, version, role, text_of(name, version)) for name, version, role in roles)
        number = len(self.made)
        params = {"bound": f"param bound = {self.bound}"}
        self.made[number] = Generation(
            number, STREAMS, params, (*members, *self.draining), renamed or {}, tuple(dropped)
        )
        return number


@dataclass
class History:
    """A journal, and the generations it speaks of."""

    entries: list[Entry]
    generations: dict[int, Generation]

    def only(self, *patterns: str) -> Callable[[int], Generation]:
        """Finds the generations as they would be if there were no other patterns."""
        return lambda number: only(self.generations[number], patterns)


def record(folder: Path, seed: int, count: int = 60) -> History:
    """A journal of so many records, made at random."""
    chance = random.Random(seed)
    now = [1_000_000]
    author = Author(chance)
    ordinal = 0
    with Journal(folder, clock=lambda: now[0]) as journal:

        def change(number: int) -> None:
            journal.append_generation(msgspec.json.encode(Activation(number))).result()

        change(author.begin())
        for _ in range(count):
            now[0] += chance.choice((1, 50, 400, 4_000))
            draw = chance.random()
            if draw < 0.22:
                change(author.change())
            elif draw < 0.36:
                journal.tick().result()
            else:
                stream, lane = chance.choice((("readings", ""), ("readings", ""), ("readings", "k/0"), ("orders", "")))
                lines = []
                for _ in range(chance.randrange(1, 25)):
                    ordinal += 1
                    # now and then far behind: it comes late
                    at = ordinal * 200 - chance.choice((0, 0, 0, 500, 1_500, 60_000 if chance.random() < 0.2 else 0))
                    level, sensor = chance.randrange(100), f"s{chance.randrange(4)}"
                    lines.append(json.dumps({"sensor": sensor, "at": max(0, at), "n": ordinal, "level": level}) + "\n")
                journal.append(stream, "".join(lines).encode(), len(lines), lane=lane).result()
        end = journal.durable
    with JournalReader(folder) as reader:
        return History(reader.read(end, 1 << 30), author.made)


def rows_in(folder: Path) -> list[Match]:
    reader = MatchLogReader(folder)
    try:
        found: list[Match] = []
        while rows := reader.read(len(found), 10_000):
            found += rows
        return found
    finally:
        reader.close()


def run(folder: Path, entries: Sequence[Entry], find: Callable[[int], Generation]) -> list[Match]:
    """What comes out of an engine that nobody interrupts."""
    with closing(MatchLogWriter(folder)) as log:
        engine = Engine(log, find)
        for entry in entries:
            engine.apply(entry)
    return rows_in(folder)


class Interrupted:
    """An engine with snapshots, that forgets everything but the last one and its log when it is told to."""

    def __init__(self, folder: Path, history: History) -> None:
        self._folder = folder
        self._history = history
        self._find = history.generations.__getitem__
        self._begin()

    def _begin(self) -> None:
        self._log = MatchLogWriter(self._folder / "matches")
        self._snapshots = Snapshots(
            Stores(str(self._folder / "snapshots"), StoreOptions(), "live", may_drop=True), 0, KEY_GROUPS
        )
        self.engine = Engine(self._log, self._find)
        newest = next((each for each in self._snapshots.older(1 << 62) if isinstance(each, RestorePoint)), None)
        if newest is not None:
            self.engine.restore(newest)
        self._snapshots.take(None if newest is None else newest.manifest.id)

    def close(self) -> None:
        self._snapshots.close()
        self._log.close()

    def snapshot(self) -> None:
        """As the live worker takes it."""
        engine = self.engine
        whole = None if engine.is_new else self._snapshots.wanted()
        state = {} if engine.pipeline is None else engine.pipeline.snapshot(0, whole)
        engine.is_new = False
        counters = {} if engine.pipeline is None else engine.pipeline.counters()
        self._log.sync()
        written = self._snapshots.write(Cut(state, whole, engine.sources(), {}, counters, 0, more=engine.more()))
        self._snapshots.tidy(written)

    def run(self, chance: random.Random) -> list[Match]:
        """All records, with snapshots and deaths at random ones."""
        entries = self._history.entries
        at = {entry.position: index for index, entry in enumerate(entries)}
        deaths = sorted(chance.sample(range(len(entries)), 5), reverse=True)
        index = 0
        while index < len(entries):
            self.engine.apply(entries[index])
            index += 1
            if chance.random() < 0.2:
                self.snapshot()
            if deaths and index > deaths[-1]:
                deaths.pop()
                self.close()
                self._begin()
                index = at[self.engine.place.position]
        return rows_in(self._folder / "matches")


def only(generation: Generation, patterns: Sequence[str]) -> Generation:
    """The generation as it would be if there were no other patterns."""
    return msgspec.structs.replace(
        generation,
        members=tuple(member for member in generation.members if member.pattern in patterns),
        renamed={old: new for old, new in generation.renamed.items() if old.partition("@")[0] in patterns},
        dropped=tuple(name for name in generation.dropped if name.partition("@")[0] in patterns),
    )


def of(rows: Sequence[Match], *patterns: str) -> list[tuple[object, ...]]:
    """Rows of patterns, without what other patterns have a part in: their numbers."""
    return [
        (row.pattern, row.version, row.stream, row.kind, row.time, row.position, row.value)
        for row in rows
        if row.pattern in patterns
    ]


@pytest.fixture(params=range(3))
def history(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, History]:
    return request.param, record(tmp_path / "journal", request.param)


def test_all_is_a_function_of_the_journal(history: tuple[int, History], tmp_path: Path) -> None:
    seed, made = history
    expected = run(tmp_path / "alone", made.entries, made.generations.__getitem__)
    assert len({row.pattern for row in expected}) >= len(_TEXTS), "something never matches, so it shows nothing"
    assert {"match", "late"} <= {row.kind for row in expected}
    again = Interrupted(tmp_path / "interrupted", made)
    try:
        assert again.run(random.Random(seed + 1000)) == expected
    finally:
        again.close()


def test_what_others_do_changes_nothing_for_a_pattern(history: tuple[int, History], tmp_path: Path) -> None:
    _, made = history
    together = run(tmp_path / "together", made.entries, made.generations.__getitem__)
    alone = run(tmp_path / "fixed", made.entries, made.only(*FIXED))
    assert of(together, *FIXED) == of(alone, *FIXED)
    for name in set(_TEXTS) - set(FIXED):
        found = run(tmp_path / name, made.entries, made.only(*FIXED, name))
        assert of(together, name) == of(found, name)


def test_partial_matches_are_kept_and_drained(history: tuple[int, History], tmp_path: Path) -> None:
    """A pattern that is only ever replaced by its like, whose partial matches go on or drain, gives what it would give
    if nobody had touched it: each match once, by one version or another."""
    _, made = history

    def untouched(number: int) -> Generation:
        names = ("kept", "drained") if number else ()
        members = tuple(Member(name, 1, "live", text_of(name, 1)) for name in names)
        steady = only(made.generations[number], FIXED).members
        return msgspec.structs.replace(only(made.generations[number], ()), members=(*steady, *members))

    touched = run(tmp_path / "touched", made.entries, made.generations.__getitem__)
    expected = run(tmp_path / "untouched", made.entries, untouched)
    for name in ("kept", "drained"):
        wanted, found = (
            sorted((row.time, row.value) for row in rows if row.pattern == name and row.stream == name)
            for rows in (expected, touched)
        )
        assert found == wanted
        assert wanted


def test_a_pattern_that_fails_takes_nothing_along(tmp_path: Path) -> None:
    """A pattern that comes to its cap is left out from just before that record on. The record may have given rows
    already when it fails, of it and of others: those of others stand in the log with their numbers, once, and what
    comes after a restart is the same."""
    made = record(tmp_path / "journal", 11)
    greedy = (
        "pattern heavy on readings match a -> b define a as level > 10, b as level < 3 within 1 h "
        "emit sensor, a.n as a, b.n as b into pairs2 cap 12 partial matches per key fail"
    )
    begun = "pattern begun on orders match a -> b define b as level < 20 within 1 h cap 9 partial matches per key fail"
    more = (Member("heavy", 1, "live", greedy), Member("begun", 1, "live", begun))

    def find(number: int) -> Generation:
        held = made.generations[number]
        return msgspec.structs.replace(held, members=(*more, *held.members)) if number else held

    exclusions: dict[int, set[str]] = {}
    for _ in range(50):
        with closing(MatchLogWriter(tmp_path / "matches")) as log:
            engine = Engine(log, find)
            engine.exclusions = exclusions
            try:
                for entry in made.entries:
                    engine.apply(entry)
            except PatternFailedError as error:
                exclusions.setdefault(error.position, set()).add(error.name)
                continue
            break
    assert {name for names in exclusions.values() for name in names} == {"heavy", "begun"}
    found = rows_in(tmp_path / "matches")
    with closing(MatchLogWriter(tmp_path / "known")) as log:
        engine = Engine(log, find)
        engine.exclusions = exclusions
        for entry in made.entries:
            engine.apply(entry)
    assert rows_in(tmp_path / "known") == found
    without = run(tmp_path / "without", made.entries, made.generations.__getitem__)
    assert of(found, *_TEXTS) == of(without, *_TEXTS)
    assert of(found, "heavy"), "it has matched before it failed"
