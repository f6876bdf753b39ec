"""What Faust hands over as the value of an event → columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import Chunk
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.patterns.ast import Stream


@dataclass(frozen=True, slots=True)
class Read:
    """Values as columns. `places`: which of the values each row is. `bad`: those that do not fit, with the reason."""

    batch: Batch
    places: Sequence[int]
    bad: Sequence[tuple[int, str]]


class ValueReader:
    """Reads dicts, `faust.Record`s, msgspec Structs, dataclasses and JSON as bytes or text, all by the rules for JSON.

    Decimals, dates and times that are Python objects are taken as the text that JSON has for them.
    """

    def __init__(self, stream: Stream, columns: frozenset[str] | None) -> None:
        self._decoder = JsonLines(stream, columns)
        self._topic = stream.name

    def read(self, values: Sequence[Any]) -> Read:
        """The values, in their order; never raises for what is in one."""
        lines: list[bytes] = []
        places: list[int] = []
        bad: list[tuple[int, str]] = []
        for place, value in enumerate(values):
            try:
                line = _line(value)
            except (TypeError, ValueError, RecursionError) as error:
                bad.append((place, str(error)))
                continue
            lines.append(line)
            places.append(place)
        batch, rejected = self._decoder.decode(Chunk.of(b"\n".join([*lines, b""]), source=self._topic))
        bad += [(places[record.line - 1], record.reason) for record in rejected]
        if rejected:
            wrong = {record.line - 1 for record in rejected}
            places = [place for line, place in enumerate(places) if line not in wrong]
        assert len(places) == len(batch), "a line was lost"
        return Read(batch, places, sorted(bad))


def _line(value: Any) -> bytes:
    """A value as one line of JSON. Raises TypeError, ValueError where it is none."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        line = bytes(value)
        if b"\n" in line:
            orjson.loads(line)  # where that is JSON, line feeds stand between values only
            line = line.replace(b"\n", b" ")
        if not line.strip(b" \t\r"):
            raise ValueError("the value is empty")
        return line
    if value is None:
        raise ValueError("the value is null")
    return _dump(_plain(value))


def _plain(value: Any) -> Any:
    """Something that JSON can be made of."""
    if isinstance(value, (Mapping, msgspec.Struct)):
        return value
    as_dict: Callable[[], Mapping[str, Any]] | None = getattr(value, "asdict", None)  # faust.Record
    if as_dict is not None:
        return as_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return value
    raise TypeError(f"a {type(value).__name__} is no event: a dict, Record, Struct, dataclass or JSON is")


def _dump(value: Any) -> bytes:
    if isinstance(value, msgspec.Struct):
        return msgspec.json.encode(value, enc_hook=_other)
    plain = value if isinstance(value, dict) or is_dataclass(value) else dict(value)
    return orjson.dumps(plain, default=_other)


def _other(value: Any) -> Any:
    """What is no JSON, inside of a value."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, enc_hook=_other)
    if isinstance(value, Mapping):
        return dict(value)
    as_dict = getattr(value, "asdict", None)
    if as_dict is not None:
        return as_dict()
    raise TypeError(f"a value of type {type(value).__name__} cannot be read as JSON")
