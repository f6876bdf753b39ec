"""Times as they are written: numbers since 1970, ISO 8601, or a format of strptime's, in a time zone.

Whole columns are read by kernels. A single value is read by the same ones, so that there is one answer.
"""

from __future__ import annotations

import time
import zoneinfo
from datetime import UTC, datetime, timedelta

import numpy as np

from ostinato.cep.batch import BoolArray, IntArray, Strings
from ostinato.cep.connectors import timestamps_kernel as steps
from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.json_kernel import MAX_MS, MIN_MS
from ostinato.cep.jit import kernels
from ostinato.cep.strings import parts

EPOCH_UNITS = {"s": 3, "ms": 0, "us": -3, "ns": -6}
"""The power of ten that makes milliseconds of a number in that unit."""

_DIRECTIVES = {
    "Y": steps.YEAR,
    "y": steps.YEAR2,
    "m": steps.MONTH,
    "d": steps.DAY,
    "e": steps.DAY,
    "H": steps.HOUR,
    "I": steps.HOUR12,
    "p": steps.HALF,
    "M": steps.MINUTE,
    "S": steps.SECOND,
    "f": steps.FRACTION,
    "b": steps.MONTH_NAME,
    "B": steps.MONTH_NAME,
    "h": steps.MONTH_NAME,
    "a": steps.DAY_NAME,
    "A": steps.DAY_NAME,
    "z": steps.OFFSET,
    "Z": steps.ZONE_NAME,
    "j": steps.DAY_OF_YEAR,
    "s": steps.EPOCH,
}
_SHORTHANDS = {"%T": "%H:%M:%S", "%F": "%Y-%m-%d", "%R": "%H:%M", "%D": "%m/%d/%y"}
_BLOCK_MS = 900_000
"""Zones change their offset at full quarters of an hour."""
_DAY_MS = 86_400_000
_ONE_STEP = {"iso": steps.ISO}


class TimeParser:
    """Reads times in one format.

    Attributes:
        format: ``s ms us ns iso`` or a strptime format.
        power: of ten, that makes milliseconds of a number; None where times are text.
    """

    def __init__(
        self, format_: str = "iso", zone: str | None = None, *, year: int | None = None, now_ms: int | None = None
    ) -> None:
        """Raises ConnectorError for a format or a zone that does not exist.

        A format without a year means the given `year`, else the latest one that does not put the time more than
        a day after now.
        """
        self.format = format_
        self.power = EPOCH_UNITS.get(format_)
        self._zone = _zone(zone)
        self._steps = np.zeros((0, 2), np.int64) if self.power is not None else _compile(format_)
        operations = set(self._steps[:, 0].tolist())
        self._has_year = year is not None or bool(operations & {steps.YEAR, steps.YEAR2, steps.ISO, steps.EPOCH})
        now = int(time.time() * 1000) if now_ms is None else now_ms
        self._this_year = year if year is not None else (datetime(1970, 1, 1) + timedelta(milliseconds=now)).year + 1
        self._latest = MAX_MS + _DAY_MS if self._has_year else now + _DAY_MS

    def parse(self, strings: Strings) -> tuple[IntArray, BoolArray]:
        """Milliseconds since 1970 UTC of each text (0 where it is not in the format), and which are."""
        rows = len(strings)
        out, local, ok = np.empty(rows, np.int64), np.empty(rows, np.bool_), np.empty(rows, np.bool_)
        kernels(steps).parse_texts(
            *parts(strings), self._steps, self._has_year, self._this_year, self._latest, out, local, ok
        )
        if self._zone is not None:
            _to_utc(out, local, self._zone)
        possible = (out >= MIN_MS) & (out <= MAX_MS)
        if not possible.all():
            ok &= possible
            out[~possible] = 0
        return out, ok

    def parse_one(self, text: str) -> int | None:
        """One text; None where it is not in the format."""
        out, ok = self.parse(Strings.of([text]))
        return int(out[0]) if ok[0] else None


