"""How values are written: durations, times, exact numbers and texts, read and printed."""

from __future__ import annotations

import datetime as dt
import decimal
import re

from ostinato.patterns.types import MAX_DECIMAL_PRECISION, Decimal

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1_000, "ms": 1}
"""Milliseconds of the units, the largest first, by the name with which they are printed."""

_UNIT_NAMES = {
    "d": ("d", "day", "days"),
    "h": ("h", "hour", "hours"),
    "min": ("min", "mins", "minute", "minutes"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "milli", "millis", "millisecond", "milliseconds"),
}
_UNITS = {name: UNITS_MS[unit] for unit, names in _UNIT_NAMES.items() for name in names}
_UNIT_PATTERN = "|".join(sorted(_UNITS, key=len, reverse=True))
DURATION_TEXT = rf"\d+(?:\.\d+)?\s*(?:{_UNIT_PATTERN})\b(?:\s*\d+(?:\.\d+)?\s*(?:{_UNIT_PATTERN})\b)*"
"""A regular expression (case does not matter) for ``5 min``, ``1 h 30 min``, ``250ms``."""

_DURATION_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT_PATTERN})\b", re.IGNORECASE)
_DURATION = re.compile(DURATION_TEXT, re.IGNORECASE)

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
BIGINT_MIN, BIGINT_MAX = -(2**63), 2**63 - 1


def parse_duration(text: str) -> int:
    """Milliseconds of a duration; ValueError if it is none or no whole number of them.

    >>> parse_duration("1 h 30 min"), parse_duration("1.5 s")
    (5400000, 1500)
    """
    stripped = text.strip()
    if not _DURATION.fullmatch(stripped):
        raise ValueError(f"`{text}` is not a duration")
    total = sum(
        (decimal.Decimal(number) * _UNITS[unit.lower()] for number, unit in _DURATION_PART.findall(stripped)),
        decimal.Decimal(0),
    )
    if total != int(total):
        raise ValueError(f"`{text}` is not a whole number of milliseconds")
    if total > BIGINT_MAX:
        raise ValueError(f"`{text}` is too long")
    return int(total)


def format_duration(ms: int) -> str:
    """A duration that is not negative, in the largest units.

    >>> format_duration(5_400_000), format_duration(0)
    ('1 h 30 min', '0 ms')
    """
    parts = []
    rest = ms
    for unit, size in UNITS_MS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 ms"


_TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s*(Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE
)


def parse_timestamp(text: str) -> int:
    """Milliseconds since the epoch of ``2026-01-02 03:04:05.678``, in UTC unless an offset is given.

    Raises ValueError for anything else.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a time: write it as 2026-01-02 03:04:05.678")
    day, time, zone = match.groups()
    time = time or "00:00"
    whole, _, fraction = time.partition(".")
    offset = (zone or "+00:00").upper().replace("Z", "+00:00")
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{whole}{offset}")
    except ValueError as error:
        raise ValueError(f"'{text}' is not a time: {error}") from None
    return to_millis(moment) + int(fraction.ljust(3, "0")[:3] or "0")


def to_millis(moment: dt.datetime) -> int:
    """Milliseconds since the epoch; a time without a zone counts as UTC. Microseconds are cut off."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - EPOCH) // dt.timedelta(milliseconds=1)


def format_timestamp(ms: int) -> str:
    """The inverse of `parse_timestamp`; ValueError outside the years 1 to 9999.

    >>> format_timestamp(1_000), format_timestamp(1)
    ('1970-01-01 00:00:01', '1970-01-01 00:00:00.001')
    """
    try:
        moment = EPOCH + dt.timedelta(milliseconds=ms)
    except OverflowError:
        raise ValueError(f"{ms} ms is a time outside the years 1 to 9999") from None
    text = f"{moment.year:04}-{moment:%m-%d %H:%M:%S}"
    return text if ms % 1000 == 0 else f"{text}.{ms % 1000:03}"


def parse_date(text: str) -> int:
    """Days since the epoch of ``2026-01-02``; ValueError for anything else."""
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text.strip()):
            raise ValueError("it is not of the form 2026-01-02")
        return dt.date.fromisoformat(text.strip()).toordinal() - EPOCH.toordinal()
    except ValueError as error:
        raise ValueError(f"'{text}' is not a date: {error}") from None


def format_date(days: int) -> str:
    """The inverse of `parse_date`; ValueError outside the years 1 to 9999."""
    try:
        return dt.date.fromordinal(days + EPOCH.toordinal()).isoformat()
    except (ValueError, OverflowError):
        raise ValueError(f"day {days} is outside the years 1 to 9999") from None


