"""The OpenAPI document and the page about the API, held against the table of routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.server.http.openapi import describe
from ostinato.server.http.problems import TYPES
from ostinato.server.http.reference import routes_table
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.routing import WEBSOCKET, Route
from ostinato.server.http.services import Services
from tests.http_api import make

PAGE = (Path(__file__).parents[3] / "docs" / "http-api.md").read_text()
DOCUMENT = describe(ROUTES)


def operation(route: Route) -> dict[str, Any]:
    method = "get" if route.method == WEBSOCKET else route.method.lower()
    found: dict[str, Any] = DOCUMENT["paths"][route.path][method]
    return found


def references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references, part.values()))
    return set().union(*map(references, part)) if isinstance(part, list) else set()


def test_it_is_served_without_a_token(tmp_path: Path) -> None:
    running = make(tmp_path)

    async def ask() -> dict[str, Any]:
        async with running.client(None) as client:
            answer = await client.get("/openapi.json")
            assert answer.status_code == 200
            document: dict[str, Any] = answer.json()
            return document

    document = asyncio.run(ask())
    running.catalog.close()
    assert document["openapi"] == "3.1.0"
    assert document == msgspec.json.decode(msgspec.json.encode(DOCUMENT))


def test_every_reference_leads_somewhere() -> None:
    components = DOCUMENT["components"]
    for reference in references(DOCUMENT):
        _, kind, name = reference.removeprefix("#/").split("/")
        assert name in components[kind], reference


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_is_described(route: Route) -> None:
    found = operation(route)
    assert found["operationId"] == route.name
    assert found["summary"]
    named = {parameter["name"] for parameter in found["parameters"] if parameter["in"] == "path"}
    assert named == set(route.names)
    assert (found.get("security") == []) == (route.role is None)
    assert ("requestBody" in found) == (route.body is not None or bool(route.raw))
    assert {"500", "503", str(101 if route.method == WEBSOCKET else route.status)} <= set(found["responses"])
    if route.role is not None:
        assert {"401", "403", "429"} <= set(found["responses"])


def test_every_route_has_a_service_of_the_protocols() -> None:
    known = {*Services.__slots__, "api"}
    assert {route.service for route in ROUTES} == known


def test_structs_of_requests_refuse_what_they_do_not_know() -> None:
    for route in ROUTES:
        for kind in (route.query, route.body):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                assert kind.__struct_config__.forbid_unknown_fields, f"{route.name}: {kind.__name__}"


def test_the_page_has_all_routes() -> None:
    assert routes_table(ROUTES) in PAGE, "docs/http-api.md: put in what reference.routes_table(ROUTES) gives"


def test_the_page_has_all_problems() -> None:
    said = dict(line.split(" | ")[:2] for line in PAGE.splitlines() if line.startswith(("| 4", "| 5")))
    assert {int(status.strip("| ")): kind for status, kind in said.items()} == {
        status: kind for status, (kind, _) in TYPES.items()
    }
