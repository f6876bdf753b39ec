"""An explanation as a picture: DOT for graphviz, or SVG laid out here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ostinato.cep.runtime.explain import END, Arc, Explanation

_STEP_X, _STEP_Y = 230, 120
_WIDTH, _HEIGHT = 120, 40
_MARGIN = 40
_LABEL = 34
"""Characters of a label that fit between two columns; the whole of it is shown under the pointer."""


def as_dot(explanation: Explanation) -> str:
    """The automaton in graphviz's language."""
    lines = [f"digraph {_quote(explanation.name)} {{", "  rankdir=LR;", '  node [shape=box, style="rounded"];']
    for state in explanation.states:
        look = ", penwidth=2" if state.number == 0 else ", style=dashed" if state.pending else ""
        lines.append(f"  s{state.number} [label={_quote(f'{state.number} {state.name}')}{look}];")
    lines.append('  match [label="match", shape=doublecircle];')
    if any(arc.target is None for arc in explanation.arcs):
        lines.append('  stop [label="no match", shape=plaintext];')
    for arc in explanation.arcs:
        style = ", style=dashed" if arc.move == "ignore" else ""
        lines.append(f"  s{arc.source} -> {_node(arc.target)} [label={_quote(arc.label)}{style}];")
        if arc.completes:
            when = "" if arc.completes == "true" else f" when {arc.completes}"
            lines.append(f"  s{arc.source} -> match [label={_quote(f'take {arc.stage}{when}')}];")
    return "\n".join([*lines, "}"])


def _node(target: int | None) -> str:
    return "stop" if target is None else "match" if target == END else f"s{target}"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class _Line:
    """An arrow of the picture; arcs that join the same two boxes share one."""

    source: str
    target: str
    labels: tuple[str, ...]
    dashed: bool


def as_svg(explanation: Explanation) -> str:
    """The automaton as an SVG document: states in columns by their distance from the start, moves as arrows."""
    lines = _lines(explanation)
    places = _places(explanation, lines)
    names = {f"s{state.number}": state.name for state in explanation.states} | {"match": "match", "stop": "no match"}
    dashed = {f"s{state.number}" for state in explanation.states if state.pending}
    width = max(x for x, _ in places.values()) + _WIDTH + _MARGIN
    legend = [f"{c.name}: {c.text}  [{c.how}]" for c in explanation.conditions]
    bottom = max(y for _, y in places.values()) + _HEIGHT + 70
    height = bottom + 18 * len(legend) + _MARGIN
    width = max(width, 2 * _MARGIN + 7 * max(map(len, [*legend, explanation.name]), default=0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_MARGIN}" y="24" font-size="15" font-weight="bold">{escape(explanation.name)}</text>',
    ]
    parts += [_arrow(line, places) for line in lines]
    for node, (x, y) in places.items():
        stroke = ' stroke-dasharray="5 3"' if node in dashed else ""
        thick = 2.5 if node in ("s0", "match") else 1.2
        fill = "#e8f4e8" if node == "match" else "#f6e8e8" if node == "stop" else "#eef2fa"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="10" fill="{fill}" stroke="#444" '
            f'stroke-width="{thick}"{stroke}/><text x="{x + _WIDTH // 2}" y="{y + 25}" text-anchor="middle">'
            f"{escape(names[node])}</text>"
        )
    for row, entry in enumerate(legend):
        parts.append(f'<text x="{_MARGIN}" y="{bottom + 18 * row}" fill="#333">{escape(entry)}</text>')
    return "\n".join([*parts, "</svg>"])


def _lines(explanation: Explanation) -> Sequence[_Line]:
    joined: dict[tuple[str, str, bool], list[str]] = {}
    for arc in explanation.arcs:
        joined.setdefault((f"s{arc.source}", _node(arc.target), arc.move == "ignore"), []).append(arc.label)
        if arc.completes:
            joined.setdefault((f"s{arc.source}", "match", False), []).append(_completing(arc))
    return [_Line(source, target, tuple(labels), dashed) for (source, target, dashed), labels in joined.items()]


def _completing(arc: Arc) -> str:
    return f"take {arc.stage}" + ("" if arc.completes == "true" else f" when {arc.completes}")


def _places(explanation: Explanation, lines: Sequence[_Line]) -> Mapping[str, tuple[int, int]]:
    """The left upper corner of each box. Columns by the fewest moves from the start, the ends behind all others."""
    column = {"s0": 0}
    while True:
        reached = {
            line.target: column[line.source] + 1
            for line in lines
            if line.source in column
            and line.target not in column
            and line.target.startswith("s")
            and line.target != "stop"
        }
        if not reached:
            break
        column |= reached
    for state in explanation.states:
        column.setdefault(f"s{state.number}", 0)
    last = max(column.values()) + 1
    column["match"] = last
    if any(line.target == "stop" for line in lines):
        column["stop"] = last
    filled: dict[int, int] = {}
    places = {}
    for node, at in column.items():
        row = filled.get(at, 0)
        filled[at] = row + 1
        places[node] = (_MARGIN + at * _STEP_X, 90 + row * _STEP_Y)
    return places


def _arrow(line: _Line, places: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = places[line.source], places[line.target]
    if line.source == line.target:
        left, top = x1 + _WIDTH // 2 - 18, y1
        path = f"M{left} {top}C{left - 8} {top - 38},{left + 44} {top - 38},{left + 36} {top}"
        at = (left + 18, top - 34)
    else:
        forward = x2 > x1
        begin = (x1 + _WIDTH if forward else x1 + _WIDTH // 2, y1 + _HEIGHT // 2 if forward else y1 + _HEIGHT)
        end = (x2 if forward else x2 + _WIDTH // 2, y2 + _HEIGHT // 2 if forward else y2 + _HEIGHT)
        # Arrows over more than one column, and those that go back, pass below the boxes between.
        bow = 0 if forward and x2 - x1 == _STEP_X else 46
        middle = ((begin[0] + end[0]) // 2, (begin[1] + end[1]) // 2 + bow)
        control = (2 * middle[0] - (begin[0] + end[0]) // 2, 2 * middle[1] - (begin[1] + end[1]) // 2)
        path = f"M{begin[0]} {begin[1]}Q{control[0]} {control[1]},{end[0]} {end[1]}"
        at = (middle[0], middle[1] - 5)
    dash = ' stroke-dasharray="4 3"' if line.dashed else ""
    whole = "\n".join(line.labels)
    texts = "".join(
        f'<text x="{at[0]}" y="{at[1] - 13 * row}" text-anchor="middle" font-size="10" fill="#333">'
        f"{escape(label if len(label) <= _LABEL else label[: _LABEL - 1] + '…')}</text>"
        for row, label in enumerate(line.labels[:3])
    )
    arrow = f'<path d="{path}" fill="none" stroke="#444"{dash} marker-end="url(#arrow)"/>'
    return f"<g><title>{escape(whole)}</title>{arrow}{texts}</g>"
