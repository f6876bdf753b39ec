"""`auth.tokens_file`: tokens that whoever sets the server up declares, by their digests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ostinato.server.catalog import Role

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


class TokenFileError(Exception):
    """The file cannot be used; the message says where."""


@dataclass(frozen=True, slots=True)
class DeclaredToken:
    """A line of the file."""

    name: str
    role: Role
    digest: bytes


def read_tokens(path: Path) -> list[DeclaredToken]:
    """The tokens of a file: lines ``NAME ROLE sha256:HEX``; what begins with # is a comment.

    Raises:
        TokenFileError: it cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8 text'}") from None
    found = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        # the line itself is not shown: who has made a mistake may have written the token there
        if len(words) != 3 or not _NAME.fullmatch(words[0]):
            raise TokenFileError(f"{path}:{number}: write NAME ROLE sha256:HEX")
        digest = _DIGEST.fullmatch(words[2])
        if digest is None:
            hint = "the digest of a token: printf %s TOKEN | sha256sum"
            raise TokenFileError(f"{path}:{number}: what stands behind the role is no sha256:HEX; {hint}")
        try:
            role = Role.named(words[1])
        except ValueError as error:
            raise TokenFileError(f"{path}:{number}: {error}") from None
        found.append(DeclaredToken(words[0], role, bytes.fromhex(digest[1])))
    return found
