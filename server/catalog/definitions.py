"""Streams, parameters and patterns as they are declared now, every version there has been, and every change.

What is declared is one document: that of the newest generation that has taken effect. A change writes its document
before the journal has the record that makes it so, and is marked behind that, so that a server which is killed in
between can tell what became of it.
"""

from __future__ import annotations

import zlib
from typing import Literal, TypeAlias

import msgspec

from ostinato.server.catalog.database import Database, Migration
from ostinato.server.live.generation import Generation
from ostinato.state.typed import decode_json

PatternState: TypeAlias = Literal["running", "paused", "failed"]

MIGRATIONS = (
    Migration(
        6,
        "definitions",
        (
            """CREATE TABLE versions (
                pattern TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, engine_text TEXT NOT NULL,
                structure TEXT NOT NULL, author TEXT NOT NULL, at_ms INTEGER NOT NULL, comment TEXT NOT NULL,
                generation INTEGER NOT NULL, PRIMARY KEY (pattern, version)) STRICT, WITHOUT ROWID""",
            """CREATE TABLE changes (
                generation INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, author TEXT NOT NULL, comment TEXT NOT NULL,
                what TEXT NOT NULL, items BLOB NOT NULL, body BLOB, position INTEGER) STRICT""",
            """CREATE TABLE exclusions (
                position INTEGER NOT NULL, name TEXT NOT NULL, at_ms INTEGER NOT NULL, error TEXT NOT NULL,
                PRIMARY KEY (position, name)) STRICT, WITHOUT ROWID""",
        ),
    ),
)


class StreamDef(msgspec.Struct, frozen=True):
    """A declared stream. `revision` counts its changes."""

    text: str
    revision: int
    author: str
    at_ms: int


class ParamDef(msgspec.Struct, frozen=True):
    """A parameter: ``param NAME = VALUE`` as it was declared, and the value that was set since, as text."""

    text: str
    value: str | None
    revision: int
    author: str
    at_ms: int


class Draining(msgspec.Struct, frozen=True):
    """An old version whose partial matches go on to their end, as it was, with the values that parameters had. `since`:
    the generation in which it began to."""

    version: int
    engine_text: str
    since: int


class PatternDef(msgspec.Struct, frozen=True):
    """A pattern that is there, running or not.

    Attributes:
        state: ``failed``: it could not go on, see `error`; it runs again when it is resumed or changed.
        live: the version that counts.
        revision: counts what was done to it; its ETag.
        shadow: the version that runs beside it.
        draining: what it was before, as far as that has partial matches left.
        error: why it failed.
    """

    state: PatternState
    live: int
    revision: int
    shadow: int | None = None
    draining: tuple[Draining, ...] = ()
    error: str = ""


class Definitions(msgspec.Struct, frozen=True):
    """All that is declared."""

    streams: dict[str, StreamDef] = {}
    params: dict[str, ParamDef] = {}
    patterns: dict[str, PatternDef] = {}


class Version(msgspec.Struct, frozen=True):
    """A version of a pattern; never changed. `text` names parameters as they were written, `engine_text` with ``$``."""

    pattern: str
    version: int
    text: str
    engine_text: str
    structure: str
    author: str
    at_ms: int
    comment: str
    generation: int


class Body(msgspec.Struct, frozen=True):
    """What a change makes: the document, and what runs."""

    definitions: Definitions
    generation: Generation


class Change(msgspec.Struct, frozen=True):
    """A change that was made. `items` is what the plan said, `position` where in the journal it took effect."""

    generation: int
    at_ms: int
    author: str
    comment: str
    what: str
    items: list[dict[str, object]]
    position: int | None


class Exclusion(msgspec.Struct, frozen=True):
    """A pattern that could not go on at a record, and is left out from there on."""

    position: int
    name: str
    error: str


