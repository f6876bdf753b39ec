"""Decoding what has a type, in any thread.

msgspec works out what it has to know of a struct type where it first meets it, and is not safe in that: of two threads
that come to the same type at once, one reads what the other has half made, and the process crashes (msgspec 0.22, with
the global interpreter lock). Here one thread at a time does that, under a lock; decoding itself is safe.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, TypeVar, overload

import msgspec

from ostinato.state.envelope import Buffer

T = TypeVar("T")

_making = threading.RLock()


@overload
def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...
@overload
def json_decoder(kind: Any) -> msgspec.json.Decoder[Any]: ...
def json_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """For many values of a type."""
    with _making:
        return msgspec.json.Decoder(kind)


@overload
def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]: ...
@overload
def msgpack_decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]: ...
def msgpack_decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """For many values of a type."""
    with _making:
        return msgspec.msgpack.Decoder(kind)


@overload
def decode_json(data: Buffer | str, kind: type[T]) -> T: ...
@overload
def decode_json(data: Buffer | str, kind: Any) -> Any: ...
def decode_json(data: Buffer | str, kind: Any) -> Any:
    """A value of a type. Raises `msgspec.DecodeError`."""
    return _json(kind).decode(data)


@overload
def decode_msgpack(data: Buffer, kind: type[T]) -> T: ...
@overload
def decode_msgpack(data: Buffer, kind: Any) -> Any: ...
def decode_msgpack(data: Buffer, kind: Any) -> Any:
    """A value of a type. Raises `msgspec.DecodeError`."""
    return _msgpack(kind).decode(data)


@overload
def convert(value: object, kind: type[T], *, strict: bool = True) -> T: ...
@overload
def convert(value: object, kind: Any, *, strict: bool = True) -> Any: ...
def convert(value: object, kind: Any, *, strict: bool = True) -> Any:
    """A value of a type, of plain ones. Raises `msgspec.ValidationError`."""
    _msgpack(kind)  # so that the type is known
    return msgspec.convert(value, kind, strict=strict)


@cache
def _json(kind: Any) -> msgspec.json.Decoder[Any]:
    return json_decoder(kind)


@cache
def _msgpack(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgpack_decoder(kind)
