"""Signatures of webhooks: who receives one can prove that it came from here, lately and unchanged."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final

HEADER: Final = "Ostinato-Signature"
_TOLERANCE_SECONDS: Final = 300


def sign(secret: str, body: bytes, at: int) -> str:
    """The header's value; `at`: epoch seconds.

    >>> sign("s3cret", b"{}", 1700000000)[:24]
    't=1700000000,v1=97926816'
    """
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify_signature(
    secret: str, header: str, body: bytes, tolerance: float = _TOLERANCE_SECONDS, *, now: float | None = None
) -> bool:
    """Is the body, as it came, signed with this secret, and no longer ago than `tolerance` seconds?

    >>> verify_signature("s3cret", sign("s3cret", b"{}", 1700000000), b"{}", now=1700000010)
    True
    """
    at: int | None = None
    given: list[str] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) < 16:
            at = int(value)
        elif name == "v1" and value.isascii():
            given.append(value)
    if at is None or abs((time.time() if now is None else now) - at) > tolerance:
        return False
    expected = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return any([hmac.compare_digest(expected, each) for each in given])  # noqa: C419 - all of them: it takes the same time
