"""Streams declared as classes: ``class Login(cep.Event, key="user", time="ts", delay="2 s")``."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from ostinato.patterns.ast import Connector, FieldDecl, Stream, TimeDecl
from ostinato.patterns.durations import DurationLike, duration_ms
from ostinato.patterns.errors import PatternError, Problem, did_you_mean
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Row,
    Scalar,
)
from ostinato.patterns.types import Decimal as DecimalType

DEFAULT_DECIMAL = DecimalType(18, 6)
"""What a field annotated `decimal.Decimal` is, unless ``field(type="decimal(p, s)")`` says otherwise."""

_SCALARS: dict[Any, DataType] = {
    bool: BOOLEAN,
    int: BIGINT,
    float: DOUBLE,
    str: STRING,
    decimal.Decimal: DEFAULT_DECIMAL,
    dt.datetime: TIMESTAMP,
    dt.date: DATE,
    dt.timedelta: INTERVAL,
}
_TIME_FORMATS: dict[Any, str] = {int: "ms", float: "s", str: "iso", dt.datetime: "iso"}
"""How the event time is written in the input, by its annotation, unless ``format=`` says otherwise."""


@dataclass(frozen=True, slots=True)
class FieldOptions:
    """What `field` says of one column."""

    path: tuple[str, ...] | None
    type: DataType | None
    metadata: str | None = None


def field(*, path: str | None = None, type: str | DataType | None = None, metadata: str | None = None) -> Any:  # noqa: A002
    """Say more of a column than its annotation does: ``city: str = cep.field(path="location.city")``.

    Args:
        path: where it stands in the input record, if not under its own name; dots lead into nested records.
        type: its type in the language, such as ``"decimal(10, 2)"``.
        metadata: what it is of the record of Kafka itself, instead of in it: ``topic``, ``partition``, ``offset``,
            ``timestamp``, ``key`` or ``headers.NAME``.
    """
    if path is not None and metadata is not None:
        raise PatternError(Problem(f"a field is in the record ({path}) or is its metadata ({metadata}), not both"))
    if isinstance(type, str):
        from ostinato.patterns.parser import parse_type

        type = parse_type(type)  # noqa: A001
    return FieldOptions(None if path is None else tuple(path.split(".")), type, metadata)


class Event:
    """The base class of declared streams; annotations are the columns.

    Arguments of the class:
        key: the key column, or several; patterns look at the events of one key. None: all events together.
        time: the column with the event time. It is milliseconds if annotated int, seconds if float, ISO 8601 if str or
            datetime; `format` (``s ms us ns iso`` or as for strptime) and `zone` say otherwise. None: processing time.
        delay: how late events may come, such as ``"2 s"``.
        idle: after which silence a source holds nothing up any more.
        max_ahead: how far ahead of the others an event's time may be before it is refused.
        name: the stream's name; the class's in snake_case by default.
        source: a path (or glob, or ``-`` for standard input), or an `ast.Connector`. It can also be given when run.
    """

    __stream__: ClassVar[Stream]

    def __init_subclass__(
        cls,
        *,
        key: str | Iterable[str] = (),
        time: str | None = None,
        delay: DurationLike = 0,
        format: str | None = None,  # noqa: A002
        zone: str | None = None,
        idle: DurationLike | None = None,
        max_ahead: DurationLike | None = None,
        mode: str | None = None,
        name: str | None = None,
        source: str | Connector | None = None,
    ) -> None:
        super().__init_subclass__()
        keys = (key,) if isinstance(key, str) else tuple(key)
        frame = sys._getframe(1)
        annotations = _annotations(cls, {**frame.f_globals, **frame.f_locals})
        columns = tuple(
            _column(cls, column, annotation, column in keys, column == time)
            for column, annotation in annotations.items()
        )
        for wanted, what in (*((each, "key") for each in keys), *(((time, "time"),) if time is not None else ())):
            if wanted not in annotations:
                raise PatternError(
                    Problem(
                        f"the {what} `{wanted}` is no field of {cls.__name__}",
                        hint=did_you_mean(wanted, annotations) or f"the fields are {', '.join(annotations)}",
                    )
                )
        written = None if time is None else _TIME_FORMATS.get(_bare(annotations[time]))
        if any(column.name == time and column.metadata is not None for column in columns):
            written = "ms"
        if time is not None and format is None and written is None:
            raise PatternError(
                Problem(
                    f"the time `{time}` of {cls.__name__} is annotated {annotations[time]}",
                    hint="annotate it int (ms), float (s), str or datetime (ISO 8601), or give format=",
                )
            )
        cls.__stream__ = Stream(
            name or snake_case(cls.__name__),
            columns,
            TimeDecl(
                time,
                format or written or "ms",
                zone,
                duration_ms(delay),
                None if idle is None else duration_ms(idle),
                None if max_ahead is None else duration_ms(max_ahead),
                mode or ("processing" if time is None else "event"),
            ),
            _connector(source),
        )


def snake_case(name: str) -> str:
    """A class's name as that of a stream.

    >>> snake_case("CardPayment"), snake_case("HTTPRequest")
    ('card_payment', 'http_request')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _connector(source: str | Connector | None) -> Connector | None:
    if isinstance(source, str):
        return Connector("stdin") if source == "-" else Connector("file", source)
    return source


def _annotations(cls: type, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The annotations of a class, read as types. `names` are those that could be seen where it was declared, for
    classes inside functions and modules that are run without being imported."""
    try:
        found = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        if names is None:
            raise PatternError(Problem(f"an annotation of {cls.__name__} cannot be read: {error}")) from None
        try:
            found = typing.get_type_hints(cls, localns=dict(names), include_extras=True)
        except NameError:
            return _annotations(cls)
    return {name: annotation for name, annotation in found.items() if typing.get_origin(annotation) is not ClassVar}


def _column(cls: type, name: str, annotation: Any, key: bool, is_time: bool) -> FieldDecl:
    options = cls.__dict__.get(name)
    if not isinstance(options, FieldOptions):
        options = FieldOptions(None, None)
    if options.type is not None:
        type_ = options.type
    elif is_time:
        type_ = TIMESTAMP
    else:
        type_ = _data_type(annotation, f"{cls.__name__}.{name}")
    return FieldDecl(name, type_, key, options.path, options.metadata)


def _bare(annotation: Any) -> Any:
    """The annotation without Annotated, Optional and NewType."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return _bare(annotation.__supertype__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def _data_type(annotation: Any, where: str) -> DataType:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, (Scalar, DecimalType, Array, Row)):
            return extra
    bare = _bare(annotation)
    if bare in _SCALARS:
        return _SCALARS[bare]
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin is typing.Literal:
        kinds = {type(value) for value in arguments}
        if len(kinds) == 1:
            return _data_type(kinds.pop(), where)
    elif isinstance(origin, type) and issubclass(origin, Sequence) and arguments:
        return Array(_data_type(arguments[0], where))
    elif isinstance(bare, type) and issubclass(bare, Enum):
        for base, type_ in ((str, STRING), (int, BIGINT), (float, DOUBLE)):
            if issubclass(bare, base):
                return type_
    elif isinstance(bare, type) and bare.__module__ != "builtins":
        nested = _annotations(bare)
        if nested:
            return Row(tuple((name, _data_type(each, f"{where}.{name}")) for name, each in nested.items()))
    raise PatternError(
        Problem(
            f"{where} is annotated {annotation!r}, which is no type of the language",
            hint="use str, int, float, bool, Decimal, datetime, date, list[...], a class with annotations, or Optional",
        )
    )
