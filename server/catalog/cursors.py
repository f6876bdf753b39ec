"""How far each output has come in the match log."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ostinato.server.catalog.database import Database, Migration

MIGRATIONS = (
    Migration(
        4,
        "cursors",
        (
            """CREATE TABLE cursors (
                name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
        ),
    ),
)


class Cursors:
    """The number of the last match that each name has done with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> int | None:
        """The cursor of a name; None where there is none yet."""
        row = self._database.row("SELECT seq FROM cursors WHERE name = ?", (name,))
        return None if row is None else int(row[0])

    def all(self) -> dict[str, int]:
        """All cursors."""
        return {str(row[0]): int(row[1]) for row in self._database.rows("SELECT name, seq FROM cursors ORDER BY name")}

    def put(self, cursors: Mapping[str, int]) -> None:
        """Set several, in one transaction."""
        at_ms = time.time_ns() // 1_000_000
        with self._database.change() as connection:
            connection.executemany(
                "INSERT INTO cursors VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET seq = excluded.seq, at_ms = excluded.at_ms",
                [(name, seq, at_ms) for name, seq in cursors.items()],
            )

    def delete(self, name: str) -> None:
        """Forget one."""
        with self._database.change() as connection:
            connection.execute("DELETE FROM cursors WHERE name = ?", (name,))
