"""The migrations of all tables in the order of their numbers; each module of tables brings its own."""

from __future__ import annotations

from ostinato.server.catalog import audit, backtests, cursors, definitions, facts, outputs, submitted, tokens
from ostinato.server.catalog.database import Migration

MODULES = (facts, tokens, audit, cursors, outputs, definitions, submitted, backtests)
"""Modules with `MIGRATIONS`. A new table takes the next number, whichever module it is in."""

MIGRATIONS: tuple[Migration, ...] = tuple(
    sorted((migration for module in MODULES for migration in module.MIGRATIONS), key=lambda migration: migration.number)
)
