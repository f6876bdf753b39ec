"""Descriptions of keyed state, under the names of PyFlink: what it is called, what is in it, how long it lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ostinato.state.errors import StateError
from ostinato.state.ttl import StateTtlConfig
from ostinato.state.typeinfo import TypeLike


class ReduceFunction:
    """Makes one value of two, of the same type."""

    def reduce(self, value1: Any, value2: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no reduce")


class AggregateFunction:
    """Gathers values in an accumulator, which is what is stored. `add` may change the one that it is given."""

    def create_accumulator(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no create_accumulator")

    def add(self, value: Any, accumulator: Any) -> Any:
        """The accumulator with one more value."""
        raise NotImplementedError(f"{type(self).__name__} has no add")

    def get_result(self, accumulator: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no get_result")

    def merge(self, acc_a: Any, acc_b: Any) -> Any:
        """Both in one. Keyed state never needs it; it is there for functions that were written for Flink."""
        raise NotImplementedError(f"{type(self).__name__} has no merge")


class StateDescriptor:
    """What all descriptors have. `type_info`: of the stored values; see `ostinato.state.typeinfo.TypeLike`."""

    kind: ClassVar[str] = ""

    def __init__(self, name: str, type_info: TypeLike = None) -> None:
        if not isinstance(name, str) or not name:
            raise StateError(f"a state needs a name, not {name!r}")
        self.name = name
        self.type_info = type_info
        self.ttl: StateTtlConfig | None = None

    def get_name(self) -> str:
        return self.name

    def enable_time_to_live(self, ttl_config: StateTtlConfig) -> None:
        """Forget what was not written (or read) for a while: each value, each element of a list, each entry of a map
        by itself."""
        if not isinstance(ttl_config, StateTtlConfig):
            raise StateError(f"state `{self.name}`: {ttl_config!r} is no StateTtlConfig; is `.build()` missing?")
        self.ttl = ttl_config if ttl_config.is_enabled() else None


class ValueStateDescriptor(StateDescriptor):
    """One value."""

    kind = "value"

    def __init__(self, name: str, value_type_info: TypeLike = None) -> None:
        super().__init__(name, value_type_info)


class ListStateDescriptor(StateDescriptor):
    """A list that is added to."""

    kind = "list"

    def __init__(self, name: str, elem_type_info: TypeLike = None) -> None:
        super().__init__(name, elem_type_info)


class MapStateDescriptor(StateDescriptor):
    """Values by a key of their own."""

    kind = "map"

    def __init__(self, name: str, key_type_info: TypeLike = None, value_type_info: TypeLike = None) -> None:
        super().__init__(name, value_type_info)
        self.key_type_info = key_type_info


class ReducingStateDescriptor(StateDescriptor):
    """One value, which every value that is added is reduced into."""

    kind = "reducing"

    def __init__(
        self, name: str, reduce_function: ReduceFunction | Callable[[Any, Any], Any], type_info: TypeLike = None
    ) -> None:
        super().__init__(name, type_info)
        found = getattr(reduce_function, "reduce", reduce_function)
        if not callable(found):
            raise StateError(f"state `{name}`: {reduce_function!r} is no ReduceFunction")
        self.reduce: Callable[[Any, Any], Any] = found


class AggregatingStateDescriptor(StateDescriptor):
    """An accumulator, which every value is added to."""

    kind = "aggregating"

    def __init__(self, name: str, agg_function: AggregateFunction, state_type_info: TypeLike = None) -> None:
        """`state_type_info`: of the accumulator."""
        super().__init__(name, state_type_info)
        for method in ("create_accumulator", "add", "get_result"):
            if not callable(getattr(agg_function, method, None)):
                raise StateError(f"state `{name}`: {agg_function!r} is no AggregateFunction: it has no {method}")
        self.agg_function = agg_function
