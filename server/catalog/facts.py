"""What is true of this server once and for all: who it is, since when it has been there."""

from __future__ import annotations

import secrets
import time

from ostinato.server.catalog.database import Database, Migration

MIGRATIONS = (
    Migration(
        1,
        "facts",
        ("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",),
    ),
)


class Facts:
    """Names and texts. `server_id` and `created_ms` are there from the first opening on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # 40 bits: short enough to stand in the id of each match, and no two servers of a company share it
        self.server_id = self._first("server_id", secrets.token_hex(5))
        self.created_ms = int(self._first("created_ms", str(time.time_ns() // 1_000_000)))

    def _first(self, name: str, value: str) -> str:
        with self._database.change() as connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
            return str(connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def get(self, name: str) -> str | None:
        """The text under a name."""
        row = self._database.row("SELECT value FROM facts WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        with self._database.change() as connection:
            connection.execute(
                "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
            )
