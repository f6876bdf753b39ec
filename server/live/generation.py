"""What runs from one position of the journal to the next change: patterns by version, and values of parameters."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["live", "draining", "shadow"]

SHADOW = "shadow"
"""What stands behind the `@` of a shadow's name, and behind the dot of the stream of its matches."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A pattern that runs. `text` is its declaration, parameters written ``$name``; `since`: of one that drains, the
    generation in which it began to."""

    pattern: str
    version: int
    role: Role
    text: str
    since: int = 0

    @property
    def name(self) -> str:
        """What it is called in the engine, where no two are called the same.

        >>> Member("login", 3, "draining", "", 17).name, Member("login", 4, "live", "").name
        ('login@17', 'login')
        """
        return engine_name(self.pattern, self.role, self.since)


class Generation(msgspec.Struct, frozen=True):
    """All that runs, as plain values.

    Attributes:
        number: counts up; 0 is the empty one before the first.
        streams: declarations of the streams that patterns read from outside.
        params: name -> declaration with the value that holds, as ``param attempts = 5``.
        members: the patterns; live ones first.
        renamed: engine names of the generation before whose partial matches go on under another name here.
        dropped: engine names of the generation before whose partial matches are dropped, though the name is there.
    """

    number: int
    streams: tuple[str, ...] = ()
    params: dict[str, str] = {}
    members: tuple[Member, ...] = ()
    renamed: dict[str, str] = {}
    dropped: tuple[str, ...] = ()

    def member(self, pattern: str, role: Role = "live") -> Member | None:
        """The pattern's member in a role; None where there is none."""
        return next((each for each in self.members if each.pattern == pattern and each.role == role), None)


class Activation(msgspec.Struct, frozen=True):
    """What the journal's record says at which a generation takes effect."""

    generation: int


def engine_name(pattern: str, role: Role, since: int = 0) -> str:
    """See `Member.name`."""
    if role == "live":
        return pattern
    return f"{pattern}@{SHADOW if role == 'shadow' else since}"
