"""The settings as a flat table: section, key, type, meaning. Read from the Structs, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from ostinato.server.config.about import About
from ostinato.server.config.model import ServerConfig
from ostinato.server.config.secret import Secret

Kind = Literal["text", "number", "duration", "size", "switch", "list", "secret", "secrets"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set, ``section.key``."""

    section: str
    key: str
    kind: Kind
    optional: bool
    default: Any
    about: About

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"OSTINATO__{self.section}__{self.key}".upper()


@cache
def sections() -> Mapping[str, type[msgspec.Struct]]:
    """The Struct of each section."""
    return {field.name: field.type for field in msgspec.structs.fields(ServerConfig)}


@cache
def settings() -> Mapping[str, Setting]:
    """All settings by their name, ``section.key``, in the order of the Structs."""
    found = {}
    for section, struct in sections().items():
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            annotated = hints[field.name]
            assert get_origin(annotated) is Annotated, f"{section}.{field.name} says nothing about itself"
            bare, about = get_args(annotated)[:2]
            kind, optional = _kind(bare, about)
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            setting = Setting(section, field.name, kind, optional, default, about)
            found[setting.name] = setting
    return found


def _kind(bare: Any, about: About) -> tuple[Kind, bool]:
    optional = get_origin(bare) in (UnionType, Union)
    if optional:
        (bare,) = (part for part in get_args(bare) if part is not type(None))
    kinds: dict[Any, Kind] = {
        str: "text",
        int: about.unit or "number",
        bool: "switch",
        tuple[str, ...]: "list",
        Secret: "secret",
        dict[str, Secret]: "secrets",
    }
    return kinds[bare], optional
