"""Changes of what runs, with a real journal, catalog and live worker: what becomes of partial matches, and of everybody
else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.patterns.errors import PatternError
from ostinato.server.catalog import Catalog
from ostinato.server.catalog.definitions import Body, Change
from ostinato.server.changes.model import Author, ChangeResult, PlanItem
from ostinato.server.changes.service import Changes
from ostinato.server.failures import ConflictError, NotThereError, RefusedError, StaleError
from ostinato.server.journal import Journal, JournalOptions
from ostinato.server.live.process import Live
from ostinato.server.live.spec import WorkerSpec
from ostinato.server.matches import MatchLogReader

pytestmark = [pytest.mark.timeout(120)]

ME = Author("me", "because")
START_MS = 1_700_000_000_000
STREAM = "stream logins (user string key, ts timestamp(ms) time, status string)\n"
PATTERN = """
pattern guessed on logins
  match  fail{%s,} ok
  define fail as status = 'FAILED', ok as status = 'OK'
  within 1 h
  emit   user, count(fail) as failures
  into   alerts
"""
PAIRS = "pattern pairs on logins match a -> b define a as status = 'A', b as status = 'B' emit user\n"


class Server:
    """The parts of a server that have to do with changes."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal", JournalOptions())
        self.catalog = Catalog(folder)
        (folder / "matches").mkdir(exist_ok=True)
        self.live = Live(WorkerSpec(str(folder), str(folder / "checkpoints"), 60_000))
        self.journal.on_durable.append(self.live.journal_grew)
        self.live.journal_grew(self.journal.durable)
        self.changes = Changes(self.catalog.definitions, self.journal, self.live)
        self._log = MatchLogReader(folder / "matches")
        self._second = 0

    async def send(self, *events: tuple[str, str]) -> None:
        """Users and what happened to them, a second apart; all but the last one are released by what follows them."""
        lines = b""
        for user, status in events:
            self._second += 1
            lines += (
                json.dumps({"user": user, "ts": START_MS + 1_000 * self._second, "status": status}).encode() + b"\n"
            )
        appended = await asyncio.wrap_future(self.journal.append("logins", lines, len(events)))
        assert await self.live.wait_for_position(appended.next, 30)

    def matches(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Pattern, version and row, without the time."""
        found = []
        for match in self._log.read(0, 1_000):
            row = json.loads(match.value)
            row.pop("match_time", None)
            found.append((match.pattern, match.version, row))
        return found

    async def close(self) -> None:
        await self.live.stop()
        self._log.close()
        self.journal.close()
        self.catalog.close()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Server]:
    server = await asyncio.to_thread(Server, folder)
    await server.live.start()
    try:
        yield server
    finally:
        await server.close()


Scenario = Callable[[Server], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs a scenario against a server over the test's folder; may be called again, as a server is started again."""

    def once(scenario: Scenario) -> None:
        async def all_of_it() -> None:
            async with running(tmp_path) as server:
                await scenario(server)

        asyncio.run(all_of_it())

    return once


def of(result: ChangeResult, name: str) -> PlanItem:
    return next(item for item in result.items if item.name == name)


def test_the_same_structure_keeps_its_partial_matches(play: Play) -> None:
    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 3, ME)
        await server.send(("u", "FAILED"), ("u", "FAILED"), ("u", "FAILED"), ("v", "X"))
        result = await server.changes.apply((PATTERN % 3).replace("'OK'", "'FINE'"), ME)
        item = of(result, "guessed")
        assert (item.change, item.version, item.before, item.partial_matches) == ("same structure", 2, 1, "kept")
        await server.send(("u", "FINE"), ("v", "X"))
        assert server.matches() == [("guessed", 2, {"user": "u", "failures": 3})]

    play(scenario)


