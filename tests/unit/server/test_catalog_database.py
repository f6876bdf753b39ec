"""The catalog's file: migrations, transactions, and what goes wrong with files."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from ostinato.server.catalog import (
    Catalog,
    CatalogError,
    CatalogFullError,
    Database,
    Migration,
    NewerCatalogError,
)
from ostinato.server.catalog.migrations import MIGRATIONS

ONE = Migration(1, "one", ("CREATE TABLE a (x INTEGER PRIMARY KEY) STRICT",))
TWO = Migration(2, "two", ("ALTER TABLE a ADD COLUMN y TEXT", "INSERT INTO a VALUES (1, 'two')"))
BROKEN = Migration(2, "broken", ("CREATE TABLE b (x INTEGER) STRICT", "CREATE TABLE a (x INTEGER) STRICT"))


def test_migrations_are_numbered_one_by_one() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_migrations_run_once_and_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with Database(path, [ONE]) as database:
        assert database.version == 1
    with Database(path, [ONE, TWO]) as database:
        assert database.version == 2
        assert [tuple(row) for row in database.rows("SELECT * FROM a")] == [(1, "two")]
    with Database(path, [ONE, TWO]) as database:
        assert len(database.rows("SELECT * FROM a")) == 1


def test_a_migration_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with pytest.raises(CatalogError, match="table a already exists"):
        Database(path, [ONE, BROKEN])
    with Database(path, [ONE, TWO]) as database:
        assert database.version == 2
        assert database.row("SELECT name FROM sqlite_schema WHERE name = 'b'") is None


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    Database(path, [ONE, TWO]).close()
    with pytest.raises(NewerCatalogError, match="version 2, this Ostinato knows those up to 1"):
        Database(path, [ONE])


def test_durable_and_for_the_owner_alone(tmp_path: Path) -> None:
    with Database(tmp_path / "c.sqlite", [ONE]) as database:
        assert database.rows("PRAGMA journal_mode")[0][0] == "wal"
        assert database.rows("PRAGMA synchronous")[0][0] == 2
        assert database.rows("PRAGMA foreign_keys")[0][0] == 1
    assert (tmp_path / "c.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_change_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with Database(tmp_path / "c.sqlite", [ONE]) as database:

        def nested_and_then_wrong() -> None:
            with database.change() as connection:
                connection.execute("INSERT INTO a VALUES (1)")
                with database.change() as inner:
                    inner.execute("INSERT INTO a VALUES (2)")
                raise ZeroDivisionError

        def twice() -> None:
            with database.change() as connection:
                connection.execute("INSERT INTO a VALUES (3)")
                connection.execute("INSERT INTO a VALUES (3)")

        with pytest.raises(ZeroDivisionError):
            nested_and_then_wrong()
        assert database.rows("SELECT * FROM a") == []
        with pytest.raises(sqlite3.IntegrityError):
            twice()
        assert database.rows("SELECT * FROM a") == []


def test_many_threads_and_a_loop(tmp_path: Path) -> None:
    with Database(tmp_path / "c.sqlite", [ONE]) as database:

        def add(first: int) -> None:
            for number in range(first, first + 20):
                with database.change() as connection:
                    connection.execute("INSERT INTO a VALUES (?)", (number,))

        threads = [threading.Thread(target=add, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()

        async def also() -> None:
            await asyncio.gather(*(database.run(add, 1000 * n) for n in range(1, 4)))

        asyncio.run(also())
        for thread in threads:
            thread.join()
        assert database.rows("SELECT count(*) FROM a")[0][0] == 7 * 20


def test_a_full_disk_is_said_and_got_over(tmp_path: Path) -> None:
    with Database(tmp_path / "c.sqlite", [Migration(1, "t", ("CREATE TABLE t (x BLOB) STRICT",))]) as database:
        pages = database.rows("PRAGMA page_count")[0][0]
        database.rows(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(CatalogFullError, match="no room on the disk"), database.change() as connection:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        assert database.rows("SELECT * FROM t") == []
        database.rows("PRAGMA max_page_count = 1000000")
        with database.change() as connection:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        assert len(database.rows("SELECT * FROM t")) == 1


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"this is no database at all, whatever its name says" * 100)
    with pytest.raises(CatalogError, match="is damaged"):
        Catalog(tmp_path)
    with pytest.raises(CatalogError, match="unable to open"):
        Database(tmp_path / "no" / "folder.sqlite", [ONE])


def test_another_process_that_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostinato.server.catalog.database._BUSY_SECONDS", 0.2)
    path = tmp_path / "c.sqlite"
    with Database(path, [ONE]) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="another process has held it"), database.change():
            raise AssertionError("not reached")
        other.execute("ROLLBACK")
        with database.change() as connection:
            connection.execute("INSERT INTO a VALUES (1)")
        other.close()


def test_the_server_keeps_its_id(tmp_path: Path) -> None:
    with Catalog(tmp_path) as catalog:
        first = catalog.facts.server_id
        catalog.facts.put("a", "1")
        catalog.facts.put("a", "2")
    with Catalog(tmp_path) as catalog:
        assert catalog.facts.server_id == first
        assert catalog.facts.get("a") == "2"
        assert catalog.facts.get("b") is None
