"""Every error is a problem document that says what, where, and what to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostinato.patterns.errors import PatternError, Problem, Span
from ostinato.server import failures
from ostinato.server.catalog import CatalogFullError
from ostinato.server.http.problems import problem_of
from tests.http_api import Running, is_problem, make


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = make(tmp_path)
    yield made
    made.catalog.close()


def asked(running: Running, method: str, path: str, **more: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with running.client() as client:
            return await client.request(method, path, **more)

    return asyncio.run(ask())


def test_paths_that_are_not_there(running: Running) -> None:
    for path in ("/", "/v1", "/v1/", "/v2/server", "/v1/server/", "/v1/streams/a/b/c", "/v1//server"):
        answer = asked(running, "GET", path)
        assert answer.status_code == 404, path
        assert is_problem(answer)["instance"] == path


def test_methods_that_are_not_there_say_which_are(running: Running) -> None:
    for method, path, allowed in (
        ("POST", "/v1/server", "GET, HEAD"),
        ("TRACE", "/v1/streams/a", "DELETE, GET, PUT, HEAD"),
        ("GET", "/v1/apply", "POST"),
        ("QUERY", "/healthz", "GET, HEAD"),
    ):
        answer = asked(running, method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        is_problem(answer)


def test_a_websocket_path_wants_a_websocket(running: Running) -> None:
    answer = asked(running, "GET", "/v1/matches/ws")
    assert answer.status_code == 426
    is_problem(answer)


def test_head_is_get_without_its_body(running: Running) -> None:
    whole, head = asked(running, "GET", "/v1/config"), asked(running, "HEAD", "/v1/config")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize("name", ["a%2Fb", "a b", "%ff", "1a", "", "a" * 129, "a%00"])
def test_names_that_can_be_none(name: str, running: Running) -> None:
    answer = asked(running, "DELETE", f"/v1/tokens/{name}")
    assert answer.status_code == 422
    assert "cannot be a name" in is_problem(answer)["detail"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("limit=5&limit=6", "twice"),
        ("limti=5", "did you mean `limit`?"),
        ("after=!!", "is no `next`"),
        ("after=%ff", "cannot be read"),
        ("&".join(f"x{n}=1" for n in range(200)), "cannot be read"),
    ],
)
def test_queries(query: str, said: str, running: Running) -> None:
    answer = asked(running, "GET", f"/v1/tokens?{query}")
    assert answer.status_code in (400, 422)
    assert said in is_problem(answer)["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b'{"name": "x"}', 422, "missing required field `role`"),
        (b'{"name": "x", "role": "king"}', 422, "at $.role"),
        (b'{"name": 5, "role": "viewer"}', 422, "at $.name"),
        (b'{"name": "x", "role": "viewer", "expire_ms": 5}', 422, "did you mean `expires_ms`?"),
        (b"[" * 100_000, 422, "got `array`"),
        (b'{"name": "x", "role": "viewer", "expires_ms": 5}', 422, "is past"),
        (b'{"name": "operator", "role": "viewer"}', 409, "already"),
    ],
)
def test_bodies(body: bytes, status: int, said: str, running: Running) -> None:
    answer = asked(running, "POST", "/v1/tokens", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert said in is_problem(answer)["detail"]


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_content_types(content_type: str, running: Running) -> None:
    answer = asked(running, "POST", "/v1/tokens", content=b"{}", headers={"content-type": content_type})
    assert answer.status_code == 415
    is_problem(answer)


def test_compressed_bodies_are_for_events_only(running: Running) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert asked(running, "POST", "/v1/tokens", content=b"{}", headers=headers).status_code == 415


def test_a_service_that_is_not_there_is_said_to_be_so(running: Running) -> None:
    answer = asked(running, "GET", "/v1/patterns")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    is_problem(answer)


def test_a_defect_shows_a_number_and_no_trace(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, str]:
        raise ZeroDivisionError("secret details")

    monkeypatch.setattr(running.standing, "progress", broken)
    with caplog.at_level(logging.ERROR, "ostinato.http"):
        answer = asked(running, "GET", "/v1/server")
    assert answer.status_code == 500
    document = is_problem(answer)
    assert "secret" not in answer.text
    assert document["id"] in document["detail"]
    (record,) = caplog.records
    assert document["id"] in record.getMessage()
    assert record.exc_info is not None
    assert running.observed == [("server", 500)]


def test_problems_of_a_text_have_their_places() -> None:
    spans = [Problem("no such stream", Span(3, 5, 3, 9), "did you mean `logins`?"), Problem("nothing to emit")]
    problem = problem_of(PatternError(spans), "PUT").document("/v1/patterns/a")
    assert problem.status == 422
    assert (problem.errors[0].line, problem.errors[0].column, problem.errors[0].end_column) == (3, 5, 9)
    assert problem.errors[0].hint == "did you mean `logins`?"
    assert problem.errors[1].line is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failures.NotThereError("x"), 404),
        (failures.MalformedError("x"), 400),
        (failures.RefusedError("x"), 422),
        (failures.ConflictError("x"), 409),
        (failures.StaleError("x"), 412),
        (failures.TooLargeError("x"), 413),
        (failures.TooManyError("x", 2.4), 429),
        (failures.NotAllowedError("x"), 403),
        (failures.NotReadyError("x", 0.1), 503),
        (CatalogFullError("/secret/path"), 503),
    ],
)
def test_failures_of_services_have_their_status(error: Exception, status: int) -> None:
    problem = problem_of(error, "GET")
    assert problem.status == status
    assert "/secret/path" not in problem.detail
    assert ("retry-after" in problem.headers) == (status in (429, 503))


def test_a_million_flaws_are_not_all_sent() -> None:
    error = failures.RefusedError("many", [failures.Flaw(f"line {n}") for n in range(100_000)])
    assert len(problem_of(error, "POST").document("").errors) == 100


Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def test_changes_stand_in_the_audit_log_with_what_came_of_them(running: Running) -> None:
    asked(running, "POST", "/v1/tokens", json={"name": "a", "role": "viewer"})
    asked(running, "POST", "/v1/tokens", json={"name": "a", "role": "viewer"})
    asked(running, "DELETE", "/v1/tokens/a")
    rows = asked(running, "GET", "/v1/audit").json()["items"]
    assert [(row["action"], row["target"], row["outcome"] == "ok") for row in rows] == [
        ("delete_token", "a", True),
        ("create_token", "a", False),
        ("create_token", "a", True),
    ]
    assert {row["who"] for row in rows} == {"operator"}
    texts = asked(running, "GET", "/v1/audit").text
    assert "ost_" not in texts


def test_health(running: Running) -> None:
    assert asked(running, "GET", "/healthz").json() == {"status": "ok", "checks": {}}
    running.standing.checks["worker"] = lambda: "it has not started yet"
    assert asked(running, "GET", "/healthz").status_code == 200
    answer = asked(running, "GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"worker": "it has not started yet"}
    running.standing.ending = True
    assert asked(running, "GET", "/readyz").json()["status"] == "ending"
