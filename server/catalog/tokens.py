"""Tokens: who may do what. The catalog has only their digests, so a copy of the file opens nothing."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from enum import IntEnum

import msgspec

from ostinato.server.catalog.database import Database, Migration

PREFIX = "ost_"
"""Tells people, and programs that look for leaked secrets, what the text is."""

_SECRET_BYTES = 32
_TOUCH_MS = 60_000
"""How stale `last_used_ms` may get: a write per request would cost more than the request."""

MIGRATIONS = (
    Migration(
        2,
        "tokens",
        (
            """CREATE TABLE tokens (
                name TEXT PRIMARY KEY, role INTEGER NOT NULL, digest BLOB NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
                created_by TEXT NOT NULL, last_used_ms INTEGER, expires_ms INTEGER) STRICT, WITHOUT ROWID""",
        ),
    ),
)


class Role(IntEnum):
    """What a token may do; each role may do what those before it may."""

    VIEWER = 1
    AUTHOR = 2
    OPERATOR = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of a name in any case; ValueError says which there are."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"`{name}` is no role; there are viewer, author and operator") from None

    def __str__(self) -> str:
        return self.name.lower()


class Token(msgspec.Struct, frozen=True):
    """A token as it may be shown. Times are epoch ms; `declared`: by `auth.tokens_file`, which alone can change it."""

    name: str
    role: Role
    created_ms: int
    created_by: str = ""
    last_used_ms: int | None = None
    expires_ms: int | None = None
    declared: bool = False


class TokenExistsError(Exception):
    """There is a token of that name."""


class LastOperatorError(Exception):
    """Without this token nobody could make another."""


def digest_of(text: str) -> bytes:
    """What is kept of a token. It is 256 random bits: a slow hash would protect it no better."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Tokens:
    """The tokens of a server, all of them in memory too: `find` is on the way of every request."""

    def __init__(self, database: Database, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._database = database
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._by_digest: dict[bytes, Token] = {}
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        for row in database.rows("SELECT * FROM tokens"):
            self._by_digest[bytes(row["digest"])] = Token(
                row["name"],
                Role(row["role"]),
                row["created_ms"],
                row["created_by"],
                row["last_used_ms"],
                row["expires_ms"],
            )

    def find(self, text: str) -> Token | None:
        """The token of a text; None where there is none, or where it has expired.

        What is looked up is the digest, of which nobody can choose a single bit, so that the time of the look-up tells
        nothing about tokens that exist.
        """
        token = self._by_digest.get(digest_of(text))
        if token is None or self._has_expired(token):
            return None
        self._used[token.name] = self._now_ms()
        return token

    def is_valid(self, digest: bytes) -> bool:
        """Is the token of a digest still there, and has it not expired?"""
        token = self._by_digest.get(digest)
        return token is not None and not self._has_expired(token)

    def _has_expired(self, token: Token) -> bool:
        return token.expires_ms is not None and token.expires_ms <= self._now_ms()

    def create(self, name: str, role: Role, created_by: str, expires_ms: int | None = None) -> tuple[Token, str]:
        """Make a token; its text is given this once.

        Raises:
            TokenExistsError: there is one of that name.
        """
        text = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(name, role, self._now_ms(), created_by, None, expires_ms)
        digest = digest_of(text)
        with self._lock:
            if any(known.name == name for known in self._by_digest.values()):
                raise TokenExistsError(name)
            try:
                with self._database.change() as connection:
                    connection.execute(
                        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, NULL, ?)",
                        (name, int(role), digest, token.created_ms, created_by, expires_ms),
                    )
            except sqlite3.IntegrityError:
                raise TokenExistsError(name) from None
            self._by_digest[digest] = token
        return token, text

    def declare(self, name: str, role: Role, digest: bytes) -> None:
        """Take in a token of `auth.tokens_file`; it is not kept in the catalog."""
        with self._lock:
            if any(known.name == name for known in self._by_digest.values()):
                raise TokenExistsError(name)
            self._by_digest[digest] = Token(name, role, self._now_ms(), "auth.tokens_file", declared=True)

    def delete(self, name: str) -> Token | None:
        """Take a token away: the next request with it is refused. None where there is none.

        Raises:
            LastOperatorError: it is the last operator's token that does not expire.
        """
        with self._lock:
            found = next(((digest, token) for digest, token in self._by_digest.items() if token.name == name), None)
            if found is None:
                return None
            digest, token = found
            lasting = [known for known in self._by_digest.values() if _lasting_operator(known)]
            if lasting == [token]:
                raise LastOperatorError(name)
            with self._database.change() as connection:
                connection.execute("DELETE FROM tokens WHERE name = ?", (name,))
            del self._by_digest[digest]
            self._used.pop(name, None)
            return token

    def all(self) -> list[Token]:
        """The tokens by name, with when each was last used."""
        with self._lock:
            tokens = sorted(self._by_digest.values(), key=lambda token: token.name)
        return [
            msgspec.structs.replace(token, last_used_ms=self._used.get(token.name, token.last_used_ms))
            for token in tokens
        ]

    def write_used(self, *, all_of_them: bool = False) -> None:
        """Keep when tokens were last used: of those whose kept time is too old, or of all."""
        used = dict(self._used)
        due = [
            (at, name)
            for name, at in used.items()
            if at != self._written.get(name) and (all_of_them or at - self._written.get(name, 0) >= _TOUCH_MS)
        ]
        if due:
            with self._database.change() as connection:
                connection.executemany("UPDATE tokens SET last_used_ms = ? WHERE name = ?", due)
            self._written.update((name, at) for at, name in due)


def _lasting_operator(token: Token) -> bool:
    return token.role is Role.OPERATOR and token.expires_ms is None and not token.declared