def test_a_changed_structure_drains_and_others_see_each_event_once(play: Play) -> None:
    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 3 + PAIRS, ME)
        await server.send(("u", "FAILED"), ("u", "FAILED"), ("u", "FAILED"), ("p", "A"), ("v", "X"))
        result = await server.changes.apply(PATTERN % 2, ME)
        assert of(result, "guessed").partial_matches == "drained"
        assert result.carried["pairs"] == 1
        await server.send(("u", "OK"), ("p", "B"), ("w", "FAILED"), ("w", "FAILED"), ("w", "OK"), ("v", "X"))
        assert sorted(server.matches(), key=repr) == [
            ("guessed", 1, {"user": "u", "failures": 3}),
            ("guessed", 2, {"user": "w", "failures": 2}),
            ("pairs", 1, {"user": "p"}),
        ]
        assert len(server.changes.body.definitions.patterns["guessed"].draining) == 1
        await server.changes.forget_drained()
        assert not server.changes.body.definitions.patterns["guessed"].draining

    play(scenario)


def test_what_is_dropped_is_gone_and_keep_is_refused_where_it_cannot_be(play: Play) -> None:
    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 3, ME)
        await server.send(("u", "FAILED"), ("u", "FAILED"), ("u", "FAILED"), ("v", "X"))
        with pytest.raises(ConflictError, match="structure changes"):
            await server.changes.apply(PATTERN % 2, ME, old="keep")
        plan = await server.changes.apply(PATTERN % 2, ME, old="drop", dry_run=True)
        assert (plan.generation, plan.dry_run) == (None, True)
        result = await server.changes.apply(PATTERN % 2, ME, old="drop")
        assert result.dropped == {"guessed": 3}  # each event has begun one
        await server.send(("u", "OK"), ("v", "X"))
        assert server.matches() == []

    play(scenario)


def test_a_rollback_gives_a_draining_version_its_partial_matches_again(play: Play) -> None:
    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 3, ME)
        await server.send(("u", "FAILED"), ("u", "FAILED"), ("u", "FAILED"), ("v", "X"))
        await server.changes.apply(PATTERN % 2, ME)
        result = await server.changes.roll_back("guessed", None, ME)
        assert (of(result, "guessed").version, of(result, "guessed").change) == (1, "rolled back")
        held = server.changes.body.definitions.patterns["guessed"]
        assert (held.live, [each.version for each in held.draining]) == (1, [2])
        await server.send(("u", "OK"), ("v", "X"))
        assert server.matches() == [("guessed", 1, {"user": "u", "failures": 3})]
        with pytest.raises(NotThereError):
            await server.changes.roll_back("guessed", 7, ME)

    play(scenario)


def test_a_value_of_a_parameter_takes_effect_at_once_and_drains_where_it_changes_the_structure(play: Play) -> None:
    async def scenario(server: Server) -> None:
        text = "param attempts = 3\nparam what = 'FAILED'\n" + (PATTERN % "attempts").replace("'FAILED'", "what")
        await server.changes.apply(STREAM + text, ME)
        await server.send(("u", "FAILED"), ("u", "FAILED"), ("u", "FAILED"), ("v", "X"))
        changed = await server.changes.set_param("attempts", "2", ME)
        assert of(changed, "guessed").partial_matches == "drained"
        await server.changes.set_param("what", "BAD", ME)  # what drains keeps the values that it began with
        await server.send(("u", "OK"), ("w", "BAD"), ("w", "BAD"), ("w", "OK"), ("v", "X"))
        assert sorted(server.matches(), key=repr) == [
            ("guessed", 1, {"user": "u", "failures": 3}),
            ("guessed", 1, {"user": "w", "failures": 2}),
        ]
        for name, value, error in (("attempts", "x", RefusedError), ("none", "1", NotThereError)):
            with pytest.raises(error):
                await server.changes.set_param(name, value, ME)

    play(scenario)


def test_pause_resume_delete_and_a_shadow(play: Play) -> None:
    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 2 + PAIRS, ME)
        await server.changes.apply(PATTERN % 1, ME, only="guessed", shadow=True)
        await server.send(("u", "FAILED"), ("u", "OK"), ("u", "FAILED"), ("u", "FAILED"), ("p", "A"), ("v", "X"))
        assert server.matches() == [("guessed", 2, {"user": "u", "failures": 1})]
        await server.changes.end_shadow("guessed", ME)
        await server.changes.pause("guessed", ME)
        with pytest.raises(ConflictError):
            await server.changes.pause("guessed", ME)
        await server.send(("u", "OK"), ("v", "X"))
        await server.changes.resume("guessed", ME)
        await server.changes.delete("pairs", ME)
        await server.send(("p", "B"), ("w", "FAILED"), ("w", "FAILED"), ("w", "OK"), ("v", "X"))
        assert server.matches()[1:] == [("guessed", 1, {"user": "w", "failures": 2})]
        again = await server.changes.apply(PAIRS, ME)
        assert of(again, "pairs").version == 2

    play(scenario)


