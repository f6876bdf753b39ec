"""The configuration of a server: defaults, then a TOML file, then the environment, then flags."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.patterns.errors import did_you_mean
from ostinato.server.config.errors import ConfigError, ConfigProblem
from ostinato.server.config.model import ServerConfig
from ostinato.server.config.places import lines_of_keys
from ostinato.server.config.settings import Setting, sections, settings
from ostinato.server.config.values import UnfitValueError, environment_now, from_text, from_toml, read_secret

PREFIX = "OSTINATO__"
DEFAULT_FILE = "ostinato.toml"
"""Read from the working directory where no file is named and this one is there."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each of its values came from.

    Attributes:
        config: the values.
        origins: of each setting (``section.key``): ``default``, ``FILE:LINE``, ``$VARIABLE`` or ``--flag``.
        file: the TOML file that was read.
    """

    config: ServerConfig
    origins: Mapping[str, str]
    file: Path | None = None


class _Reading:
    """Values and problems while the layers are read."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[ConfigProblem] = []

    def put(self, setting: Setting, value: Any, origin: str) -> None:
        if setting.kind == "secrets":
            value = {**self.values.get(setting.name, {}), **value}
        self.values[setting.name] = value
        self.origins[setting.name] = origin

    def wrong(self, where: str, message: str, hint: str | None = None) -> None:
        self.problems.append(ConfigProblem(where, message, hint))


def load(
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Read the configuration.

    Args:
        file: a TOML file; without, `ostinato.toml` of the working directory if there is one.
        flags: values by ``section.key``, as texts or as what they mean; None is "not given".
        environment: the variables; those of this process where not given.

    Raises:
        ConfigError: everything that is wrong in all of it.
    """
    environment = environment_now() if environment is None else environment
    reading = _Reading()
    if file is None and Path(DEFAULT_FILE).is_file():
        file = Path(DEFAULT_FILE)
    if file is not None:
        _read_file(file, environment, reading)
    _read_environment(environment, reading)
    _read_flags(flags or {}, reading)
    if reading.problems:
        raise ConfigError(reading.problems)
    config = _build(reading.values)
    _check_together(config, reading)
    if reading.problems:
        raise ConfigError(reading.problems)
    origins = {name: reading.origins.get(name, "default") for name in settings()}
    return Loaded(config, origins, file)


def _build(values: Mapping[str, Any]) -> ServerConfig:
    made: dict[str, Any] = {}
    for section, struct in sections().items():
        made[section] = struct(
            **{name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        )
    return ServerConfig(**made)


def _read_file(file: Path, environment: Mapping[str, str], reading: _Reading) -> None:
    try:
        text = file.read_text("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        return reading.wrong(str(file), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return reading.wrong(str(file), f"is not UTF-8 text (byte {error.start})")
    except tomllib.TOMLDecodeError as error:
        return reading.wrong(str(file), f"is not TOML: {error}")
    lines = lines_of_keys(text)

    def where(*path: str) -> str:
        line = lines.get(path) or lines.get(path[:1])
        return f"{file}:{line}" if line else str(file)

    for section, table in document.items():
        if section not in sections():
            reading.wrong(where(section), f"there is no section [{section}]", _nearest(section, sections()))
            continue
        if not isinstance(table, dict):
            reading.wrong(where(section), f"`{section}` is a section", f"write [{section}] and its keys below")
            continue
        for key, value in table.items():
            setting = settings().get(f"{section}.{key}")
            if setting is None:
                reading.wrong(
                    where(section, key), f"there is no key `{key}` in [{section}]", _nearest_key(section, key)
                )
                continue
            try:
                reading.put(setting, from_toml(setting, value, environment, file.parent), where(section, key))
            except UnfitValueError as problem:
                reading.wrong(where(section, key), f"{setting.name}: {problem}", problem.hint)
    return None


def _read_environment(environment: Mapping[str, str], reading: _Reading) -> None:
    for variable in sorted(environment):
        if not variable.upper().startswith(PREFIX):
            continue
        section, _, key = variable[len(PREFIX) :].lower().partition("__")
        key, *rest = key.split("__")
        setting = settings().get(f"{section}.{key}")
        if section not in sections():
            reading.wrong(f"${variable}", f"there is no section `{section}`", _nearest(section, sections()))
        elif setting is None:
            reading.wrong(f"${variable}", f"there is no key `{key}` in [{section}]", _nearest_key(section, key))
        else:
            try:
                reading.put(setting, _of_variable(setting, rest, environment[variable]), f"${variable}")
            except UnfitValueError as problem:
                reading.wrong(f"${variable}", str(problem), problem.hint)


def _of_variable(setting: Setting, rest: list[str], text: str) -> Any:
    """`rest`: what stands behind the key: ``FILE`` of a secret, the name of one of several, both."""
    by_file = rest[-1:] == ["file"] and setting.kind in ("secret", "secrets")
    names = rest[:-1] if by_file else rest
    if setting.kind == "secrets" and len(names) == 1:
        return {names[0]: read_secret(Path(text)) if by_file else _nonempty(text)}
    if names:
        raise UnfitValueError(f"`{setting.name}` has no parts", f"the variable is {setting.variable}")
    if by_file and setting.kind == "secret":
        return read_secret(Path(text))
    return from_text(setting, text)


def _nonempty(text: str) -> Any:
    from ostinato.server.config.secret import Secret

    if not text:
        raise UnfitValueError("the secret is empty")
    return Secret(text)


def _read_flags(flags: Mapping[str, object], reading: _Reading) -> None:
    for name, value in flags.items():
        if value is None:
            continue
        setting = settings()[name]
        flag = f"--{setting.key.replace('_', '-')}"
        try:
            reading.put(setting, from_text(setting, value) if isinstance(value, str) else value, flag)
        except UnfitValueError as problem:
            reading.wrong(flag, str(problem), problem.hint)


def _check_together(config: ServerConfig, reading: _Reading) -> None:
    """What no value alone can be wrong about."""

    def where(*names: str) -> str:
        return next((origin for name in names if (origin := reading.origins.get(name))), names[0])

    if bool(config.tls.cert) != bool(config.tls.key):
        given, missing = ("cert", "key") if config.tls.cert else ("key", "cert")
        reading.wrong(where(f"tls.{given}"), f"tls.{given} without tls.{missing}", "HTTPS needs both files")
    if config.limits.decompressed_bytes < config.limits.body_bytes:
        reading.wrong(
            where("limits.decompressed_bytes", "limits.body_bytes"),
            "limits.decompressed_bytes is smaller than limits.body_bytes",
            "a body that is not compressed has both sizes",
        )
    if config.kafka.security_protocol.startswith("SASL") and not (
        config.kafka.sasl_mechanism and config.kafka.sasl_username and config.kafka.sasl_password
    ):
        reading.wrong(
            where("kafka.security_protocol"),
            f"{config.kafka.security_protocol} without who the server is",
            "set kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password",
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(name, known) or f"there are {', '.join(known)}"


def _nearest_key(section: str, key: str) -> str:
    inside = [setting.key for setting in settings().values() if setting.section == section]
    if close := did_you_mean(key, inside):
        return close
    elsewhere = [setting.name for setting in settings().values() if setting.key == key]
    return f"did you mean `{elsewhere[0]}`?" if elsewhere else f"there are {', '.join(inside)}"
