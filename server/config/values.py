"""Values of settings: read from TOML and from text, written as text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.patterns.literals import UNITS_MS, parse_duration
from ostinato.server.config.secret import HIDDEN, Secret
from ostinato.server.config.settings import Setting

_SIZES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4} | {
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_SIZES)})", re.IGNORECASE)
_BINARY = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_SWITCHES = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}
_LONGEST_SECRET_BYTES = 64 << 10


class UnfitValueError(ValueError):
    """A value cannot be used; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def from_toml(setting: Setting, value: object, environment: Mapping[str, str], folder: Path) -> Any:
    """What a value of a TOML file means. Files of secrets are relative to `folder`.

    Raises:
        UnfitValueError: it is not what the setting takes.
    """
    match setting.kind:
        case "switch" if isinstance(value, bool):
            return value
        case "number" if isinstance(value, int) and not isinstance(value, bool):
            return _within(setting, value)
        case "text" if isinstance(value, str):
            return _one_of(setting, value)
        case "duration" | "size" if isinstance(value, str):
            return from_text(setting, value)
        case "duration" | "size" if isinstance(value, int | float) and not isinstance(value, bool):
            if value == 0:
                return _within(setting, 0)
            raise UnfitValueError(f"{value} of what?", f"write it as a text, {_example(setting)}")
        case "list" if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return tuple(value)
        case "secret":
            return _secret(value, environment, folder)
        case "secrets" if isinstance(value, dict):
            return {name: _secret(part, environment, folder) for name, part in value.items()}
    raise UnfitValueError(f"{_toml_type(value)}, but {_wanted(setting)} is wanted", _hint(setting))


def from_text(setting: Setting, text: str) -> Any:
    """What a value of a variable or a flag means: lists are separated by commas, an empty text is "not set".

    Raises:
        UnfitValueError: it is not what the setting takes.
    """
    if not text and setting.optional:
        return None
    match setting.kind:
        case "switch":
            if (switch := _SWITCHES.get(text.lower())) is None:
                raise UnfitValueError(f"`{text}` is neither true nor false")
            return switch
        case "number":
            try:
                return _within(setting, int(text))
            except ValueError as error:
                if isinstance(error, UnfitValueError):
                    raise
                raise UnfitValueError(f"`{text}` is no whole number") from None
        case "duration":
            try:
                return _within(setting, 0 if text == "0" else parse_duration(text))
            except ValueError as error:
                if isinstance(error, UnfitValueError):
                    raise
                raise UnfitValueError(str(error), f"write it as {_example(setting)}") from None
        case "size":
            found = _SIZE.fullmatch(text.strip())
            if found is None and text != "0":
                raise UnfitValueError(f"`{text}` is no size", f"write it as {_example(setting)}")
            return _within(setting, int(float(found[1]) * _SIZES[found[2].lower()]) if found else 0)
        case "list":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        case "secret":
            return Secret(text)
        case "secrets":
            raise UnfitValueError("there are several of these", f"name one: {setting.variable}__NAME")
        case "text":
            return _one_of(setting, text)


def read_secret(path: Path) -> Secret:
    """The secret in a file, without the end of its last line.

    Raises:
        UnfitValueError: the file cannot be read, or there is nothing in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_SECRET_BYTES + 1).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UnfitValueError(f"the secret's file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnfitValueError(f"the secret's file {path} is not UTF-8 text") from None
    if not text:
        raise UnfitValueError(f"the secret's file {path} is empty")
    if len(text) > _LONGEST_SECRET_BYTES:
        raise UnfitValueError(f"the secret's file {path} is longer than {_LONGEST_SECRET_BYTES >> 10} KiB")
    return Secret(text)


def shown(setting: Setting, value: Any) -> Any:
    """A value as JSON and TOML have it; secrets are hidden.

    >>> from ostinato.server.config.settings import settings
    >>> shown(settings()["checkpoints.interval"], 90_000), shown(settings()["journal.segment_bytes"], 1 << 26)
    ('90s', '64MiB')
    """
    match setting.kind, value:
        case _, None:
            return None
        case "duration", int(ms):
            return _duration(ms)
        case "size", int(count):
            return _bytes(count)
        case "list", tuple(parts):
            return list(parts)
        case "secret", _:
            return HIDDEN
        case "secrets", dict(named):
            return dict.fromkeys(named, HIDDEN)
        case _:
            return value


def _secret(value: object, environment: Mapping[str, str], folder: Path) -> Secret:
    match value:
        case {"file": str(name), **rest} if not rest:
            return read_secret(folder / Path(name).expanduser())
        case {"env": str(name), **rest} if not rest:
            if not environment.get(name):
                raise UnfitValueError(f"the variable {name}, which has the secret, is not set")
            return Secret(environment[name])
    raise UnfitValueError(
        "a secret does not stand in the file itself", 'write { file = "/path/to/it" } or { env = "VARIABLE" }'
    )


def _within(setting: Setting, value: int) -> int:
    about = setting.about
    if about.least is not None and value < about.least:
        raise UnfitValueError(f"{shown(setting, value)} is too little", f"the least is {shown(setting, about.least)}")
    if about.most is not None and value > about.most:
        raise UnfitValueError(f"{shown(setting, value)} is too much", f"the most is {shown(setting, about.most)}")
    return value


def _one_of(setting: Setting, text: str) -> str:
    known = setting.about.one_of
    if known and text not in known:
        raise UnfitValueError(f"`{text}` is none of {', '.join(known)}")
    if "\0" in text:
        raise UnfitValueError("a text with a zero byte")
    return text


def _duration(ms: int) -> str:
    if not ms:
        return "0s"
    unit = next(name for name, size in UNITS_MS.items() if ms % size == 0)
    return f"{ms // UNITS_MS[unit]}{unit}"


def _bytes(count: int) -> str:
    for unit, size in _BINARY.items():
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B"


def _example(setting: Setting) -> str:
    return "500ms, 10s, 1min or 2h" if setting.kind == "duration" else "512KiB, 64MiB or 2GB"


def _wanted(setting: Setting) -> str:
    return {
        "text": "a text",
        "number": "a whole number",
        "duration": "a duration",
        "size": "a size",
        "switch": "true or false",
        "list": "a list of texts",
        "secret": "a secret",
        "secrets": "a table of secrets",
    }[setting.kind]


def _hint(setting: Setting) -> str | None:
    return f"write it as {_example(setting)}" if setting.kind in ("duration", "size") else None


def _toml_type(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return f"this is {names.get(type(value), 'a time')}"


def environment_now() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ
