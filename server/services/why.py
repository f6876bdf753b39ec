"""An explanation of a key, in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.server.http.schemas import patterns as schemas


def explained(name: str, version: int, state: schemas.State, key: list[Any], found: Mapping[str, Any]) -> schemas.Why:
    raise NotImplementedError