def parse_dates(strings: Strings) -> tuple[IntArray, BoolArray]:
    """Days since 1970-01-01 of each ``YYYY-MM-DD`` (0 where it is not one), and which are."""
    out, ok = _DATES.parse(strings)
    return out // _DAY_MS, ok


def format_times(values: IntArray) -> Strings:
    """``2023-11-14T22:13:20.123Z`` for each; times before the year 1 or after 9999 become those bounds."""
    target = np.empty(24 * len(values), np.uint8)
    kernels(steps).format_times(np.clip(values, MIN_MS, MAX_MS), target)
    return Strings(target, np.arange(0, len(target), 24), np.full(len(values), 24, np.int32))


def format_dates(values: IntArray) -> Strings:
    """``2023-11-14`` for each number of days."""
    target = np.empty(10 * len(values), np.uint8)
    kernels(steps).format_dates(np.clip(values, MIN_MS // _DAY_MS, MAX_MS // _DAY_MS), target)
    return Strings(target, np.arange(0, len(target), 10), np.full(len(values), 10, np.int32))


def _zone(name: str | None) -> zoneinfo.ZoneInfo | None:
    if name is None or name in ("UTC", "Z", "GMT"):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConnectorError(f"there is no time zone {name!r}; write it like 'Europe/Berlin'") from error


def _compile(written: str) -> IntArray:
    """The steps of a format, int64[steps, 2]."""
    if written in _ONE_STEP:
        return np.array([[_ONE_STEP[written], 0]], np.int64)
    text = written
    for short, long in _SHORTHANDS.items():
        text = text.replace(short, long)
    made: list[tuple[int, int]] = []
    i = 0
    while i < len(text):
        if text[i] == "%" and i + 1 < len(text):
            letter = text[i + 1]
            i += 2
            if letter in _DIRECTIVES:
                made.append((_DIRECTIVES[letter], 0))
                continue
            if letter != "%":
                raise ConnectorError(f"time format {written!r} has %{letter}, which is not known here")
            made.append((steps.LITERAL, ord("%")))
        elif text[i].isspace():
            if not made or made[-1][0] != steps.SPACE:
                made.append((steps.SPACE, 0))
            i += 1
        else:
            made += [(steps.LITERAL, byte) for byte in text[i].encode()]
            i += 1
    if not any(operation >= steps.YEAR for operation, _ in made):
        known = ", ".join([*EPOCH_UNITS, "iso"])
        raise ConnectorError(f"{written!r} is not a time format; use {known} or one like '%Y-%m-%d %H:%M:%S'")
    return np.array(made, np.int64)


def _to_utc(values: IntArray, local: BoolArray, zone: zoneinfo.ZoneInfo) -> None:
    """Take the zone's offset off the local times, in place.

    A time that the zone has twice (clocks put back) is taken for the first; one that it skips, for what the clock
    would have shown before the change. As `datetime` with ``fold=0``.
    """
    if not local.any():
        return
    blocks = values // _BLOCK_MS
    low, high = int(blocks[local].min()), int(blocks[local].max())
    if high - low < 1 << 16:
        present = np.unique(np.flatnonzero(np.bincount(blocks[local] - low)))
        offsets = np.zeros(high - low + 1, np.int64)
        offsets[present] = [_offset(int(low + block), zone) for block in present]
        values[local] -= offsets[blocks[local] - low]
        return
    distinct, inverse = np.unique(blocks[local], return_inverse=True)
    values[local] -= np.array([_offset(int(block), zone) for block in distinct], np.int64)[inverse]


def _offset(block: int, zone: zoneinfo.ZoneInfo) -> int:
    """The zone's offset in milliseconds at a local quarter of an hour."""
    at = block * _BLOCK_MS
    if not MIN_MS + _DAY_MS <= at <= MAX_MS - _DAY_MS:
        return 0
    naive = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    offset = naive.replace(tzinfo=zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds() * 1000)


_DATES = TimeParser("%Y-%m-%d")
