"""What stored values look like, as plain values that stand in checkpoints, and which of them can become which.

A schema is ``"LONG"`` and the like, a list ``["LIST", schema]``, or a dict for what has fields. Fields may be added
with a default, or dropped; everything else is a different type, and refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import inspect

Schema: TypeAlias = "str | list[Any] | dict[str, Any]"

ANY = "ANY"
"""Untyped: whatever msgpack holds, which is described by itself."""

_SCALARS: dict[type, str] = {
    inspect.AnyType: ANY,
    inspect.NoneType: "NULL",
    inspect.BoolType: "BOOLEAN",
    inspect.FloatType: "DOUBLE",
    inspect.StrType: "STRING",
    inspect.BytesType: "BYTES",
    inspect.DateTimeType: "TIMESTAMP",
    inspect.DateType: "DATE",
    inspect.TimeType: "TIME",
    inspect.TimeDeltaType: "INTERVAL",
    inspect.DecimalType: "DECIMAL",
    inspect.UUIDType: "UUID",
}
_INTEGERS = {(-(2**7), 2**7 - 1): "BYTE", (-(2**15), 2**15 - 1): "SHORT", (-(2**31), 2**31 - 1): "INT"}
_COLLECTIONS: dict[type, str] = {
    inspect.ListType: "LIST",
    inspect.VarTupleType: "VARTUPLE",
    inspect.SetType: "SET",
    inspect.FrozenSetType: "FROZENSET",
}


class TypeProblem(TypeError):  # noqa: N818 - it becomes an error once it is known where it is
    """A type that state cannot have. `path`: where in the declared type."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """Where two schemas part. `path` is empty at the top."""

    path: str
    stored: str
    declared: str
    why: str = ""


def schema_of(annotation: Any) -> Schema:
    """The schema of a type, as msgspec understands it.

    Raises:
        TypeProblem: values of it cannot be stored, or not in a way that could be read for ever.
    """
    return _schema(inspect.type_info(annotation), "", ())


def _schema(info: inspect.Type, path: str, within: tuple[type, ...]) -> Schema:
    kind = type(info)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(info, inspect.Metadata):
        return _schema(info.type, path, within)
    if isinstance(info, inspect.IntType):
        bounds = (info.ge, info.le)
        return _INTEGERS.get(bounds, "LONG") if None not in bounds else "LONG"  # type: ignore[arg-type]
    if isinstance(info, (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)):
        return [_COLLECTIONS[kind], _schema(info.item_type, f"{path}[]", within)]
    if isinstance(info, inspect.DictType):
        return ["MAP", _schema(info.key_type, f"{path}[key]", within), _schema(info.value_type, f"{path}[]", within)]
    if isinstance(info, inspect.TupleType):
        return ["TUPLE", *(_schema(each, f"{path}[{at}]", within) for at, each in enumerate(info.item_types))]
    if isinstance(info, inspect.NamedTupleType):
        return ["TUPLE", *(_schema(field.type, _join(path, field.name), within) for field in info.fields)]
    if isinstance(info, inspect.UnionType):
        return ["UNION", *sorted((_schema(each, path, within) for each in info.types), key=_rank)]
    if isinstance(info, (inspect.EnumType, inspect.LiteralType)):
        values = [member.value for member in info.cls] if isinstance(info, inspect.EnumType) else list(info.values)
        return ["ENUM", *sorted(values, key=lambda value: (str(type(value)), value))]
    if isinstance(info, (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)):
        return _fields(info, path, within)
    named = getattr(getattr(info, "cls", None), "__name__", kind.__name__)
    raise TypeProblem(path, f"{named} cannot be stored; use a msgspec.Struct, a dataclass or built-in types")


def _fields(
    info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType, path: str, within: tuple[type, ...]
) -> Schema:
    if info.cls in within:
        return ["REF", info.cls.__name__]
    made: dict[str, Any] = {"type": info.cls.__name__}
    if isinstance(info, inspect.StructType):
        config = info.cls.__struct_config__
        # Each of these makes bytes that a later version of the class could not tell from others.
        for option in ("array_like", "omit_defaults", "forbid_unknown_fields"):
            if getattr(config, option):
                raise TypeProblem(path, f"{info.cls.__name__} has {option}=True, with which its fields cannot evolve")
        if info.tag is not None:
            made["tag"] = [info.tag_field, info.tag]
    inside = (*within, info.cls)
    made["fields"] = [
        [field.encode_name, _schema(field.type, _join(path, field.encode_name), inside), field.required]
        for field in info.fields
    ]
    return made


def _rank(schema: Schema) -> tuple[bool, str, str]:
    """The order of the members of a union, whatever their classes are called: by tag where they have one."""
    if isinstance(schema, Mapping):
        return True, str(schema.get("tag", "")), ""
    return False, "", show(schema)


def show(schema: Schema) -> str:
    """The schema for people.

    >>> show(["MAP", "STRING", {"type": "Login", "fields": [["ip", "STRING", True]]}])
    'MAP<STRING, Login(ip STRING)>'
    """
    if isinstance(schema, str):
        return schema
    if isinstance(schema, Mapping):
        return f"{schema['type']}({', '.join(f'{name} {show(of)}' for name, of, _ in schema['fields'])})"
    kind, *parts = schema
    if kind == "UNION":
        return " | ".join(show(part) for part in parts)
    if kind == "ENUM":
        return f"ENUM({', '.join(map(repr, parts))})"
    return parts[0] if kind == "REF" else f"{kind}<{', '.join(show(part) for part in parts)}>"


def difference(stored: Schema, declared: Schema, path: str = "") -> Difference | None:
    """What keeps values of one schema from being read as the other; None where nothing does."""
    if stored == declared:
        return None
    if isinstance(stored, Mapping) and isinstance(declared, Mapping):
        return _difference_of_fields(stored, declared, path)
    if isinstance(stored, Sequence) and isinstance(declared, Sequence) and not isinstance(stored, str):
        containers = ("LIST", "VARTUPLE", "SET", "FROZENSET", "MAP", "TUPLE", "UNION")
        if stored[0] == declared[0] in containers and len(stored) == len(declared) and not isinstance(declared, str):
            inner = f"{path}[]" if stored[0] not in ("TUPLE", "UNION") else path
            parts = zip(stored[1:], declared[1:], strict=True)
            return next((found for old, new in parts if (found := difference(old, new, inner)) is not None), None)
    return Difference(path, show(stored), show(declared))


def _difference_of_fields(stored: Mapping[str, Any], declared: Mapping[str, Any], path: str) -> Difference | None:
    if stored.get("tag") != declared.get("tag"):
        return Difference(path, show(dict(stored)), show(dict(declared)), "another tag")
    before = {name: schema for name, schema, _ in stored["fields"]}
    for name, schema, required in declared["fields"]:
        if name not in before:
            if required:
                return Difference(_join(path, name), "nothing", show(schema), "a field that is added needs a default")
        elif (found := difference(before[name], schema, _join(path, name))) is not None:
            return found
    return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
