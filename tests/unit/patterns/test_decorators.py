"""Streams as classes, patterns as decorated functions."""

from __future__ import annotations

import enum
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NewType, Optional

import pytest

from ostinato import cep
from ostinato.patterns.ast import Cap, CapPolicy, Connector, FieldDecl, PythonCall, Skip, SkipMode, TimeDecl
from ostinato.patterns.decorators import DeclaredPattern
from ostinato.patterns.errors import MalformedPatternError, PatternError
from ostinato.patterns.parser import parse_expression, parse_program
from ostinato.patterns.typecheck import check_pattern
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, Array, Row
from ostinato.patterns.types import Decimal as DecimalType
from tests.support import emitted as emitted_rows
from tests.support import rows_of, run_patterns


class Login(cep.Event, key="user", time="ts", delay="2 s", name="logins"):
    user: str
    ts: int
    status: str
    ip: str


@cep.pattern(
    "fail{3,} ok",
    on=Login,
    within="5 min",
    skip="past last",
    into="alerts",
    fail=lambda e: e.status == "FAILED",
    ok=lambda e: e.status == "SUCCESS",
)
def suspicious_login(match: cep.Match) -> dict[str, Any]:
    """Several failures, then a success."""
    return {"user": match.key, "failures": len(match["fail"]), "ip": match["ok"].ip}


TEXT = """
stream logins (
  user string key,
  ts timestamp(ms) time delay 2 s,
  status string,
  ip string
)

pattern suspicious_login on logins
  match fail{3,} ok
  define fail as status = 'FAILED',
         ok as status = 'SUCCESS'
  within 5 min
  after match skip past last
  emit user, count(fail) as failures, ok.ip as ip
  into alerts
"""


def test_text_decorator_and_builder_give_the_same_tree() -> None:
    program = parse_program(TEXT)
    built = (
        cep.Pattern.begin("fail", cep.AfterMatchSkipStrategy.skip_past_last_event())
        .where(lambda e: e.status == "FAILED")
        .times_or_more(3)
        .consecutive()
        .next("ok")
        .where(cep.col("status") == "SUCCESS")
        .within(cep.Duration.of_minutes(5))
        .to_ast(
            "suspicious_login",
            Login,
            emit={"user": cep.col("user"), "failures": cep.count("fail"), "ip": cep.col("ok.ip")},
            into="alerts",
        )
    )
    assert suspicious_login.ast == program.patterns[0]
    assert built == program.patterns[0]
    assert program.streams[0] == Login.__stream__


def test_it_passes_the_checks() -> None:
    checked = check_pattern(suspicious_login.ast, Login.__stream__)
    assert [name for name, _ in checked.outputs] == ["user", "failures", "ip"]


class Place(NamedTuple):
    lat: float
    city: Optional[str]  # noqa: UP045 # the older spelling is understood too


class Color(enum.StrEnum):
    RED = "red"


UserId = NewType("UserId", str)


class Everything(cep.Event, key=("user", "site"), time="at", format="%d.%m.%Y", zone="Europe/Berlin", idle="1 min"):
    user: UserId
    site: int
    at: str
    flag: bool
    ratio: float | None
    price: Decimal
    exact: Annotated[Decimal, DecimalType(10, 2)]
    total: Decimal = cep.field(type="decimal(12, 3)")
    when: datetime
    day: date
    span: timedelta
    tags: list[str]
    places: list[Place]
    place: Place
    kind: Literal["a", "b"]
    color: Color
    city: str = cep.field(path="location.city")
    version: ClassVar[int] = 3


def test_annotations_are_columns() -> None:
    place = Row((("lat", DOUBLE), ("city", STRING)))
    assert Everything.__stream__.columns == (
        FieldDecl("user", STRING, key=True),
        FieldDecl("site", BIGINT, key=True),
        FieldDecl("at", TIMESTAMP),
        FieldDecl("flag", BOOLEAN),
        FieldDecl("ratio", DOUBLE),
        FieldDecl("price", DecimalType(18, 6)),
        FieldDecl("exact", DecimalType(10, 2)),
        FieldDecl("total", DecimalType(12, 3)),
        FieldDecl("when", TIMESTAMP),
        FieldDecl("day", DATE),
        FieldDecl("span", INTERVAL),
        FieldDecl("tags", Array(STRING)),
        FieldDecl("places", Array(place)),
        FieldDecl("place", place),
        FieldDecl("kind", STRING),
        FieldDecl("color", STRING),
        FieldDecl("city", STRING, source=("location", "city")),
    )
    assert Everything.__stream__.name == "everything"
    assert Everything.__stream__.time == TimeDecl("at", "%d.%m.%Y", "Europe/Berlin", idle_ms=60_000)


