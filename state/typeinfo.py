"""The types of state, under the names of PyFlink's `Types`."""

# ruff: noqa: N802 - the names are PyFlink's
from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Annotated, Any, Final, TypeAlias, TypedDict

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class TypeInformation:
    """A type by its name. `annotation`: the same as a Python annotation; values are checked against it."""

    name: str
    annotation: Any

    def __str__(self) -> str:
        return self.name


TypeLike: TypeAlias = "TypeInformation | type | Any | None"
"""A `TypeInformation`, a class or another annotation (``list[int]``), or None: any value that msgpack can hold."""


def annotation_of(type_info: TypeLike) -> Any:
    """The Python annotation of what was given as a type."""
    if type_info is None:
        return Any
    return type_info.annotation if isinstance(type_info, TypeInformation) else type_info


def _integer(bits: int) -> Any:
    return Annotated[int, Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]


_NAMED: Final = {
    "STRING": str,
    "BOOLEAN": bool,
    "BYTE": _integer(8),
    "SHORT": _integer(16),
    "INT": _integer(32),
    "LONG": int,
    "FLOAT": float,
    "DOUBLE": float,
    "CHAR": Annotated[str, Meta(min_length=1, max_length=1)],
    "BIG_DEC": decimal.Decimal,
    "INSTANT": Annotated[dt.datetime, Meta(tz=True)],
    "SQL_DATE": dt.date,
    "SQL_TIME": dt.time,
    "SQL_TIMESTAMP": Annotated[dt.datetime, Meta(tz=False)],
}


class Types:
    """``Types.STRING()``, ``Types.LIST(Types.INT())``, ...: what PyFlink's class of that name has.

    There is no PICKLED_BYTE_ARRAY: state is never pickled. FLOAT is held in 64 bits, as DOUBLE is.
    """

    @staticmethod
    def _named(name: str) -> TypeInformation:
        return TypeInformation(name, _NAMED[name])

    @staticmethod
    def STRING() -> TypeInformation:
        return Types._named("STRING")

    @staticmethod
    def BOOLEAN() -> TypeInformation:
        return Types._named("BOOLEAN")

    @staticmethod
    def BYTE() -> TypeInformation:
        return Types._named("BYTE")

    @staticmethod
    def SHORT() -> TypeInformation:
        return Types._named("SHORT")

    @staticmethod
    def INT() -> TypeInformation:
        """A whole number of 32 bits."""
        return Types._named("INT")

    @staticmethod
    def LONG() -> TypeInformation:
        """A whole number of 64 bits."""
        return Types._named("LONG")

    @staticmethod
    def FLOAT() -> TypeInformation:
        return Types._named("FLOAT")

    @staticmethod
    def DOUBLE() -> TypeInformation:
        return Types._named("DOUBLE")

    @staticmethod
    def CHAR() -> TypeInformation:
        return Types._named("CHAR")

    @staticmethod
    def BIG_DEC() -> TypeInformation:
        """`decimal.Decimal`."""
        return Types._named("BIG_DEC")

    @staticmethod
    def INSTANT() -> TypeInformation:
        """A `datetime` with a time zone."""
        return Types._named("INSTANT")

    @staticmethod
    def SQL_DATE() -> TypeInformation:
        return Types._named("SQL_DATE")

    @staticmethod
    def SQL_TIME() -> TypeInformation:
        return Types._named("SQL_TIME")

    @staticmethod
    def SQL_TIMESTAMP() -> TypeInformation:
        """A `datetime` without a time zone."""
        return Types._named("SQL_TIMESTAMP")

    @staticmethod
    def LIST(element: TypeLike) -> TypeInformation:
        return TypeInformation(f"LIST<{_name(element)}>", GenericAlias(list, (annotation_of(element),)))

    BASIC_ARRAY = OBJECT_ARRAY = LIST

    @staticmethod
    def PRIMITIVE_ARRAY(element: TypeLike) -> TypeInformation:
        """A list; of BYTE, `bytes`."""
        if isinstance(element, TypeInformation) and element.name == "BYTE":
            return TypeInformation("BYTES", bytes)
        return Types.LIST(element)

    @staticmethod
    def MAP(key: TypeLike, value: TypeLike) -> TypeInformation:
        of = GenericAlias(dict, (annotation_of(key), annotation_of(value)))
        return TypeInformation(f"MAP<{_name(key)}, {_name(value)}>", of)

    @staticmethod
    def TUPLE(types: Sequence[TypeLike]) -> TypeInformation:
        of = GenericAlias(tuple, tuple(annotation_of(each) for each in types))
        return TypeInformation(f"TUPLE<{', '.join(map(_name, types))}>", of)

    @staticmethod
    def ROW(types: Sequence[TypeLike]) -> TypeInformation:
        """A tuple whose fields may be None."""
        of = GenericAlias(tuple, tuple(annotation_of(each) | None for each in types))
        return TypeInformation(f"ROW<{', '.join(map(_name, types))}>", of)

    @staticmethod
    def ROW_NAMED(names: Sequence[str], types: Sequence[TypeLike]) -> TypeInformation:
        """A dict with these fields, each of which may be None or missing."""
        fields = {name: annotation_of(of) | None for name, of in zip(names, types, strict=True)}
        row = TypedDict("ROW", fields, total=False)  # type: ignore[misc] # made at run time
        shown = ", ".join(f"{name} {_name(of)}" for name, of in zip(names, types, strict=True))
        return TypeInformation(f"ROW<{shown}>", row)


def _name(type_info: TypeLike) -> str:
    if type_info is None:
        return "ANY"
    return str(getattr(type_info, "name", None) or getattr(type_info, "__name__", type_info))
