"""A configuration as people and programs see it: no secrets, durations and sizes as they are written."""

from __future__ import annotations

from typing import Any

from ostinato.server.config.loading import Loaded
from ostinato.server.config.model import ServerConfig
from ostinato.server.config.settings import Setting, settings
from ostinato.server.config.values import shown


def visible(config: ServerConfig) -> dict[str, dict[str, Any]]:
    """All values by section and key, as JSON has them; secrets are ``***``."""
    tree: dict[str, dict[str, Any]] = {}
    for setting in settings().values():
        value = getattr(getattr(config, setting.section), setting.key)
        tree.setdefault(setting.section, {})[setting.key] = shown(setting, value)
    return tree


def as_toml(loaded: Loaded, *, origins: bool = False) -> str:
    """The configuration as a TOML document; with `origins`, each line says where its value came from."""
    lines: list[str] = []
    section = ""
    values = visible(loaded.config)
    for setting in settings().values():
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        value = values[section][setting.key]
        line = f"# {setting.key} =" if value is None else f"{setting.key} = {_toml(value)}"
        lines.append(f"{line:<48}  # {loaded.origins[setting.name]}" if origins else line)
    return "\n".join(lines)


def reference() -> str:
    """The table of docs/configuration.md: key, kind, default, meaning, by section."""
    lines = ["| key | what it takes | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in settings().values():
        default = shown(setting, setting.default)
        text = "-" if default is None or default in ([], {}) else f"`{_toml(default)}`"
        lines.append(f"| `{setting.name}` | {_takes(setting)} | {text} | {setting.about.text} |")
    return "\n".join(lines)


def _takes(setting: Setting) -> str:
    about = setting.about
    if about.one_of:
        return ", ".join(f"`{word}`" for word in about.one_of)
    limits = [f"from {shown(setting, about.least)}"] if about.least else []
    limits += [f"to {shown(setting, about.most)}"] if about.most is not None else []
    return " ".join([setting.kind, *limits])


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            import json

            return json.dumps(value, ensure_ascii=False)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_toml(part)}' for key, part in value.items())} }}" if value else "{}"
        case _:
            return str(value)