def test_how_the_time_is_written() -> None:
    class Seconds(cep.Event, time="t"):
        t: float

    class Text(cep.Event, time="t", max_ahead="1 day"):
        t: str

    class Untimed(cep.Event):
        t: int

    assert Seconds.__stream__.time.format == "s"
    assert (Text.__stream__.time.format, Text.__stream__.time.max_ahead_ms) == ("iso", 86_400_000)
    assert (Untimed.__stream__.time.mode, Untimed.__stream__.columns[0].type) == ("processing", BIGINT)


def test_fields_from_metadata() -> None:
    class Seen(cep.Event, key="user", time="at"):
        user: str = cep.field(metadata="key")
        at: datetime = cep.field(metadata="timestamp")
        place: int = cep.field(metadata="partition")

    (stream,) = parse_program(
        """
        stream seen (
          user string from metadata 'key' key,
          at timestamp(ms) from metadata 'timestamp' time,
          place bigint from metadata 'partition'
        )
        """
    ).streams
    assert Seen.__stream__ == stream
    with pytest.raises(PatternError, match="not both"):
        cep.field(path="a", metadata="key")


def test_sources() -> None:
    class FromFile(cep.Event, source="logins.jsonl"):
        x: int

    class FromInput(cep.Event, source="-"):
        x: int

    assert FromFile.__stream__.source == Connector("file", "logins.jsonl")
    assert FromInput.__stream__.source == Connector("stdin")


def test_rows_may_be_declared_beside_their_stream() -> None:
    class Spot(NamedTuple):
        lat: float

    class Seen(cep.Event):
        spot: Spot

    assert Seen.__stream__.columns == (FieldDecl("spot", Row((("lat", DOUBLE),))),)
    with pytest.raises(PatternError, match="cannot be read"):

        class Unseen(cep.Event):
            spot: Nowhere  # type: ignore[name-defined]  # noqa: F821


def test_derived_classes_inherit_columns() -> None:
    class Base(cep.Event, key="user", time="ts"):
        user: str
        ts: int

    class Payment(Base, key="user", time="ts"):
        amount: float

    assert [column.name for column in Payment.__stream__.columns] == ["user", "ts", "amount"]


def test_wrong_declarations() -> None:
    with pytest.raises(PatternError, match="did you mean `user`"):

        class Misspelt(cep.Event, key="usr"):
            user: str

    with pytest.raises(PatternError, match="is no type of the language"):

        class Odd(cep.Event):
            user: dict[str, int]

    with pytest.raises(PatternError, match="time `at`"):

        class Timed(cep.Event, time="at"):
            at: bool


def declare(match: str, function: Any = None, **options: Any) -> DeclaredPattern:
    def each(match: cep.Match) -> Any:
        return [{"n": 1}]

    return cep.pattern(match, on=options.pop("on", Login), **options)(function or each)


def test_options() -> None:
    pattern = declare(
        "a b+ !c",
        name="p",
        skip="to first b",
        into="out",
        timeouts="late",
        within=timedelta(seconds=9),
        cap=5,
        b=cep.define("status = 'x'", until=lambda e: e.ip == "y"),
        define={"a": cep.col("user") == "ann"},
    ).ast
    assert pattern.name == "p"
    assert pattern.skip == Skip(SkipMode.TO_FIRST, "b")
    assert (pattern.into, pattern.timeouts_into, pattern.within_ms) == ("out", "late", 9_000)
    assert pattern.cap == Cap(5, CapPolicy.FAIL)
    a, b, c = pattern.items
    assert (a.condition, b.condition, c.condition) == (  # type: ignore[union-attr]
        parse_expression("user = 'ann'"),
        parse_expression("status = 'x'"),
        None,
    )
    assert b.until == parse_expression("ip = 'y'")  # type: ignore[union-attr]


def test_iterative_conditions() -> None:
    pattern = declare("a b", b=lambda e, ctx: e.ip == ctx.get_events_for_pattern("a")[-1].ip)
    assert pattern.ast.items[1].condition == parse_expression("ip is not distinct from last(a.ip)")  # type: ignore[union-attr]


def test_what_only_python_can_do_is_kept() -> None:
    condition = declare("a b", a=lambda e: hash(e.ip) % 2 == 0).ast.items[0].condition  # type: ignore[union-attr]
    assert isinstance(condition, PythonCall)


def test_a_pattern_may_read_what_another_emits() -> None:
    first = declare("a b", name="first", into="alerts")
    assert declare("x y", on=first).ast.on == "alerts"
    assert declare("x y", on="alerts").ast.on == "alerts"


