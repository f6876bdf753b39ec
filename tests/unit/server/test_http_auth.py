"""No token, wrong token, wrong role: on every route of the table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostinato.server.catalog import Role
from ostinato.server.delivery.settings import WebhookOutput
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.routing import WEBSOCKET, Route
from ostinato.server.http.schemas.matches import OutputInfo, OutputPage
from tests.http_api import Running, example_path, is_problem, make

ASKING = [route for route in ROUTES if route.role is not None and route.method != WEBSOCKET]
CHANGES = [route for route in ASKING if route.method != "GET"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = make(tmp_path)
    yield made
    made.catalog.close()


def ids(route: Route) -> str:
    return route.name


def test_what_needs_no_token_is_written_down_here() -> None:
    assert {route.name for route in ROUTES if route.role is None} == {"healthz", "readyz", "openapi"}


def test_who_may_do_what() -> None:
    roles = {route.name: route.role for route in ROUTES}
    reading = {route.name for route in ROUTES if route.method == "GET" and route.role is Role.OPERATOR}
    assert reading == {"tokens", "audit", "config"}
    assert all(roles[name] is Role.AUTHOR for name in ("append_events", "events_socket", "apply", "put_pattern"))
    assert all(roles[name] is Role.AUTHOR for name in ("put_param", "put_stream", "create_backtest"))
    assert all(roles[name] is Role.OPERATOR for name in ("create_job", "cancel_job", "put_output", "create_token"))
    changing = [route for route in ROUTES if route.method in ("PUT", "POST", "DELETE")]
    assert {route.name for route in changing if not route.audited} == {"create_ticket", "append_events"}


async def ask(running: Running, route: Route, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
    async with running.client(None) as client:
        answer = await client.request(route.method, example_path(route.path), headers=headers)
    return answer.status_code, is_problem(answer)


@pytest.mark.parametrize("route", ASKING, ids=ids)
def test_without_a_token_nothing_is_done(route: Route, running: Running) -> None:
    status, document = asyncio.run(ask(running, route, {}))
    assert status == 401
    assert "Authorization" in str(document["detail"])


@pytest.mark.parametrize("route", ASKING, ids=ids)
def test_a_token_that_is_none_opens_nothing(route: Route, running: Running) -> None:
    for header in (
        "Bearer ost_wrong",
        "Bearer",
        "Basic dXNlcjpwYXNz",
        running.tokens["operator"],
        "Bearer " + "x" * 5000,
    ):
        status, _ = asyncio.run(ask(running, route, {"authorization": header}))
        assert status == 401, header


@pytest.mark.parametrize("route", [route for route in ASKING if route.role != Role.VIEWER], ids=ids)
def test_a_role_that_may_not_is_told_which_may(route: Route, running: Running) -> None:
    assert route.role is not None
    for role in (role for role in Role if role < route.role):
        status, document = asyncio.run(ask(running, route, running.headers(str(role))))
        assert status == 403
        assert str(route.role) in str(document["detail"])
    if route.audited:
        entries = running.catalog.audit.page(10)
        assert {(entry.action, entry.outcome) for entry in entries} == {(route.name, "forbidden")}


@pytest.mark.parametrize("route", ASKING, ids=ids)
def test_the_role_of_the_table_is_let_in(route: Route, running: Running) -> None:
    async def enter() -> int:
        async with running.client(str(route.role)) as client:
            return (await client.request(route.method, example_path(route.path))).status_code

    assert asyncio.run(enter()) not in (401, 403)


def test_a_token_stands_in_no_url(running: Running) -> None:
    async def enter() -> None:
        async with running.client(None) as client:
            for name in ("token", "access_token"):
                answer = await client.get(f"/v1/server?{name}={running.tokens['operator']}")
                assert answer.status_code == 401
        async with running.client() as client:
            answer = await client.get(f"/v1/server?token={running.tokens['operator']}")
            assert answer.status_code == 422
            assert "tickets" in is_problem(answer)["detail"]

    asyncio.run(enter())


def test_a_ticket_is_good_once(running: Running) -> None:
    async def enter() -> None:
        async with running.client("viewer") as client:
            made = (await client.post("/v1/tickets")).json()
        async with running.client(None) as client:
            first = await client.get("/v1/matches/stream", params={"ticket": made["ticket"]})
            # let in: what is missing is the service
            assert first.status_code == 503
            second = await client.get("/v1/matches/stream", params={"ticket": made["ticket"]})
            assert second.status_code == 401
            elsewhere = await client.get("/v1/server", params={"ticket": made["ticket"]})
            assert elsewhere.status_code == 401

    asyncio.run(enter())


def test_a_deleted_token_is_refused_at_once(running: Running) -> None:
    async def enter() -> None:
        async with running.client() as client:
            made = await client.post("/v1/tokens", json={"name": "short", "role": "viewer"})
            assert made.status_code == 201
            own = {"authorization": f"Bearer {made.json()['token']}"}
            assert (await client.get("/v1/server", headers=own)).json()["who"] == "short"
            assert (await client.delete("/v1/tokens/short")).status_code == 204
            assert (await client.get("/v1/server", headers=own)).status_code == 401
            assert is_problem(await client.delete("/v1/tokens/short"))["status"] == 404

    asyncio.run(enter())


class OneOutput:
    """A webhook with two headers."""

    def __init__(self) -> None:
        headers = {"authorization": "Bearer of-the-target", "x-key": "secret:target"}
        settings = WebhookOutput(url="https://example.org", headers=headers)
        self._info = OutputInfo("hook", "1", settings, 0, 0, "ann")

    async def get(self, name: str) -> OutputInfo:
        assert name == "hook"
        return self._info

    async def list(self, limit: int, after: str | None) -> OutputPage:
        return OutputPage([self._info], None)


@pytest.mark.parametrize(
    ("role", "shown"), [("viewer", "***"), ("author", "***"), ("operator", "Bearer of-the-target")]
)
def test_values_of_headers_are_for_operators(role: str, shown: str, running: Running) -> None:
    running.services.outputs = OneOutput()  # type: ignore[assignment]

    async def ask() -> list[dict[str, str]]:
        async with running.client(role) as client:
            one, page = await client.get("/v1/outputs/hook"), await client.get("/v1/outputs")
        return [one.json()["settings"]["headers"], page.json()["items"][0]["settings"]["headers"]]

    assert asyncio.run(ask()) == [{"authorization": shown, "x-key": "secret:target"}] * 2


def test_the_last_operator_keeps_the_keys(running: Running) -> None:
    async def enter() -> None:
        async with running.client() as client:
            answer = await client.delete("/v1/tokens/operator")
            assert answer.status_code == 409
            assert "last token of an operator" in is_problem(answer)["detail"]

    asyncio.run(enter())


def test_without_authentication_everyone_is_an_operator(tmp_path: Path) -> None:
    made = make(tmp_path, auth__enabled=False)

    async def enter() -> None:
        async with made.client(None) as client:
            found = (await client.get("/v1/server")).json()
            assert (found["who"], found["role"]) == ("anonymous", "operator")

    asyncio.run(enter())
    made.catalog.close()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8642", "", "[::2]"])
def test_a_name_that_was_rebound_to_loopback_is_refused(host: str, running: Running) -> None:
    async def enter() -> None:
        async with running.client() as client:
            answer = await client.get("/v1/server", headers={"host": host})
            assert answer.status_code == 421
            is_problem(answer)

    asyncio.run(enter())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8642", "[::1]:99", "LOCALHOST", "cep.example"])
def test_names_of_loopback_and_those_allowed_are_not(host: str, tmp_path: Path) -> None:
    made = make(tmp_path, server__allowed_hosts="cep.example")

    async def enter() -> None:
        async with made.client() as client:
            assert (await client.get("/v1/server", headers={"host": host})).status_code == 200

    asyncio.run(enter())
    made.catalog.close()


def test_nothing_is_offered_to_pages_of_other_origins(running: Running) -> None:
    async def enter() -> None:
        async with running.client() as client:
            asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
            preflight = await client.options("/v1/apply", headers=asked)
            assert preflight.status_code == 405
            answer = await client.get("/v1/server", headers={"origin": "https://evil.example"})
            for one in (preflight, answer):
                assert not [name for name in one.headers if name.startswith("access-control")]

    asyncio.run(enter())
