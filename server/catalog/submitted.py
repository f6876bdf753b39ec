"""Jobs that the server runs for people: what they are, and how far they have come.

A job whose state is none of `ENDED` is to run: the next server brings it back.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ostinato.server.catalog.database import Database, Migration, Row
from ostinato.state.typed import decode_json

JobState: TypeAlias = Literal["CREATED", "RUNNING", "RESTARTING", "FINISHED", "STOPPED", "CANCELED", "FAILED"]

ENDED: frozenset[JobState] = frozenset({"FINISHED", "STOPPED", "CANCELED", "FAILED"})
"""A job in one of these never runs again."""

MIGRATIONS = (
    Migration(
        7,
        "jobs",
        (
            """CREATE TABLE jobs (
                number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
                state TEXT NOT NULL, body TEXT NOT NULL) STRICT""",
            "CREATE INDEX jobs_state ON jobs (state)",
        ),
    ),
)


class StoredJob(msgspec.Struct, frozen=True):
    """A job.

    Attributes:
        text: of a program; or `module`: the path of an ``app.py``.
        restart: policy as text, None: the default one.
        savepoint: the address that it began from.
        has_run: it has been running once, so what fails it at a start later on may pass.
        stopping: where the savepoint goes with which it is being stopped, from before it is asked for until it is
            there.
        events, matches: when it ended.
    """

    id: str
    name: str
    state: JobState
    parallelism: int
    created_ms: int
    created_by: str
    text: str | None = None
    module: str | None = None
    params: dict[str, str] = {}
    restart: str | None = None
    checkpoint_interval: str | None = None
    savepoint: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    has_run: bool = False
    restarts: int = 0
    stopping: str | None = None
    error: str | None = None
    exit_code: int | None = None
    events: int = 0
    matches: int = 0
    last_checkpoint_ms: int | None = None


class SubmittedJobs:
    """The jobs of a server. Calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: StoredJob) -> int:
        """Keep a new one; returns its number."""
        with self._database.change() as connection:
            made = connection.execute(
                "INSERT INTO jobs (id, name, state, body) VALUES (?, ?, ?, ?)",
                (job.id, job.name, job.state, msgspec.json.encode(job).decode()),
            )
            assert made.lastrowid is not None
            return made.lastrowid

    def put(self, job: StoredJob) -> None:
        """Keep what has become of one."""
        with self._database.change() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, body = ? WHERE id = ?",
                (job.state, msgspec.json.encode(job).decode(), job.id),
            )

    def get(self, job: str) -> StoredJob | None:
        row = self._database.row("SELECT * FROM jobs WHERE id = ?", (job,))
        return None if row is None else _stored(row)

    def page(self, limit: int, before: int | None = None, state: JobState | None = None) -> list[tuple[int, StoredJob]]:
        """Numbers and jobs, the newest first."""
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE number < ? AND (? IS NULL OR state = ?) ORDER BY number DESC LIMIT ?",
            (1 << 62 if before is None else before, state, state, limit),
        )
        return [(int(row["number"]), _stored(row)) for row in rows]

    def active(self) -> list[StoredJob]:
        """Those that are to run, the oldest first."""
        marks = ", ".join("?" * len(ENDED))
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE state NOT IN ({marks}) ORDER BY number",  # noqa: S608 - question marks
            sorted(ENDED),
        )
        return [_stored(row) for row in rows]

    def forget_ended(self, keep: int) -> list[StoredJob]:
        """Forget all but the newest of those that have ended; returns whom."""
        marks = ", ".join("?" * len(ENDED))
        with self._database.change() as connection:
            rows = self._database.rows(
                f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY number DESC LIMIT -1 OFFSET ?",  # noqa: S608
                (*sorted(ENDED), keep),
            )
            connection.executemany("DELETE FROM jobs WHERE number = ?", [(row["number"],) for row in rows])
        return [_stored(row) for row in rows]


def _stored(row: Row) -> StoredJob:
    return decode_json(row["body"], StoredJob)
