"""Webhooks: signed, in order, tried again with the same idempotency key, and never where they must not go."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from ostinato.server.delivery.addresses import is_public
from ostinato.server.delivery.cursors import FileCursors
from ostinato.server.delivery.errors import OutputError
from ostinato.server.delivery.output import Backoff
from ostinato.server.delivery.settings import check_settings, parse_settings
from ostinato.server.delivery.signature import sign, verify_signature
from ostinato.server.delivery.webhook import _seconds
from ostinato.server.matches import MatchLogOptions
from ostinato.state.steps import VARIABLE
from tests.outputs import Answer, Request, append, context, receiver, running, until

OK: Answer = (200, {})


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", test()))


def hook(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": url, **more}


def dead_letters(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "outputs/out.dead-letters.ndjson").read_bytes().splitlines()]


def test_matches_are_posted_signed_and_in_order(tmp_path: Path) -> None:
    async def body() -> None:
        last = append(tmp_path, 20)
        async with receiver() as target:
            settings = hook(target.url, secret="hook", headers={"X-Team": "fraud", "Authorization": "secret:token"})
            async with running(tmp_path, settings) as output:
                await output.done(last)
                assert output.status.delivered == 20
                assert output.status.lag == 0
                append(tmp_path, 3)
                await output.done(23)
        assert target.seqs == list(range(1, 24))
        assert target.connections == 1
        first = target.requests[0]
        assert first.line == "POST /hook?x=1 HTTP/1.1"
        assert first.document == {
            "id": "srv-1", "seq": 1, "pattern": "p", "version": 1, "stream": "alerts", "kind": "match", "time": 1001,
            "at": 5, "row": {"n": 1, "k": "k1"},
        }  # fmt: skip
        assert first.headers["content-type"] == "application/json"
        assert first.headers["host"] == target.url.split("/")[2]
        assert (first.headers["x-team"], first.headers["authorization"]) == ("fraud", "Bearer abc")
        assert [each.headers["idempotency-key"] for each in target.requests] == [f"srv-{n}" for n in range(1, 24)]
        for each in target.requests:
            assert verify_signature("s3cret", each.headers["ostinato-signature"], each.body)
            assert not verify_signature("other", each.headers["ostinato-signature"], each.body)

    run(body)


def test_batches_are_arrays(tmp_path: Path) -> None:
    async def body() -> None:
        last = append(tmp_path, 25)
        async with receiver() as target, running(tmp_path, hook(target.url, batch=10)) as output:
            await output.done(last)
            assert [each.seqs for each in target.requests] == [
                list(range(1, 11)), list(range(11, 21)), list(range(21, 26))
            ]  # fmt: skip
            assert target.requests[0].headers["idempotency-key"] == "srv-1..10"

    run(body)


@pytest.mark.parametrize("fault", [408, 429, 500, 503, "drop", "drop before", "hang", "drip"])
def test_what_fails_is_tried_again_with_the_same_key(tmp_path: Path, fault: Any) -> None:
    async def body() -> None:
        tries = 0

        def answer(request: Request | None) -> Answer:
            nonlocal tries
            if (request is None) == (fault == "drop before"):
                tries += 1
                if tries in (2, 3) or (tries == 1 and fault == "drop before"):
                    return (fault, {}) if isinstance(fault, int) else cast("Answer", fault)
            return OK

        last = append(tmp_path, 5)
        async with receiver(answer) as target, running(tmp_path, hook(target.url, timeout_ms=300)) as output:
            await output.done(last)
            assert output.status.retries >= 2
            assert output.status.error is None
        assert list(dict.fromkeys(target.seqs)) == [1, 2, 3, 4, 5]
        assert all(each.headers["idempotency-key"] == f"srv-{each.seqs[0]}" for each in target.requests)
        bodies = {each.headers["idempotency-key"]: each.body for each in target.requests}
        assert all(each.body == bodies[each.headers["idempotency-key"]] for each in target.requests)

    run(body)


def test_a_target_that_is_down_for_a_while(tmp_path: Path) -> None:
    async def body() -> None:
        last = append(tmp_path, 3)
        async with receiver() as target:
            port = target.url.split(":")[2].split("/")[0]
        async with running(tmp_path, hook(f"http://127.0.0.1:{port}/")) as output:
            await until(lambda: output.status.attempts >= 3)
            status = output.status
            assert status.state == "retrying"
            assert "no connection to 127.0.0.1" in str(status.error)
            assert (status.cursor, status.lag, status.delivered) == (0, 3, 0)
            assert status.next_attempt_ms is not None
            found = asyncio.Event()
            seqs: list[int] = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while len(seqs) < 3:
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    seqs.append(orjson.loads(await reader.readexactly(size))["seq"])
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                writer.close()
                found.set()

            server = await asyncio.start_server(serve, "127.0.0.1", int(port))
            await asyncio.wait_for(found.wait(), 10)
            await output.done(last)
            server.close()
            assert seqs == [1, 2, 3]

    run(body)


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async def body() -> None:
        at: list[float] = []

        def answer(request: Request | None) -> Answer:
            if request is not None:
                at.append(time.monotonic())
            return (429, {"Retry-After": "1"}) if len(at) == 1 else OK

        last = append(tmp_path, 1)
        async with receiver(answer) as target, running(tmp_path, hook(target.url)) as output:
            await output.done(last)
        assert at[1] - at[0] >= 1

    run(body)
    assert 25 < cast("float", _seconds(formatdate(time.time() + 30, usegmt=True))) < 31
    assert _seconds(formatdate(time.time() - 30, usegmt=True)) is None
    assert _seconds("99999999999999999999") == 3600


def test_pauses_grow_up_to_a_limit_and_are_not_all_the_same() -> None:
    backoff = Backoff(0.5, 60)
    assert all(0.25 <= backoff.pause(1) <= 0.5 for _ in range(50))
    assert all(2 <= backoff.pause(4) <= 4 for _ in range(50))
    assert all(30 <= backoff.pause(1_000) <= 60 for _ in range(50))
    assert len({backoff.pause(3) for _ in range(50)}) > 40


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 301, 307])
def test_what_is_refused_becomes_a_dead_letter(tmp_path: Path, status: int) -> None:
    """A redirect too: where it leads to nobody has looked at."""

    async def body() -> None:
        async with receiver() as elsewhere:

            def answer(request: Request | None) -> Answer:
                bad = request is not None and request.seqs == [3]
                return (status, {"Location": elsewhere.url}) if bad else OK

            last = append(tmp_path, 5)
            async with receiver(answer) as target, running(tmp_path, hook(target.url)) as output:
                await output.done(last)
                assert target.seqs == [1, 2, 3, 4, 5]
                assert output.status.dead_letters == 1
                assert output.status.delivered == 4
            assert elsewhere.requests == []
        (letter,) = dead_letters(tmp_path)
        assert letter["match"]["id"] == "srv-3"
        assert f"the answer is {status}" in letter["reason"]

    run(body)


def test_an_output_may_stop_at_what_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        healthy = False

        def answer(request: Request | None) -> Answer:
            return OK if healthy or (request is not None and request.seqs != [3]) else (403, {})

        last = append(tmp_path, 5)
        async with receiver(answer) as target, running(tmp_path, hook(target.url, on_refused="stop")) as output:
            await until(lambda: output.status.state == "failed")
            assert (output.status.cursor, output.status.error) == (2, "the answer is 403")
            output.deliveries.grown(last)
            await asyncio.sleep(0.05)
            assert target.seqs == [1, 2, 3]
            healthy = True
            output.deliveries.resume("out")
            await output.done(last)
            assert target.seqs == [1, 2, 3, 3, 4, 5]
            assert output.status.state == "running"
        assert not (tmp_path / "outputs/out.dead-letters.ndjson").exists()

    run(body)


def test_too_large_a_batch_is_tried_one_by_one(tmp_path: Path) -> None:
    async def body() -> None:
        def answer(request: Request | None) -> Answer:
            return (413, {}) if request is not None and (len(request.seqs) > 1 or request.seqs == [2]) else OK

        last = append(tmp_path, 4)
        async with receiver(answer) as target, running(tmp_path, hook(target.url, batch=9)) as output:
            await output.done(last)
            assert [each.seqs for each in target.requests] == [[1, 2, 3, 4], [1], [2], [3], [4]]
        assert [each["match"]["seq"] for each in dead_letters(tmp_path)] == [2]

    run(body)


def test_giving_up_after_so_many_attempts(tmp_path: Path) -> None:
    async def body() -> None:
        def answer(request: Request | None) -> Answer:
            return (500, {}) if request is not None and request.seqs == [2] else OK

        last = append(tmp_path, 3)
        async with receiver(answer) as target, running(tmp_path, hook(target.url, max_attempts=3)) as output:
            await output.done(last)
            assert target.seqs == [1, 2, 2, 2, 3]
        (letter,) = dead_letters(tmp_path)
        assert letter["reason"] == "the answer is 500, 3 times"

    run(body)


def test_pause_resume_change_and_remove(tmp_path: Path) -> None:
    async def body() -> None:
        last = append(tmp_path, 2)
        async with receiver() as target, running(tmp_path, hook(target.url)) as output:
            await output.done(last)
            output.deliveries.pause("out")
            last = append(tmp_path, 2)
            output.deliveries.grown(last)
            await asyncio.sleep(0.05)
            assert str(output.status.state) == "paused"
            assert target.seqs == [1, 2]
            output.deliveries.resume("out")
            await output.done(last)
            # changed, it goes on from its cursor
            await output.deliveries.put("out", parse_settings(hook(target.url + "&y=2", patterns=["q"])))
            last = append(tmp_path, 2)
            await output.done(last)
            assert target.seqs == [1, 2, 3, 4]
            await output.deliveries.put("out", parse_settings(hook(target.url + "&y=2")))
            last = append(tmp_path, 1)
            await output.done(last)
            assert target.seqs == [1, 2, 3, 4, 7]
            with pytest.raises(OutputError):
                await output.deliveries.put("out", parse_settings(hook("http://")))
            assert output.status.state == "running"
            await output.deliveries.remove("out")
            assert output.deliveries.statuses() == {}

    run(body)


def test_a_new_output_begins_with_the_next_match_also_when_the_server_ends_before_that(tmp_path: Path) -> None:
    async def body() -> None:
        append(tmp_path, 5)
        async with receiver() as target:
            settings = hook(target.url, start="latest")
            async with running(tmp_path, settings):
                pass
            last = append(tmp_path, 2)
            async with running(tmp_path, settings) as output:
                await output.done(last)
            assert target.seqs == [6, 7]

    run(body)


def test_what_retention_has_deleted_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        last = append(tmp_path, 300, MatchLogOptions(segment_bytes=1_000, retain_bytes=3_000))
        FileCursors(tmp_path / "cursors").put({"out": 0})
        async with receiver() as target, running(tmp_path, hook(target.url, batch=100)) as output:
            await output.done(last)
            assert output.status.lost == target.seqs[0] - 1 > 100
            assert target.seqs == list(range(target.seqs[0], 301))
        assert "output out has lost" in caplog.text

    run(body)


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.outputs import *
async def main():
    async with running(Path(sys.argv[1]), {"type": "webhook", "url": sys.argv[2], "secret": "hook"}) as output:
        await output.done(int(sys.argv[3]))
asyncio.run(main())
"""


