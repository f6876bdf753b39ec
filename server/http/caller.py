"""Who asks, and under which condition: what routes hand to services of a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostinato.server.catalog.tokens import Role
from ostinato.server.failures import StaleError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name and role of the token, and the address it comes from. `digest`: of the token, see `Tokens`."""

    name: str
    role: Role
    remote: str = ""
    digest: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Precondition:
    """``If-Match`` and ``If-None-Match: *``, for whoever changes something that has an ETag.

    Attributes:
        tags: the ETags of which the present one has to be one; None where the caller does not mind.
        absent: there must be nothing yet.
    """

    tags: tuple[str, ...] | None = None
    absent: bool = False

    def check(self, what: str, current: str | None) -> None:
        """Hold it against the present ETag (None: it does not exist), within the transaction of the change.

        Raises:
            StaleError: it does not hold.
        """
        if self.absent and current is not None:
            raise StaleError(f"{what} is there already; without `If-None-Match: *` it would be changed")
        if self.tags is None or (current is not None and ("*" in self.tags or current in self.tags)):
            return
        if current is None:
            raise StaleError(f"{what} does not exist, and `If-Match` wants it to")
        raise StaleError(f'{what} was changed since you looked: its ETag is now "{current}"; get it and try again')


ANY = Precondition()
"""No condition."""
