"""The log: lines that machines and people can read, without secrets, whoever writes them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from ostinato.server import logs
from ostinato.server.config.secret import Secret


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is written; the process logs as before when the test is over."""
    root, own = logging.getLogger(), [logging.getLogger(name) for name in ("aiokafka", "uvicorn.error")]
    handlers, level, levels = root.handlers[:], root.level, [each.level for each in own]
    # a server that another test has run in this process has made it say less
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    for each, before in zip(own, levels, strict=True):
        each.setLevel(before)
    logs._secrets.clear()
    logs.hide()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_object_a_line(stream: io.StringIO) -> None:
    logs.set_up("json", "info", stream=stream)
    log = logging.getLogger("ostinato.server.changes")
    log.info("pattern %s applied", "p", extra={"version": 3, "old": "drain", "level": "own", "of": {"a": [1, b"x"]}})
    log.debug("not said")
    (line,) = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "logger": "ostinato.server.changes", "event": "pattern p applied", "version": 3,
        "old": "drain", "level_": "own", "of": {"a": [1, "x"]},
    }  # fmt: skip


def test_exceptions_are_in_the_line(stream: io.StringIO) -> None:
    logs.set_up("json", "info", stream=stream)
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (line,) = lines(stream)
    assert line["event"] == "it failed"
    assert line["exception"].endswith("ValueError: no\nsuch thing")


def test_text_for_people(stream: io.StringIO) -> None:
    logs.set_up("text", "info", stream=stream)
    logging.getLogger("ostinato.server").warning("slow", extra={"seconds": 1.5, "who": "a b"})
    (line,) = stream.getvalue().splitlines()
    assert line[10] == " "
    assert line[23:] == ' WARNING ostinato.server: slow  seconds=1.5 who="a b"'


def test_nobody_writes_lines_of_his_own(stream: io.StringIO) -> None:
    logs.set_up("text", "info", stream=stream)
    logging.getLogger("x").info("stream a\n2026-01-01 ERROR forged \x1b[2J", extra={"name_": "b\nc"})
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert "a\\x0a2026" in line


def test_what_cannot_be_json_is_said_anyhow(stream: io.StringIO) -> None:
    logs.set_up("json", "info", stream=stream)
    # pytest's own handler would keep it for a report, which cannot be sent where it is no Unicode
    del logging.getLogger().handlers[:-1]
    logging.getLogger("x").info("half \ud800", extra={"huge": 1 << 80, "object": Secret("s3cret"), "n": float("nan")})
    (line,) = lines(stream)
    assert line["event"] == "half \ud800"
    assert line["object"] == "***"


@pytest.mark.parametrize("how", ["json", "text"])
def test_secrets_are_never_written(stream: io.StringIO, how: Any) -> None:
    logs.set_up(how, "info", stream=stream, hidden=["hunter2hunter2", "hunter2"])
    log = logging.getLogger("x")
    log.info(
        "the password is hunter2hunter2", extra={"given": {"deep": ["hunter2hunter2"]}, "config": Secret("abcdef")}
    )
    log.info("GET /x?token=ost_abcdef&y=1", extra={"header": "Authorization: Bearer ost_abcdef"})
    log.info("to https://user:hunter9@host/path, password = 'letmein', api_key: qwerty")
    try:
        raise ValueError("hunter2hunter2")
    except ValueError:
        log.exception("failed with hunter2")
    text = stream.getvalue()
    for secret in ("hunter", "abcdef", "letmein", "qwerty"):
        assert secret not in text
    assert "y=1" in text
    assert "host/path" in text


def test_uvicorn_and_warnings_go_through_it(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler(io.StringIO()))
    logs.set_up("json", "info", stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process", extra={"color_message": "\x1b[36mStarted"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["logger"], first["event"]) == ("uvicorn.error", "Started server process")
    assert "color_message" not in first
    assert "DeprecationWarning: old" in second["event"]


def test_it_may_be_set_up_again(stream: io.StringIO) -> None:
    logs.set_up("json", "info", stream=stream)
    logs.set_up("json", "error", stream=stream)
    logging.getLogger("x").warning("not said")
    logging.getLogger("x").error("once")
    assert [line["event"] for line in lines(stream)] == ["once"]


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="use one of debug, info"):
        logs.set_up("json", "loud")


def test_to_standard_error_of_a_process() -> None:
    code = "from ostinato.server import logs; logs.set_up(); import logging; logging.getLogger('x').error('here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stderr)["event"] == "here"
    assert done.stdout == ""
