"""The journal on disk: whole records are found again, torn tails are cut, damage is refused by name."""

from __future__ import annotations

import shutil
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from ostinato.server.journal import (
    Entry,
    Journal,
    JournalDamagedError,
    JournalOptions,
    JournalReader,
    Kind,
)

TINY = JournalOptions(segment_bytes=300)


def line(number: int) -> bytes:
    return b'{"n":%d}\n' % number


def everything(folder: Path, until: int) -> list[Entry]:
    with JournalReader(folder) as reader:
        found: list[Entry] = []
        while some := reader.read(until):
            found += some
        return found


def lay_out(folder: Path, options: JournalOptions | None = None, *, appends: int = 4, closed: bool = True) -> int:
    """A small journal of every kind of record; returns its end. Not `closed`: as a crash leaves it."""
    target = folder if closed else folder.with_name(folder.name + "-running")
    with Journal(target, options) as journal:
        for number in range(appends):
            journal.append("s", line(number), 1, key=b"k%d" % number, lane="file:x", place={"at": number}).result()
        journal.append_generation(b'{"patterns":[]}').result()
        end = journal.tick().result().next
        if not closed:
            shutil.copytree(target, folder)
    return end


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    end = lay_out(tmp_path / "j")
    entries = everything(tmp_path / "j", end)
    assert [entry.kind for entry in entries] == [Kind.EVENTS] * 4 + [Kind.GENERATION, Kind.TICK]
    assert [entry.data for entry in entries[:4]] == [line(number) for number in range(4)]
    assert [(entry.stream, entry.lane, entry.rows, entry.place) for entry in entries[:2]] == [
        ("s", "file:x", 1, {"at": 0}),
        ("s", "file:x", 1, {"at": 1}),
    ]
    assert entries[4].data == b'{"patterns":[]}'
    assert entries[5].data == b""
    assert entries[0].position == 0
    for before, after in pairwise(entries):
        assert before.next == after.position
        assert before.time_ms <= after.time_ms
    assert entries[-1].next == end


def test_the_format_of_version_1_can_be_read(tmp_path: Path) -> None:
    """These bytes were written by the first version and must be readable for ever."""
    (tmp_path / "00000000000000000000.log").write_bytes(
        bytes.fromhex(STORED_SEGMENT),
    )
    with Journal(tmp_path, clock=lambda: 1_700_000_001_000) as journal:
        assert journal.mended == []
        assert journal.places() == {("logins", "kafka:logins/3"): {"offset": 7}}
        again = journal.append("logins", b'{"user":"ann"}\n', 1, key=b"one").result()
        assert (again.duplicate, again.differs, again.position) == (True, False, 0)
        events, tick = everything(tmp_path, journal.durable)
    assert (events.stream, events.lane, events.rows, events.time_ms) == (
        "logins",
        "kafka:logins/3",
        1,
        1_700_000_000_000,
    )
    assert events.data == b'{"user":"ann"}\n'
    assert tick.kind is Kind.TICK


def test_a_tail_torn_at_any_byte_is_cut(tmp_path: Path) -> None:
    end = lay_out(tmp_path / "whole", closed=False)
    entries = everything(tmp_path / "whole", end)
    last = entries[-2]  # the generation: the tick behind it is torn away as a whole
    whole = logs(tmp_path / "whole")[0].read_bytes()
    header = len(whole) - end
    for size in range(header + last.position, header + last.next):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "whole", folder)
        logs(folder)[0].write_bytes(whole[:size])
        with Journal(folder) as journal:
            assert journal.durable == last.position
            assert bool(journal.mended) == (size > header + last.position)
            again = journal.append("s", line(9), 1).result()
            assert again.position == last.position
        assert everything(folder, again.next)[:-1] == entries[:-2]
        shutil.rmtree(folder)


def test_a_last_record_of_wrong_bytes_or_zeros_is_cut(tmp_path: Path) -> None:
    end = lay_out(tmp_path / "whole", closed=False)
    for behind in (bytes(100), b"\xff" * 100, logs(tmp_path / "whole")[0].read_bytes()[-200:]):
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "whole", folder)
        with logs(folder)[0].open("ab") as file:
            file.write(behind)
        with Journal(folder) as journal:
            assert journal.durable == end
            assert f"cut {len(behind)} bytes" in journal.mended[0]
        shutil.rmtree(folder)


