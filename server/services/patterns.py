"""Patterns, their versions, and changes of what runs; see `ostinato.server.http.services.PatternService`."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ostinato.patterns.parser import parse_program
from ostinato.server.catalog.definitions import Body, DefinitionTables, PatternDef, Version
from ostinato.server.changes.model import Author, ChangeResult, Old
from ostinato.server.changes.service import Changes, Check
from ostinato.server.changes.texts import params_in
from ostinato.server.failures import NotThereError, ServiceError
from ostinato.server.http.pages import cursor, number_of, page_of
from ostinato.server.http.schemas import patterns as schemas
from ostinato.server.live.generation import Role, engine_name
from ostinato.server.live.process import Live
from ostinato.server.services.plans import applied, described, plan_of
from ostinato.server.services.why import explained, not_running

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller, Precondition

Move: TypeAlias = Literal["take", "ignore", "stop"]

_STATUS_SECONDS = 1.0
"""Numbers are shown as far as they come in this time; nobody waits longer for them."""


class Patterns:
    """Over `Changes` and what the live worker says."""

    def __init__(self, changes: Changes, tables: DefinitionTables, live: Live) -> None:
        self._changes = changes
        self._tables = tables
        self._live = live

    # Changes

    async def apply(self, text: str, query: schemas.ApplyQuery, caller: Caller) -> schemas.Applied:
        counts = await self._counts()
        result = await self._changes.apply(
            text, Author(caller.name, query.comment), old=query.old or "auto", dry_run=query.dry_run
        )
        return _applied(result, counts)

    async def put(
        self, name: str, text: str, query: schemas.ApplyQuery, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        counts = await self._counts()
        result = await self._changes.apply(
            text,
            Author(caller.name, query.comment),
            filename=name,
            old=query.old or "auto",
            dry_run=query.dry_run,
            only=name,
            check=_held(name, condition),
        )
        return _applied(result, counts)

    async def delete(
        self, name: str, query: schemas.DeleteQuery, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        counts = await self._counts()
        old: Old = query.old or "drop"
        author = Author(caller.name, query.comment)
        check = _held(name, condition)
        return _applied(await self._changes.delete(name, author, old=old, check=check, dry_run=query.dry_run), counts)

    async def rollback(
        self, name: str, request: schemas.RollbackRequest, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        counts = await self._counts()
        result = await self._changes.roll_back(
            name,
            request.version,
            Author(caller.name, request.comment),
            old=request.old or "auto",
            check=_held(name, condition),
            dry_run=request.dry_run,
        )
        return _applied(result, counts)

    async def pause(
        self, name: str, request: schemas.PauseRequest, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        counts = await self._counts()
        author, check = Author(caller.name, request.comment), _held(name, condition)
        return _applied(await self._changes.pause(name, author, check=check, dry_run=request.dry_run), counts)

    async def resume(
        self, name: str, request: schemas.PauseRequest, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        author, check = Author(caller.name, request.comment), _held(name, condition)
        return _applied(await self._changes.resume(name, author, check=check, dry_run=request.dry_run), {})

    async def put_shadow(
        self, name: str, text: str, query: schemas.ApplyQuery, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        result = await self._changes.apply(
            text,
            Author(caller.name, query.comment),
            filename=name,
            dry_run=query.dry_run,
            only=name,
            check=_held(name, condition),
            shadow=True,
        )
        return _applied(result, {})

    async def delete_shadow(
        self, name: str, query: schemas.DeleteQuery, caller: Caller, condition: Precondition
    ) -> schemas.Applied:
        author, check = Author(caller.name, query.comment), _held(name, condition)
        return _applied(await self._changes.end_shadow(name, author, check=check, dry_run=query.dry_run), {})

    async def changes(self, limit: int, after: str | None) -> schemas.ChangePage:
        found = await asyncio.to_thread(self._tables.changes, limit + 1, number_of(after))
        items = [
            schemas.ChangeInfo(
                change.generation,
                change.position or 0,
                change.at_ms,
                change.author,
                change.comment,
                change.what,
                plan_of(described(change.items), {}),
            )
            for change in found[:limit]
        ]
        return schemas.ChangePage(items, cursor(str(items[-1].generation)) if len(found) > limit else None)

    # What there is

    async def list(self, query: schemas.PatternsQuery) -> schemas.PatternPage:
        body, numbers = self._changes.body, await self._numbers()
        names = sorted(body.definitions.patterns)
        if query.state is not None:
            names = [name for name in names if _state(body.definitions.patterns[name]) == query.state]
        if query.stream is not None:
            versions = {name: self._live_version(body, name) for name in names}
            names = [name for name in names if parse_program(versions[name].engine_text).patterns[0].on == query.stream]
        page, more = page_of(names, query.limit, query.after, str)
        return schemas.PatternPage([self._info(body, name, numbers) for name in page], more)

    async def get(self, name: str) -> schemas.PatternInfo:
        self._changes.pattern(name)
        return self._info(self._changes.body, name, await self._numbers())

    async def versions(self, name: str, limit: int, after: str | None) -> schemas.VersionPage:
        found = await asyncio.to_thread(self._tables.versions, name, limit + 1, number_of(after))
        if not found:
            self._changes.pattern(name)  # raises where there has never been one
        numbers = await self._numbers()
        items = [self._version_info(version, numbers) for version in found[:limit]]
        return schemas.VersionPage(items, cursor(str(items[-1].version)) if len(found) > limit else None)

    async def version(self, name: str, version: int) -> schemas.VersionInfo:
        return self._version_info(await self._find(name, version), await self._numbers())

    async def diff(self, name: str, query: schemas.DiffQuery) -> schemas.Diff:
        to = query.to if query.to is not None else await asyncio.to_thread(self._tables.last_version, name)
        if not to:
            raise NotThereError(f"there is no pattern `{name}`")
        after = await self._find(name, to)
        start = query.from_ if query.from_ is not None else max(1, to - 1)
        before = await self._find(name, start)
        lines = difflib.unified_diff(
            before.text.splitlines(), after.text.splitlines(), f"{name} {start}", f"{name} {to}", lineterm=""
        )
        return schemas.Diff(name, start, to, _change(before, after), "\n".join(lines))

    async def graph(self, name: str) -> schemas.Graph:
        """The automaton with the number of partial matches in each state; of a paused pattern without numbers."""
        from ostinato.cep.runtime.drawing import as_dot
        from ostinato.cep.runtime.explain import END, explain

        held = self._changes.pattern(name)
        checked = self._changes.runnable.checked.get(name)
        if checked is None:
            raise NotThereError(f"pattern `{name}` is {held.state}; resume it to see what runs")
        counts: Mapping[Any, int] = {}
        with contextlib.suppress(ServiceError):
            counts = await self._live.ask("graph", {"name": name}, _STATUS_SECONDS)
        explanation = await asyncio.to_thread(explain, checked)
        stop = END - 1
        nodes = [
            schemas.GraphNode(
                state.number,
                state.name,
                "start" if state.number == 0 else "pending" if state.pending else "normal",
                counts.get(state.name, counts.get(state.number)),
            )
            for state in explanation.states
        ]
        nodes.append(schemas.GraphNode(END, "match", "final"))
        edges: list[schemas.GraphEdge] = []
        for arc in explanation.arcs:
            to = stop if arc.target is None else arc.target
            kind: Move = "take" if arc.move == "take" else "ignore" if arc.move == "ignore" else "stop"
            edges.append(schemas.GraphEdge(arc.source, to, kind, arc.label))
            if arc.completes:
                edges.append(schemas.GraphEdge(arc.source, END, "take", f"take {arc.stage}"))
        if any(edge.to == stop for edge in edges):
            nodes.append(schemas.GraphNode(stop, "no match", "stop"))
        return schemas.Graph(name, held.live, nodes, edges, as_dot(explanation))

    async def why(self, name: str, query: schemas.WhyQuery) -> schemas.Why:
        held = self._changes.pattern(name)
        if held.state != "running":
            return not_running(name, held.live, _state(held), list(query.key), held.error)
        found = await self._live.ask("why", {"name": name, "key": query.key, "events": query.events})
        older = {}
        for each in held.draining:
            asked = {"name": engine_name(name, "draining", each.since), "key": query.key, "events": 0}
            with contextlib.suppress(ServiceError):
                older[each.version] = await self._live.ask("why", asked)
        return explained(name, held.live, _state(held), list(query.key), found, older)

    # Bits

    async def _find(self, name: str, version: int) -> Version:
        return await asyncio.to_thread(self._changes.version, name, version)

    def _live_version(self, body: Body, name: str) -> Version:
        return self._changes.version(name, body.definitions.patterns[name].live)

    async def _numbers(self) -> Mapping[str, Mapping[str, int]]:
        """What the worker counts, by engine name; nothing where it does not answer at once."""
        with contextlib.suppress(ServiceError):
            status = await self._live.ask("status", seconds=_STATUS_SECONDS)
            found: Mapping[str, Mapping[str, int]] = status["patterns"]
            return found
        return {}

    async def _counts(self) -> dict[str, int]:
        return {name: numbers["partial_matches"] for name, numbers in (await self._numbers()).items()}

    def _info(self, body: Body, name: str, numbers: Mapping[str, Mapping[str, int]]) -> schemas.PatternInfo:
        held = body.definitions.patterns[name]
        version = self._live_version(body, name)
        tree = parse_program(version.engine_text).patterns[0]
        own = numbers.get(name, {})
        used = sorted(params_in(version.engine_text))
        draining = [
            self._version_info(self._changes.version(name, each.version), numbers, "draining", each.since)
            for each in held.draining
        ]
        shadow = None
        if held.shadow is not None:
            shadow = self._version_info(self._changes.version(name, held.shadow), numbers, "shadow")
        return schemas.PatternInfo(
            name,
            str(held.revision),
            held.live,
            _state(held),
            version.text,
            tree.on,
            tree.into or name,
            used,
            version.author,
            version.comment,
            version.at_ms,
            version.at_ms,
            version.generation,
            held.error,
            schemas.PatternCounters(own.get("matches", 0), own.get("timeouts", 0), own.get("partial_matches", 0), None),
            draining,
            shadow,
        )

    def _version_info(
        self,
        version: Version,
        numbers: Mapping[str, Mapping[str, int]],
        role: schemas.VersionRole | None = None,
        since: int = 0,
    ) -> schemas.VersionInfo:
        held = self._changes.body.definitions.patterns.get(version.pattern)
        if role is None:
            role = _role(held, version.version)
            if role == "draining" and held is not None:
                since = max(each.since for each in held.draining if each.version == version.version)
        engine: Role = "draining" if role == "draining" else "shadow" if role == "shadow" else "live"
        name = engine_name(version.pattern, engine, since)
        own = numbers.get(name) if role in ("live", "draining", "shadow") else None
        change: schemas.Action = "new"
        if version.version > 1:
            with contextlib.suppress(NotThereError):
                change = _change(self._changes.version(version.pattern, version.version - 1), version)
        return schemas.VersionInfo(
            version.pattern,
            version.version,
            role,
            change,
            version.text,
            version.author,
            version.comment,
            version.at_ms,
            None if own is None else own.get("partial_matches"),
            None if own is None else own.get("matches"),
        )


def _held(name: str, condition: Precondition) -> Check:
    def check(tag: str | None) -> None:
        condition.check(f"pattern `{name}`", tag)

    return check


def _applied(result: ChangeResult, counts: Mapping[str, int]) -> schemas.Applied:
    return applied(result, counts, time.time_ns() // 1_000_000)


def _state(held: PatternDef) -> schemas.State:
    return "live" if held.state == "running" else held.state


def _role(held: PatternDef | None, version: int) -> schemas.VersionRole:
    if held is None:
        return "past"
    if held.live == version:
        return "live" if held.state == "running" else "paused"
    if held.shadow == version:
        return "shadow"
    return "draining" if any(each.version == version for each in held.draining) else "past"


def _change(before: Version, after: Version) -> schemas.Action:
    if before.engine_text == after.engine_text:
        return "unchanged"
    return "same structure" if before.structure == after.structure else "changed structure"