def test_errors() -> None:
    with pytest.raises(PatternError, match="did you mean `fail`"):
        declare("fail{3,} ok", fial="status = 'x'")
    with pytest.raises(PatternError, match="the stages are a, b"):
        declare("a b", zzz="status = 'x'")
    with pytest.raises(PatternError):
        declare("a {")
    with pytest.raises(MalformedPatternError):
        declare("a !-> b")
    with pytest.raises(PatternError, match="is no stream"):
        declare("a b", on=3)


# ---------------------------------------------------------------------------------------------
# the result function


class Record(dict[str, Any]):
    __getattr__ = dict.__getitem__


def taken(**stages: list[dict[str, Any]]) -> dict[str, list[Record]]:
    return {name: [Record(event) for event in events] for name, events in stages.items()}


X1, X2, X3 = {"x": 1}, {"x": 2}, {"x": 3}


def test_a_match_gives_a_list_for_what_repeats_and_an_event_for_what_does_not() -> None:
    pattern = declare("a b{2} c? (d e?){2} ( f | g )")
    match = pattern.match("ann", 1, 9, taken(a=[X1], b=[X2, X3], d=[X2, X3], f=[X1]))
    assert match["a"].x == 1
    assert [event.x for event in match["b"]] == [2, 3]
    assert match["c"] is None
    assert [event.x for event in match["d"]] == [2, 3]
    assert match["e"] == []
    assert (match["f"].x, match["g"]) == (1, None)
    assert (match.key, match.start, match.end, match.name) == ("ann", 1, 9, "each")
    assert list(match) == ["a", "b", "d", "f"]
    assert ("a" in match, "c" in match) == (True, False)
    with pytest.raises(KeyError, match="no stage `z`"):
        match["z"]


def test_the_decorated_function_can_still_be_called() -> None:
    match = suspicious_login.match("ann", 1, 2, taken(fail=[{}, {}, {}], ok=[{"ip": "::1"}]))
    assert suspicious_login(match) == {"user": "ann", "failures": 3, "ip": "::1"}
    assert suspicious_login.__doc__ == "Several failures, then a success."


def test_what_a_function_may_return() -> None:
    one = {"n": 1}
    for result, wanted in ((one, [one]), ([one, one], [one, one]), (None, []), ([], [])):
        pattern = declare("a", lambda match, result=result: result)
        assert pattern.rows(pattern.match(None, 0, 0, {})) == wanted
    wrong = declare("a", lambda match: len(match) + 3)
    with pytest.raises(PatternError, match="gave int"):
        wrong.rows(wrong.match(None, 0, 0, {}))


def result_of(function: Any, match: str = "fail{3,} ok?", **options: Any) -> DeclaredPattern:
    return declare(match, function, **options)


def emitted(columns: str) -> Any:
    return parse_program(f"pattern p on s match a emit {columns}").patterns[0].emit


LIMIT = 2


@pytest.mark.parametrize(
    ("function", "emit"),
    [
        (lambda match: {"n": len(match["fail"]), "who": match.key}, "count(fail) as n, user as who"),
        (lambda match: dict(n=len(match["fail"])), "count(fail) as n"),  # noqa: C408
        (
            lambda match: {"ip": match["fail"][0].ip, "l": match["fail"][-1]["ip"]},
            "first(fail.ip) as ip, last(fail.ip) as l",
        ),
        (lambda match: {"ip": match["ok"].ip.upper()}, "upper(ok.ip) as ip"),
        (
            lambda match: {"since": match.start, "ended": match.end},
            "to_millis(match_start()) as since, to_millis(match_end()) as ended",
        ),
        (lambda match: {"at": match["ok"].ts}, "to_millis(ok.ts) as at"),
        (lambda match: {"took": match["ok"].ts - match["fail"][0].ts}, "to_millis(ok.ts - first(fail.ts)) as took"),
        (lambda match: {"p": match.name, "l": LIMIT}, "'<lambda>' as p, 2 as l"),
        (lambda match: {"got_in": match["ok"] is not None}, "count(ok) is distinct from 0 as got_in"),
        (
            lambda match: {"level": "high" if len(match["fail"]) > 9 else "low"},
            "case when count(fail) > 9 then 'high' else 'low' end as level",
        ),
    ],
)
def test_functions_that_say_the_same_as_emit(function: Any, emit: str) -> None:
    pattern = result_of(function)
    assert pattern.why_called is None
    assert pattern.ast.emit == emitted(emit)
    assert not pattern.calls
    check_pattern(pattern.ast, Login.__stream__)


def with_a_condition(match: cep.Match) -> dict[str, Any] | None:
    return {"user": match.key} if len(match["fail"]) > 5 else None


