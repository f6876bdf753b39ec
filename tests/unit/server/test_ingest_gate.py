"""The gate of a stream says what the decoder will say."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import Chunk, ConnectorError
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from ostinato.server.ingest.gate import Checked, Gate, decoder_of


def stream(columns: str, tail: str = "") -> Stream:
    return parse_program(f"stream s ({columns}) {tail}").streams[0]


PAYMENTS = stream(
    "card string key, at timestamp(iso) time, amount decimal(6,2), rate double, ok boolean, n bigint, day date"
)
STREAMS = [
    PAYMENTS,
    stream("k bigint key, t timestamp(ms) time, a decimal(4,4), d decimal(3,0), i timestamp"),
    stream("k decimal(5,1) key, t timestamp(s) time, x double"),
    stream("k string key, t timestamp(us) time, x double, `with space` string"),
    stream("k string key, t bigint time, b boolean key"),
    stream("k string, x double"),
]
GOOD = b'{"card":"c1","at":"2024-05-01T10:00:00Z","amount":12.50,"rate":1e3,"ok":true,"n":5,"day":"2024-05-01"}\n'


def test_good_lines_pass_as_they_are() -> None:
    assert Gate(PAYMENTS).check(GOOD * 3) == Checked(GOOD * 3, 3, [])
    assert Gate(PAYMENTS).check(GOOD * 300) == Checked(GOOD * 300, 300, [])
    assert Gate(PAYMENTS).check(GOOD[:-1]) == Checked(GOOD, 1, [])
    assert Gate(PAYMENTS).check(GOOD * 299 + GOOD[:-1]) == Checked(GOOD * 300, 300, [])
    assert Gate(PAYMENTS).check(b"") == Checked(b"", 0, [])


@pytest.mark.parametrize("times", [1, 100])
def test_bad_lines_are_named_and_taken_out(times: int) -> None:
    lines = [
        b'{"card":5}',
        GOOD[:-1],
        b"",
        b" \t\r",
        b"not json",
        GOOD[:-1].replace(b"12.50", b"12.505"),
        b"\xff",
    ] * times
    checked = Gate(PAYMENTS).check(b"\n".join(lines))
    assert checked.data == GOOD * times
    assert checked.rows == times
    assert [bad.line for bad in checked.bad] == [7 * block + line for block in range(times) for line in (1, 5, 6, 7)]
    assert [bad.raw for bad in checked.bad[:4]] == [lines[0], lines[4], lines[5], lines[6]]
    assert "column card: expected STRING, found number 5" in checked.bad[0].reason
    assert "not JSON" in checked.bad[1].reason
    assert "too many digits" in checked.bad[2].reason
    assert "not UTF-8" in checked.bad[3].reason


def numbers() -> st.SearchStrategy[str]:
    return st.one_of(
        st.integers(-(2**70), 2**70).map(str),
        st.floats().map(repr),
        st.decimals(allow_nan=False, places=3).map(str),
        st.sampled_from(["0", "-0", "01", "1.", ".5", "1e5", "1E400", "-", "1704067200000", "12.50", "0.1234", "999"]),
        st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    )


VALUES = st.one_of(
    numbers(),
    numbers().map(lambda text: f'"{text}"'),
    st.sampled_from(
        [
            "null", "true", "false", "True", "nul", "[]", "{}", '{"a":[1,,2]}', "[1 2]", '"\\ud800"', '"\\q"', '"é"',
            '"2024-05-01"', '"2024-05-01T10:00:00Z"', '"2024-05-01 10:00:00.123+02:00"', '"2024-13-01"', '""', "NaN",
            '"a\tb"', '"1_000"', '"NaN"', "1_000", '"2024-05-01T25:00:00Z"', "'x'",
        ]
    ),
    st.text(max_size=4).map(lambda text: f'"{text}"'),
)  # fmt: skip
NAMES = ["card", "at", "amount", "rate", "ok", "n", "day", "k", "t", "a", "d", "i", "x", "b", "with space", "other"]
LINES = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=9).map(
    lambda members: "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"
)


def good_lines(declared: Stream) -> st.SearchStrategy[str]:
    """Lines most of whose values are right."""
    right = {
        "card": '"c"', "at": '"2024-05-01T10:00:00Z"', "amount": "12.5", "rate": "1.5", "ok": "true", "n": "7",
        "day": '"2024-05-01"', "k": "5", "t": "1704067200", "a": "0.5", "d": "12", "i": "1704067200000", "x": "2.0",
        "b": "true", "with space": '"x"',
    }  # fmt: skip
    own = [column.name for column in declared.columns]
    key = str(declared.column("k") and declared.column("k").type)  # type: ignore[union-attr]
    if "STRING" in key:
        right["k"] = '"key"'
    one = st.tuples(*(st.one_of(st.just(right[name]), st.just(right[name]), VALUES) for name in own))
    return one.map(lambda found: "{" + ",".join(f'"{n}":{v}' for n, v in zip(own, found, strict=True)) + "}")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STREAMS).flatmap(lambda each: st.tuples(st.just(each), good_lines(each) | LINES)))
@example((STREAMS[1], '{"k":1,"t":1,"a":"NaN"}'))
@example((STREAMS[2], '{"k":null,"t":1}'))
@example((PAYMENTS, '{"card":"c","at":"2024-05-01T10:00:00Z"}{}'))
def test_the_quick_answer_is_the_decoders(case: tuple[Stream, str]) -> None:
    declared, text = case
    line = text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    gate, decoder = _GATES[declared.columns], _DECODERS[declared.columns]
    batch, bad = decoder.decode(Chunk.of(line + b"\n"))
    assert gate._quick is not None
    if gate._quick.takes(line):
        assert len(batch) == 1, bad
    checked = gate.check(line + b"\n")
    assert checked.rows == len(batch)
    assert checked.data == (line + b"\n" if len(batch) else b"")
    assert [(each.raw, each.reason) for each in checked.bad] == [(each.raw, each.reason) for each in bad]


_GATES = {declared.columns: Gate(declared) for declared in STREAMS}
_DECODERS = {declared.columns: decoder_of(declared) for declared in STREAMS}


def test_ordinary_lines_are_answered_quickly() -> None:
    """The quick way is of no use where it leaves what is ordinary to the decoder."""
    quick = Gate(PAYMENTS)._quick
    assert quick is not None
    assert quick.takes(GOOD[:-1])
    assert quick.takes(b'{"card": "c1", "at": "2024-05-01T10:00:00Z", "amount": -7, "n": null, "else": {"a": [1]}}')
    assert not quick.takes(b'{"card":"c1"}')
    assert not quick.takes(b'{"card":"\xc3\xa9","at":"2024-05-01T10:00:00Z"}')


def test_columns_with_structure_go_to_the_decoder() -> None:
    nested = stream("user string key from login.user, t timestamp(ms) time, tags array<string>")
    gate = Gate(nested)
    assert gate._quick is None
    good = b'{"login":{"user":"u"},"t":1,"tags":["a",null]}\n'
    assert gate.check(good + b'{"login":"u","t":1}\n') == replace(gate.check(good + b"[]\n"), bad=gate.check(
        good + b'{"login":"u","t":1}\n').bad)  # fmt: skip
    assert gate.check(good).rows == 1


@pytest.mark.parametrize("kind", ["decimal(5,2)", "array<double>", "array<decimal(5,2)>", "double"])
@pytest.mark.parametrize("depth", [50, 190, 900, 1010, 1030, 100_000])
def test_whether_a_deep_record_is_good_does_not_depend_on_who_asks(kind: str, depth: int) -> None:
    declared = stream(f"k string key, a {kind}")

    def ask(line: bytes, frames: int) -> Checked:
        return ask(line, frames - 1) if frames else Gate(declared).check(line)

    for name in ("a", "other"):
        for tail in ("", ',"a":1.5', ',"a":[1.5]'):
            line = f'{{"k":"x","{name}":{"[" * depth}1.5{"]" * depth}{tail}}}\n'.encode()
            assert ask(line, 0) == ask(line, 500)


def test_threads_do_not_disturb_each_other() -> None:
    gate = Gate(PAYMENTS)
    wrong: list[Checked] = []

    def check(number: int) -> None:
        body = GOOD * number + b"{}\n" + GOOD * number
        for _ in range(40):
            checked = gate.check(body)
            if (checked.data, [bad.line for bad in checked.bad]) != (GOOD * 2 * number, [number + 1]):
                wrong.append(checked)

    threads = [threading.Thread(target=check, args=(number,)) for number in (1, 3, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_streams_with_metadata_are_refused() -> None:
    declared = stream(
        "user string key, part bigint from metadata 'partition', t timestamp(ms) time", "from kafka 'logins'"
    )
    with pytest.raises(ConnectorError, match="stream s: column part comes `from metadata`"):
        Gate(declared)


def test_a_stream_from_kafka_or_csv_takes_json_too() -> None:
    times = {"from kafka 'logins'": b"1", "from file 'x.csv' format csv": b'"1970-01-01T00:00:00.001Z"'}
    for tail, time in times.items():
        gate = Gate(stream("user string key, t timestamp(ms) time", tail))
        assert gate.check(b'{"user":"u","t":%s}\n' % time).rows == 1
