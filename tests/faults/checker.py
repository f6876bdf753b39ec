"""Judges what a job has written by what it should have written.

- *lost*: expected, and not there.
- *duplicated*: there more often than expected.
- *phantom*: there, and never expected.
- *reordered*: rows of one key in another order than expected.
- *torn*: bytes that are no whole line, or a line that is no row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

SHOWN = 3
"""So many examples of each kind are enough to see what happened."""


@dataclass(slots=True)
class Faults:
    """What is wrong, by kind: each fault as a line to read."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        return {each.name: len(getattr(self, each.name)) for each in fields(self)}

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def __str__(self) -> str:
        """Each kind with its number and its first examples."""
        parts = []
        for kind, count in self.counts.items():
            if count:
                parts.append(f"{count} {kind}:")
                parts += [f"  {example}" for example in getattr(self, kind)[:SHOWN]]
        return "\n".join(parts) or "no faults"

    def add(self, other: Faults) -> None:
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))


def check(
    expected: Mapping[str, Sequence[Row]], written: Mapping[str, bytes], keys: Mapping[str, Sequence[str]]
) -> Faults:
    """Compare outputs by name.

    Args:
        expected: the rows of each output, in order.
        written: its bytes, JSON lines; an output that is missing here is empty.
        keys: the columns within whose equal values the order of rows counts.
    """
    faults = Faults()
    for name in sorted(expected.keys() | written.keys()):
        rows, torn = parse(name, written.get(name, b""))
        faults.torn += torn
        faults.add(_compare(name, expected.get(name, ()), rows, keys.get(name, ())))
    return faults


def parse(name: str, content: bytes) -> tuple[list[Row], list[str]]:
    """The rows of JSON lines, and what is torn."""
    rows: list[Row] = []
    torn: list[str] = []
    lines = content.split(b"\n")
    if lines.pop():
        torn.append(f"{name}: the last line has no end: {content[-60:]!r}")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            torn.append(f"{name}, line {number}: no row: {line[:120]!r}")
    return rows, torn


def _compare(name: str, expected: Sequence[Row], found: Sequence[Row], key: Sequence[str]) -> Faults:
    wanted, got = Counter(map(_text, expected)), Counter(map(_text, found))
    faults = Faults()
    for row, count in (wanted - got).items():
        # rows that are there, but not often enough, are lost as well
        faults.lost += [f"{name}: {row}"] * count
    for row, count in (got - wanted).items():
        kind = faults.duplicated if row in wanted else faults.phantom
        kind += [f"{name}: {row}"] * count
    orders = (_orders(rows, key, wanted & got) for rows in (expected, found))
    for (value, order), (_, actual) in zip(*(sorted(order.items()) for order in orders), strict=True):
        out_of_place = sum(a != b for a, b in zip(order, actual, strict=True))
        if out_of_place:
            first = next(n for n, (a, b) in enumerate(zip(order, actual, strict=True)) if a != b)
            faults.reordered.append(f"{name}, key {value}: {actual[first]} stands where {order[first]} belongs")
    return faults


def _orders(rows: Iterable[Row], key: Sequence[str], common: Counter[str]) -> dict[str, list[str]]:
    """For each key its rows in order, those only that both sides have, each as often as both have it."""
    left = common.copy()
    orders: dict[str, list[str]] = {}
    for row in rows:
        text = _text(row)
        if left[text] > 0:
            left[text] -= 1
            orders.setdefault(json.dumps([row.get(column) for column in key]), []).append(text)
    return orders


def _text(row: Row) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"))


def read_outputs(folder: Path) -> dict[str, bytes]:
    """What is published in a folder: output -> bytes. Files with a leading dot are a sink's own business."""
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("[!.]*.jsonl"))}
