"""Types that several threads meet at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ostinato.state.typed import convert, decode_json, decode_msgpack, json_decoder, msgpack_decoder

ROOT = Path(__file__).parents[3]

AT_ONCE = """
import sys, threading
import msgspec
from ostinato.state import typed

decode = eval(sys.argv[1])
sys.setswitchinterval(1e-6)
for number in range(30):
    inner = msgspec.defstruct("Inner", [(f"i{n}", int, 0) for n in range(20)])
    outer = msgspec.defstruct("Outer", [(f"o{n}", list[inner], []) for n in range(20)])
    data = msgspec.json.encode({"o1": [{"i1": 5}]})
    barrier = threading.Barrier(8)
    def work():
        barrier.wait()
        assert decode(data, outer).o1[0].i1 == 5
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


class Point(msgspec.Struct):
    x: int
    y: int | None = None


@pytest.mark.parametrize(
    "decode",
    [
        "typed.decode_json",
        "lambda data, kind: typed.json_decoder(kind).decode(data)",
        "lambda data, kind: typed.convert(msgspec.json.decode(data), kind)",
    ],
)
def test_a_type_that_several_threads_meet_at_once(decode: str) -> None:
    """Seen to fail when msgspec was asked without a lock: the process died of a segmentation fault."""
    process = subprocess.run([sys.executable, "-c", AT_ONCE, decode], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_values() -> None:
    assert decode_json(b'{"x": 1}', Point) == Point(1)
    assert decode_msgpack(msgspec.msgpack.encode({"x": 1, "y": 2}), Point) == Point(1, 2)
    assert convert({"x": 1}, Point) == Point(1)
    assert convert({"x": "1"}, Point, strict=False) == Point(1)
    assert convert(None, Point | None) is None
    assert json_decoder(list[Point]).decode(b"[]") == []
    assert msgpack_decoder(int | str).decode(b"\x01") == 1
    with pytest.raises(msgspec.ValidationError, match="x"):
        decode_json(b"{}", Point)


def test_nobody_else_asks_msgspec() -> None:
    """A type that is known by chance, since another thread has met it before, is one only until somebody moves code."""
    found = [place for package in ("patterns", "state", "cep", "server") for place in _typed_in(ROOT / package)]
    assert found == []


def _typed_in(package: Path) -> Iterator[str]:
    for path in package.rglob("*.py"):
        if path == ROOT / "state" / "typed.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_typed(node):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: use ostinato.state.typed"


def _is_typed(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in ("msgspec.json.decode", "msgspec.msgpack.decode"):
        return any(keyword.arg == "type" for keyword in call.keywords)
    if name in ("msgspec.json.Decoder", "msgspec.msgpack.Decoder"):
        return bool(call.args or call.keywords)
    return name == "msgspec.convert"