class DefinitionTables:
    """Versions, changes and exclusions. Calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Changes

    def current(self) -> Body:
        """What is declared and runs since the last change; nothing before the first."""
        row = self._database.row("SELECT body FROM changes WHERE position IS NOT NULL ORDER BY generation DESC LIMIT 1")
        return Body(Definitions(), Generation(0)) if row is None else _unpacked(row[0])

    def pending(self) -> int | None:
        """The generation of a change of which nobody knows whether the journal has it."""
        row = self._database.row("SELECT generation FROM changes WHERE position IS NULL")
        return None if row is None else int(row[0])

    def last_position(self) -> int:
        """Where in the journal the last change took effect; 0: there has been none."""
        row = self._database.row("SELECT MAX(position) FROM changes")
        return 0 if row is None or row[0] is None else int(row[0])

    def begin(self, change: Change, body: Body, versions: list[Version]) -> None:
        """Write a change that is about to be made."""
        with self._database.change() as connection:
            connection.execute(
                "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    change.generation,
                    change.at_ms,
                    change.author,
                    change.comment,
                    change.what,
                    zlib.compress(msgspec.json.encode(change.items)),
                    zlib.compress(msgspec.json.encode(body), 1),
                ),
            )
            connection.executemany(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [msgspec.structs.astuple(v) for v in versions],
            )

    def complete(self, generation: int, position: int) -> None:
        """The journal has it."""
        with self._database.change() as connection:
            connection.execute("UPDATE changes SET position = ? WHERE generation = ?", (position, generation))

    def withdraw(self, generation: int) -> None:
        """The journal does not have it, and will not."""
        with self._database.change() as connection:
            connection.execute("DELETE FROM versions WHERE generation = ?", (generation,))
            connection.execute("DELETE FROM changes WHERE generation = ? AND position IS NULL", (generation,))

    def generation(self, number: int) -> Generation:
        """What ran since a change. Raises LookupError where that is not kept any more."""
        if number == 0:
            return Generation(0)
        row = self._database.row("SELECT body FROM changes WHERE generation = ?", (number,))
        if row is None or row[0] is None:
            raise LookupError(f"generation {number} is not in the catalog; was it restored from an older copy?")
        return _unpacked(row[0]).generation

    def forget_before(self, position: int) -> None:
        """No replay begins before this position: what ran only before it is not needed any more."""
        with self._database.change() as connection:
            connection.execute(
                "UPDATE changes SET body = NULL WHERE body IS NOT NULL AND generation <"
                " (SELECT MAX(generation) FROM changes WHERE position IS NOT NULL AND position < ?)",
                (position,),
            )
            connection.execute("DELETE FROM exclusions WHERE position < ?", (position,))

    def changes(self, limit: int, before: int | None = None) -> list[Change]:
        """The newest first."""
        rows = self._database.rows(
            "SELECT generation, at_ms, author, comment, what, items, position FROM changes"
            " WHERE position IS NOT NULL AND generation < ? ORDER BY generation DESC LIMIT ?",
            (1 << 62 if before is None else before, limit),
        )
        return [
            Change(number, at_ms, author, comment, what, msgspec.json.decode(zlib.decompress(items)), position)
            for number, at_ms, author, comment, what, items, position in rows
        ]

    # Versions

    def version(self, pattern: str, version: int) -> Version | None:
        row = self._database.row("SELECT * FROM versions WHERE pattern = ? AND version = ?", (pattern, version))
        return None if row is None else Version(*row)

    def versions(self, pattern: str, limit: int = 1000, before: int | None = None) -> list[Version]:
        """The newest first."""
        rows = self._database.rows(
            "SELECT * FROM versions WHERE pattern = ? AND version < ? ORDER BY version DESC LIMIT ?",
            (pattern, 1 << 62 if before is None else before, limit),
        )
        return [Version(*row) for row in rows]

    def last_version(self, pattern: str) -> int:
        """0 where there has been none."""
        row = self._database.row("SELECT MAX(version) FROM versions WHERE pattern = ?", (pattern,))
        return 0 if row is None or row[0] is None else int(row[0])

    # Exclusions

    def exclude(self, exclusion: Exclusion, at_ms: int) -> None:
        with self._database.change() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO exclusions VALUES (?, ?, ?, ?)",
                (exclusion.position, exclusion.name, at_ms, exclusion.error),
            )

    def exclusions(self) -> list[Exclusion]:
        rows = self._database.rows("SELECT position, name, error FROM exclusions ORDER BY position, name")
        return [Exclusion(*row) for row in rows]


def _unpacked(data: bytes) -> Body:
    return decode_json(zlib.decompress(data), Body)