def test_readers_of_what_changes_its_types_begin_anew(play: Play) -> None:
    first = "pattern a on logins match x define x as status <> 'Z' emit user, 1 as n into firsts\n"
    reader = "pattern b on firsts match p -> q define p as %s, q as true emit user\n"

    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + first + reader % "n > 0" + PAIRS, ME)
        await server.send(("u", "A"), ("v", "X"))
        text = first.replace("1 as n", "'one' as n") + reader % "n = 'one'"
        result = await server.changes.apply(text, ME)
        assert of(result, "b").partial_matches == "dropped"
        assert "other types" in of(result, "b").detail
        await server.send(("u", "B"), ("v", "X"))
        assert ("pairs", 1, {"user": "u"}) in server.matches()
        assert server.live.restarts == 0

    play(scenario)


def test_a_pattern_that_cannot_go_on_stops_nobody_else_now_or_later(play: Play) -> None:
    many = (
        "pattern many on logins match a ->> b define a as status = 'A', b as status = 'B' emit user into big "
        "cap 3 partial matches per key fail\n"
    )
    reader = "pattern reader on big match x emit user\n"

    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + many + reader + PAIRS, ME)
        await server.send(*[("u", "A")] * 6, ("u", "B"), ("v", "X"))
        async with asyncio.timeout(30):
            while server.changes.body.definitions.patterns["many"].state != "failed":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        patterns = server.changes.body.definitions.patterns
        assert "cap 3" in patterns["many"].error
        assert (patterns["reader"].state, patterns["pairs"].state) == ("failed", "running")
        await server.live.wait_for_position(server.journal.durable, 30)
        assert [match for match in server.matches() if match[0] == "pairs"] == [("pairs", 1, {"user": "u"})] * 6

    async def later(server: Server) -> None:
        await server.live.wait_until_ready(30)
        assert await server.live.wait_for_position(server.journal.durable, 30)
        assert len([match for match in server.matches() if match[0] == "pairs"]) == 6
        assert server.live.restarts == 0

    play(scenario)
    play(later)


def test_who_has_not_seen_the_newest_revision_is_refused(play: Play) -> None:
    def wants(tag: str | None) -> Callable[[str | None], None]:
        def check(found: str | None) -> None:
            if found != tag:
                raise StaleError(f"{found} is not {tag}")

        return check

    async def scenario(server: Server) -> None:
        await server.changes.apply(STREAM + PATTERN % 3, ME, check=wants(None))
        await server.changes.apply(PATTERN % 2, ME, only="guessed", check=wants("1"))
        with pytest.raises(StaleError):
            await server.changes.apply(PATTERN % 4, ME, only="guessed", check=wants("1"))
        with pytest.raises(PatternError) as wrong:
            await server.changes.apply("pattern p on logins match a define a as nothing = 1", ME, filename="f.cep")
        assert "f.cep:1" in str(wrong.value)
        assert server.changes.body.generation.number == 2

    play(scenario)


def test_a_change_that_was_begun_and_not_finished_is_finished_at_the_next_start(play: Play) -> None:
    async def begun(server: Server) -> None:
        await server.changes.apply(STREAM + PAIRS, ME)
        body = server.changes.body
        paused = msgspec.structs.replace(body.definitions.patterns["pairs"], state="paused", revision=2)
        generation = msgspec.structs.replace(body.generation, number=2, members=())
        definitions = msgspec.structs.replace(body.definitions, patterns={"pairs": paused})
        change = Change(2, 1, "me", "", "pause pairs", [], None)
        server.catalog.definitions.begin(change, Body(definitions, generation), [])

    async def finished(server: Server) -> None:
        assert server.changes.body.definitions.patterns["pairs"].state == "paused"
        assert server.catalog.definitions.pending() is None
        assert await server.live.wait_for_position(server.journal.durable, 30)
        assert server.live.generation == 2
        await server.changes.resume("pairs", ME)

    play(begun)
    play(finished)
