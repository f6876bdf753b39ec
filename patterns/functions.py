"""The functions of the expression language: names, arguments and results, in one place.

`FUNCTIONS` is by canonical name, which is the name in ``Call.function`` and ``Apply.function``. A call's arguments are
checked against `Function.parameters` (the last one repeats, if `variadic`) and converted to what they ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, DataType


class Kind(Enum):
    """What an argument may be, where that is more than one type."""

    NUMBER = "a number"
    TIME = "a TIMESTAMP or a DATE"
    SPAN = "a TIMESTAMP or an INTERVAL"
    ALIKE = "a value"  # all arguments of this kind get their common type
    ORDERED = "a value that can be compared"  # likewise, and of a type that has an order
    ARRAY = "an array"


class Result(Enum):
    """What a function gives, where that depends on its arguments."""

    FIRST = "the type of the first argument"
    COMMON = "the common type of its ALIKE or ORDERED arguments"


@dataclass(frozen=True, slots=True)
class Function:
    """A function's signature; the last `optional` parameters may be left out."""

    name: str
    parameters: tuple[DataType | Kind, ...]
    result: DataType | Result
    optional: int = 0
    variadic: bool = False
    summary: str = ""

    @property
    def fewest(self) -> int:
        return len(self.parameters) - self.optional

    @property
    def most(self) -> int | None:
        return None if self.variadic else len(self.parameters)

    def parameter(self, index: int) -> DataType | Kind:
        """What the argument of that index must be."""
        return self.parameters[min(index, len(self.parameters) - 1)]


COLLECTING = ("collect", "collect_distinct")
"""Aggregates that give an array; they are for `emit` only, since they grow with the match."""

AGGREGATES = ("count", "sum", "avg", "min", "max", "first", "last", *COLLECTING)
"""Functions over the events matched so far for a stage."""

EXTRACT_PARTS = ("year", "month", "day", "hour", "minute", "second", "millisecond", "dow", "doy", "epoch")
"""What EXTRACT takes out of a time; `dow` is 1 on Mondays, `epoch` counts seconds."""

DIFFERENCE_UNITS = ("second", "minute", "hour", "day", "month", "year")
"""The units of TIMESTAMPDIFF."""

NUMBER, TIME, ALIKE, ORDERED = Kind.NUMBER, Kind.TIME, Kind.ALIKE, Kind.ORDERED

