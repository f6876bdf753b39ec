"""The verbs of the command that talk to a server, against a real one."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ostinato.server import exits

from .conftest import LOGINS, attack, lines, login
from .server_process import ServerProcess

PROGRAM = LOGINS.replace(" from file 'logins.jsonl'", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("cli"), bytecode)
    process.folder.write("logins.cep", PROGRAM)
    inputs = process.folder.path / "job"
    inputs.mkdir()
    (inputs / "in.jsonl").write_bytes(lines(attack("job", 0)))
    process.folder.environment["OSTINATO__FILES__READ"] = str(inputs)
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
def live(server: ServerProcess) -> ServerProcess:
    """With the program as it is, whatever the tests before have done."""
    assert server.run("apply", "logins.cep").code == 0
    return server


_minutes = count(10, 5)


def minute() -> int:
    """Seconds of event time that nothing has come to before."""
    return next(_minutes) * 60


def attacked(user: str, second: int) -> list[dict[str, Any]]:
    """An attack, and an event so much later that time comes to its end."""
    return [*attack(user, second), login("clock", second + 30, "SUCCESS")]


def test_apply_shows_what_it_does_and_what_is_wrong(server: ServerProcess) -> None:
    other = PROGRAM.replace("logins", "others").replace("suspicious_login", "odd_other").replace("attempts", "tries")
    server.folder.write("other.cep", other.replace("alerts", "odd"))
    planned = server.run("apply", "other.cep", "--dry-run")
    assert planned.code == 0
    assert re.search(r"^pattern +odd_other +new +1$", planned.out, re.MULTILINE)
    assert "nothing was changed" in planned.err
    assert "odd_other" not in [each["name"] for each in server.json("patterns")["items"]]
    applied = server.json("apply", "other.cep", "--comment", "the first")
    assert applied["generation"] >= 1
    assert applied["effective"]
    assert "nothing was changed" in server.run("apply", "other.cep").err
    server.folder.write("streams.cep", "stream other (k string key, ts timestamp(ms) time)\n")
    server.folder.write("bad.cep", PROGRAM.replace("logins", "bads").replace("status = 'FAILED'", "statsu = 'FAILED'"))
    wrong = server.run("apply", "streams.cep", "bad.cep")
    assert wrong.code == exits.REFUSED
    assert wrong.err.startswith("bad.cep:13:18: there is no column `statsu`")
    assert "^^^^^^" in wrong.err
    assert "did you mean `status`?" in wrong.err
    document = json.loads(server.run("apply", "bad.cep", "--json").err)
    assert document["status"] == 422
    assert document["errors"][0]["line"] == 13
    assert server.run("apply", "nowhere.cep").code == exits.INPUT
    assert server.run("delete", "odd_other").code == 0
    assert server.run("delete", "--stream", "others").code == 0


def test_events_in_matches_out(live: ServerProcess) -> None:
    begin = live.json("status")["server"]["match_seq"]
    (before,) = live.json("streams")["items"]
    live.folder.write("first.jsonl", lines([*attacked("eve", minute()), *attacked("mallory", minute())]))
    sent = live.json("send", "logins", "first.jsonl", "--key", "first", "--batch", "4")
    assert (sent["accepted"], sent["requests"], sent["duplicates"]) == (10, 3, 0)
    again = live.json("send", "logins", "first.jsonl", "--key", "first", "--batch", "4")
    assert (again["accepted"], again["duplicates"]) == (10, 3)
    after = ["--after", str(begin), "--pattern", "suspicious_login"]
    followed = live.run("matches", "--follow", *after, "--limit", "2")
    assert [row["row"]["user"] for row in followed.rows] == ["eve", "mallory"]
    assert [row["row"]["user"] for row in live.run("matches", "--limit", "1").rows] == ["mallory"]
    assert live.run("matches", *after, "--limit", "1").rows == followed.rows[:1]
    assert live.run("matches", "--pattern", "nobody").out == ""
    (stream,) = live.json("streams")["items"]
    assert (stream["name"], stream["rows"] - before["rows"]) == ("logins", 10)
    assert "suspicious_login" in live.run("streams", "logins").out


def test_what_does_not_fit_is_named_by_its_line(live: ServerProcess) -> None:
    good, bad = login("x", minute(), "FAILED"), {"user": "x", "ts": "no time", "status": "", "ip": ""}
    live.folder.write("mixed.jsonl", lines([good, b"\n", good, bad]))
    refused = live.run("send", "logins", "mixed.jsonl", "--batch", "2")
    assert refused.code == exits.REFUSED
    assert "mixed.jsonl:4: column ts" in refused.err
    assert "2 events of earlier requests were taken" in refused.err
    taken = live.run("send", "logins", "-", "--bad", "dead-letter", stdin=lines([good, bad]))
    assert taken.code == 0
    assert "1 event durable, 1 dead letter" in taken.err
    assert live.run("send", "logins", "nowhere.jsonl").code == exits.INPUT
    assert live.run("send", "nobody", "-", stdin=lines([good])).code == exits.REFUSED


def test_dead_letters_are_listed(live: ServerProcess, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    bad = {"user": "dead", "ts": "no time", "status": "", "ip": ""}
    assert live.run("send", "logins", "-", "--bad", "dead-letter", stdin=lines([bad])).code == 0
    eventually(lambda: any("dead" in item["row"] for item in live.json("dlq", "list")["items"]))
    assert "column ts" in live.run("dlq", "list", "--stream", "logins").out


def test_a_pipe_is_sent_while_it_is_written(live: ServerProcess) -> None:
    sending = live.folder.start("send", "logins", stdin=subprocess.PIPE)
    following = live.folder.start("matches", "-f", "--after", "0", "--pattern", "suspicious_login", "--json")
    assert sending.stdin is not None
    assert following.stdout is not None
    sending.stdin.write(lines(attacked("piped", minute())))
    sending.stdin.flush()
    for line in following.stdout:
        if json.loads(line)["row"]["user"] == "piped":
            break
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=20)
    assert following.returncode == exits.INTERRUPTED
    _, err = sending.communicate(timeout=20)
    assert sending.returncode == 0
    assert b"5 events durable" in err


def test_versions_are_compared_and_rolled_back(live: ServerProcess) -> None:
    live.folder.write("longer.cep", PROGRAM.replace("5 min", "6 min"))
    changed = live.json("apply", "longer.cep", "--old", "keep", "--comment", "longer")
    (plan,) = changed["plan"]["patterns"]
    assert (plan["action"], plan["old"]) == ("same structure", "keep")
    shown = live.run("diff", "suspicious_login")
    assert "-  within 5 min\n+  within 6 min\n" in shown.out
    newest = live.json("versions", "suspicious_login", "--limit", "1")["items"][0]
    assert (newest["role"], newest["comment"]) == ("live", "longer")
    assert live.run("rollback", "suspicious_login").code == 0
    assert "within 5 min" in live.run("patterns", "suspicious_login").out
    changes = live.json("changes")["items"]
    assert [each["generation"] for each in changes] == sorted((each["generation"] for each in changes), reverse=True)
    assert live.run("rollback", "suspicious_login", "99").code == exits.REFUSED


def test_pause_resume_shadow_delete(live: ServerProcess) -> None:
    assert live.run("pause", "suspicious_login", "--comment", "too loud").code == 0
    assert [each["state"] for each in live.json("patterns", "--state", "paused")["items"]] == ["paused"]
    assert live.run("pause", "suspicious_login").code == exits.CONFLICT
    assert live.run("resume", "suspicious_login").code == 0
    live.folder.write("longer.cep", PROGRAM.replace("5 min", "6 min"))
    assert live.run("shadow", "apply", "suspicious_login", "longer.cep").code == 0
    assert "(shadow)" in live.run("patterns").out
    assert live.run("shadow", "end", "suspicious_login").code == 0
    assert live.run("delete", "--stream", "logins").code == exits.CONFLICT
    planned = live.run("delete", "suspicious_login", "--dry-run")
    assert "delete" in planned.out
    assert live.run("delete", "suspicious_login").code == 0
    gone = live.run("patterns", "suspicious_login")
    assert gone.code == exits.REFUSED
    assert gone.err.startswith("ostinato: there is no pattern `suspicious_login`")


def test_parameters_change_at_once(live: ServerProcess) -> None:
    assert live.run("params", "set", "attempts", "2", "--comment", "stricter").code == 0
    assert live.run("params", "get", "attempts").out == "2\n"
    (param,) = [each for each in live.json("params", "list")["items"] if each["name"] == "attempts"]
    assert (param["value"], param["declared"], param["overridden"]) == (2, 3, True)
    assert live.run("checkpoint").code == 0
    begin, second = live.json("status")["server"]["match_seq"], minute()
    live.run("send", "logins", stdin=lines([*attack("two", second, 2), login("clock", second + 30, "SUCCESS")]))
    after = ["--after", str(begin), "--pattern", "suspicious_login"]
    assert [each["row"]["user"] for each in live.run("matches", "-f", *after, "--limit", "1").rows] == ["two"]
    assert live.run("params", "reset", "attempts").code == 0
    assert live.run("params", "get", "attempts").out == "3\n"
    assert live.run("params", "set", "attempts", "many").code == exits.REFUSED


def test_why(live: ServerProcess, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    second = minute()
    seen = [login("begun", second, "FAILED"), login("odd", second, "ODD"), login("clock", second + 4, "SUCCESS")]
    live.run("send", "logins", stdin=lines(seen))

    def begun() -> Any:
        found = live.json("why", "suspicious_login", "begun")
        return found if found["total"] else None

    assert eventually(begun)["partial_matches"][0]["waits_for"]
    text = live.run("why", "suspicious_login", "begun").out
    assert "partial matches: 1" in text
    assert "fail: 1 event, the last " in text
    assert re.search(r"^watermark: 2023-11-1\d ", text, re.MULTILINE)
    text = live.run("why", "suspicious_login", "odd").out
    assert "partial matches: 0" in text
    assert "status=ODD" in text
    assert "fail: status = 'FAILED' is false  (status=ODD)" in text


def test_a_backtest_beside_what_is_live(live: ServerProcess) -> None:
    began = time.time_ns() // 1_000_000
    seen = [*attacked("tested", minute()), *attack("tested", minute(), 2), *attacked("end", minute())]
    live.run("send", "logins", stdin=lines(seen))
    live.folder.write("stricter.cep", PROGRAM.replace("attempts = 3", "attempts = 2"))
    between = ["--from", str(began), "--to", "now", "--bucket", "1min"]
    found = live.json("backtest", "stricter.cep", *between)
    assert (found["state"], found["events"]) == ("FINISHED", 13), found["error"]
    (pattern,) = found["patterns"]
    assert (pattern["matches"], pattern["live"], pattern["only_here"]) == (3, 2, 1)
    shown = live.run("backtest", "stricter.cep", *between).out
    assert shown.startswith("suspicious_login: 3 matches; live: 2\n")
    assert "█" in shown
    assert "only this one has 1" in shown
    assert live.json("backtest", "stricter.cep", "--to", str(began - 3_600_000))["events"] == 0
    detached = live.run("backtest", "stricter.cep", "--detach")
    assert re.fullmatch(r"\w+\n", detached.out)
    assert live.run("backtest", "stricter.cep", "--from", "yesterday").code == exits.USAGE
    assert live.run("backtest", "stricter.cep", "--source", "logins=/etc/passwd").code in (
        exits.UNAUTHORIZED,
        exits.REFUSED,
    )


def test_jobs_are_handed_over(live: ServerProcess, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    program = LOGINS.replace("from file 'logins.jsonl'", f"from file '{live.folder.path}/job/in.jsonl' (follow = true)")
    live.folder.write("job.cep", program)
    submitted = live.run("run", "-d", "-p", "2", "job.cep", "--name", "watch", "--interval", "500ms")
    assert submitted.code == 0, submitted.err
    job = submitted.out.strip()

    def running() -> bool:
        (found,) = live.json("list")["server_jobs"]
        return bool((found["state"], found["parallelism"], found["id"]) == ("RUNNING", 2, job))

    eventually(running)
    assert "watch" in live.run("list").out
    assert live.run("run", "-d", "job.cep", "--name", "watch").code == exits.CONFLICT
    taken = live.json("savepoint", "watch", "first")
    assert taken["name"] == "first"
    assert live.run("savepoint", "watch", "/elsewhere").code == exits.USAGE
    stopped = live.run("stop", "watch", "--savepoint-path", "last")
    assert stopped.code == 0, stopped.err
    assert Path(stopped.out.strip()).is_dir()
    assert f"{job}/last" in stopped.err
    again = live.run("run", "-d", "job.cep", "--name", "watch", "-s", f"{job}/last")
    assert again.code == 0, again.err
    eventually(lambda: any(each["state"] == "RUNNING" for each in live.json("list")["server_jobs"]))
    assert live.run("cancel", again.out.strip()[:6]).code == 0
    assert live.json("list")["server_jobs"] == []
    assert {each["state"] for each in live.json("list", "--all")["server_jobs"]} == {"STOPPED", "CANCELED"}
    missing = live.run("cancel", "watch")
    assert missing.code == exits.JOB
    assert f"none runs here, nor on {live.url}" in missing.err


def test_outputs_go_where_they_are_set(live: ServerProcess) -> None:
    assert (
        live.run("outputs", "set", "hook", "--webhook", "https://example.com/x", "--paused", "--batch", "5").code == 0
    )
    (output,) = live.json("outputs", "list")["items"]
    assert output["settings"]["type"] == "webhook"
    assert output["settings"]["batch"] == 5
    assert "https://example.com/x" in live.run("outputs", "list").out
    assert live.run("outputs", "set", "two", "--webhook", "https://h/", "--kafka", "t").code == exits.USAGE
    assert live.run("outputs", "set", "forbidden", "--file", "/etc/passwd").code in (exits.UNAUTHORIZED, exits.REFUSED)
    assert live.run("outputs", "delete", "hook").code == 0
    assert live.json("outputs", "list") == {"items": []}


def test_tokens_and_who_did_what(live: ServerProcess) -> None:
    made = live.run("tokens", "create", "looker", "--role", "viewer", "--expires", "1h")
    assert made.code == 0
    token = made.out.strip()
    assert token.startswith("ost_")
    assert live.run("patterns", "--token", token).code == 0
    forbidden = live.run("apply", "logins.cep", "--token", token)
    assert forbidden.code == exits.UNAUTHORIZED
    assert "viewer" in forbidden.err
    assert token not in live.run("tokens", "list").out
    assert live.run("tokens", "create", "looker").code == exits.CONFLICT
    assert live.run("tokens", "delete", "looker").code == 0
    assert live.run("patterns", "--token", token).code == exits.UNAUTHORIZED
    rows = live.json("audit", "--action", "create_token", "--target", "looker")["items"]
    assert {row["outcome"] for row in rows} >= {"ok"}


def test_status_and_checkpoints(live: ServerProcess) -> None:
    status = live.json("status")
    assert status["health"]["status"] == "ok"
    assert status["server"]["url"] == live.url
    assert [each["name"] for each in status["patterns"]] == ["suspicious_login"]
    assert re.search(r"^state +ready$", live.run("status").out, re.MULTILINE)
    taken = live.json("checkpoint")
    assert taken["id"] in [each["id"] for each in live.json("checkpoint", "--list")["items"]]


def test_tables_on_a_terminal_are_as_wide_as_it(live: ServerProcess) -> None:
    master, slave = pty.openpty()
    environment = {**live.folder.environment, "COLUMNS": "90", "TERM": "xterm"}
    command = [*live.folder.command, "patterns"]
    process = subprocess.Popen(command, cwd=live.folder.path, env=environment, stdout=slave)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # a terminal that nobody has open any more
    finally:
        os.close(master)
    assert process.wait(20) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert max(map(len, text.splitlines())) <= 90
    assert re.search(r"^suspicious_login +\d+ +live +logins +alerts ", text, re.MULTILINE)
    assert "also runs" not in text, "a column in which nothing stands is left out"


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["apply", "logins.cep"], ["run", "-d", "logins.cep"]],
)
def test_without_a_server(tmp_path: Path, server: ServerProcess, arguments: list[str]) -> None:
    environment = {**server.folder.environment, "OSTINATO_RUNTIME_DIR": str(tmp_path / "elsewhere")}
    command = [*server.folder.command, *arguments]
    done = subprocess.run(
        command, cwd=server.folder.path, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == exits.UNREACHABLE
    assert done.stderr.decode().startswith("ostinato: no server: none of yours runs on this machine; start one")
    done = subprocess.run(
        [*command, "--server", "http://127.0.0.1:1", "--json"],
        cwd=server.folder.path,
        env=environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == exits.UNREACHABLE
    assert "connection refused" in json.loads(done.stderr)["detail"]


def test_jobs_of_this_machine_need_no_server(server: ServerProcess, tmp_path: Path) -> None:
    environment = {**server.folder.environment, "OSTINATO_RUNTIME_DIR": str(tmp_path / "elsewhere")}
    done = subprocess.run(
        [*server.folder.command, "cancel", "nobody"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == exits.JOB
    assert b"there is no running job `nobody`: none runs here" in done.stderr
    asked = server.run("run", "logins.cep", "--server", "http://127.0.0.1:1")
    assert asked.code == exits.USAGE
    assert "--detach" in asked.err
    refused = server.run("run", "-d", "logins.cep", "--limit", "3")
    assert refused.code == exits.USAGE
    assert "--limit is not for jobs of a server" in refused.err


COMPLETE = """
source <(ostinato completion bash)
COMP_WORDS=(ostinato {words}); COMP_CWORD={place}
_ostinato_completion ostinato
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "place", "wanted"),
    [
        ("ro", 1, {"rollback"}),
        ("pa", 1, {"patterns", "pause", "params"}),
        ("params s", 2, {"set"}),
        ("apply --dry", 2, {"--dry-run"}),
        ("apply --old ''", 3, {"keep", "drain", "drop"}),
    ],
)
def test_bash_completes(server: ServerProcess, words: str, place: int, wanted: set[str]) -> None:
    path = f"{Path(server.folder.command[0]).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", COMPLETE.format(words=words, place=place)],
        env={**server.folder.environment, "PATH": path},
        cwd=server.folder.path,
        capture_output=True,
        check=True,
        text=True,
    )
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_theirs(server: ServerProcess, shell: str) -> None:
    done = server.run("completion", shell)
    assert done.code == 0
    assert "_OSTINATO_COMPLETE" in done.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.out, check=True, text=True)
