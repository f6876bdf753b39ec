"""The files that are read: generated on first use, then kept beside the benchmarks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from streams import START_MS, write_file

BENCH = Path(__file__).resolve().parent
DATA = BENCH / "data"

_TIME = re.compile(rb'"ts":(\d+)')
_BLOCK_LINES = 50_000
_OPENING_MS = 200_000
"""So long, in event time, does it take to open the partial matches of `opened`; P1 keeps them for 300,000."""
_DELAY_MS = 2_000


def generated(stream: str, events: int, keys: int | None = None) -> Path:
    """The file of a generated stream."""
    of_keys = "" if keys is None else f"-of-{keys}"
    return _made(DATA / f"{stream}-{events}{of_keys}.jsonl", lambda path: write_file(stream, events, path, keys))


def beginning(whole: Path, events: int) -> Path:
    """The file with the first events of another."""

    def write(path: Path) -> None:
        with whole.open("rb") as lines, path.open("wb") as out:
            out.writelines(islice(lines, events))

    return _made(whole.with_name(f"{whole.stem}-first-{events}.jsonl"), write)


def passes(whole: Path, times: int) -> Path:
    """The events of a file several times, one pass after the other, as if time went on."""
    with whole.open("rb") as lines:
        first = int(_TIME.findall(lines.readline())[0])
        lines.seek(-(1 << 12), 2)
        last = int(_TIME.findall(lines.read())[-1])
    span_ms = last - first + _DELAY_MS

    def write(path: Path) -> None:
        with path.open("wb") as out:
            for number in range(times):
                with whole.open("rb") as lines:
                    while block := b"".join(islice(lines, _BLOCK_LINES)):
                        out.write(_later(block, number * span_ms))

    return _made(whole.with_name(f"{whole.stem}-times-{times}.jsonl"), write)


def opened(users: int, probes: int) -> Path:
    """Logins that leave a partial match of P1 open for each of many users, and nearly a whole one for each probe."""

    def write(path: Path) -> None:
        with path.open("wb") as out:
            for number in range(users):
                out.write(login(f"u{number}", number * _OPENING_MS // users, failed=True))
            for probe in range(probes):
                for step in range(3):
                    out.write(login(f"probe{probe}", _OPENING_MS + step, failed=True))
            out.write(login("clock", _OPENING_MS + 2 * _DELAY_MS))

    return _made(DATA / f"open-{users}-{probes}.jsonl", write)


def after_opening(step: int, ms: int = 0) -> int:
    """A time behind all events of `opened` and of earlier steps, for `login`."""
    return _OPENING_MS + 2 * _DELAY_MS * (1 + step) + ms


def login(user: str, offset_ms: int, *, failed: bool = False) -> bytes:
    """One line of the stream that P1 reads."""
    status = "FAILED" if failed else "SUCCESS"
    return f'{{"user":"{user}","ts":{START_MS + offset_ms},"status":"{status}","ip":"10.0.0.1"}}\n'.encode()


def empty() -> Path:
    return _made(DATA / "empty.jsonl", lambda path: path.touch())


def note(text: str) -> None:
    """Say what takes so long."""
    print(text, file=sys.stderr, flush=True)


def _later(block: bytes, by_ms: int) -> bytes:
    return _TIME.sub(lambda found: b'"ts":%d' % (int(found[1]) + by_ms), block) if by_ms else block


def _made(path: Path, write: Callable[[Path], None]) -> Path:
    if not path.exists():
        note(f"generating {path.name} ...")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        write(unfinished)
        unfinished.replace(path)
    return path
