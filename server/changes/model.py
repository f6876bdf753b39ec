"""What a change does, before and after it is made."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Old: TypeAlias = Literal["auto", "keep", "drain", "drop"]
"""What becomes of the partial matches of the version that is replaced; `auto`: kept where the structure is the same,
else drained where the pattern has a `within`, else dropped."""

Kind: TypeAlias = Literal["stream", "param", "pattern", "output"]

Happens: TypeAlias = Literal[
    "new",
    "unchanged",
    "parameters only",
    "same structure",
    "changed structure",
    "changed",
    "rolled back",
    "paused",
    "resumed",
    "deleted",
    "failed",
    "shadow begins",
    "shadow ends",
    "drained",
]

Fate: TypeAlias = Literal["none", "kept", "drained", "dropped"]


class PlanItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of one thing.

    Attributes:
        kind, name: what it is.
        change: what happens to it.
        version, before: of a pattern, the version that counts afterwards, and the one that did.
        partial_matches: what becomes of those of the version that did.
        drained_after_ms: they are all gone once time has moved by so much.
        detail: in words, what else there is to know.
        can_keep, can_drain: what might be done with them instead.
        value, value_before: of a parameter, as it is written in a file.
    """

    kind: Kind
    name: str
    change: Happens
    version: int | None = None
    before: int | None = None
    partial_matches: Fate = "none"
    drained_after_ms: int | None = None
    detail: str = ""
    can_keep: bool = False
    can_drain: bool = False
    value: str | None = None
    value_before: str | None = None


class Author(msgspec.Struct, frozen=True):
    """Who makes a change, and what he says of it."""

    name: str
    comment: str = ""


class ChangeResult(msgspec.Struct, frozen=True):
    """A change that was made, or would be.

    Attributes:
        generation: what runs since then; None where nothing has changed, or was only planned.
        position: partition -> position in the journal at which it took effect.
        effective: the worker has come that far.
        items: what became of what.
        carried: partial matches that went on, by pattern; dropped: that did not.
    """

    generation: int | None
    position: dict[str, int]
    effective: bool
    dry_run: bool
    items: list[PlanItem]
    carried: dict[str, int] = {}
    dropped: dict[str, int] = {}
