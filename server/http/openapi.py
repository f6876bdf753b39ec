"""The OpenAPI 3.1 document, made of the table of routes and the Structs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from ostinato.server.http.problems import TYPES
from ostinato.server.http.routing import NAME, WEBSOCKET, Route
from ostinato.server.http.schemas.common import Problem

_REF = "#/components/schemas/{name}"


def document(routes: Sequence[Route]) -> bytes:
    """The document as JSON. WebSockets, which OpenAPI does not know, stand in it as GETs that answer 101."""
    return msgspec.json.encode(describe(routes))


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The document."""
    kinds: list[Any] = [Problem]
    for route in routes:
        kinds += [kind for kind in (route.body, route.answer) if kind is not None and kind not in kinds]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        method = "get" if route.method == WEBSOCKET else route.method.lower()
        paths.setdefault(route.path, {})[method] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ostinato",
            "version": version("ostinato"),
            "summary": "Complex event processing: patterns over streams of events",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.service for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by POST /v1/tokens"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "from POST /v1/tickets"},
            },
            "responses": {
                f"Problem{status}": {
                    "description": title,
                    "content": {"application/problem+json": {"schema": by_kind[_key(Problem)]}},
                }
                for status, (_, title) in TYPES.items()
            },
        },
    }


def _key(kind: Any) -> str:
    # a union is no type and has no identity
    return repr(kind)


def _operation(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.service],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, by_kind),
    }
    if route.role is None:
        operation["security"] = []
    else:
        operation["description"] = f"Takes the role {route.role}."
        if route.ticket:
            operation["security"] = [{"token": []}, {"ticket": []}]
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.optional_body,
            "content": {"application/json": {"schema": by_kind[_key(route.body)]}},
        }
    elif route.raw:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": _raw_schema(kind)} for kind in route.raw},
        }
    return operation


def _raw_schema(content_type: str) -> dict[str, Any]:
    if content_type == "application/json":
        event = {"type": "object"}
        return {"anyOf": [{"type": "array", "items": event}, event]}
    return {"type": "string"}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{route.patterns.get(name, NAME)}$"},
        }
        for name in route.names
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    (_,), components = msgspec.json.schema_components([route.query], ref_template=_REF)
    schema = components[route.query.__name__]
    found = []
    for name, kind in schema["properties"].items():
        kind = dict(kind)
        if "anyOf" in kind:
            # a query cannot say null: what is not there is not set
            others = [option for option in kind.pop("anyOf") if option.get("type") != "null"]
            kind = {key: value for key, value in kind.items() if key != "default"} | others[0]
        kind.pop("default", None) if kind.get("default", 0) is None else None
        about = kind.pop("description", None)
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": kind}
        found.append(parameter | ({"description": about} if about else {}))
    return found


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        name: (about, {"type": "string"}) for name, about in route.headers.items()
    }
    if route.etag and route.method in ("PUT", "POST", "DELETE"):
        tag: dict[str, Any] = {"type": "string", "pattern": r'^(\*|"[^"]+"(, *"[^"]+")*)$'}
        wanted["If-Match"] = ("the ETag that it must still have", tag)
        wanted["If-None-Match"] = ("`*`: only where there is nothing yet", {"type": "string", "enum": ["*"]})
    return [
        {"name": name, "in": "header", "required": False, "description": about, "schema": schema}
        for name, (about, schema) in wanted.items()
    ]


def _responses(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "it is so"}
    status = route.status
    if route.method == WEBSOCKET:
        good, status = {"description": "the WebSocket is open"}, 101
    elif route.answer is not None:
        good["content"] = {route.content_type: {"schema": by_kind[_key(route.answer)]}}
    elif route.status != 204:
        schema = {"type": "object"} if route.content_type == "application/json" else {"type": "string"}
        good["content"] = {route.content_type: {"schema": schema}}
    if route.etag and route.answer is not None:
        good["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "for If-Match"}}
    responses: dict[str, Any] = {str(status): good}
    for problem in route.statuses:
        responses[str(problem)] = {"$ref": f"#/components/responses/Problem{problem}"}
    if route.name in ("healthz", "readyz"):
        responses["503"] = {**good, "description": "it is not so; `checks` says why"}
    if route.method == WEBSOCKET:
        responses["426"] = {"$ref": "#/components/responses/Problem426"}
    return responses
