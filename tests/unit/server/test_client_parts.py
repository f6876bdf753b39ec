"""The parts of the client that need no server: requests, retries, batches, the stream of matches, finding a server."""

from __future__ import annotations

import gzip
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.server.client import (
    ApiError,
    AsyncClient,
    BadAnswerError,
    Call,
    Client,
    ClientError,
    Conflict,
    Forbidden,
    Lost,
    MatchesLostError,
    NoServerError,
    NotFound,
    Refused,
    Retries,
    Sending,
    Stale,
    TooFast,
    Unauthorized,
    Unavailable,
    Unreachable,
    calls,
    find_target,
)
from ostinato.server.client.batches import Batcher, requests_of
from ostinato.server.client.call import next_page
from ostinato.server.client.errors import error_of
from ostinato.server.client.following import Follower, Following
from ostinato.server.client.methods import AsyncMethod, Method
from ostinato.server.endpoint import Endpoint, registered, running_servers
from ostinato.server.http.problems import HttpError
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.routing import WEBSOCKET
from ostinato.server.http.schemas.jobs import JobRequest
from ostinato.server.http.schemas.matches import MatchInfo, MatchPage
from ostinato.server.http.schemas.patterns import PatternPage

HTTP_ROUTES = [route for route in ROUTES if route.method != WEBSOCKET]
SAMPLES: dict[str, Any] = {
    "text": "text",
    "body": b"{}\n",
    "role": "viewer",
    "version": 3,
    "value": 5,
    "request": JobRequest(name="j", text="t"),
    "settings": {"type": "file", "path": "/x"},
}
"""Arguments of requests, where a name does not do."""


def built() -> Iterator[Call[Any]]:
    for module in (calls.server, calls.streams, calls.patterns, calls.matches, calls.jobs):
        for name, build in inspect.getmembers(module, inspect.isfunction):
            if build.__module__ != module.__name__ or name.startswith("_"):
                continue
            wanted = inspect.signature(build).parameters.values()
            given = {each.name: SAMPLES.get(each.name, "x") for each in wanted if each.default is each.empty}
            yield build(**given)


@pytest.mark.parametrize("route", HTTP_ROUTES, ids=lambda route: route.name)
def test_every_route_has_its_request(route: Any) -> None:
    pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", route.path))
    found = [call for call in built() if call.method == route.method and pattern.fullmatch(call.path)]
    exact = [call for call in found if call.path == route.path] or found
    assert exact, f"no request for {route.method} {route.path}"
    for call in exact[:1]:
        if route.answer is not None:
            assert call.answer is route.answer
        names = {field.encode_name for field in msgspec.structs.fields(route.query)} if route.query else set()
        assert call.query.keys() <= names, f"{call.query.keys() - names} is in no query of {route.path}"


@pytest.mark.parametrize("route", HTTP_ROUTES, ids=lambda route: route.name)
def test_both_clients_have_a_method_of_every_route(route: Any) -> None:
    if route.name == "follow_matches":
        assert callable(Client.follow)
        assert callable(AsyncClient.follow)
        return
    sync, asynchronous = Client.__dict__[route.name], AsyncClient.__dict__[route.name]
    assert isinstance(sync, Method)
    assert isinstance(asynchronous, AsyncMethod)
    assert getattr(Client, route.name) is getattr(AsyncClient, route.name)
    assert sync.__doc__


def test_queries_leave_out_what_was_not_said() -> None:
    assert calls.patterns.apply("x").pairs() == []
    assert calls.patterns.apply("x", dry_run=True, old="keep", comment="a b").pairs() == [
        ("dry_run", "true"),
        ("old", "keep"),
        ("comment", "a b"),
    ]
    assert calls.patterns.why("p", ["a", "b"]).pairs() == [("key", "a"), ("key", "b"), ("events", "10")]
    assert calls.patterns.put_pattern("p", "x", if_match="7").headers["if-match"] == '"7"'
    assert calls.patterns.put_pattern("p", "x", absent=True).headers["if-none-match"] == "*"
    assert calls.patterns.pattern("a/../b").path == "/v1/patterns/a%2F..%2Fb"


# What is sent again


def problem(status: int, **headers: str) -> ClientError:
    return error_of(status, HttpError(status, "why").body("/x"), headers, "http://h/x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (412, Stale),
        (422, Refused),
        (429, TooFast),
        (500, ApiError),
        (503, Unavailable),
    ],
)
def test_problems_are_exceptions(status: int, kind: type[ApiError]) -> None:
    error = problem(status)
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status, str(error), error.problem.instance) == (status, "why", "/x")