def test_kill_between_sending_and_the_cursor(tmp_path: Path) -> None:
    """What was sent and not written down comes again with the same key; nothing else comes again, nothing is left
    out."""

    async def body() -> None:
        last = append(tmp_path, 8)
        codes = []
        async with receiver() as target:
            for fault in ("output.sent:3=kill", "output.moved:2=kill", "output.sent:1=kill", ""):
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", KILLED, str(tmp_path), target.url, str(last),
                    cwd=Path(__file__).parents[3], env={**os.environ, VARIABLE: fault}, stderr=subprocess.PIPE,
                )  # fmt: skip
                _, said = await process.communicate()
                codes.append(process.returncode)
        assert codes == [-signal.SIGKILL] * 3 + [0], said.decode()
        assert target.seqs == [1, 2, 3, 3, 4, 5, 5, 6, 7, 8]
        assert [each.headers["idempotency-key"] for each in target.requests] == [f"srv-{n}" for n in target.seqs]

    run(body)


def test_this_machine_and_private_networks_are_off_limits(tmp_path: Path) -> None:
    async def body() -> None:
        append(tmp_path, 1)
        async with receiver() as target:
            port = target.url.split(":")[2].split("/")[0]
            for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"):
                (tmp_path / "cursors/out.cursor").unlink(missing_ok=True)
                async with running(tmp_path, hook(f"http://{host}:{port}/"), allow_private=False) as output:
                    await until(lambda: output.status.attempts > 0)
                    assert "webhooks.allow_private" in str(output.status.error) or "resolved" in str(
                        output.status.error
                    )
                    assert output.status.cursor == 0
            assert target.connections == 0

    run(body)


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:192.168.0.1", "64:ff9b::7f00:1",
     "2002:7f00:0001::", "192.0.2.1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_that_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (hook("ftp://x/"), "regex"),
        (hook("http:///x"), "names no host"),
        (hook("http://x:99999/"), "Port"),
        (hook("http://u:p@x/"), "no password belongs into a url"),
        (hook("http://x/", secret="nope"), "there is no secret 'nope'"),
        (hook("http://x/", headers={"A": "b\r\nC: d"}), "header 'A'"),
        (hook("http://x/", headers={"A": "secret:nope"}), "there is no secret 'nope'"),
        (hook("http://x/", headers={"Idempotency-Key": "1"}), "the server sets that itself"),
        (hook("http://x/", batch=0), "batch"),
        (hook("http://x/", kinds=["matches"]), "kinds"),
        (hook("http://x/", retries=3), "unknown field `retries`"),
        ({"type": "smtp"}, "Invalid value 'smtp'"),
        ({"url": "http://x/"}, "type"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OutputError, match=said):
        check_settings("out", parse_settings(orjson.dumps(settings)), context(tmp_path))


def test_names_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a name has letters"):
        check_settings("../x", parse_settings(hook("http://x/")), context(tmp_path))


def test_signatures() -> None:
    header = sign("key", b"body", 1_000)
    assert verify_signature("key", header, b"body", now=1_200)
    assert not verify_signature("key", header, b"body", now=1_301)
    assert not verify_signature("key", header, b"body", now=600)
    assert verify_signature("key", header, b"body", tolerance=1e10)
    assert not verify_signature("key", header, b"Body", now=1_000)
    assert not verify_signature("key", header.replace("t=1000", "t=1001"), b"body", now=1_000)
    # while a secret is changed there may be two
    assert verify_signature("key", header + ",v1=" + "0" * 64, b"body", now=1_000)
    for junk in ("", "t=,v1=", "t=x,v1=y", "v1=aa", "t=1000", "t=1000,v1=é", "t=²,v1=a"):
        assert not verify_signature("key", junk, b"body", now=1_000)
