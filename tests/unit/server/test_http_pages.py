"""Pages of lists, and conditions on changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ostinato.server.failures import MalformedError, StaleError
from ostinato.server.http import pages
from ostinato.server.http.caller import ANY, Precondition
from ostinato.server.http.limits import Buckets
from ostinato.server.http.problems import HttpError
from ostinato.server.http.request import Request
from tests.http_api import make


def test_pages_go_through_a_list_once(tmp_path: Path) -> None:
    running = make(tmp_path, limits__requests_per_second=0)
    expected = sorted(["author", "operator", "viewer", *(f"t{number}" for number in range(7))])

    async def go() -> list[str]:
        seen: list[str] = []
        async with running.client() as client:
            for number in range(7):
                await client.post("/v1/tokens", json={"name": f"t{number}", "role": "viewer"})
            after: str | None = None
            while True:
                query: dict[str, str | int] = {"limit": 3} | ({"after": after} if after else {})
                page = (await client.get("/v1/tokens", params=query)).json()
                assert len(page["items"]) <= 3
                seen += [item["name"] for item in page["items"]]
                # what comes between two pages stands in none twice
                await client.delete(f"/v1/tokens/{seen[0]}")
                after = page["next"]
                if after is None:
                    return seen

    assert asyncio.run(go()) == expected
    running.catalog.close()


def test_the_audit_log_page_by_page(tmp_path: Path) -> None:
    running = make(tmp_path)
    for number in range(5):
        running.catalog.audit.add("ann", "author", "", "apply", str(number))

    async def go() -> list[str]:
        seen: list[str] = []
        async with running.client() as client:
            after: dict[str, str] = {}
            for _ in range(10):
                page = (await client.get("/v1/audit", params={"limit": 2, **after})).json()
                seen += [item["target"] for item in page["items"]]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            foreign = await client.get("/v1/audit", params={"after": pages.cursor("a name")})
            assert foreign.status_code == 400
        return seen

    assert asyncio.run(go()) == ["4", "3", "2", "1", "0"]
    running.catalog.close()


@pytest.mark.parametrize("place", ["a", "", "ä b", "x" * 300, "12"])
def test_what_next_is_made_of_comes_back(place: str) -> None:
    assert pages.place_of(pages.cursor(place)) == place


@pytest.mark.parametrize("after", ["!", "é", "a", "////", "_w"])
def test_what_was_never_given_is_refused(after: str) -> None:
    with pytest.raises(MalformedError):
        pages.number_of(after)


def request(**headers: str) -> Request:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def nothing() -> dict[str, object]:
        raise AssertionError("the body is not read")

    return Request({"type": "http", "path": "/", "method": "PUT", "headers": encoded}, nothing, Buckets(0, ""))


def test_conditions() -> None:
    assert request().precondition() is ANY
    assert request(if_match='"3"').precondition() == Precondition(("3",))
    assert request(if_match='"3", "4"').precondition() == Precondition(("3", "4"))
    assert request(if_match="*").precondition() == Precondition(("*",))
    assert request(if_none_match="*").precondition() == Precondition(None, absent=True)
    for wrong in ({"if_match": "3"}, {"if_match": 'W/"3"'}, {"if_none_match": '"3"'}, {"if_match": ""}):
        with pytest.raises(HttpError):
            request(**wrong).precondition()


@pytest.mark.parametrize(
    ("condition", "current", "holds"),
    [
        (ANY, None, True),
        (ANY, "3", True),
        (Precondition(("3",)), "3", True),
        (Precondition(("3",)), "4", False),
        (Precondition(("3",)), None, False),
        (Precondition(("*",)), "4", True),
        (Precondition(("*",)), None, False),
        (Precondition(None, absent=True), None, True),
        (Precondition(None, absent=True), "3", False),
    ],
)
def test_conditions_are_held_against_what_is_there(condition: Precondition, current: str | None, holds: bool) -> None:
    if holds:
        condition.check("the pattern `a`", current)
    else:
        with pytest.raises(StaleError, match="the pattern `a`"):
            condition.check("the pattern `a`", current)