def test_something_else_that_answers_is_no_server_of_ours() -> None:
    error = error_of(502, b"<html>bad\ngateway", {}, "http://h/x")
    assert isinstance(error, BadAnswerError)
    assert str(error) == "http://h/x answered 502 and no problem of ours: <html>bad gateway"
    with pytest.raises(BadAnswerError, match="of the same release"):
        calls.server.server().decode(b'{"id": 3}')


READ, CHANGE = calls.patterns.patterns(), calls.patterns.apply("x")
KEYED, KEYLESS = calls.streams.append_events("s", b"{}", key="k"), calls.streams.append_events("s", b"{}")
SENT, NOT_SENT = Unreachable("x", sent=True), Unreachable("x")


@pytest.mark.parametrize(
    ("call", "error", "again"),
    [
        (READ, SENT, True),
        (READ, NOT_SENT, True),
        (READ, problem(503), True),
        (READ, problem(500), False),
        (READ, problem(404), False),
        (CHANGE, SENT, False),
        (CHANGE, NOT_SENT, True),
        (CHANGE, problem(503), False),
        (CHANGE, problem(429), True),
        (KEYED, SENT, True),
        (KEYED, problem(503), True),
        (KEYLESS, SENT, False),
        (KEYLESS, problem(503), False),
    ],
)
def test_only_what_cannot_be_done_twice_is_sent_again(call: Call[Any], error: ClientError, again: bool) -> None:
    assert (Retries().pause(call, 1, error) is not None) is again


def test_pauses_grow_end_and_heed_the_server() -> None:
    retries = Retries(attempts=3, first_seconds=1, most_seconds=3)
    pauses = [retries.pause(READ, failed, SENT) for failed in (1, 2, 3, 4)]
    assert pauses[3] is None
    for pause, full in zip(pauses, (1, 2, 3), strict=False):
        assert pause is not None
        assert full / 2 <= pause <= full
    assert retries.pause(READ, 1, problem(429, **{"retry-after": "2"})) == 2
    assert retries.pause(READ, 1, problem(429, **{"retry-after": "60"})) is None


# Batches


def test_events_are_put_into_requests_in_their_order() -> None:
    events: list[Any] = [{"n": 1}, b' {"n":2}\r\n', '{"n":\n3}', "", b"  \n", {"n": 4}]
    found = list(requests_of("s t", events, Sending(events=3, key="k", bad="dead-letter")))
    assert [call.body for call in found] == [b'{"n":1}\n{"n":2}\n{"n": 3}\n', b'{"n":4}\n']
    assert [call.headers["idempotency-key"] for call in found] == ["k-1", "k-2"]
    assert {call.path for call in found} == {"/v1/streams/s%20t/events"}
    assert found[0].pairs() == [("bad", "dead-letter")]


def test_requests_end_by_size_too_and_may_be_compressed() -> None:
    events = [{"text": "x" * 100}] * 10
    found = list(requests_of("s", events, Sending(size_bytes=250, compressed=True)))
    assert len(found) == 4
    assert all(call.headers["content-encoding"] == "gzip" for call in found)
    assert b"".join(gzip.decompress(call.body or b"") for call in found).count(b"\n") == 10


def test_keys_of_two_sendings_differ() -> None:
    def key() -> str:
        batcher = Batcher("s")
        batcher.add({"n": 1})
        call = batcher.rest()
        assert call is not None
        assert batcher.rest() is None
        return call.headers["idempotency-key"]

    assert key() != key()


# Pages


def test_pages_follow_each_other() -> None:
    call = calls.patterns.patterns(state="paused")
    following = next_page(call, PatternPage([], "abc"))
    assert following is not None
    assert following.pairs() == [("state", "paused"), ("limit", "100"), ("after", "abc")]
    assert next_page(call, PatternPage([], None)) is None


def test_pages_of_matches_end_with_the_log() -> None:
    call = calls.matches.matches(after=3)
    assert next_page(call, MatchPage([], "5", 1, 9)) is not None
    assert next_page(call, MatchPage([], "9", 1, 9)) is None
    assert next_page(call, MatchPage([], "3", 1, 9)) is None


# Following


def frame(seq: int) -> bytes:
    match = MatchInfo(f"s-{seq}", seq, "p", 1, "alerts", "match", 1000, 1005, {"n": seq})
    return b"id: %d\nevent: match\ndata: %s\n\n" % (seq, msgspec.json.encode(match))


def follower(after: int | None = 0, **options: Any) -> Follower:
    return Follower(Following(after=after), Retries(attempts=2), options.get("on_lost"), options.get("on_break"))