def parse_decimal(text: str) -> decimal.Decimal:
    """An exact number of at most 18 digits; ValueError for anything else."""
    if not re.fullmatch(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*", text):
        raise ValueError(f"'{text}' is not an exact number")
    value = decimal.Decimal(text.strip())
    if natural_decimal(value).precision > MAX_DECIMAL_PRECISION:
        raise ValueError(f"'{text}' has more than {MAX_DECIMAL_PRECISION} digits")
    return value


def natural_decimal(value: decimal.Decimal) -> Decimal:
    """The type that holds exactly the digits of a value.

    >>> str(natural_decimal(decimal.Decimal("1.50")))
    'DECIMAL(3, 2)'
    """
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    whole = max(0, len(digits) + exponent)
    return Decimal(max(whole + scale, 1), scale)


def format_decimal(value: decimal.Decimal) -> str:
    """The number without an exponent."""
    return f"{value:f}"


def unscaled(value: decimal.Decimal, scale: int) -> int | None:
    """The value as a whole number of 10^-scale, or None where that would lose digits or overflow.

    >>> unscaled(decimal.Decimal("1.5"), 2)
    150
    """
    with decimal.localcontext(prec=60):
        shifted = value.scaleb(scale)
        whole = int(shifted)
        return whole if shifted == whole and BIGINT_MIN <= whole <= BIGINT_MAX else None


_ESCAPE = re.compile(r"\\(\\|\+[0-9A-Fa-f]{6}|[0-9A-Fa-f]{4}|)", re.DOTALL)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def unescape_unicode(text: str) -> str:
    """The text of a ``U&'…'`` literal; ValueError where an escape is wrong."""

    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if not code:
            raise ValueError("this escape is not complete")
        if code == "\\":
            return code
        number = int(code.lstrip("+"), 16)
        if number > 0x10FFFF:
            raise ValueError(f"there is no character {code}")
        return chr(number)

    return _ESCAPE.sub(replace, text)


def format_text(text: str) -> str:
    r"""A text in single quotes, with escapes where it has characters that cannot be seen.

    >>> print(format_text("it's"), format_text("a\nb"))
    'it''s' U&'a\000ab'
    """
    quoted = text.replace("'", "''")
    if not _UNPRINTABLE.search(text):
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\")
    return "U&'" + _UNPRINTABLE.sub(lambda m: f"\\{ord(m.group()):04x}", escaped) + "'"


_INTERVAL_PARTS = ("day", "hour", "minute", "second")
_INTERVAL_MS = {"day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1_000, "millisecond": 1}


def parse_interval(text: str, first: str, last: str | None) -> int:
    """Milliseconds of SQL's ``INTERVAL 'text' FIRST [TO LAST]``; ValueError where it is wrong.

    >>> parse_interval("5", "minute", None), parse_interval("1 02:00:00.5", "day", "second")
    (300000, 93600500)
    """
    first, last = _singular(first), _singular(last or first)
    if last == first:
        if not re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", text):
            raise ValueError(f"'{text}' is not a number of {first}s")
        ms = decimal.Decimal(text.strip()) * _INTERVAL_MS[first]
        if ms != int(ms):
            raise ValueError(f"'{text}' {first} is not a whole number of milliseconds")
        return int(ms)
    if first not in _INTERVAL_PARTS or last not in _INTERVAL_PARTS:
        raise ValueError("such an interval goes from DAY, HOUR or MINUTE to HOUR, MINUTE or SECOND")
    units = _INTERVAL_PARTS[_INTERVAL_PARTS.index(first) : _INTERVAL_PARTS.index(last) + 1]
    numbers = re.split(r"[ :]", text.strip().lstrip("+-"))
    if not units or len(numbers) != len(units) or not all(re.fullmatch(r"\d+(\.\d+)?", n) for n in numbers):
        raise ValueError(f"'{text}' does not have the parts {', '.join(units) or first}")
    total = sum((decimal.Decimal(n) * _INTERVAL_MS[u] for n, u in zip(numbers, units, strict=True)), decimal.Decimal(0))
    return -int(total) if text.strip().startswith("-") else int(total)


def _singular(unit: str) -> str:
    lowered = unit.lower()
    lowered = lowered[:-1] if lowered.endswith("s") and lowered[:-1] in _INTERVAL_MS else lowered
    if lowered not in _INTERVAL_MS:
        known = ", ".join(name.upper() for name in _INTERVAL_MS)
        raise ValueError(f"an interval has one of the units {known}; months and years differ in length")
    return lowered
