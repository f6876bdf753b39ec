"""The public interface: ``from ostinato import cep``.

Streams are classes derived from `Event`, patterns functions decorated with `pattern`, or built with `Pattern` under
the names of Flink's API. Conditions are lambdas, text in the language, or expressions of `col`, `last`, `count`, ...
"""

from __future__ import annotations

from ostinato.patterns.builder import Alternatives, Pattern, WithinType
from ostinato.patterns.conditions import IterativeCondition, SimpleCondition
from ostinato.patterns.declarations import Event, field
from ostinato.patterns.decorators import DeclaredPattern, collect, define, pattern
from ostinato.patterns.durations import Duration, Time
from ostinato.patterns.errors import MalformedPatternError, PatternError
from ostinato.patterns.expressions import Expression, F, avg, col, count, first, last, lit, max_, min_, param, sum_
from ostinato.patterns.match import Match
from ostinato.patterns.skipping import AfterMatchSkipStrategy

__all__ = [
    "AfterMatchSkipStrategy",
    "Alternatives",
    "DeclaredPattern",
    "Duration",
    "Event",
    "Expression",
    "F",
    "IterativeCondition",
    "MalformedPatternError",
    "Match",
    "Pattern",
    "PatternError",
    "SimpleCondition",
    "Time",
    "WithinType",
    "avg",
    "col",
    "collect",
    "count",
    "define",
    "field",
    "first",
    "last",
    "lit",
    "max_",
    "min_",
    "param",
    "pattern",
    "sum_",
]
