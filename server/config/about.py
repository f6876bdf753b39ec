"""What the settings say about themselves, for messages and for the table in the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["", "duration", "size"]
"""How an `int` is written: as a number, as ``10s`` (milliseconds), as ``64MiB`` (bytes)."""


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means, how it is written, and the numbers or words it may be."""

    text: str
    unit: Unit = ""
    least: int | None = None
    most: int | None = None
    one_of: tuple[str, ...] = ()


def span(text: str, least: int = 0) -> About:
    """A duration; the value is in milliseconds."""
    return About(text, "duration", least)


def size(text: str, least: int = 0) -> About:
    """A number of bytes."""
    return About(text, "size", least)
