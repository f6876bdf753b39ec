"""The SQLite file with what the server keeps besides its logs: one connection, one lock, numbered migrations."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

_BUSY_SECONDS = 5.0
"""How long to wait for another process that holds the file: a backup, a curious `sqlite3`."""

P = ParamSpec("P")
T = TypeVar("T")
Row = sqlite3.Row


class CatalogError(Exception):
    """The catalog cannot be used; the message says why and what to do."""


class CatalogFullError(CatalogError):
    """There is no room on the disk; nothing of the change was kept, and it can be tried again."""


class NewerCatalogError(CatalogError):
    """The file was written by a newer Ostinato."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A step from one version of the tables to the next; `number` is the version that it makes.

    Once released it never changes: what it got wrong, a later one mends.
    """

    number: int
    name: str
    statements: tuple[str, ...]


class Database:
    """The catalog's file, opened and brought up to date.

    One connection for all threads; the lock around it makes changes one after the other. Nothing here may be called
    from an event loop's thread: `run` does it in the catalog's own thread.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        """Open the file, make it where it is missing, and run the migrations that it has not seen.

        Raises:
            CatalogError: it cannot be opened, is damaged, or is newer than this program.
        """
        self.path = path
        self._lock = threading.RLock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog")
        numbers = [migration.number for migration in migrations]
        assert numbers == list(range(1, len(numbers) + 1)), f"migrations are numbered from 1 on, not {numbers}"
        with self._said():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._connection.row_factory = Row
            with self._said():
                # WAL: readers of other processes do not stop us; FULL: what was committed survives a power cut
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
                    self._connection.execute(f"PRAGMA {pragma}")
            path.chmod(0o600)
            self._migrate(migrations)
        except BaseException:
            self.close()
            raise

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        with self._said():
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(migrations):
            raise NewerCatalogError(
                f"{self.path} has version {version}, this Ostinato knows those up to {len(migrations)}:"
                " use the newer one that wrote it, or another data directory"
            )
        for migration in migrations[version:]:
            with self.change() as connection:
                for statement in migration.statements:
                    connection.execute(statement)
                # within the transaction: a migration is there whole or not at all
                connection.execute(f"PRAGMA user_version = {migration.number:d}")

    @property
    def version(self) -> int:
        """The number of the last migration."""
        return int(self.rows("PRAGMA user_version")[0][0])

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is done on the connection within is kept, durably, or nothing of it.

        Nested calls of one thread are one transaction.

        Raises:
            CatalogFullError: there is no room.
            CatalogError: the file cannot be written.
            sqlite3.IntegrityError: the change breaks a rule of the tables; the caller knows which.
        """
        with self._lock, self._said():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """What a query gives, all of it."""
        with self._lock, self._said():
            return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of what a query gives."""
        with self._lock, self._said():
            found = self._connection.execute(statement, values).fetchone()
            assert found is None or isinstance(found, Row)
            return found

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in the catalog's thread: calls of one loop run in the order they were made."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Let the calls that were made end, and close the file."""
        self._executor.shutdown()
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """SQLite's errors in words that say what to do."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if name == "SQLITE_FULL":
                raise CatalogFullError(f"{self.path}: no room on the disk; free some, nothing is lost") from error
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise CatalogError(f"{self.path}: another process has held it for {_BUSY_SECONDS:.0f} s") from error
            if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise CatalogError(f"{self.path} is damaged ({error}); restore it from a copy") from error
            raise CatalogError(f"{self.path}: {error} ({name or 'unknown'})") from error
