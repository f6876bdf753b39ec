"""Values of state: what is taken, what is refused at the call, and where in a value the trouble is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
from typing import Any

import msgspec
import pytest

from ostinato.state.schema import difference, schema_of, show
from ostinato.state.serializers import Serializer, StateValueError
from ostinato.state.typeinfo import Types


class Colour(enum.Enum):
    RED = "red"


class Address(msgspec.Struct):
    city: str
    zip: int | None = None


@dataclasses.dataclass
class Person:
    name: str
    addresses: list[Address]


class Node(msgspec.Struct):
    name: str
    below: list[Node] = []


WRONG: Any = Address("")
WRONG.city = 5
WORSE: Any = Address("")
WORSE.city = object()
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678)


@pytest.mark.parametrize(
    ("type_info", "value"),
    [
        (None, {"a": [1, 2.5, None, True, b"x", "ü"], 7: {}}),
        (Types.STRING(), "text"),
        (Types.BOOLEAN(), False),
        (Types.BYTE(), -128),
        (Types.SHORT(), 32_767),
        (Types.INT(), -(2**31)),
        (Types.LONG(), 2**63 - 1),
        (Types.DOUBLE(), 0.1),
        (Types.CHAR(), "x"),
        (Types.BIG_DEC(), decimal.Decimal("12.340")),
        (Types.INSTANT(), NOW.replace(tzinfo=dt.UTC)),
        (Types.SQL_TIMESTAMP(), NOW),
        (Types.SQL_DATE(), NOW.date()),
        (Types.SQL_TIME(), NOW.time()),
        (Types.LIST(Types.INT()), [1, 2]),
        (Types.BASIC_ARRAY(Types.STRING()), ["a"]),
        (Types.PRIMITIVE_ARRAY(Types.BYTE()), b"\x00\xff"),
        (Types.PRIMITIVE_ARRAY(Types.LONG()), [1]),
        (Types.MAP(Types.LONG(), Types.LIST(Types.STRING())), {1: ["a"], 2: []}),
        (Types.TUPLE([Types.INT(), Types.STRING()]), (1, "a")),
        (Types.ROW([Types.INT(), Types.STRING()]), (None, "a")),
        (Types.ROW_NAMED(["a", "b"], [Types.INT(), None]), {"a": 1, "b": [1]}),
        (set[int], {1, 2}),
        (int | None, 5),
        (Colour, Colour.RED),
        (Address, Address("here", 5)),
        (Person, Person("p", [Address("there")])),
        (Node, Node("a", [Node("b")])),
        (list[Address], [Address("x")]),
    ],
)
def test_values_come_back_as_they_were(type_info: Any, value: Any) -> None:
    serializer = Serializer(type_info, "state `x`")
    found = serializer.loads(serializer.dumps(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("type_info", "value", "message"),
    [
        (Types.INT(), 2**31, "state `x`: Expected `int` <= 2147483647 (the state is declared INT)"),
        (Types.INT(), True, "state `x`: Expected `int`, got `bool` (the state is declared INT)"),
        (Types.LONG(), 2**70, "state `x`: can't serialize ints < -2**63 or > 2**64 - 1"),
        (Types.STRING(), "\ud800", "state `x`: 'utf-8' codec can't encode"),
        (Types.LIST(Types.STRING()), ["a", 3], "state `x`, at `[1]`: Expected `str`, got `int`"),
        (
            Person,
            Person("p", [Address("a"), WRONG]),
            "state `x`, at `addresses[1].city`: Expected `str`, got `int`",
        ),
        (
            Person,
            Person("p", [WORSE]),
            "state `x`, at `addresses[0].city`: Encoding objects of type object",
        ),
        (Address, {"zip": 1}, "state `x`: Object missing required field `city`"),
        (None, {"a": [{}, {"b": (1,)}]}, "state `x`, at `a[1].b`: tuple would not come back as it was"),
        (None, decimal.Decimal(1), "state `x`: Decimal would not come back as it was"),
        (None, Colour.RED, "state `x`: Colour would not come back as it was"),
        (None, [object()], "state `x`, at `[0]`: object would not come back"),
        (None, {(1, 2): 3}, "state `x`: the key (1, 2) is a tuple; declare the type of the state"),
        (None, {"a": {"b": 2**70}}, "state `x`, at `a.b`: can't serialize ints"),
    ],
)
def test_what_could_not_be_restored_is_refused_at_the_call(type_info: Any, value: Any, message: str) -> None:
    with pytest.raises(StateValueError) as caught:
        Serializer(type_info, "state `x`").dumps(value)
    assert str(caught.value).startswith(message)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises((StateValueError, RecursionError)):
        Serializer(None, "state `x`").dumps(value)


class Plain:
    pass


class Rigid(msgspec.Struct, array_like=True):
    a: int


class Omitting(msgspec.Struct, omit_defaults=True):
    a: int = 0


@pytest.mark.parametrize(
    ("type_info", "message"),
    [
        (Plain, "state `x`: Plain cannot be stored; use a msgspec.Struct, a dataclass or built-in types"),
        (dict[str, list[Plain]], r"state `x`: \[\]\[\]: Plain cannot be stored"),
        (Rigid, "state `x`: Rigid has array_like=True, with which its fields cannot evolve"),
        (Omitting, "state `x`: Omitting has omit_defaults=True"),
    ],
)
def test_types_that_could_not_be_read_for_ever_are_refused(type_info: Any, message: str) -> None:
    with pytest.raises(StateValueError, match=f"^{message}"):
        Serializer(type_info, "state `x`")


class V1(msgspec.Struct):
    city: str
    zip: int


class Added(msgspec.Struct):
    city: str
    zip: int
    street: str = ""


class AddedRequired(msgspec.Struct):
    city: str
    zip: int
    street: str


class Dropped(msgspec.Struct):
    city: str


class Changed(msgspec.Struct):
    city: str
    zip: str


@pytest.mark.parametrize(
    ("stored", "declared", "expected"),
    [
        (V1, V1, None),
        (V1, Added, None),
        (V1, Dropped, None),
        (Added, Dropped, None),
        (list[V1], list[Added], None),
        (dict[str, V1], dict[str, Dropped], None),
        (V1 | None, Added | None, None),
        (V1, AddedRequired, ("street", "nothing", "STRING")),
        (V1, Changed, ("zip", "LONG", "STRING")),
        (list[V1], list[Changed], ("[].zip", "LONG", "STRING")),
        (int, str, ("", "LONG", "STRING")),
        (Types.INT().annotation, int, ("", "INT", "LONG")),
        (int, Any, ("", "LONG", "ANY")),
        (list[int], tuple[int, int], ("", "LIST<LONG>", "TUPLE<LONG, LONG>")),
        (V1, int, ("", "V1(city STRING, zip LONG)", "LONG")),
    ],
)
def test_fields_may_be_added_with_a_default_or_dropped(
    stored: Any, declared: Any, expected: tuple[str, str, str] | None
) -> None:
    found = difference(schema_of(stored), schema_of(declared))
    assert (None if found is None else (found.path, found.stored, found.declared)) == expected


def test_schemas_are_plain_values_that_survive_msgpack() -> None:
    for annotation in (Person, Node, Colour, int | None, tuple[int, str]):
        schema = schema_of(annotation)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(schema)) == schema
    assert show(schema_of(Node)) == "Node(name STRING, below LIST<Node>)"
