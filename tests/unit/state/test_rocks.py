"""The local database: bulk reads and writes, scans by prefix, nothing left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostinato.state import rocks


@pytest.fixture
def db(tmp_path: Path) -> rocks.Rocks:
    return rocks.open(tmp_path / "db", cache_bytes=1 << 20, write_buffer_bytes=1 << 20)


def test_what_was_written_is_read(db: rocks.Rocks) -> None:
    with db:
        db.write([(b"a", b"1"), (b"b", b""), (b"\xff\x00", b"\x00\xff")])
        assert db.get_many([b"b", b"a", b"c", b"\xff\x00", b"a"]) == [b"", b"1", None, b"\x00\xff", b"1"]
        assert db.get(b"a") == b"1"
        assert db.get(b"c") is None
        assert db.get_many([]) == []


def test_a_batch_deletes_after_it_puts(db: rocks.Rocks) -> None:
    with db:
        db.write([(b"a", b"1"), (b"b", b"2")])
        db.write([(b"b", b"3"), (b"c", b"4")], deletes=[b"a", b"c", b"nothing"])
        assert db.get_many([b"a", b"b", b"c"]) == [None, b"3", None]


def test_a_scan_gives_one_prefix_in_order(db: rocks.Rocks) -> None:
    with db:
        db.write([(bytes([group]) + key, key) for group in (0, 7, 8, 255) for key in (b"", b"x", b"\xff", b"\xff\xff")])
        assert list(db.scan(b"\x07")) == [
            (b"\x07", b""),
            (b"\x07x", b"x"),
            (b"\x07\xff", b"\xff"),
            (b"\x07\xff\xff", b"\xff\xff"),
        ]
        assert [key for key, _ in db.scan(b"\x07", start=b"\x07y")] == [b"\x07\xff", b"\x07\xff\xff"]
        assert len(list(db.scan(b"\xff"))) == 4
        assert len(list(db.scan(b""))) == 16
        assert list(db.scan(b"\x09")) == []


def test_a_scan_sees_what_was_there_when_it_began(db: rocks.Rocks) -> None:
    with db:
        db.write([(b"a%d" % number, b"old") for number in range(5)])
        scan = db.scan(b"a")
        assert next(scan) == (b"a0", b"old")
        db.write([(b"a3", b"new"), (b"a9", b"new")], deletes=[b"a4"])
        assert list(scan) == [(b"a%d" % number, b"old") for number in (1, 2, 3, 4)]


def test_more_than_the_memory_it_may_use(db: rocks.Rocks) -> None:
    with db:
        for low in range(0, 100_000, 10_000):
            db.write([(b"%08d" % key, b"%060d" % (key * 7919)) for key in range(low, low + 10_000)])
        keys = range(0, 100_000, 37)
        assert db.get_many([b"%08d" % key for key in keys]) == [b"%060d" % (key * 7919) for key in keys]
        assert db.count() > 50_000


def test_it_starts_empty_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    first = rocks.open(path)
    first.write([(b"a", b"1")])
    first.close()
    second = rocks.open(path)
    assert second.get(b"a") is None
    second.destroy()
    assert not path.exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(rocks.RocksError, match=r"file/db: cannot be opened as a local database"):
        rocks.open(tmp_path / "file" / "db")


def test_files_of_others_are_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(rocks.RocksError, match=r"holds files of others \(thesis.tex\)"):
        rocks.open(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_closed_database_says_so(db: rocks.Rocks) -> None:
    db.destroy()
    with pytest.raises(rocks.RocksError, match="cannot be written"):
        db.write([(b"a", b"1")])
    with pytest.raises(rocks.RocksError, match="cannot be read"):
        db.get_many([b"a"])
