"""Patterns: what would change, what has changed, what runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ostinato.server.http.schemas.common import PageQuery

OldPartials = Literal["keep", "drain", "drop"]
"""What becomes of the partial matches of a pattern's old version."""

Action = Literal[
    "new",
    "unchanged",
    "parameters",
    "same structure",
    "changed structure",
    "rollback",
    "delete",
    "pause",
    "resume",
    "fail",
    "drained",
    "shadow",
    "end of shadow",
]
State = Literal["live", "paused", "failed"]
"""``failed``: a cap said so, or a skip strategy had nowhere to go; it runs again when it is resumed or changed."""
Number = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
"""Of a version."""
VersionRole = Literal["live", "draining", "shadow", "paused", "past"]


class ApplyQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a text is applied. `old`: where not given, what fits each pattern."""

    dry_run: bool = False
    old: OldPartials | None = None
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class PatternPlan(msgspec.Struct, frozen=True):
    """What becomes of one pattern. `old`: what happens to its old version's partial matches; `partial_matches`: how
    many those are now, as far as is known; `drained_ms`: so much later in event time none of them is left; `loses`:
    what a pause or a drop costs, in words."""

    pattern: str
    action: Action
    from_version: int | None
    to_version: int | None
    old: OldPartials | None = None
    old_choices: list[OldPartials] = []
    partial_matches: int | None = None
    drained_ms: int | None = None
    reason: str = ""
    loses: str = ""


class StreamPlan(msgspec.Struct, frozen=True):
    """What becomes of one stream."""

    stream: str
    action: Literal["new", "unchanged", "changed", "delete"]
    reason: str = ""


class ParamPlan(msgspec.Struct, frozen=True):
    """What becomes of one parameter."""

    param: str
    action: Literal["new", "unchanged", "changed", "delete"]
    value: Any
    before: Any = None


class Plan(msgspec.Struct, frozen=True):
    """What a change does, before or after it is done."""

    patterns: list[PatternPlan]
    streams: list[StreamPlan] = []
    params: list[ParamPlan] = []
    warnings: list[str] = []


class Applied(msgspec.Struct, frozen=True):
    """A change. `generation` and `position`: since when it is in effect, in all workers; None on a dry run and where
    nothing changed. `effective`: the worker has come to that position; else it is still on its way there. `carried` and
    `dropped`: partial matches that went on and that did not, by pattern (``NAME@GENERATION``: of one that drains)."""

    plan: Plan
    dry_run: bool
    generation: int | None
    position: int | None
    at_ms: int | None
    effective: bool = False
    carried: dict[str, int] = {}
    dropped: dict[str, int] = {}


class VersionInfo(msgspec.Struct, frozen=True):
    """A version of a pattern. `change`: against the one before; `partial_matches`: of those that run."""

    pattern: str
    version: int
    role: VersionRole
    change: Action
    text: str
    author: str
    comment: str
    created_ms: int
    partial_matches: int | None = None
    matches: int | None = None
    drained_ms: int | None = None


class VersionPage(msgspec.Struct, frozen=True):
    """Versions, the newest first."""

    items: list[VersionInfo]
    next: str | None


class PatternCounters(msgspec.Struct, frozen=True):
    """What a pattern has done since the server started, and has in hand."""

    matches: int = 0
    timeouts: int = 0
    partial_matches: int = 0
    last_match_ms: int | None = None


class PatternInfo(msgspec.Struct, frozen=True):
    """A pattern. `text` is its live version in the standard form; `input` and `output` are streams."""

    name: str
    etag: str
    version: int
    state: State
    text: str
    input: str
    output: str | None
    params: list[str]
    author: str
    comment: str
    created_ms: int
    changed_ms: int
    generation: int
    error: str = ""
    counters: PatternCounters = PatternCounters()
    draining: list[VersionInfo] = []
    shadow: VersionInfo | None = None


class PatternPage(msgspec.Struct, frozen=True):
    """Patterns by name."""

    items: list[PatternInfo]
    next: str | None


class PatternsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which patterns."""

    stream: str | None = None
    state: State | None = None


class DeleteQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What becomes of the partial matches of what is deleted."""

    old: Literal["drain", "drop"] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    dry_run: bool = False


class RollbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version that counts again; without one, that before the one that does."""

    version: Number | None = None
    old: OldPartials | None = None
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    dry_run: bool = False


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a pattern is paused or resumed."""

    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    dry_run: bool = False


class DiffQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which versions; without `from` the one before `to`, without `to` the newest."""

    from_: Number | None = None
    to: Number | None = None


class Diff(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The difference of two versions: `text` as `diff -u` has it."""

    pattern: str
    from_: int
    to: int
    change: Action
    text: str


class WhyQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which key (one `key` for each key column), and how many of its last events."""

    key: list[str] = []
    events: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10


class WhyCondition(msgspec.Struct, frozen=True):
    """A condition on an event: its text, what came of it (None: NULL), and the values of what stands in it."""

    element: str
    text: str
    result: bool | None
    values: dict[str, Any] = {}


class WhyEvent(msgspec.Struct, frozen=True):
    """One of the key's last events, and what the pattern made of it."""

    time_ms: int
    event: dict[str, Any]
    outcome: str
    conditions: list[WhyCondition] = []


class WhyTaken(msgspec.Struct, frozen=True):
    """What an element of the pattern has taken so far: `count` events, of which these are the last."""

    element: str
    events: list[dict[str, Any]]
    count: int


class WhyPartial(msgspec.Struct, frozen=True):
    """A partial match of the key: what it has, what it waits for, until when. `kind`: ``open``, ``complete`` (others or
    time still hold it back) or ``skipped``; `version`: where it is of one that drains."""

    began_ms: int
    expires_ms: int | None
    taken: list[WhyTaken]
    waits_for: list[str]
    kind: Literal["open", "complete", "skipped"]
    last_event_ms: int
    version: int | None = None


class WhyWatermark(msgspec.Struct, frozen=True):
    """How far event time has come, and which lanes hold it back."""

    watermark_ms: int | None
    held_back_by: list[str]
    waiting_events: int = 0


class Why(msgspec.Struct, frozen=True):
    """Why a key has matched or not. `total`: its partial matches, of which the list may show a part."""

    pattern: str
    version: int
    key: list[Any]
    state: State
    total: int
    partial_matches: list[WhyPartial]
    events: list[WhyEvent]
    watermark: WhyWatermark
    notes: list[str] = []


class GraphNode(msgspec.Struct, frozen=True):
    """A state of the automaton."""

    id: int
    label: str
    kind: Literal["start", "normal", "pending", "final", "stop"]
    partial_matches: int | None = None


class GraphEdge(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A move; `kind`: the event is taken, passed over, or ends the partial match."""

    from_: int
    to: int
    kind: Literal["take", "ignore", "stop"]
    condition: str


class Graph(msgspec.Struct, frozen=True):
    """The automaton of a pattern; `dot` is the same for graphviz."""

    pattern: str
    version: int
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    dot: str


class ParamInfo(msgspec.Struct, frozen=True):
    """A parameter: its value now and as declared."""

    name: str
    type: str
    value: Any
    declared: Any
    overridden: bool
    etag: str
    used_by: list[str]
    changed_ms: int
    changed_by: str


class ParamPage(msgspec.Struct, frozen=True):
    """Parameters by name."""

    items: list[ParamInfo]
    next: str | None


class ParamValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value for a parameter, as JSON or as the language writes it (`"5 min"`)."""

    value: bool | int | float | str
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class ParamChanged(msgspec.Struct, frozen=True):
    """The parameter, and since when its value is in effect."""

    param: ParamInfo
    generation: int | None
    position: int | None


class ChangeInfo(msgspec.Struct, frozen=True):
    """One change of what runs: a generation."""

    generation: int
    position: int
    at_ms: int
    author: str
    comment: str
    action: str
    plan: Plan


class ChangePage(msgspec.Struct, frozen=True):
    """Changes, the newest first."""

    items: list[ChangeInfo]
    next: str | None
