"""Versions of patterns as a plan looks them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ostinato.server.catalog.definitions import DefinitionTables, Version


class Versions(Mapping[tuple[str, int], Version]):
    """Versions as the catalog has them; they never change, so those that were asked for are kept."""

    def __init__(self, tables: DefinitionTables) -> None:
        self._tables = tables
        self._held: dict[tuple[str, int], Version] = {}

    def __getitem__(self, key: tuple[str, int]) -> Version:
        found = self._held.get(key)
        if found is None:
            found = self._tables.version(*key)
            if found is None:
                raise KeyError(key)
            self._held[key] = found
        return found

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except (KeyError, TypeError):
            return False
        return True

    def keep_only(self, wanted: set[tuple[str, int]]) -> None:
        """Let go of those that do not run any more."""
        self._held = {key: version for key, version in self._held.items() if key in wanted}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


class LastVersions(Mapping[str, int]):
    """The number of each pattern's last version."""

    def __init__(self, tables: DefinitionTables) -> None:
        self._tables = tables

    def __getitem__(self, name: str) -> int:
        return self._tables.last_version(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
