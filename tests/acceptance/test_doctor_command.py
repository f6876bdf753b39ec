"""`ostinato doctor` as a user calls it."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ostinato.server.doctor.examine import every_check
from tests.kafka_clients import Kafka
from tests.services import RedisServer, RedisServers, free_port

from .conftest import Folder

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
PROGRAM = """
stream logins (user string key, ts timestamp(ms) time delay 2 s, status string)
  from kafka '{logins}' (bootstrap_servers = '{servers}')
pattern brute on logins match fail+ -> ok define fail as status = 'failed', ok as status = 'ok' within 1 h
  emit user, count(fail) as failures into alerts
output alerts to kafka '{alerts}' (bootstrap_servers = '{servers}')
"""


def test_a_job_that_can_run_is_told_so(folder: Folder, kafka: Kafka, redis: RedisServer) -> None:
    topics = {name: kafka.create_topic(kafka.unique(name)) for name in ("logins", "alerts")}
    folder.write("fraud.cep", PROGRAM.format(servers=kafka.servers, **topics))
    done = folder.run("doctor", "fraud.cep", "--checkpoint-redis", redis.address)
    assert done.code == 0, done.out + done.err
    assert done.err == ""
    *lines, last = done.out.splitlines()
    assert all(re.match(r"(note|warning): .+ \[[a-z]+\.[a-z_]+\]$", line) for line in lines), done.out
    assert re.fullmatch(r"\d+ warnings?, \d+ notes?; \d+ ok", last)
    # it says everything when it is asked to
    every = folder.run("doctor", "fraud.cep", "--checkpoint-redis", redis.address, "-a").out
    assert f"ok: topic {topics['logins']}: keeps records for 7 d; 1 d 1 h are needed [kafka.retention]" in every


def test_what_is_wrong_is_said_with_what_to_change(folder: Folder, kafka: Kafka, redis_servers: RedisServers) -> None:
    logins = kafka.create_topic(kafka.unique("logins"), 1, {"retention.ms": "60000"})
    alerts = kafka.create_topic(kafka.unique("alerts"))
    folder.write("fraud.cep", PROGRAM.format(servers=kafka.servers, logins=logins, alerts=alerts))
    server = redis_servers({"appendonly": "no", "maxmemory-policy": "allkeys-lru"})
    done = folder.run("doctor", "fraud.cep", "--checkpoint-redis", server.address)
    assert done.code == 10
    (line,) = (line for line in done.out.splitlines() if line.startswith("error") and "[kafka.retention]" in line)
    assert "retention.ms is 60000 (1 min)" in line
    assert f"--entity-name {logins} --add-config retention.ms=90002000" in line
    assert "CONFIG SET maxmemory-policy noeviction" in done.out
    found = json.loads(folder.run("doctor", "fraud.cep", "--checkpoint-redis", server.address, "--json").out)
    assert found["errors"] == len([each for each in found["findings"] if each["severity"] == "error"]) >= 3
    assert {each["check"] for each in found["findings"]} <= {check.name for check in every_check()}
    (retention,) = (
        each for each in found["findings"] if each["check"] == "kafka.retention" and each["severity"] == "error"
    )
    assert retention.keys() == {"severity", "check", "subject", "what", "why", "change"}
    # less will do for a shorter outage, in a moment of trying it out
    less = folder.run("doctor", "fraud.cep", "--outage", "1s", "--json").out
    assert "3603000" in less


def test_services_are_examined_without_a_program(folder: Folder, kafka: Kafka, redis: RedisServer) -> None:
    done = folder.run("doctor", "--kafka", kafka.servers, "--checkpoint-redis", redis.address, "-a", "--json")
    assert done.code == 0, done.out
    checks = {each["check"] for each in json.loads(done.out)["findings"]}
    assert {"kafka.reachable", "kafka.hanging", "redis.durable", "machine.cache"} <= checks
    assert "kafka.retention" not in checks


def test_this_machine_is_examined_alone(folder: Folder) -> None:
    folder.environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    done = folder.run("doctor", "--json", "--checkpoint-dir", "chk")
    assert done.code == 0
    assert {each["check"].partition(".")[0] for each in json.loads(done.out)["findings"]} == {"directory", "machine"}
    assert not (folder.path / "chk").exists()


def test_the_kafka_of_the_environment_is_examined(folder: Folder) -> None:
    folder.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{free_port()}"
    done = folder.run("doctor")
    assert done.code == 10
    assert folder.environment["KAFKA_BOOTSTRAP_SERVERS"] in done.out


def test_another_kafka_takes_the_place_of_the_programs(folder: Folder, kafka: Kafka) -> None:
    topics = {name: kafka.create_topic(kafka.unique(name)) for name in ("logins", "alerts")}
    folder.write("fraud.cep", PROGRAM.format(servers="127.0.0.1:1", **topics))
    assert folder.run("doctor", "fraud.cep").code == 10
    assert folder.run("doctor", "fraud.cep", "--kafka", kafka.servers).code == 0


def test_what_is_out_of_reach_is_named_in_time_and_no_secret_is_shown(folder: Folder) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        secret = "security_protocol = 'SASL_PLAINTEXT', sasl_plain_username = 'u', sasl_plain_password = 'topsecret'"
        text = PROGRAM.format(servers=f"127.0.0.1:{port}", logins="logins", alerts="alerts")
        folder.write("fraud.cep", text.replace(f":{port}')", f":{port}', {secret})"))
        began = time.monotonic()
        done = folder.run("doctor", "fraud.cep", "--checkpoint-redis", f"redis://:topsecret@127.0.0.1:{port}/0", "-a")
        took = time.monotonic() - began
    assert done.code == 10
    assert f"kafka 127.0.0.1:{port}: not reachable: it takes the connection, and does not answer within 5 s" in done.out
    assert f"redis redis://:***@127.0.0.1:{port}/0: not reachable: did not answer within 5 s" in done.out
    assert "topsecret" not in done.out + done.err
    assert took < 20


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--checkpoint-dir", "a", "--checkpoint-redis", "redis://b"], 2, "one place"),
        (["--checkpoint-redis", "b"], 2, "redis://HOST:PORT/DB"),
        (["--kafka", "nowhere"], 2, "HOST:PORT"),
        (["--interval", "0s"], 2, "it must take some time"),
        (["--outage", "5"], 2, "5 of what?"),
        (["--name", "a b"], 2, "letters, digits"),
        (["nowhere.cep"], 3, "no such file"),
        (["wrong.cep"], 1, "statsu"),
        (["option.cep"], 1, "retention"),
    ],
)
def test_mistakes_are_told(folder: Folder, arguments: list[str], code: int, words: str) -> None:
    text = PROGRAM.format(servers="127.0.0.1:1", logins="logins", alerts="alerts")
    folder.write("wrong.cep", text.replace("status = 'ok'", "statsu = 'ok'"))
    folder.write("option.cep", text.replace("(bootstrap_servers", "(retention = 1, bootstrap_servers", 1))
    done = folder.run("doctor", *arguments)
    assert done.code == code, done.err
    assert words in done.err


def test_a_table_on_a_terminal(folder: Folder) -> None:
    ours, theirs = pty.openpty()
    command = [*folder.command, "doctor", "--kafka", f"127.0.0.1:{free_port()}"]
    environment = {**folder.environment, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=folder.path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a pty
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    assert run.returncode == 10
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert re.search(r"^error +kafka 127\.0\.0\.1:\d+ +not reachable", text, re.MULTILINE)
    assert "1 error" in text


def test_every_check_is_documented() -> None:
    documented = dict(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (.+) \|$", DOCS.read_text(), re.MULTILINE))
    assert documented == {check.name: check.says for check in every_check()}
