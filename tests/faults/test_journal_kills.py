"""The process that writes the journal is killed: what was acknowledged is there once, and nothing is torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from ostinato.server.journal import Entry, Journal, JournalReader
from ostinato.state.steps import MARKER_VARIABLE, STEPS, VARIABLE

pytestmark = [pytest.mark.timeout(120)]

CHILD = """
import os, sys, threading
from pathlib import Path
from ostinato.server.journal import Journal, JournalOptions

folder, life = Path(sys.argv[1]), sys.argv[2]
journal = Journal(folder, JournalOptions(segment_bytes=20_000, record_bytes=500))

def append(thread):
    lane = f"file:{thread}" if thread % 2 else ""
    number = journal.places().get(("s", lane), {}).get("next", 0)
    while True:
        key = f"{life}-{thread}-{number}"
        number += 1
        data = b'{"key":"%s"}\\n' % key.encode()
        place = {"next": number, "key": key} if lane else None
        done = journal.append("s", data, 1, key=key.encode(), lane=lane, place=place).result()
        os.write(1, f"{key} {done.position} {done.next}\\n".encode())

for thread in range(6):
    threading.Thread(target=append, args=(thread,), daemon=True).start()
kept = 0
while True:
    threading.Event().wait(0.02)
    # what lies long behind is dropped, as behind a snapshot
    journal.trim(journal.durable - 50_000)
"""


class Told:
    """What a journal's writers were told, over all their lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.lives = 0

    def live(self, fault: str = "", seconds: float | None = None) -> None:
        """Append until the process is killed, by a fault or after so long."""
        environment = dict(os.environ)
        if fault:
            environment |= {VARIABLE: fault, MARKER_VARIABLE: str(self.folder.parent / f"struck-{self.lives}")}
        self.lives += 1
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.folder), str(self.lives)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        try:
            if seconds is not None:
                time.sleep(seconds)
                process.kill()
            said, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL, errors.decode()
        for line in said.decode().splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be cut off
                key, position, following = line.split()
                self.acknowledged[key] = (int(position), int(following))

    def judge(self) -> None:
        """Everything that was acknowledged is where it was said to be, once; its key is known; nothing is torn."""
        with Journal(self.folder) as journal:
            entries = everything(journal)
            where = {}
            places = {}
            for entry in entries:
                keys = [orjson.loads(line)["key"] for line in entry.data.splitlines()]
                assert len(keys) == entry.rows
                where.update(dict.fromkeys(keys, (entry.position, entry.next)))
                if entry.place is not None:
                    places[entry.stream, entry.lane] = entry.place
                    assert entry.place["key"] == keys[-1], "a place is that of its record's last line"
            counts = Counter(orjson.loads(line)["key"] for entry in entries for line in entry.data.splitlines())
            assert [key for key, count in counts.items() if count > 1] == []
            held = {key: place for key, place in self.acknowledged.items() if place[0] >= journal.first}
            assert {key: where.get(key) for key in held} == held
            # also of what is dropped: whoever was not told asks again
            for key, place in self.acknowledged.items():
                again = journal.append("s", b'{"key":"%s"}\n' % key.encode(), 1, key=key.encode()).result()
                assert (again.duplicate, again.differs, again.position, again.next) == (True, False, *place), key
            assert {lane: journal.places()[lane] for lane in places} == places


def everything(journal: Journal) -> list[Entry]:
    with JournalReader(journal.folder, journal.first) as reader:
        found: list[Entry] = []
        while some := reader.read(journal.durable):
            found += some
        assert reader.position == journal.durable
        return found


@pytest.mark.parametrize(
    "fault",
    [
        "journal.append:40=kill",
        "journal.append:1=kill",
        "journal.synced:1=kill",
        "journal.synced:50=kill",
        "journal.rolled:1=kill",
        "journal.rolled:4=kill",
        "journal.trimmed:1=kill",
    ],
)
def test_killed_at_a_step(tmp_path: Path, fault: str) -> None:
    """Protects: the order of write, fsync and answer; segments that begin whole; indexes that outlive their segments.

    Seen to fail at all of them when appends were answered before they were written (the end of the last segment
    missing), and when records did not carry their keys; at the last journal.rolled when indexes were deleted with their
    segments.
    """
    told = Told(tmp_path / "journal")
    told.live(fault)
    told.judge()
    # and whoever comes behind goes on
    told.live("journal.synced:20=kill")
    told.judge()
    assert len(told.acknowledged) > 20


def test_killed_while_a_torn_tail_is_cut(tmp_path: Path) -> None:
    told = Told(tmp_path / "journal")
    told.live("journal.synced:50=kill")
    last = max((tmp_path / "journal").glob("*.log"))
    with last.open("ab") as file:
        file.write(last.read_bytes()[-300:])
    told.live("journal.cut=kill")
    told.judge()


def test_every_step_of_the_journal_is_here() -> None:
    text = Path(__file__).read_text()
    assert [step for step in STEPS if step.startswith("journal.") and f'"{step}' not in text] == []


@pytest.mark.parametrize("torn", [False, True])
def test_killed_at_random(tmp_path: Path, torn: bool) -> None:
    """`torn`: each time, what was not acknowledged is cut off at a random byte, as where the power fails."""
    chance = random.Random(torn)
    told = Told(tmp_path / "journal")
    for _ in range(5):
        told.live(seconds=chance.uniform(0.3, 0.9))
        if torn and told.acknowledged:
            _tear(tmp_path / "journal", max(following for _, following in told.acknowledged.values()), chance)
        told.judge()
    assert len(told.acknowledged) > 100


def _tear(folder: Path, acknowledged: int, chance: random.Random) -> None:
    last = max(folder.glob("*.log"))
    base = int(last.stem)
    content = last.read_bytes()
    header = 28 + int.from_bytes(content[24:28], "little")
    keep = header + max(acknowledged - base, 0)
    if keep < len(content):
        last.write_bytes(content[: chance.randint(keep, len(content))])
