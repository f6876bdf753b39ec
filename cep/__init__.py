"""The public interface: ``from ostinato import cep``.

Streams are classes derived from `Event`, patterns functions decorated with `pattern`, or built with `Pattern` under
the names of Flink's API. Conditions are lambdas, text in the language, or expressions of `col`, `last`, `count`, ...
`run` and `matches` look for patterns in Python's own data; files are run by ``ostinato run``.

Names are imported when they are first used: every module of the engine passes through here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.cep.api import BadEventError, matches, run, stream
    from ostinato.cep.functions import KeyedProcessFunction, RuntimeContext, TimeDomain, TimerService
    from ostinato.patterns.builder import Alternatives, Pattern, WithinType
    from ostinato.patterns.conditions import IterativeCondition, SimpleCondition
    from ostinato.patterns.declarations import Event, field
    from ostinato.patterns.decorators import DeclaredPattern, collect, define, pattern
    from ostinato.patterns.durations import Duration, Time
    from ostinato.patterns.errors import MalformedPatternError, PatternError
    from ostinato.patterns.expressions import Expression, F, avg, col, count, first, last, lit, max_, min_, param, sum_
    from ostinato.patterns.match import Match
    from ostinato.patterns.processes import OutputTag, process
    from ostinato.patterns.skipping import AfterMatchSkipStrategy
    from ostinato.state.descriptors import (
        AggregateFunction,
        AggregatingStateDescriptor,
        ListStateDescriptor,
        MapStateDescriptor,
        ReduceFunction,
        ReducingStateDescriptor,
        ValueStateDescriptor,
    )
    from ostinato.state.ttl import StateTtlConfig
    from ostinato.state.typeinfo import Types

_HOMES = {
    "ostinato.cep.api": "BadEventError matches run stream",
    "ostinato.cep.functions": "KeyedProcessFunction RuntimeContext TimeDomain TimerService",
    "ostinato.patterns.builder": "Alternatives Pattern WithinType",
    "ostinato.patterns.conditions": "IterativeCondition SimpleCondition",
    "ostinato.patterns.declarations": "Event field",
    "ostinato.patterns.decorators": "DeclaredPattern collect define pattern",
    "ostinato.patterns.durations": "Duration Time",
    "ostinato.patterns.errors": "MalformedPatternError PatternError",
    "ostinato.patterns.expressions": "Expression F avg col count first last lit max_ min_ param sum_",
    "ostinato.patterns.match": "Match",
    "ostinato.patterns.processes": "OutputTag process",
    "ostinato.patterns.skipping": "AfterMatchSkipStrategy",
    "ostinato.state.descriptors": "AggregateFunction AggregatingStateDescriptor ListStateDescriptor MapStateDescriptor "
    "ReduceFunction ReducingStateDescriptor ValueStateDescriptor",
    "ostinato.state.ttl": "StateTtlConfig",
    "ostinato.state.typeinfo": "Types",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AfterMatchSkipStrategy",
    "AggregateFunction",
    "AggregatingStateDescriptor",
    "Alternatives",
    "BadEventError",
    "DeclaredPattern",
    "Duration",
    "Event",
    "Expression",
    "F",
    "IterativeCondition",
    "KeyedProcessFunction",
    "ListStateDescriptor",
    "MalformedPatternError",
    "MapStateDescriptor",
    "Match",
    "OutputTag",
    "Pattern",
    "PatternError",
    "ReduceFunction",
    "ReducingStateDescriptor",
    "RuntimeContext",
    "SimpleCondition",
    "StateTtlConfig",
    "Time",
    "TimeDomain",
    "TimerService",
    "Types",
    "ValueStateDescriptor",
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
    "matches",
    "max_",
    "min_",
    "param",
    "pattern",
    "process",
    "run",
    "stream",
    "sum_",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
