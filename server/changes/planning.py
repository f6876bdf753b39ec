"""From what is declared and what is asked for to what will be declared: the plan of a change.

Nothing here does anything. `Draft` gathers a change; `Draft.finish` says what will run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError
from ostinato.patterns.parser import parse_program
from ostinato.patterns.printer import print_pattern
from ostinato.patterns.resolve import literal_of, substitute
from ostinato.server.catalog.definitions import Body, Definitions, Draining, ParamDef, PatternDef, StreamDef, Version
from ostinato.server.changes.model import Author, Fate, Happens, Old, PlanItem
from ostinato.server.changes.texts import PatternText, alone, columns, param_in, params_in, stream_in
from ostinato.server.failures import ConflictError, NotThereError, RefusedError
from ostinato.server.live.generation import Generation, Member, engine_name
from ostinato.server.live.program import Checker, Runnable, is_alike


@dataclass(slots=True)
class Draft:
    """A change while it is being put together.

    Attributes:
        body: what there is now.
        find: a version by pattern and number; the caller knows that it is there.
        last_version: the number of a pattern's last version, 0 where there has been none.
        author, now_ms: who makes it, and when.
        shape: of a pattern's text under some values of parameters, what decides whether partial matches can go on.
    """

    body: Body
    find: Mapping[tuple[str, int], Version]
    last_version: Mapping[str, int]
    author: Author
    now_ms: int
    shape: Callable[[Draft, str, Mapping[str, ParamDef]], str]
    max_patterns: int = 1 << 30
    items: list[PlanItem] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    streams: dict[str, StreamDef] = field(init=False)
    params: dict[str, ParamDef] = field(init=False)
    patterns: dict[str, PatternDef] = field(init=False)
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        definitions = self.body.definitions
        self.streams = dict(definitions.streams)
        self.params = dict(definitions.params)
        self.patterns = dict(definitions.patterns)

    @property
    def number(self) -> int:
        """Of the generation to come."""
        return self.body.generation.number + 1

    # Streams and parameters

    def declare_stream(self, stream: ast.Stream, text: str) -> None:
        """Raises ConflictError where patterns read it as it is."""
        before = self.streams.get(stream.name)
        if before is not None and before.text == text:
            self.items.append(PlanItem("stream", stream.name, "unchanged"))
            return
        if before is not None:
            self._check_readers(stream, stream_in(before.text))
        revision = 1 if before is None else before.revision + 1
        self.streams[stream.name] = StreamDef(text, revision, self.author.name, self.now_ms)
        self.items.append(PlanItem("stream", stream.name, "new" if before is None else "changed"))

    def _readers(self, stream: str) -> list[str]:
        """The patterns of which some version reads a stream."""
        found = []
        for name, pattern in self.patterns.items():
            texts = [self._engine_text(name, pattern.live), *(each.engine_text for each in pattern.draining)]
            if pattern.shadow is not None:
                texts.append(self._engine_text(name, pattern.shadow))
            if any(self._tree_of(text).on == stream for text in texts):
                found.append(name)
        return found

    def _check_readers(self, stream: ast.Stream, before: ast.Stream) -> None:
        readers = self._readers(stream.name)
        if not readers:
            return
        old, new = columns(before), columns(stream)
        wrong = [f"column {name} is gone" for name in old if name not in new]
        wrong += [f"column {name} changes" for name in old if name in new and old[name] != new[name]]
        wrong += [f"column {name} would be of the key" for name in new if name not in old and new[name][1]]
        if before.time.mode != stream.time.mode or before.time.column != stream.time.column:
            wrong.append("its time changes")
        if wrong:
            raise ConflictError(
                f"stream `{stream.name}` is read by {_listed(readers)}, and {'; '.join(wrong)}. Only columns may be "
                "added: delete the patterns first, or declare a stream of another name"
            )

    def delete_stream(self, name: str) -> None:
        if name not in self.streams:
            raise NotThereError(f"there is no stream `{name}`")
        readers = self._readers(name)
        if readers:
            raise ConflictError(f"stream `{name}` is read by {_listed(readers)}; delete them first")
        del self.streams[name]
        self.items.append(PlanItem("stream", name, "deleted"))

    def declare_param(self, param: ast.ParamDecl, text: str) -> None:
        """A value that was set stays, whatever the file says."""
        before = self.params.get(param.name)
        if before is not None and before.text == text:
            held = value_of(before)
            self.items.append(PlanItem("param", param.name, "unchanged", value=held, value_before=held))
            return
        value = None
        detail = ""
        if before is not None:
            old = param_in(before.text).value
            if before.value is not None and old.type == param.value.type:
                value = before.value
                detail = f"its value stays {value}, which was set; delete it to go back to what is declared"
        revision = 1 if before is None else before.revision + 1
        self.params[param.name] = ParamDef(text, value, revision, self.author.name, self.now_ms)
        self.items.append(
            PlanItem(
                "param",
                param.name,
                "new" if before is None else "changed",
                detail=detail,
                value=value_of(self.params[param.name]),
                value_before=None if before is None else value_of(before),
            )
        )

    def set_param(self, name: str, value: str | None) -> None:
        """Set a value, None: back to what is declared. Raises NotThereError, ConflictError where it is none."""
        before = self.params.get(name)
        if before is None:
            raise NotThereError(f"there is no parameter `{name}`; {_known(self.params)}")
        declared = param_in(before.text)
        if value is not None:
            try:
                literal_of(value, declared.value.type)
            except ValueError as error:
                raise RefusedError(f"parameter `{name}` is {declared.value.type}: {error}") from error
        if value == before.value:
            held = value_of(before)
            self.items.append(PlanItem("param", name, "unchanged", value=held, value_before=held))
            return
        self.params[name] = ParamDef(before.text, value, before.revision + 1, self.author.name, self.now_ms)
        self.items.append(
            PlanItem("param", name, "changed", value=value_of(self.params[name]), value_before=value_of(before))
        )

    def delete_param(self, name: str) -> None:
        if name not in self.params:
            raise NotThereError(f"there is no parameter `{name}`; {_known(self.params)}")
        del self.params[name]
        self.items.append(PlanItem("param", name, "deleted"))

    # Patterns

    def put_pattern(self, text: PatternText, old: Old) -> None:
        """A pattern as a file has it: a new version where it differs from the one that counts."""
        name = text.tree.name
        before = self.patterns.get(name)
        if before is not None:
            counts = self.find[name, before.live]
            if counts.engine_text == text.engine_text:
                change: Happens = "unchanged"
                if before.state == "failed":
                    self.patterns[name] = msgspec.structs.replace(
                        before, state="running", revision=before.revision + 1, error=""
                    )
                    change = "resumed"
                elif self._params_change(counts.engine_text):
                    change = "parameters only"
                kept: Fate = "kept" if change == "parameters only" else "none"
                self.items.append(PlanItem("pattern", name, change, before.live, before.live, kept))
                return
        if before is None and len(self.patterns) >= self.max_patterns:
            raise RefusedError(f"{self.max_patterns} patterns run, which is the limit (limits.patterns)")
        version = self._new_version(text)
        if before is None:
            self.patterns[name] = PatternDef("running", version, 1)
            self.items.append(PlanItem("pattern", name, "new", version))
            return
        self._replace(name, before, version, old)

    def _new_version(self, text: PatternText) -> int:
        """Keep the text as the next version of its pattern; the version's number."""
        name = text.tree.name
        version = self.last_version.get(name, 0) + 1
        shape = self.shape(self, text.engine_text, self.params)
        self.versions.append(
            Version(
                name,
                version,
                text.text,
                text.engine_text,
                shape,
                self.author.name,
                self.now_ms,
                self.author.comment,
                self.number,
            )
        )
        return version

    def roll_back(self, name: str, version: int | None, old: Old) -> None:
        """An older version counts again; None: the one before."""
        before = self.pattern(name)
        if version is None:
            older = [number for number in range(before.live - 1, 0, -1) if (name, number) in self.find]
            if not older:
                raise NotThereError(f"pattern `{name}` has no version before {before.live}")
            version = older[0]
        if (name, version) not in self.find:
            raise NotThereError(f"pattern `{name}` has no version {version}")
        if version == before.live:
            self.items.append(PlanItem("pattern", name, "unchanged", version, version))
            return
        self._replace(name, before, version, old, "rolled back")

    def _replace(self, name: str, before: PatternDef, version: int, old: Old, change: Happens | None = None) -> None:
        """Let another version count, or the same under other values of parameters; decide what becomes of the partial
        matches of the one that did."""
        held = self.find[name, before.live].engine_text
        shape = self.shape(self, self._engine_text(name, version), self.params)
        same = shape == self.shape(self, held, self.body.definitions.params)
        happens: Happens = change or ("same structure" if same else "changed structure")
        within = self._tree_of(held).within_ms
        draining = list(before.draining)
        fate: Fate = "none"
        if before.state == "running":
            if old == "keep" and not same:
                raise ConflictError(
                    f"pattern `{name}`: its structure changes, so that partial matches of version {before.live} cannot "
                    "go on under the new one; drain or drop them"
                )
            if old in ("auto", "keep") and same:
                fate = "kept"
            elif old == "drain" or (old == "auto" and within is not None):
                if within is None:
                    raise ConflictError(
                        f"pattern `{name}` has no `within`: its partial matches might never end, so they cannot be "
                        "drained; drop them"
                    )
                fate = "drained"
                draining.append(Draining(before.live, self._frozen(held), self.number))
                self.renamed[name] = engine_name(name, "draining", self.number)
            else:
                fate = "dropped"
                self.dropped.append(name)
        if fate != "kept":
            for each in reversed(before.draining):
                if each.version == version and self.shape(self, each.engine_text, self.params) == shape:
                    # what it still has is its own again
                    self.renamed[engine_name(name, "draining", each.since)] = name
                    draining.remove(each)
                    break
        state = "running" if before.state == "failed" else before.state
        self.patterns[name] = PatternDef(state, version, before.revision + 1, before.shadow, tuple(draining))
        self.items.append(
            PlanItem(
                "pattern",
                name,
                happens,
                version,
                before.live,
                fate,
                drained_after_ms=within if fate == "drained" else None,
                detail="it is paused" if state == "paused" else "",
                can_keep=same,
                can_drain=within is not None,
            )
        )

    def pause(self, name: str) -> None:
        before = self.pattern(name)
        if before.state != "running":
            raise ConflictError(f"pattern `{name}` is {before.state}")
        self.patterns[name] = PatternDef("paused", before.live, before.revision + 1, before.shadow)
        self.items.append(
            PlanItem(
                "pattern",
                name,
                "paused",
                before.live,
                before.live,
                "dropped",
                detail="partial matches end here: they would miss what comes while it is paused",
            )
        )

    def resume(self, name: str) -> None:
        before = self.pattern(name)
        if before.state == "running":
            raise ConflictError(f"pattern `{name}` is running")
        self.patterns[name] = PatternDef("running", before.live, before.revision + 1, before.shadow)
        self.items.append(PlanItem("pattern", name, "resumed", before.live, before.live, detail="it begins anew"))

    def delete(self, name: str) -> None:
        before = self.pattern(name)
        del self.patterns[name]
        self.items.append(PlanItem("pattern", name, "deleted", None, before.live, "dropped"))

    def fail(self, name: str, error: str) -> None:
        """A pattern could not go on; see `Exclusion`."""
        before = self.pattern(name)
        self.patterns[name] = PatternDef("failed", before.live, before.revision + 1, before.shadow, error=error)
        self.items.append(PlanItem("pattern", name, "failed", before.live, before.live, "dropped", detail=error))
        while unfed := self._unfed():
            reader, stream = unfed[0]
            held = self.patterns[reader]
            said = f"it reads `{stream}`, which nobody gives since `{name}` has failed"
            self.patterns[reader] = PatternDef("failed", held.live, held.revision + 1, error=said)
            self.items.append(PlanItem("pattern", reader, "failed", held.live, held.live, "dropped", detail=said))

    def _unfed(self) -> list[tuple[str, str]]:
        """Patterns that run and read what nobody emits, with the stream. Shadows that do are ended."""
        running = [(name, each.live) for name, each in self.patterns.items() if each.state == "running"]
        trees = {name: self._tree_of(self._engine_text(name, version)) for name, version in running}
        known = {*self.streams, *(tree.into or name for name, tree in trees.items())}
        known |= {tree.timeouts_into for tree in trees.values() if tree.timeouts_into is not None}
        for name, each in list(self.patterns.items()):
            if each.shadow is not None and self._tree_of(self._engine_text(name, each.shadow)).on not in known:
                self.end_shadow(name)
        return [(name, tree.on) for name, tree in trees.items() if tree.on not in known]

    def put_shadow(self, text: PatternText) -> None:
        """A version runs beside the one that counts."""
        name = text.tree.name
        before = self.pattern(name)
        version = self._new_version(text)
        if before.shadow is not None:
            self.dropped.append(engine_name(name, "shadow"))
        self.patterns[name] = msgspec.structs.replace(before, shadow=version, revision=before.revision + 1)
        self.items.append(PlanItem("pattern", name, "shadow begins", version, before.live))

    def end_shadow(self, name: str) -> None:
        before = self.pattern(name)
        if before.shadow is None:
            raise NotThereError(f"pattern `{name}` has no shadow")
        self.patterns[name] = msgspec.structs.replace(before, shadow=None, revision=before.revision + 1)
        self.items.append(PlanItem("pattern", name, "shadow ends", before.live, before.shadow, "dropped"))

    def forget_drained(self, empty: set[str]) -> None:
        """Versions that drain and have no partial match left; `empty`: engine names."""
        for name, pattern in list(self.patterns.items()):
            left = tuple(d for d in pattern.draining if engine_name(name, "draining", d.since) not in empty)
            if left != pattern.draining:
                self.patterns[name] = msgspec.structs.replace(pattern, draining=left)
                for drained in pattern.draining:
                    if drained not in left:
                        self.items.append(PlanItem("pattern", name, "drained", pattern.live, drained.version))

    def pattern(self, name: str) -> PatternDef:
        """Raises NotThereError."""
        return pattern_in(self.patterns, name)

    # What comes of it

    @property
    def is_empty(self) -> bool:
        """Would nothing be changed?"""
        before = self.body.definitions
        return (self.streams, self.params, self.patterns) == (before.streams, before.params, before.patterns)

    def finish(self, checker: Checker, before: Runnable) -> tuple[Body, Runnable]:
        """What will be declared, and what will run; `before`: what runs now. Raises PatternError where it does not fit
        together, ConflictError where it cannot be as it was asked for."""
        self._follow_params()
        body, runnable = self._fit(checker)
        self._say_what_begins_anew(before, runnable)
        return body, runnable

    def _fit(self, checker: Checker) -> tuple[Body, Runnable]:
        body = self._body()
        try:
            return body, checker.check(body.generation)
        except PatternError:
            fits = self._without_draining(checker)
            if fits is None:
                raise
            return fits

    def _say_what_begins_anew(self, before: Runnable, after: Runnable) -> None:
        """Patterns that read what others emit lose their partial matches where that has other types from now on."""
        for name, checked in after.checked.items():
            held = before.checked.get(name)
            if held is None or held.stream.name != checked.stream.name or is_alike(held.stream, checked.stream):
                continue
            pattern = name.partition("@")[0]
            said = next((each for each in self.items if (each.kind, each.name) == ("pattern", pattern)), None)
            detail = f"its stream `{checked.stream.name}` has other types than it had, so that it begins anew"
            if said is None:
                counts = self.patterns[pattern].live if pattern in self.patterns else None
                self.items.append(PlanItem("pattern", pattern, "unchanged", counts, counts, "dropped", detail=detail))
            else:
                at = self.items.index(said)
                self.items[at] = msgspec.structs.replace(
                    said,
                    partial_matches="dropped",
                    drained_after_ms=None,
                    detail=detail,
                    can_keep=False,
                    can_drain=False,
                )

    def _follow_params(self) -> None:
        """The number of repetitions may be a parameter: then a value changes the structure of patterns that stay."""
        before = self.body.definitions
        for name, pattern in list(self.patterns.items()):
            held = before.patterns.get(name)
            if held is None or pattern.state != "running" or (held.live, held.state) != (pattern.live, "running"):
                continue
            text = self._engine_text(name, pattern.live)
            if not self._params_change(text):
                continue
            if self.shape(self, text, before.params) != self.shape(self, text, self.params):
                self.items = [each for each in self.items if (each.kind, each.name) != ("pattern", name)]
                self._replace(name, pattern, pattern.live, "auto")

    def _without_draining(self, checker: Checker) -> tuple[Body, Runnable] | None:
        """An old version may not fit what the change makes of the streams; then it cannot go on. None: not that."""
        draining = [name for name, pattern in self.patterns.items() if pattern.draining]
        if not draining:
            return None
        held, renamed, dropped = self.patterns, self.renamed, self.dropped
        self.patterns = {name: msgspec.structs.replace(each, draining=()) for name, each in held.items()}
        self.renamed = {name: to for name, to in renamed.items() if name not in draining}
        self.dropped = [*dropped, *draining]
        body = self._body()
        try:
            runnable = checker.check(body.generation)
        except PatternError:
            self.patterns, self.renamed, self.dropped = held, renamed, dropped
            return None
        said = "its older versions do not fit the streams as they will be"
        self.items += [PlanItem("pattern", name, "drained", detail=said) for name in draining]
        return body, runnable

    def _body(self) -> Body:
        members: list[Member] = []
        others: list[Member] = []
        for name, pattern in self.patterns.items():
            if pattern.state == "running":
                members.append(Member(name, pattern.live, "live", self._engine_text(name, pattern.live)))
            others += [
                Member(name, each.version, "draining", each.engine_text, each.since) for each in pattern.draining
            ]
            if pattern.shadow is not None:
                others.append(Member(name, pattern.shadow, "shadow", self._engine_text(name, pattern.shadow)))
        generation = Generation(
            self.number,
            tuple(stream.text for stream in self.streams.values()),
            {name: declaration_of(param) for name, param in self.params.items()},
            (*members, *others),
            dict(self.renamed),
            tuple(self.dropped),
        )
        return Body(Definitions(self.streams, self.params, self.patterns), generation)

    def _engine_text(self, name: str, version: int) -> str:
        own = next((each for each in self.versions if (each.pattern, each.version) == (name, version)), None)
        return (own or self.find[name, version]).engine_text

    def _frozen(self, engine_text: str) -> str:
        """A pattern's text with the values that parameters have had until now."""
        values = {name: _literal(param) for name, param in self.body.definitions.params.items()}
        return print_pattern(substitute(self._tree_of(engine_text), values, []))

    @staticmethod
    def _tree_of(engine_text: str) -> ast.Pattern:
        return parse_program(engine_text).patterns[0]

    def _params_change(self, text: str) -> bool:
        before = self.body.definitions.params
        return any(
            name not in before or name not in self.params or value_of(before[name]) != value_of(self.params[name])
            for name in params_in(text)
        )


def pattern_in(patterns: Mapping[str, PatternDef], name: str) -> PatternDef:
    """Raises NotThereError."""
    found = patterns.get(name)
    if found is None:
        raise NotThereError(f"there is no pattern `{name}`; {_known(patterns)}")
    return found


def declaration_of(param: ParamDef) -> str:
    """``param NAME = VALUE`` with the value that holds."""
    if param.value is None:
        return param.text
    declared = param_in(param.text)
    return alone(ast.ParamDecl(declared.name, literal_of(param.value, declared.value.type)))


def _literal(param: ParamDef) -> ast.Literal:
    return param_in(declaration_of(param)).value


def value_of(param: ParamDef) -> str:
    """The value that holds, as it is written in a file."""
    return declaration_of(param).partition("=")[2].strip()


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _known(names: Mapping[str, object]) -> str:
    return f"there are {_listed(sorted(names))}" if names else "there is none"
