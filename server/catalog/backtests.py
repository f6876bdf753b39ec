"""Backtests and what they have found."""

from __future__ import annotations

import zlib
from typing import Literal, TypeAlias

import msgspec

from ostinato.server.catalog.database import Database, Migration, Row

BacktestState: TypeAlias = Literal["QUEUED", "RUNNING", "FINISHED", "CANCELED", "FAILED"]

MIGRATIONS = (
    Migration(
        8,
        "backtests",
        (
            """CREATE TABLE backtests (
                number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
                body BLOB NOT NULL) STRICT""",
        ),
    ),
)


class StoredBacktest(msgspec.Struct, frozen=True):
    """A backtest; `info` is the JSON of what the API says of it."""

    id: str
    state: BacktestState
    info: bytes


class Backtests:
    """The backtests of a server. Calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, backtest: StoredBacktest) -> int:
        """Keep a new one; returns its number."""
        with self._database.change() as connection:
            made = connection.execute(
                "INSERT INTO backtests (id, state, body) VALUES (?, ?, ?)",
                (backtest.id, backtest.state, zlib.compress(backtest.info)),
            )
            assert made.lastrowid is not None
            return made.lastrowid

    def put(self, backtest: StoredBacktest) -> None:
        """Keep what has become of one; of one that was deleted meanwhile, nothing."""
        with self._database.change() as connection:
            connection.execute(
                "UPDATE backtests SET state = ?, body = ? WHERE id = ?",
                (backtest.state, zlib.compress(backtest.info), backtest.id),
            )

    def get(self, backtest: str) -> StoredBacktest | None:
        row = self._database.row("SELECT * FROM backtests WHERE id = ?", (backtest,))
        return None if row is None else _stored(row)

    def page(self, limit: int, before: int | None = None) -> list[tuple[int, StoredBacktest]]:
        """Numbers and backtests, the newest first."""
        rows = self._database.rows(
            "SELECT * FROM backtests WHERE number < ? ORDER BY number DESC LIMIT ?",
            (1 << 62 if before is None else before, limit),
        )
        return [(int(row["number"]), _stored(row)) for row in rows]

    def unfinished(self) -> list[StoredBacktest]:
        """Those that were to run, or ran, the oldest first."""
        rows = self._database.rows("SELECT * FROM backtests WHERE state IN ('QUEUED', 'RUNNING') ORDER BY number")
        return [_stored(row) for row in rows]

    def delete(self, backtest: str) -> bool:
        """Forget one; False where there was none."""
        with self._database.change() as connection:
            return connection.execute("DELETE FROM backtests WHERE id = ?", (backtest,)).rowcount > 0

    def forget_ended(self, keep: int) -> None:
        """Forget all but the newest of those that have ended."""
        with self._database.change() as connection:
            connection.execute(
                "DELETE FROM backtests WHERE number IN (SELECT number FROM backtests WHERE state NOT IN"
                " ('QUEUED', 'RUNNING') ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (keep,),
            )


def _stored(row: Row) -> StoredBacktest:
    return StoredBacktest(row["id"], row["state"], zlib.decompress(row["body"]))
