"""Where matches are sent: the outputs that were made through the API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from ostinato.server.catalog.database import Database, Migration, Row

MIGRATIONS = (
    Migration(
        5,
        "outputs",
        (
            """CREATE TABLE outputs (
                name TEXT PRIMARY KEY, version INTEGER NOT NULL, kind TEXT NOT NULL, settings TEXT NOT NULL,
                created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, changed_by TEXT NOT NULL)
                STRICT, WITHOUT ROWID""",
        ),
    ),
)


class StoredOutput(msgspec.Struct, frozen=True):
    """An output: `version` counts its changes, `settings` is what the API's Struct of its `kind` is made of."""

    name: str
    version: int
    kind: str
    settings: dict[str, Any]
    created_ms: int
    changed_ms: int
    changed_by: str


class Outputs:
    """The outputs of a server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> StoredOutput | None:
        """One of them."""
        row = self._database.row("SELECT * FROM outputs WHERE name = ?", (name,))
        return None if row is None else _stored(row)

    def all(self) -> list[StoredOutput]:
        """All of them, by name."""
        return [_stored(row) for row in self._database.rows("SELECT * FROM outputs ORDER BY name")]

    def put(self, name: str, kind: str, settings: Mapping[str, Any], who: str) -> StoredOutput:
        """Make or change one. To check its version first, do both within one `Database.change`."""
        now = time.time_ns() // 1_000_000
        with self._database.change() as connection:
            connection.execute(
                "INSERT INTO outputs VALUES (?, 1, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET version = version + 1,"
                " kind = excluded.kind, settings = excluded.settings, changed_ms = excluded.changed_ms,"
                " changed_by = excluded.changed_by",
                (name, kind, msgspec.json.encode(dict(settings)).decode(), now, now, who),
            )
            found = self.get(name)
        assert found is not None
        return found

    def delete(self, name: str) -> bool:
        """Take one away; False where there was none. Its cursor is `Cursors.delete`'s business."""
        with self._database.change() as connection:
            return connection.execute("DELETE FROM outputs WHERE name = ?", (name,)).rowcount > 0


def _stored(row: Row) -> StoredOutput:
    return StoredOutput(
        row["name"],
        row["version"],
        row["kind"],
        msgspec.json.decode(row["settings"]),
        row["created_ms"],
        row["changed_ms"],
        row["changed_by"],
    )