def looping(match: cep.Match) -> dict[str, Any]:
    total = 0
    for event in match["fail"]:
        total += len(event.ip)
    return {"total": total}


@pytest.mark.parametrize(
    "function",
    [
        with_a_condition,
        looping,
        lambda match: [{"user": match.key}],
        lambda match: {"ips": sorted(event.ip for event in match["fail"])},
        lambda match: {"ok": match["ok"]},
        lambda match: {"none": None},
        lambda match: {match.key: 1},
        lambda match: {},
        lambda match: {"x": match["nothing"].ip},
        lambda match: {"x": match["ok"].port},
    ],
)
def test_functions_that_are_called_for_each_match(function: Any) -> None:
    pattern = result_of(function)
    assert pattern.why_called is not None
    assert pattern.ast.emit == ()
    assert pattern.calls


def test_nothing_is_called_where_matches_are_only_counted() -> None:
    pattern = result_of(lambda match: {"user": match.key}, count=True)
    assert pattern.ast.count
    assert not pattern.ast.emit
    assert not pattern.calls


def test_emit_can_be_given() -> None:
    pattern = result_of(lambda match: None, emit={"user": "user", "n": cep.count("fail") + 1})
    assert (
        pattern.ast.emit
        == parse_program("pattern p on s match a emit user as user, count(fail) + 1 as n").patterns[0].emit
    )


def test_several_keys() -> None:
    class Connection(cep.Event, key=("source", "target"), time="ts"):
        source: str
        target: str
        ts: int

    pattern = declare("a b", lambda match: {"s": match.key[0], "t": match.key[1]}, on=Connection)
    assert pattern.ast.emit == emitted("source as s, target as t")


# ---------------------------------------------------------------------------------------------
# modules


APP = """
from ostinato import cep

class Login(cep.Event, key="user", time="ts"):
    user: str
    ts: int
    status: str

@cep.pattern("a b", on=Login, a=lambda e: e.status == "x")
def first(match):
    return {"user": match.key}

@cep.pattern("a{2}", on=first)
def second(match):
    return None

also = first
"""


def module(text: str) -> dict[str, Any]:
    made = ModuleType("app_under_test")
    sys.modules["app_under_test"] = made
    try:
        exec(text, made.__dict__)
    finally:
        del sys.modules["app_under_test"]
    return vars(made)


def test_a_module_is_collected() -> None:
    streams, patterns = cep.collect(module(APP))
    assert [stream.name for stream in streams] == ["login"]
    assert [pattern.name for pattern in patterns] == ["first", "second"]
    assert patterns[1].ast.on == "first"


def test_an_imported_stream_is_found_through_its_pattern() -> None:
    streams, _ = cep.collect({"p": suspicious_login})
    assert streams == (Login.__stream__,)


def test_names_must_be_told_apart() -> None:
    other = declare("a b", name="suspicious_login")
    with pytest.raises(PatternError, match="two patterns `suspicious_login`"):
        cep.collect({"p": suspicious_login, "q": other})

    class Logins(cep.Event):
        user: str

    with pytest.raises(PatternError, match="two different streams `logins`"):
        cep.collect({"Login": Login, "Logins": Logins})


# ---------------------------------------------------------------------------------------------
# through the engine

EVENTS = [
    {"user": "ann", "ts": ts, "status": status, "ip": f"10.0.0.{ts}"}
    for ts, status in enumerate(["FAILED", "FAILED", "FAILED", "SUCCESS", "FAILED", "SUCCESS"])
]


def rows(declared: DeclaredPattern) -> list[dict[str, Any]]:
    batches = run_patterns([check_pattern(declared.ast, Login.__stream__)], EVENTS)
    return emitted_rows(row for batch in batches for row in rows_of(batch))


def test_a_declared_pattern_runs() -> None:
    assert rows(suspicious_login) == [{"user": "ann", "failures": 3, "ip": "10.0.0.3"}]


def test_conditions_that_stay_python_run() -> None:
    def succeeded(event: Any) -> bool:
        return str(event.status).title() == "Success"

    def elsewhere(event: Any, ctx: Any) -> bool:
        return all(before.ip != event.ip for before in ctx.get_events_for_pattern("fail"))

    declared = declare(
        "fail+ ok",
        lambda match: {"n": len(match["fail"])},
        fail=lambda e: e.status == "FAILED",
        ok=lambda e, ctx: succeeded(e) and elsewhere(e, ctx),
        skip="past last",
    )
    assert isinstance(declared.ast.items[1].condition, PythonCall)  # type: ignore[union-attr]
    assert [row["n"] for row in rows(declared)] == [3, 1]
