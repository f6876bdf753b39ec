"""Who changed what, when, from where, and what came of it. Rows are added and never changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ostinato.server.catalog.database import Database, Migration

MIGRATIONS = (
    Migration(
        3,
        "audit",
        (
            """CREATE TABLE audit (
                seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
                remote TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL,
                outcome TEXT NOT NULL) STRICT""",
            "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit log is kept'); END",
            "CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit log is kept'); END",
        ),
    ),
)


class AuditEntry(msgspec.Struct, frozen=True):
    """One change or attempt. `at_ms` is epoch ms, `outcome` is ``ok`` or why not; `detail` has no secrets."""

    seq: int
    at_ms: int
    who: str
    role: str
    remote: str
    action: str
    target: str
    detail: dict[str, Any]
    outcome: str


class Audit:
    """The audit log of a server."""

    def __init__(self, database: Database, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._database = database
        self._now_ms = now_ms

    def add(
        self,
        who: str,
        role: str,
        remote: str,
        action: str,
        target: str,
        detail: Mapping[str, Any] | None = None,
        outcome: str = "ok",
    ) -> int:
        """Write a row, in the transaction of the caller if he has one; its number."""
        text = msgspec.json.encode(dict(detail or {})).decode()
        with self._database.change() as connection:
            cursor = connection.execute(
                "INSERT INTO audit (at_ms, who, role, remote, action, target, detail, outcome)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self._now_ms(), who, role, remote, action, target, text, outcome),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def page(
        self,
        limit: int,
        before: int | None = None,
        *,
        who: str | None = None,
        action: str | None = None,
        target: str | None = None,
    ) -> list[AuditEntry]:
        """Up to `limit` rows, the newest first, of those before the row `before`."""
        conditions, values = ["1"], []
        for column, operator, value in (
            ("seq", "<", before),
            ("who", "=", who),
            ("action", "=", action),
            ("target", "=", target),
        ):
            if value is not None:
                conditions.append(f"{column} {operator} ?")
                values.append(value)
        rows = self._database.rows(
            f"SELECT * FROM audit WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - our names
            (*values, limit),
        )
        return [
            AuditEntry(
                row["seq"],
                row["at_ms"],
                row["who"],
                row["role"],
                row["remote"],
                row["action"],
                row["target"],
                msgspec.json.decode(row["detail"]),
                row["outcome"],
            )
            for row in rows
        ]
