"""The client against a real server: requests, events, and matches over connections that break."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ostinato.server.client import (
    AsyncClient,
    Client,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    Retries,
    Sending,
    Stale,
    Unauthorized,
    Unreachable,
    calls,
)
from ostinato.server.http.schemas.matches import MatchInfo

from .conftest import START_MS, attack, login
from .server_process import ServerProcess

PROGRAM = """
stream logins (user string key, ts timestamp(ms) time delay 2 s, status string, ip string)

pattern suspicious_login on logins
  match  fail{3,} ok
  define fail as status = 'FAILED', ok as status = 'SUCCESS'
  within 5 min
  after match skip past last
  emit   user, count(fail) as failures
  into   alerts
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("client"), bytecode)
    process.start()
    try:
        with Client(process.url, process.token) as client:
            client.apply(PROGRAM, comment="first")
        yield process
    finally:
        process.close()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url, server.token) as found:
        yield found


_minutes = count(10)


def events(user: str) -> list[dict[str, Any]]:
    """An attack later than all before, and an event so much later that time comes to its end."""
    minute = next(_minutes)
    return [*attack(user, minute * 60), login("clock", minute * 60 + 30, "SUCCESS")]


def test_changes_versions_and_etags(client: Client) -> None:
    pattern = client.pattern("suspicious_login")
    text = PROGRAM.replace("5 min", "6 min")[PROGRAM.index("pattern") :]
    plan = client.put_pattern("suspicious_login", text, dry_run=True)
    assert plan.dry_run
    assert plan.generation is None
    assert [(each.pattern, each.action) for each in plan.plan.patterns] == [("suspicious_login", "same structure")]
    made = client.put_pattern("suspicious_login", text, if_match=pattern.etag, comment="six")
    assert made.effective
    with pytest.raises(Stale):
        client.put_pattern("suspicious_login", text, if_match=pattern.etag)
    with pytest.raises(Stale):
        client.put_pattern("suspicious_login", text, absent=True)
    assert "-  within 5 min\n+  within 6 min" in client.diff("suspicious_login").text
    assert client.diff("suspicious_login", 1, 2).to == 2
    newest, *rest = client.every(calls.patterns.versions("suspicious_login", limit=1))
    assert (newest.version, newest.comment, len(rest)) == (2, "six", 1)
    client.rollback("suspicious_login")
    assert "5 min" in client.pattern("suspicious_login").text


def test_errors_say_what_and_where(client: Client, server: ServerProcess) -> None:
    with pytest.raises(Refused) as caught:
        client.apply(PROGRAM.replace("status = 'FAILED'", "statsu = 'FAILED'"))
    (flaw, *_) = caught.value.errors
    assert (flaw.line, flaw.hint) == (6, "did you mean `status`?")
    with pytest.raises(NotFound, match="nothing_such"):
        client.pattern("nothing_such")
    with pytest.raises(Conflict):
        client.delete_stream("logins")
    with Client(server.url, "ost_wrong") as stranger, pytest.raises(Unauthorized):
        stranger.server()
    viewer = client.create_token("looks", "viewer")
    with Client(server.url, viewer.token) as looking:
        assert looking.server().role == "viewer"
        with pytest.raises(Forbidden):
            looking.apply(PROGRAM)
    client.delete_token("looks")


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Client(url, "t", retries=Retries(attempts=1, first_seconds=0.01)) as client,
            pytest.raises(Unreachable, match="connection refused") as caught,
        ):
            client.server()
        assert not caught.value.sent


def test_one_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, "t", timeout_seconds=0.2, retries=Retries(attempts=0)) as client,
            pytest.raises(Unreachable, match="did not answer in time") as caught,
        ):
            client.server()
        assert caught.value.sent


def test_a_certificate_that_nobody_trusts(tmp_path: Path, server: ServerProcess) -> None:
    with Client(server.url.replace("http", "https"), "t", retries=Retries(attempts=0)) as client:
        with pytest.raises(Unreachable) as caught:
            client.server()
        assert isinstance(caught.value.__cause__, Exception)
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ClientError, match=r"ca\.pem cannot be used"):
        Client("https://127.0.0.1:1", "t", ca_file=str(wrong))


def test_the_same_events_sent_twice_are_taken_once(client: Client) -> None:
    options = Sending(events=2, key="twice")
    attacked = events("twice")
    first = client.send("logins", attacked, options)
    again = client.send("logins", attacked, options)
    assert (first.accepted, first.requests, first.duplicates) == (5, 3, 0)
    assert (again.accepted, again.duplicates, again.next) == (5, 3, first.next)
    with pytest.raises(Refused):
        client.send("logins", [{"user": "x", "ts": "no time"}])
    kept = client.send("logins", [{"user": "x", "ts": "no time"}], Sending(bad="dead-letter", compressed=True))
    assert (kept.accepted, kept.dead_letters) == (0, 1)


def test_matches_are_paged_and_followed(client: Client) -> None:
    before = client.matches(limit=1).last_seq
    client.send("logins", [event for _ in range(4) for event in events("paged")])
    with_end = client.follow(pattern="suspicious_login", after=before)
    followed = [next(with_end) for _ in range(4)]
    with_end.close()
    assert [match.row["user"] for match in followed] == ["paged"] * 4
    assert all(match.at > START_MS and match.id.endswith(f"-{match.seq}") for match in followed)
    paged = list(client.every(calls.matches.matches(pattern="suspicious_login", after=before, limit=3)))
    assert paged == followed


def test_the_async_client_does_the_same(server: ServerProcess) -> None:
    async def main() -> list[MatchInfo]:
        async with AsyncClient(server.url, server.token) as client:
            assert (await client.server()).who == "operator"
            assert [each.name async for each in client.every(calls.streams.streams())] == ["logins"]
            before = (await client.matches(limit=1)).last_seq

            async def some() -> Any:
                for event in events("async"):
                    yield event

            assert (await client.send("logins", some(), Sending(events=3))).requests == 2
            found = []
            async with aclosing(client.follow(stream="alerts", after=before)) as matches:
                async for match in matches:
                    found.append(match)
                    break
            with pytest.raises(NotFound):
                await client.pattern("nothing_such")
            return found

    (match,) = asyncio.run(main())
    assert match.row == {**match.row, "user": "async", "failures": 3}


def test_following_outlives_the_server(server: ServerProcess, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    """The server is killed and comes again: no match is left out, none comes twice, and sending goes on."""
    found: list[MatchInfo] = []
    broke: list[ClientError] = []
    listening = threading.Event()
    retries = Retries(attempts=60, first_seconds=0.05, most_seconds=0.5)

    def follow() -> None:
        with Client(server.url, server.token, retries=retries) as client:
            begin = client.matches(limit=1).last_seq
            listening.set()
            for match in client.follow(pattern="suspicious_login", after=begin, on_break=broke.append):
                found.append(match)
                if match.row["user"] == "last":
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    listening.wait(20)
    with Client(server.url, server.token, retries=retries) as client:
        client.send("logins", events("before"), Sending(events=1, key="outlives-1"))
        eventually(lambda: found)
        server.kill()
        restarting = threading.Thread(target=server.start)
        restarting.start()
        client.send("logins", events("during"), Sending(events=1, key="outlives-2"))
        restarting.join()
        client.send("logins", events("last"))
        thread.join(30)
        assert not thread.is_alive()
        assert [match.row["user"] for match in found] == ["before", "during", "last"]
        assert broke
        logged = list(client.every(calls.matches.matches(pattern="suspicious_login", after=found[0].seq - 1)))
        assert logged == found
