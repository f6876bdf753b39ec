"""Values of state as bytes (msgpack) and back, checked when they are given: what cannot be restored is not taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ostinato.state.errors import SnapshotError, StateError
from ostinato.state.schema import ANY, TypeProblem, schema_of, show
from ostinato.state.typed import msgpack_decoder
from ostinato.state.typeinfo import TypeLike, annotation_of

_PLAIN: Final = (type(None), bool, int, float, str, bytes)
_EXACT: Final[Mapping[str, type]] = {"BOOLEAN": bool, "DOUBLE": float, "STRING": str, "BYTES": bytes, "LONG": int}
"""Values of this very class are of the type for sure, so they are not read back to see."""
_HINTS: Final[Mapping[str, str]] = {
    "Event": "give a dict of it, `dict(event)`",
    "tuple": "give a list, or declare the type of the state, as in Types.TUPLE([...])",
}


class StateValueError(StateError, TypeError):
    """A value that a state cannot take; the message says which, and where in it."""


class Serializer:
    """Of the values of one state, or of the keys of its map."""

    def __init__(self, type_info: TypeLike, where: str) -> None:
        """`where`: how messages call the state.

        Raises:
            StateValueError: no value of this type can be stored.
        """
        self._where = where
        annotation = annotation_of(type_info)
        try:
            self.schema = schema_of(annotation)
        except (TypeProblem, TypeError, NameError) as error:
            raise StateValueError(f"{where}: {error}") from None
        self._untyped = self.schema == ANY
        self._exact = _EXACT.get(self.schema) if isinstance(self.schema, str) else None
        self._encode = msgspec.msgpack.Encoder(decimal_format="string").encode
        self._decode = msgpack_decoder(annotation).decode

    def dumps(self, value: Any) -> bytes:
        """Raises StateValueError."""
        if self._untyped:
            check_plain(value, self._where)
        try:
            data = self._encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            path, why = unencodable(value, "", self._encode) or ("", str(error))
            raise StateValueError(f"{self._where}{_at(path)}: {why}") from None
        if type(value) is not self._exact and not self._untyped:
            try:
                self._decode(data)
            except msgspec.ValidationError as error:
                message, _, path = str(error).partition(" - at `$")
                path = path.rstrip("`")
                raise StateValueError(
                    f"{self._where}{_at(path.removeprefix('.'))}: {message} (the state is declared {show(self.schema)})"
                ) from None
        return data

    def loads(self, data: bytes) -> Any:
        """Raises SnapshotError where the bytes are not such a value."""
        try:
            return self._decode(data)
        except msgspec.MsgspecError as error:
            raise SnapshotError(
                f"{self._where}: what is stored cannot be read as {show(self.schema)}: {error}"
            ) from error


def check_plain(value: Any, where: str, path: str = "") -> None:
    """An untyped value must come back from msgpack as what it was. Raises StateValueError."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is list:
        for at, item in enumerate(value):
            check_plain(item, where, f"{path}[{at}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in _PLAIN:
                raise StateValueError(
                    f"{where}{_at(path)}: the key {key!r} is a {type(key).__name__}; declare the type of the state"
                )
            check_plain(item, where, f"{path}.{key}" if path else str(key))
    else:
        name = kind.__name__
        hint = _HINTS.get(name, "declare the type of the state in its descriptor")
        raise StateValueError(
            f"{where}{_at(path)}: {name} would not come back as it was from a state without a type; {hint}"
        )


def unencodable(value: Any, path: str, encode: Any) -> tuple[str, str] | None:
    """Where in a value the first part is that cannot be encoded, and why."""
    try:
        encode(value)
    except RecursionError:
        return path, "it contains itself, or is nested too deeply"
    except Exception as error:  # noqa: BLE001 - whatever it is, it says why
        why = str(error)
    else:
        return None
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    elif isinstance(value, msgspec.Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        names = (
            value.__struct_fields__
            if isinstance(value, msgspec.Struct)
            else [each.name for each in dataclasses.fields(value)]
        )
        parts = [(f"{path}.{name}" if path else name, getattr(value, name)) for name in names]
    return next(
        (found for where, part in parts if (found := unencodable(part, where, encode)) is not None), (path, why)
    )


def _at(path: str) -> str:
    return f", at `{path}`" if path else ""
