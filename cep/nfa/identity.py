"""What is worked out of an object is kept as long as there is the object."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class ByIdentity(Generic[Key, Value]):
    """A function of one object that works out its value once for each: for objects that are dear to compare.

    What it keeps goes with the object, so that it holds no more than there is elsewhere; the value must not refer to
    the object.
    """

    def __init__(self, function: Callable[[Key], Value]) -> None:
        self._function = function
        self._kept: dict[int, tuple[weakref.ref[Key], Value]] = {}

    def __call__(self, key: Key) -> Value:
        number = id(key)
        held = self._kept.get(number)
        if held is not None and held[0]() is key:
            return held[1]
        value = self._function(key)
        kept = self._kept
        self._kept[number] = (weakref.ref(key, lambda _: kept.pop(number, None)), value)
        return value

    def __len__(self) -> int:
        return len(self._kept)
