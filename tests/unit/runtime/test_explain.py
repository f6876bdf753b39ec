"""What `ostinato explain` shows."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from ostinato.cep.runtime.drawing import as_dot, as_svg
from ostinato.cep.runtime.explain import END, Explanation, as_text, explain
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program

TREND = """
stream ticks (symbol string key, ts timestamp(ms) time, price double, volume bigint)
pattern trend on ticks
  match a -> b+ relaxed -> c !d
  define a as volume > 900 and symbol <> 'x<&"',
         b as volume > 1 and price > last(b.price),
         c as price < a.price,
         d as volume < 0
  within 1 min
  after match skip past last
  emit symbol
"""


def trend() -> Explanation:
    return explain(check_program(parse_program(TREND)).patterns[0])


def test_conditions_say_how_they_are_decided() -> None:
    how = {condition.name: condition.how for condition in trend().conditions}
    assert how.pop("d") == "vectorised"
    assert how == {"a": "vectorised", "b": "vectorised + register machine", "c": "register machine"}


def test_every_arc_joins_states_that_exist() -> None:
    explanation = trend()
    numbers = {state.number for state in explanation.states}
    assert explanation.arcs
    for arc in explanation.arcs:
        assert arc.source in numbers
        assert arc.target is None or arc.target == END or arc.target in numbers
    assert {arc.stage for arc in explanation.arcs if arc.move == "take"} >= {"a", "b", "c"}


def test_text_shows_the_predicates() -> None:
    text = as_text(trend())
    assert "price > last(b.price)" in text
    assert "skip past last" in text
    assert "-> match" in text


def test_dot_has_every_arc() -> None:
    explanation = trend()
    dot = as_dot(explanation)
    also = sum(arc.completes is not None for arc in explanation.arcs)
    assert dot.startswith('digraph "trend" {')
    assert dot.count(" -> ") >= len(explanation.arcs) + also
    assert dot.endswith("}")


def test_svg_is_well_formed_and_fits_its_frame() -> None:
    root = ElementTree.fromstring(as_svg(trend()))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    space = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in root.findall(f"{space}rect") if "rx" in box.attrib]
    assert len(boxes) >= len(trend().states) + 1
    corners = [(float(box.attrib["x"]), float(box.attrib["y"])) for box in boxes]
    assert len(set(corners)) == len(corners)
    assert all(0 <= x < width and 0 <= y < height for x, y in corners)
