"""Makes changes while events flow, one after the other.

A change is made in numbered steps, the same for each kind:

1. plan: parse, check, decide what becomes of partial matches;
2. have it compiled by the live worker, which refuses what cannot run;
3. write it to the catalog, marked as begun;
4. append it to the journal: where its record stands, it takes effect, now and at every replay;
5. mark it as made; wait until the worker has come to it; answer.

Who is killed between 3 and 5 finds a change that was begun, looks whether the journal has its record, and appends it
where it has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from ostinato.patterns import ast
from ostinato.patterns.errors import MalformedPatternError, PatternError
from ostinato.patterns.parser import parse_program
from ostinato.patterns.program_check import ProgramProblems, order_of_patterns
from ostinato.patterns.schema import stream_problems
from ostinato.patterns.typecheck import check_pattern
from ostinato.server.catalog.definitions import (
    Body,
    Change,
    DefinitionTables,
    Exclusion,
    ParamDef,
    PatternDef,
    Version,
)
from ostinato.server.changes.model import Author, ChangeResult, Old
from ostinato.server.changes.planning import Draft, declaration_of, pattern_in
from ostinato.server.changes.shapes import structure
from ostinato.server.changes.texts import Texts, param_in, stream_in, take_apart
from ostinato.server.changes.versions import LastVersions, Versions
from ostinato.server.failures import ConflictError, NotThereError, RefusedError, ServiceError
from ostinato.server.journal import Entry, Journal, JournalBusyError, JournalFullError, JournalReader
from ostinato.server.journal import Kind as JournalKind
from ostinato.server.live.generation import SHADOW, Activation, engine_name
from ostinato.server.live.messages import Exclude, Failed
from ostinato.server.live.process import Live, LiveError
from ostinato.server.live.program import Checker, Runnable
from ostinato.state.steps import reached
from ostinato.state.typed import decode_json

log = logging.getLogger("ostinato.changes")

EFFECT_SECONDS: Final = 10.0
"""So long it is waited for the worker to come to a change that has been made."""
_STATUS_SECONDS: Final = 2.0
SYSTEM: Final = "system"
"""Who makes changes that nobody has asked for."""
PARTITION: Final = "0"


Check: TypeAlias = Callable[[str | None], None]
"""Is given an ETag, None where there is nothing yet; raises StaleError where that is not what the caller has seen."""


def _always(_: str | None) -> None:
    """Whatever it is."""


class Changes:
    """What is declared, and how that is changed. Its coroutines are for one event loop."""

    def __init__(
        self,
        tables: DefinitionTables,
        journal: Journal,
        live: Live,
        *,
        max_patterns: int = 1 << 30,
        max_states: int | None = None,
        allows: Callable[[ast.Stream], None] = lambda _: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Blocks: reads what is declared, and settles a change that was begun. `allows`: raises for streams that may
        not be declared."""
        self._tables = tables
        self._journal = journal
        self._live = live
        self._max_patterns = max_patterns
        self._max_states = max_states
        self._allows = allows
        self._now_ms = now_ms
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[ChangeResult]] = set()
        self._taking_out: set[asyncio.Task[None]] = set()
        self._unsettled: tuple[int, bool] | None = None
        """A change of which the catalog does not know what became of it, and whether the journal may have it."""
        self._position = tables.last_position()
        """Of the last change."""
        self._versions = Versions(tables)
        self._checker = Checker()
        self._settle()
        self.body: Body = tables.current()
        self._runnable: Runnable = self._checker.check(self.body.generation)
        self.on_change: list[Callable[[Body], None]] = []
        """Are told of every change that was made."""
        live.on_failed = self._failed
        live.exclusions = [Exclude(each.position, each.name) for each in tables.exclusions()]

    def _settle(self) -> None:
        number = self._tables.pending()
        if number is not None:
            log.warning("a change was begun and not finished", extra={"generation": number})
            position = self._recorded(number)
            if position is None:
                appended = self._journal.append_generation(msgspec.json.encode(Activation(number))).result()
                position = appended.position
            self._tables.complete(number, position)

    def _recorded(self, number: int) -> int | None:
        """Where the journal has the record of a generation; None where it has none."""
        last = self._tables.changes(1)
        since = max(self._journal.first, 0 if not last or last[0].position is None else last[0].position)
        with JournalReader(self._journal.folder, since) as reader:
            while entries := reader.read(self._journal.durable):
                for entry in entries:
                    if entry.kind is JournalKind.GENERATION and _generation(entry) == number:
                        return entry.position
        return None

    @property
    def runnable(self) -> Runnable:
        """What runs, checked."""
        return self._runnable

    # What can be asked for

    async def apply(
        self,
        text: str,
        author: Author,
        *,
        filename: str = "<apply>",
        old: Old = "auto",
        dry_run: bool = False,
        only: str | None = None,
        check: Check = _always,
        shadow: bool = False,
    ) -> ChangeResult:
        """Make what a file declares so.

        Args:
            text: the file.
            author: who does it.
            filename: for messages.
            old: what becomes of partial matches of versions that are replaced.
            dry_run: only say what would be done.
            only: the one pattern that may be in it.
            check: is given the ETag of `only`, None where there is no such pattern; raises where it is not as expected.
            shadow: the pattern is to run beside the version that counts.

        Raises:
            PatternError: something is wrong in it.
            ConflictError, NotThereError, RefusedError, StaleError: it cannot be made so as things are.
            LiveError: the worker does not answer; nothing has been changed.
        """

        def plan(draft: Draft) -> None:
            known: list[ast.Stream | ast.ParamDecl] = [
                *(stream_in(stream.text) for stream in draft.streams.values()),
                *(param_in(param.text) for param in draft.params.values()),
            ]
            texts = take_apart(text, filename, known)
            if len(texts.patterns) > self._max_patterns:
                raise RefusedError(
                    f"{filename} has {len(texts.patterns):,} patterns, {self._max_patterns:,} may run (limits.patterns)"
                )
            if only is not None and list(texts.patterns) != [only]:
                held = ", ".join(texts.patterns) or "none"
                raise ConflictError(f"the text is to declare the pattern `{only}` and no other; it declares {held}")
            if shadow and len(texts.patterns) != 1:
                raise ConflictError("a shadow is one pattern; the text declares another number of them")
            if texts.outputs:
                raise ConflictError(
                    f"output {texts.outputs[0].stream}: the server's outputs are not part of a file; set it with "
                    "`ostinato outputs set`, or PUT /v1/outputs/NAME"
                )
            for stream in texts.streams:
                self._declare(draft, texts, stream, text, filename)
            for param, own in texts.params.values():
                draft.declare_param(param, own)
            self._check(draft, texts, text, filename)
            for pattern in texts.patterns.values():
                if shadow:
                    draft.put_shadow(pattern)
                else:
                    draft.put_pattern(pattern, old)

        what = f"apply {filename}" if not shadow else f"shadow of {filename}"
        return await self._change(what, plan, author, dry_run=dry_run, check=_seen("patterns", only or "", check))

    async def put_stream(self, name: str, text: str, author: Author, *, check: Check = _always) -> ChangeResult:
        """Declare one stream. Raises as `apply` does."""

        def plan(draft: Draft) -> None:
            texts = take_apart(text, name, ())
            if list(texts.streams) != [name] or texts.patterns or texts.params or texts.outputs:
                raise ConflictError(f"the text is to declare the stream `{name}` and nothing else")
            self._declare(draft, texts, name, text, name)

        return await self._change(f"stream {name}", plan, author, check=_seen("streams", name, check))

    async def delete_stream(self, name: str, author: Author, *, check: Check = _always) -> ChangeResult:
        return await self._change(
            f"delete stream {name}",
            lambda draft: draft.delete_stream(name),
            author,
            check=_seen("streams", name, check),
        )

    async def set_param(self, name: str, value: str | None, author: Author, *, check: Check = _always) -> ChangeResult:
        """Set a parameter, None: back to what is declared."""
        said = f"param {name} = {value}" if value is not None else f"param {name} as declared"

        return await self._change(
            said, lambda draft: draft.set_param(name, value), author, check=_seen("params", name, check)
        )

    async def delete_param(self, name: str, author: Author) -> ChangeResult:
        return await self._change(f"delete param {name}", lambda draft: draft.delete_param(name), author)

    async def roll_back(
        self,
        name: str,
        version: int | None,
        author: Author,
        *,
        old: Old = "auto",
        check: Check = _always,
        dry_run: bool = False,
    ) -> ChangeResult:
        """Let an older version count again, None: the one before."""
        return await self._change(
            f"roll back {name}",
            lambda draft: draft.roll_back(name, version, old),
            author,
            dry_run=dry_run,
            check=_seen("patterns", name, check),
        )

    async def pause(self, name: str, author: Author, *, check: Check = _always, dry_run: bool = False) -> ChangeResult:
        return await self._of(name, "pause", Draft.pause, author, check, dry_run)

    async def resume(self, name: str, author: Author, *, check: Check = _always, dry_run: bool = False) -> ChangeResult:
        return await self._of(name, "resume", Draft.resume, author, check, dry_run)

    async def delete(
        self, name: str, author: Author, *, old: Old = "drop", check: Check = _always, dry_run: bool = False
    ) -> ChangeResult:
        if old == "drain":
            raise ConflictError(
                f"pattern `{name}`: what is deleted cannot drain; pause it, or delete it with its matches"
            )
        return await self._of(name, "delete", Draft.delete, author, check, dry_run)

    async def end_shadow(
        self, name: str, author: Author, *, check: Check = _always, dry_run: bool = False
    ) -> ChangeResult:
        return await self._of(name, "end shadow of", Draft.end_shadow, author, check, dry_run)

    async def _of(
        self, name: str, what: str, act: Callable[[Draft, str], None], author: Author, check: Check, dry_run: bool
    ) -> ChangeResult:
        return await self._change(
            f"{what} {name}",
            lambda draft: act(draft, name),
            author,
            dry_run=dry_run,
            check=_seen("patterns", name, check),
        )

    async def forget_drained(self) -> ChangeResult | None:
        """Take out versions that have drained. Nobody has to ask for that: the server does, from time to time."""
        if not await self._drained():
            return None
        return await self._change("drained", lambda _: None, Author(SYSTEM))

    async def _drained(self) -> set[str]:
        """Engine names of versions that drain and have no partial match left, as far as the worker can be asked."""
        draining = {
            engine_name(name, "draining", each.since)
            for name, pattern in self.body.definitions.patterns.items()
            for each in pattern.draining
        }
        if not draining:
            return set()
        with contextlib.suppress(LiveError, RefusedError):
            status = await self._live.ask("status", seconds=_STATUS_SECONDS)
            if status["generation"] == self.body.generation.number:
                counted = status["patterns"]
                return {
                    name
                    for name in draining
                    if name in counted and not counted[name]["partial_matches"] and not counted[name]["counting"]
                }
        return set()

    # Making it

    async def _change(
        self,
        what: str,
        plan: Callable[[Draft], None],
        author: Author,
        *,
        dry_run: bool = False,
        check: Callable[[Draft], None] = lambda _: None,
    ) -> ChangeResult:
        # whoever asked may go away: a change that was begun is finished all the same, before the next one begins
        task = asyncio.create_task(self._alone(what, plan, author, dry_run, check), name=what)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _alone(
        self, what: str, plan: Callable[[Draft], None], author: Author, dry_run: bool, check: Callable[[Draft], None]
    ) -> ChangeResult:
        async with self._lock:
            await self._settle_last()
            draft = self._draft(author)
            check(draft)
            draft.forget_drained(await self._drained())

            def prepare() -> tuple[Body, Runnable] | None:
                plan(draft)  # 1
                return None if draft.is_empty else draft.finish(self._checker, self._runnable)

            made = await asyncio.to_thread(prepare)
            if made is None or dry_run:
                return ChangeResult(None, {}, False, dry_run, draft.items)
            body, runnable = made
            return await self._make(what, draft, body, runnable)

    async def _settle_last(self) -> None:
        """The change before this one may not have been finished: the disk was full, the catalog held by somebody."""
        if self._unsettled is None:
            return
        number, is_kept = self._unsettled
        if is_kept:
            await asyncio.to_thread(self._settle)
            self.body = await asyncio.to_thread(self._tables.current)
            self._runnable = await asyncio.to_thread(self._checker.check, self.body.generation)
            for told in self.on_change:
                told(self.body)
        else:
            await asyncio.to_thread(self._tables.withdraw, number)
        self._unsettled = None

    async def _make(self, what: str, draft: Draft, body: Body, runnable: Runnable) -> ChangeResult:
        number = body.generation.number
        try:
            await self._live.prepare(body.generation)  # 2
        except RefusedError as error:
            raise PatternError(str(error)) from error
        items = [msgspec.to_builtins(item) for item in draft.items]
        author = draft.author
        change = Change(number, draft.now_ms, author.name, author.comment, what, items, None)
        await asyncio.to_thread(self._tables.begin, change, body, draft.versions)  # 3
        reached("change.begun")
        try:
            record = msgspec.json.encode(Activation(number))
            appended = await asyncio.wrap_future(self._journal.append_generation(record))  # 4
        except (JournalFullError, JournalBusyError):
            self._unsettled = (number, False)
            await asyncio.to_thread(self._tables.withdraw, number)
            self._unsettled = None
            raise
        except BaseException:
            self._unsettled = (number, True)  # the journal may have it
            raise
        reached("change.appended")
        self._unsettled = (number, True)
        await asyncio.to_thread(self._tables.complete, number, appended.position)  # 5
        self._unsettled = None
        reached("change.completed")
        self.body, self._runnable, self._position = body, runnable, appended.position
        self._versions.keep_only(
            {(member.pattern, member.version) for member in body.generation.members}
            | {(name, pattern.live) for name, pattern in body.definitions.patterns.items()}
        )
        for told in self.on_change:
            told(body)
        effective = await self._live.wait_for_position(appended.next, EFFECT_SECONDS)
        activated = self._live.activation(number)
        log.info("changed", extra={"what": what, "generation": number, "position": appended.position})
        return ChangeResult(
            number,
            {PARTITION: appended.position},
            effective,
            False,
            draft.items,
            {} if activated is None else activated.kept,
            {} if activated is None else activated.dropped,
        )

    def _draft(self, author: Author) -> Draft:
        return Draft(
            self.body,
            self._versions,
            LastVersions(self._tables),
            author,
            self._now_ms(),
            self._shape,
            self._max_patterns,
        )

    def _shape(self, draft: Draft, text: str, params: Mapping[str, ParamDef]) -> str:
        """What decides whether partial matches can go on; "" where the text does not fit the streams any more."""
        tree = parse_program(text).patterns[0]
        source = self._streams(draft).get(tree.on)
        if source is None:
            return ""
        try:
            return structure(check_pattern(tree, source, _literals(params)), self._max_states)
        except MalformedPatternError:
            raise
        except PatternError:
            return ""

    def _declare(self, draft: Draft, texts: Texts, name: str, text: str, filename: str) -> None:
        """A stream as a text has it. Raises PatternError, and what `allows` raises."""
        stream, own = texts.streams[name]
        problems = list(stream_problems(stream))
        if problems:
            raise PatternError(problems).located(text, filename)
        self._allows(stream)
        draft.declare_stream(stream, own)

    def _streams(self, draft: Draft) -> dict[str, ast.Stream]:
        """All streams that a pattern may read, by name: declared ones, and what patterns emit now."""
        streams = {name: stream_in(held.text) for name, held in draft.streams.items()}
        for checked in self._runnable.checked.values():
            streams.setdefault(checked.output_stream.name, checked.output_stream)
            if checked.timeouts_stream is not None:
                streams.setdefault(checked.timeouts_stream.name, checked.timeouts_stream)
        return streams

    def _check(self, draft: Draft, texts: Texts, text: str, filename: str) -> None:
        """Check the file's patterns in its own words, so that errors have their places in it."""
        streams = self._streams(draft)
        params = _literals(draft.params)
        program = ast.Program(tuple(each.tree for each in texts.patterns.values()))
        found = ProgramProblems(program)
        for tree in order_of_patterns(program, found):
            source = streams.get(tree.on)
            if source is None:
                found.unknown_source(tree, streams)
                continue
            try:
                checked = check_pattern(tree, source, params)
            except PatternError as error:
                found.problems += error.problems
                continue
            for emitted in (checked.output_stream, checked.timeouts_stream):
                if emitted is not None:
                    streams[emitted.name] = emitted
        if found.problems:
            raise PatternError(found.problems, source=text, filename=filename)

    async def _failed(self, failed: Failed) -> None:
        """A pattern could not go on: from that record on it is left out, and it is known as failed."""
        exclusion = Exclusion(failed.position, failed.name, failed.error)
        await asyncio.to_thread(self._tables.exclude, exclusion, self._now_ms())
        name = failed.name.partition("@")[0]
        task = asyncio.create_task(self._take_out(name, failed), name=f"take out {failed.name}")
        self._taking_out.add(task)
        task.add_done_callback(self._taking_out.discard)

    async def take_out_failed(self) -> None:
        """What could not be written down when a pattern failed is made up for."""
        for each in await asyncio.to_thread(self._tables.exclusions):
            if each.position >= self._position:
                await self._take_out(each.name.partition("@")[0], Failed(each.name, each.position, each.error))

    async def _take_out(self, name: str, failed: Failed) -> None:
        """The generation after the one in which it failed does not have it."""

        def plan(draft: Draft) -> None:
            held: PatternDef | None = draft.patterns.get(name)
            if held is None or failed.position < self._position:
                return  # it was changed since; the next version has not failed
            if failed.name == name and held.state == "running":
                draft.fail(name, failed.error)
            elif failed.name == f"{name}@{SHADOW}" and held.shadow is not None:
                draft.end_shadow(name)
            else:
                draft.forget_drained({failed.name})

        try:
            await self._change(f"{failed.name} has failed", plan, Author(SYSTEM, failed.error))
        except (ServiceError, PatternError) as error:
            log.error("a failed pattern could not be taken out", extra={"pattern": name, "reason": str(error)})

    # What there is

    def pattern(self, name: str) -> PatternDef:
        """Raises NotThereError."""
        return pattern_in(self.body.definitions.patterns, name)

    def version(self, name: str, version: int) -> Version:
        """Raises NotThereError."""
        try:
            return self._versions[name, version]
        except KeyError:
            raise NotThereError(f"pattern `{name}` has no version {version}") from None


def _literals(params: Mapping[str, ParamDef]) -> dict[str, ast.Literal]:
    """The values that hold."""
    return {name: param_in(declaration_of(held)).value for name, held in params.items()}


def _generation(entry: Entry) -> int:
    return decode_json(entry.data, Activation).generation


def _seen(kind: Literal["patterns", "streams", "params"], name: str, check: Check) -> Callable[[Draft], None]:
    """Look at the ETag of one thing that is declared."""

    def checked(draft: Draft) -> None:
        held = getattr(draft, kind).get(name)
        check(None if held is None else str(held.revision))

    return checked
