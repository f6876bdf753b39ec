"""HTTP bodies to lines."""

from __future__ import annotations

import gzip
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.server.ingest.bodies import BodyError, form_of, lines_of

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
events = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=6)


@settings(deadline=None)
@given(events, st.sampled_from([None, 0, 2]), st.booleans())
def test_all_ways_to_send_events_give_the_same_lines(sent: list[Any], indent: int | None, zipped: bool) -> None:
    array = json.dumps(sent, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ndjson = b"".join(orjson.dumps(event) + b"\n" for event in sent)
    encoding = "gzip" if zipped else None
    if zipped:
        array, ndjson = gzip.compress(array), gzip.compress(ndjson)
    found = lines_of(array, "json", encoding=encoding)
    assert found.count(b"\n") == len(sent)
    # splitlines would also end a line at other bytes
    assert [json.loads(line) for line in found.split(b"\n")[:-1]] == sent
    assert [json.loads(line) for line in lines_of(ndjson, "ndjson", encoding=encoding).split(b"\n")[:-1]] == sent


@settings(deadline=None)
@given(st.dictionaries(st.text(), values, max_size=4), st.sampled_from([None, 2]))
def test_one_object_is_one_line(sent: Any, indent: int | None) -> None:
    found = lines_of(json.dumps(sent, indent=indent).encode(), "json")
    assert found.count(b"\n") == 1
    assert json.loads(found) == sent


def test_digits_stay_as_they_are_written() -> None:
    digits = b"12345678901234567890.12345678901234567890"
    assert lines_of(b'[{"a":%s},\n {"a":\n%s}]' % (digits, digits), "json") == b'{"a":%s}\n{"a": %s}\n' % (
        digits,
        digits,
    )


def test_empty_bodies() -> None:
    assert lines_of(b"[]", "json") == b""
    assert lines_of(b" [ \n ] ", "json") == b""
    assert lines_of(b"", "ndjson") == b""
    with pytest.raises(BodyError, match="must be a JSON array of objects, or one object"):
        lines_of(b"", "json")


@pytest.mark.parametrize(
    ("body", "reason", "line"),
    [
        (b"5", "must be a JSON array", 0),
        (b'[{"a":1},', "not JSON", 0),
        (b'[{"a":1}{"b":2}]', "not JSON", 0),
        (b'[{"a":1}] x', "not JSON", 0),
        (b'[{"a":"x"},{"a":"one\ntwo"}]', r"invalid character \(byte 20\)", 0),
        (b'{"a":"one\ntwo"}', "invalid character", 0),
        (b'{"a":1}\n{"a":2}\n', "send application/x-ndjson", 0),
        (b"[" * 100_000, "nested too deeply|not JSON", 0),
        (b"[" + b'{"a":' * 70 + b"1" + b"}" * 70 + b"]", "item 0 is nested more than 64 deep", 1),
        (b'[{"a":[]},' + b"[" * 70 + b"]" * 70 + b"]", "item 1 is nested more than 64 deep", 2),
    ],
)
def test_what_is_wrong_with_json_is_said_with_its_item(body: bytes, reason: str, line: int) -> None:
    with pytest.raises(BodyError, match=reason) as error:
        lines_of(body, "json")
    assert error.value.status == 400
    assert error.value.line == line


def test_depth_of_lines() -> None:
    deep = b'{"a":' * 64 + b"1" + b"}" * 64 + b"\n"
    assert lines_of(deep * 3, "ndjson") == deep * 3
    texts = b'{"a":"' + b"[" * 500 + b'\\""}\n'
    assert lines_of(texts, "ndjson") == texts
    with pytest.raises(BodyError, match="line 3 is nested more than 64 deep"):
        lines_of(texts + deep + b"[" * 65 + b"\n" + deep, "ndjson")
    for hopeless in (b"[" * 1_000_000, b'{"a":' * 200_000):
        with pytest.raises(BodyError, match="line 1 is nested more than 64 deep"):
            lines_of(hopeless, "ndjson")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(BodyError, match="more than 1048576 bytes; send it in several requests") as error:
        lines_of(bomb, "ndjson", encoding="gzip", max_bytes=1 << 20)
    assert error.value.status == 413
    with pytest.raises(BodyError) as error:
        lines_of(bytes(11), "ndjson", max_bytes=10)
    assert error.value.status == 413


def test_gzip_that_is_none_or_cut_off() -> None:
    packed = gzip.compress(b'{"a":1}\n' * 1_000)
    assert lines_of(packed + packed, "ndjson", encoding="gzip") == b'{"a":1}\n' * 2_000
    for size in (1, 5, 12, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BodyError, match="ends before its end"):
            lines_of(packed[:size], "ndjson", encoding="gzip")
    with pytest.raises(BodyError, match="not gzip"):
        lines_of(b'{"a":1}\n', "ndjson", encoding="gzip")
    with pytest.raises(BodyError, match="not gzip"):
        lines_of(packed + b"garbage", "ndjson", encoding="gzip")
    with pytest.raises(BodyError, match="Content-Encoding 'br' is not known") as error:
        lines_of(b"", "ndjson", encoding="br")
    assert error.value.status == 415


def test_content_types() -> None:
    assert form_of("application/json") == "json"
    assert form_of("Application/JSON; charset=UTF-8") == "json"
    assert form_of("application/x-ndjson") == "ndjson"
    for wrong in (None, "", "text/plain", "application/json; charset=latin-1", "multipart/form-data; boundary=x"):
        with pytest.raises(BodyError) as error:
            form_of(wrong)
        assert error.value.status == 415