@pytest.mark.parametrize("closed", [True, False])
def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path, closed: bool) -> None:
    """Of a journal that was closed any bit; of one that crashed any but of the last group, which is cut as torn."""
    end = lay_out(tmp_path / "whole", TINY, appends=3, closed=closed)
    entries = everything(tmp_path / "whole", end)
    files = [path for path in sorted((tmp_path / "whole").iterdir()) if path.name != "lock"]
    assert len(logs(tmp_path / "whole")) > 1
    outcomes = set()
    for path in files:
        content = path.read_bytes()
        for place in range(0, len(content), 2 if closed else 5):
            flipped = bytearray(content)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(flipped)
            outcomes.add(_outcome(tmp_path, entries, end, path.name, closed=closed))
        path.write_bytes(content)
    assert outcomes == ({"refused", "harmless"} if closed else {"refused", "harmless", "cut"})


def _outcome(tmp_path: Path, entries: list[Entry], end: int, name: str, *, closed: bool) -> str:
    folder = tmp_path / "copy"
    shutil.copytree(tmp_path / "whole", folder)
    try:
        with Journal(folder, TINY) as journal:
            if journal.durable < end:
                # the last group of a journal that crashed cannot be told from a torn one; it is said
                assert not closed
                assert journal.durable == entries[-1].position
                assert "cut" in journal.mended[0]
                return "cut"
            # closed segments are not read as the journal is opened: the reader finds it
            assert everything(folder, end) == entries
            for number in range(3):
                assert journal.append("s", line(number), 1, key=b"k%d" % number).result().duplicate
            assert journal.places() == {("s", "file:x"): {"at": 2}}
            return "harmless"
    except JournalDamagedError as error:
        return "refused" if name.split(".")[0] in str(error) else f"refused without a name: {error}"
    finally:
        shutil.rmtree(folder)


def test_damage_before_a_later_group_is_refused_with_its_place(tmp_path: Path) -> None:
    lay_out(tmp_path / "j", closed=False)
    path = logs(tmp_path / "j")[0]
    content = bytearray(path.read_bytes())
    place = content.index(b'{"n":1}')
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        JournalDamagedError, match=r"00\.log: damaged at byte \d+ \(position \d+\): the checksum does not"
    ):
        Journal(tmp_path / "j")
    assert path.read_bytes() == content, "what is damaged is left as it is"


def test_a_journal_that_was_closed_and_is_shorter_now_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "j")
    path = logs(tmp_path / "j")[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JournalDamagedError, match=r"closed at position \d+, but its records end at"):
        Journal(tmp_path / "j")


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "j", TINY, appends=8)
    assert len(logs(tmp_path / "j")) > 2
    logs(tmp_path / "j")[1].unlink()
    with pytest.raises(JournalDamagedError, match="put the missing file back"):
        Journal(tmp_path / "j")


def test_segments_that_are_all_gone_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "j")
    logs(tmp_path / "j")[0].unlink()
    with pytest.raises(JournalDamagedError, match="indexes of a journal and no segments"):
        Journal(tmp_path / "j")


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "j", closed=False)
    path = logs(tmp_path / "j")[0]
    content = bytearray(path.read_bytes())
    content[12] = 9
    content[8:12] = zlib.crc32(bytes(content[12 : 28 + content[24]])).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(JournalDamagedError, match="format version 9; this program reads version 1"):
        Journal(tmp_path / "j")


STORED_SEGMENT = (
    "4f53544a524e4c0afbbbe3c70100000000000000000000000b00000092cf0000018bcfe5641890bc9a8351720000003b00000001"
    "010000000000000000000000000000000000000068e5cf8b01000095a66c6f67696e73ae6b61666b613a6c6f67696e732f3301c4"
    "1894a0b43a227e8285e3f160c3cf28e79a010000006114b79b81a66f6666736574077b2275736572223a22616e6e227d0aeb8d01"
    "e428000000000000000103000072000000000000007200000000000000f469e5cf8b010000"
)