def seqs(items: list[MatchInfo | Lost]) -> list[int]:
    return [item.seq for item in items if isinstance(item, MatchInfo)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_come_in_any_pieces(size: int) -> None:
    text = frame(1) + b":\nid: 5\n\n" + frame(6).replace(b"\n", b"\r\n")
    one = follower()
    found = [item for start in range(0, len(text), size) for item in one.feed(text[start : start + size])]
    assert seqs(found) == [1, 6]
    assert one.at == 6


def test_the_next_connection_begins_behind_what_came_and_half_a_frame_is_forgotten() -> None:
    one = follower()
    one.connect()
    assert seqs(one.feed(frame(1) + b":\nid: 4\n\n" + frame(5)[:-10])) == [1]
    assert ("after", "4") in one.connect().pairs()
    assert seqs(one.feed(frame(5) + frame(5))) == [5]


def test_who_follows_from_now_on_asks_what_now_is() -> None:
    one = follower(None)
    assert one.where() is not None
    one.begin(MatchPage([], "7", 1, 7))
    assert ("after", "7") in one.connect().pairs()
    assert follower(3).where() is None


def test_lost_matches_are_an_error_unless_somebody_listens() -> None:
    lost = b'id: 9\nevent: lost\ndata: {"from":2,"to":9}\n\n'
    items = follower().feed(frame(1) + lost + frame(10))
    assert seqs(items) == [1, 10], "what came before the loss is handed out first"
    with pytest.raises(MatchesLostError, match="matches 2 to 9 were deleted") as caught:
        follower().admit(items[1])
    assert caught.value.lost == Lost(2, 9)
    told: list[Lost] = []
    assert follower(on_lost=told.append).admit(items[1]) is None
    assert told == [Lost(2, 9)]


def test_nobody_waits_for_a_server_that_was_never_there_or_says_no() -> None:
    one = follower()
    assert one.broke(NOT_SENT) > 0
    assert one.broke(NOT_SENT) > 0
    with pytest.raises(Unreachable):
        one.broke(NOT_SENT)
    with pytest.raises(Unauthorized):
        follower().broke(problem(401))


def test_a_server_that_was_there_is_waited_for() -> None:
    told: list[ClientError] = []
    one = follower(on_break=told.append)
    one.connected()
    for _ in range(20):
        assert one.broke(NOT_SENT) <= 5
    assert len(told) == 20


# Finding a server


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "running"))
    return tmp_path


def endpoint(folder: Path, port: int) -> Endpoint:
    token = folder / f"token-{port}"
    token.write_text(f"ost_{port}\n")
    return Endpoint(
        url=f"http://127.0.0.1:{port}",
        pid=os.getpid(),
        since_ms=port,
        data_dir=str(folder),
        token_file=str(token),
    )


def test_a_running_server_is_found_with_its_token(runtime: Path) -> None:
    with pytest.raises(NoServerError, match="none of yours runs on this machine"):
        find_target(environment={})
    with registered(endpoint(runtime, 1)):
        target = find_target(environment={})
        assert (target.url, target.token, target.said) == ("http://127.0.0.1:1", "ost_1", False)
        assert "ost_1" not in repr(target)
        with registered(endpoint(runtime, 2)):
            assert [each.since_ms for each in running_servers()] == [1, 2]
            with pytest.raises(NoServerError, match="Several of yours"):
                find_target(environment={})
            assert find_target("http://127.0.0.1:2/", environment={}).token == "ost_2"
    assert running_servers() == []


def test_entries_of_the_dead_are_swept(runtime: Path) -> None:
    with registered(endpoint(runtime, 1)):
        (entry,) = (runtime / "running" / "servers").glob("*.json")
        left = entry.with_name("dead.json")
        left.write_bytes(entry.read_bytes())
        (alive,) = running_servers()
        assert not left.exists()
        assert alive.data_dir == str(runtime)


def test_what_is_said_comes_first(runtime: Path) -> None:
    environment = {"OSTINATO_URL": "https://h:1", "OSTINATO_TOKEN": "t", "OSTINATO_CA_FILE": "ca"}
    with registered(endpoint(runtime, 1)):
        target = find_target(environment=environment)
        assert (target.url, target.token, target.ca_file) == ("https://h:1", "t", "ca")
        target = find_target("http://x", "u", environment=environment)
        assert (target.url, target.token) == ("http://x", "u")


@pytest.mark.parametrize("url", ["ftp://h", "h:8642", "http://", "http://u:secret@h", "http://h?x=1", "http://h:port"])
def test_urls_that_are_none(runtime: Path, url: str) -> None:
    with pytest.raises(NoServerError) as caught:
        find_target(url, environment={})
    assert "secret" not in str(caught.value)