_TABLE = (
    Function("abs", (NUMBER,), Result.FIRST, summary="without its sign"),
    Function("sign", (NUMBER,), Result.FIRST, summary="-1, 0 or 1"),
    Function("floor", (NUMBER,), Result.FIRST, summary="the whole number at or below"),
    Function("ceil", (NUMBER,), Result.FIRST, summary="the whole number at or above"),
    Function("round", (NUMBER, BIGINT), Result.FIRST, 1, summary="to n digits behind the point, half away from zero"),
    Function("%", (ALIKE, ALIKE), Result.COMMON, summary="the rest of a division"),
    Function("power", (DOUBLE, DOUBLE), DOUBLE, summary="x to the power y"),
    Function("sqrt", (DOUBLE,), DOUBLE, summary="square root; NULL of a negative number"),
    Function("exp", (DOUBLE,), DOUBLE, summary="e to the power x"),
    Function("ln", (DOUBLE,), DOUBLE, summary="natural logarithm; NULL of a negative number"),
    Function("greatest", (ORDERED,), Result.COMMON, variadic=True, summary="the greatest; NULL if any is NULL"),
    Function("least", (ORDERED,), Result.COMMON, variadic=True, summary="the least; NULL if any is NULL"),
    Function("coalesce", (ALIKE,), Result.COMMON, variadic=True, summary="the first that is not NULL"),
    Function("nullif", (ORDERED, ORDERED), Result.COMMON, summary="NULL if both are equal, else the first"),
    Function("if", (BOOLEAN, ALIKE, ALIKE), Result.COMMON, summary="the second if the first is true, else the third"),
    Function("lower", (STRING,), STRING, summary="in small letters"),
    Function("upper", (STRING,), STRING, summary="in capital letters"),
    Function("trim", (STRING, STRING), STRING, 1, summary="without spaces (or other characters) at both ends"),
    Function("ltrim", (STRING, STRING), STRING, 1, summary="without spaces (or other characters) at the start"),
    Function("rtrim", (STRING, STRING), STRING, 1, summary="without spaces (or other characters) at the end"),
    Function("substring", (STRING, BIGINT, BIGINT), STRING, 1, summary="from a position on, a length of characters"),
    Function("concat", (STRING,), STRING, variadic=True, summary="one after the other"),
    Function("char_length", (STRING,), BIGINT, summary="how many characters"),
    Function("position", (STRING, STRING), BIGINT, summary="where the first stands in the second; 0: nowhere"),
    Function("replace", (STRING, STRING, STRING), STRING, summary="every occurrence of the second by the third"),
    Function("starts_with", (STRING, STRING), BOOLEAN, summary="does it begin with the second"),
    Function("ends_with", (STRING, STRING), BOOLEAN, summary="does it end with the second"),
    Function("like", (STRING, STRING, STRING), BOOLEAN, 1, summary="SQL's LIKE"),
    Function("regexp", (STRING, STRING), BOOLEAN, summary="does the regular expression occur in it"),
    Function(
        "regexp_extract",
        (STRING, STRING, BIGINT),
        STRING,
        1,
        summary="what the regular expression (or its nth group) matches first",
    ),
    *(Function(f"extract_{part}", (TIME,), BIGINT, summary=f"{part} of a time, in UTC") for part in EXTRACT_PARTS),
    *(
        Function(f"timestampdiff_{unit}", (TIME, TIME), BIGINT, summary=f"whole {unit}s from one time to another")
        for unit in DIFFERENCE_UNITS
    ),
    Function("to_millis", (Kind.SPAN,), BIGINT, summary="milliseconds of a time or span"),
    Function("to_timestamp", (BIGINT,), TIMESTAMP, summary="the time so many milliseconds after 1970"),
    Function("to_date", (TIMESTAMP,), DATE, summary="its day, in UTC"),
    Function(
        "distance_km",
        (DOUBLE, DOUBLE, DOUBLE, DOUBLE),
        DOUBLE,
        summary="the way on the globe between two points (latitude, longitude, latitude, longitude; degrees)",
    ),
    Function("cardinality", (Kind.ARRAY,), BIGINT, summary="how many elements"),
    Function("match_start", (), TIMESTAMP, summary="time of the match's first event; in EMIT"),
    Function("match_end", (), TIMESTAMP, summary="time of the match's last event; in EMIT"),
)

FUNCTIONS = {function.name: function for function in _TABLE}

ALIASES = {
    "mod": "%",
    "pow": "power",
    "log": "ln",
    "ceiling": "ceil",
    "lcase": "lower",
    "ucase": "upper",
    "substr": "substring",
    "length": "char_length",
    "len": "char_length",
    "character_length": "char_length",
    "startswith": "starts_with",
    "endswith": "ends_with",
    "rlike": "regexp",
    "ifnull": "coalesce",
    "nvl": "coalesce",
    "dayofweek": "extract_dow",
    "dayofyear": "extract_doy",
    "dayofmonth": "extract_day",
    **{part: f"extract_{part}" for part in ("year", "month", "day", "hour", "minute", "second", "millisecond")},
}
"""Other names of functions, as written, in lower case."""


def canonical_name(written: str) -> str:
    """The canonical name of a function as it is written; an unknown one in lower case.

    >>> canonical_name("LENGTH"), canonical_name("distance_km")
    ('char_length', 'distance_km')
    """
    lowered = written.lower()
    return ALIASES.get(lowered, lowered)


def known_names() -> list[str]:
    """Every name that can be written as a function, for suggestions."""
    hidden = {name for name in FUNCTIONS if name.startswith(("extract_", "timestampdiff_")) or name == "%"}
    names = [name for name in FUNCTIONS if name not in hidden]
    return [*names, *ALIASES, *AGGREGATES, "extract", "timestampdiff", "case", "cast"]
