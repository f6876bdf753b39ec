"""Partial matches as the first release stored them are read for ever.

``tests/fixtures/state/match-v1.*`` were written by `write`; they are never written again. A new format gets files of
its own beside them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from ostinato.cep.nfa.records import describe
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from tests.support import Kept
from tests.unit.nfa.test_records import COUNTED, PAIR, go_on, half_way, kept, patterns, rise

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "state" / "match-v1.msgpack"


def write(path: Path = FIXTURE) -> None:
    """Store what the tests of records have half-way, and beside it what it says and what becomes of it."""
    state = half_way(rise(), PAIR, COUNTED.format(first=1))
    groups = {group: list(records.items()) for group, records in state.groups.items()}
    path.write_bytes(msgspec.msgpack.encode({"header": state.header, "shared": state.shared, "groups": groups}))
    path.with_suffix(".json").write_text(json.dumps(told(kept(state)), indent=1, default=str) + "\n")


def read(path: Path = FIXTURE) -> Kept:
    stored = msgspec.msgpack.decode(path.read_bytes(), strict=False)
    groups = {int(group): Records.of(map(tuple, items)) for group, items in stored["groups"].items()}
    return kept(OperatorState(stored["header"], groups, groups, stored["shared"]))


def told(stored: Kept) -> dict[str, Any]:
    """Every key's record in words, and the rows that come when the rest of the events has come."""
    words = {
        key.decode(): describe(stored.header, key, value)
        for _, records in stored.records()
        for key, value in records.items()
    }
    rows: dict[str, list[Any]] = defaultdict(list, go_on(stored, patterns(rise(), PAIR, COUNTED.format(first=1))))
    return {"records": dict(sorted(words.items())), "rows": {name: sorted(map(str, rows[name])) for name in rows}}


def test_the_first_format_is_read() -> None:
    found = json.loads(json.dumps(told(read()), default=str))
    expected = json.loads(FIXTURE.with_suffix(".json").read_text())
    assert found["records"] == expected["records"]
    assert found["rows"] == expected["rows"]
    assert len(expected["records"]) == 21
    assert {name: len(rows) for name, rows in expected["rows"].items()} == {"rises": 40, "pairs": 20, "counts": 20}


def test_this_release_writes_what_the_fixture_holds(tmp_path: Path) -> None:
    """A change of the format has to be meant: it takes a new version, and a fixture of its own."""
    write(tmp_path / "now.msgpack")
    assert (tmp_path / "now.msgpack").read_bytes() == FIXTURE.read_bytes()
