"""The server's log: a JSON object a line, or text for people. Everything goes through it, uvicorn's too.

Code logs an event with its fields: ``log.info("pattern applied", extra={"pattern": name, "version": 3})``. A line has

- `ts`: when, UTC; `level`: debug, info, warning, error, critical; `logger`: who says it; `event`: what;
- the fields, and `exception` with the traceback where there is one.

Secrets that were named by `hide` are never written, nor is what stands where a token or a password does.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, TypeAlias

import orjson

Format: TypeAlias = Literal["json", "text"]
LEVELS: Final = ("debug", "info", "warning", "error")

_OWN: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
"""What a record has by itself; anything else is a field."""
_TAKEN: Final = frozenset(("ts", "level", "logger", "event", "exception"))
_HIDDEN: Final = "***"
_LEAST_CHARACTERS: Final = 4
"""A shorter secret would hide every other word."""
_TOKENS: Final = re.compile(
    r"""(?ix) \b(bearer|basic) \s+ [a-z0-9._~+/=-]{6,}
    | \b(token|ticket|secret|password|authorization|api[_-]?key) (\s*[=:]\s*) (?!bearer\b|basic\b) ["']? [^\s"',;&}]+
    | (://) [^\s/@]+ (?=@)"""
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_QUIET: Final = ("aiokafka", "httpx", "httpcore", "asyncio", "numba", "hpack")
"""What they say at `info` and below are details of every request."""

_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None
_turn = threading.Lock()


def hide(*secrets: str) -> None:
    """Never write these down, wherever they turn up."""
    global _pattern
    with _turn:
        _secrets.update(secret for secret in secrets if len(secret) >= _LEAST_CHARACTERS)
        # the longest first: one may begin with another
        known = sorted(_secrets, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, known))) if known else None


def clean(text: str) -> str:
    """The text without what must not be written down.

    >>> clean("GET /x?token=abcdef123 Authorization: Bearer abcdef123 https://me:pw@host/")
    'GET /x?token=*** Authorization: Bearer *** https://***@host/'
    """
    if _pattern is not None:
        text = _pattern.sub(_HIDDEN, text)
    return _TOKENS.sub(_hidden, text)


def set_up(
    how: Format = "json", level: str = "info", *, stream: TextIO | None = None, hidden: Iterable[str] = ()
) -> None:
    """Let the whole process log this way, to standard error unless said. May be called again. Raises ValueError."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: use one of {', '.join(LEVELS)}")
    hide(*hidden)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if how == "json" else TextFormatter())
    root = logging.getLogger()
    for before in list(root.handlers):
        if isinstance(before.formatter, (JsonFormatter, TextFormatter)):
            root.removeHandler(before)
            before.flush()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # what it says while a broker is down comes several times a second, and whoever uses it says it once
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """A JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "ts": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": clean(record.getMessage()),
        }
        for name, value in _fields(record).items():
            said[f"{name}_" if name in _TAKEN else name] = _cleaned(value)
        if (trace := _trace(self, record)) is not None:
            said["exception"] = trace
        try:
            return orjson.dumps(said, default=_as_text, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # halves of characters, numbers beyond 64 bits
            return json.dumps(said, default=_as_text)


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO    ostinato.server: event  name=value``; a traceback comes in lines below that."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        when = _when(record).replace("T", " ").removesuffix("Z")
        event = _plain(clean(record.getMessage()))
        line = f"{when} {record.levelname:<7} {record.name}: {event}{' ' if fields else ''}{fields}"
        trace = _trace(self, record)
        if trace is not None:
            line += "".join(f"\n    {_plain(each)}" for each in trace.splitlines())
        return line


def _when(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    # of uvicorn's are the same words in colours
    return {name: value for name, value in vars(record).items() if name not in _OWN and name != "color_message"}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info[0] is None:
        return None
    return clean(formatter.formatException(record.exc_info))


def _cleaned(value: Any) -> Any:
    """A field without secrets."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {name: _cleaned(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_cleaned(each) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(_as_text(value))


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _shown(value: Any) -> str:
    cleaned = _cleaned(value)
    text = cleaned if isinstance(cleaned, str) else json.dumps(cleaned, default=_as_text)
    return json.dumps(text) if not text or _CONTROL.search(text) or " " in text or "=" in text else text


def _plain(text: str) -> str:
    """Whatever somebody sends, it makes no line of its own and does nothing to a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _hidden(found: re.Match[str]) -> str:
    scheme, name, sign, slashes = found[1], found[2], found[3], found[4]
    if scheme:
        return f"{scheme} {_HIDDEN}"
    return f"{slashes}{_HIDDEN}" if slashes else f"{name}{sign}{_HIDDEN}"
