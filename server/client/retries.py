"""Whether a request may be sent again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ostinato.server.client.call import Call
from ostinato.server.client.errors import ApiError, ClientError, TooFast, Unavailable, Unreachable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon.

    What is sent again is only what cannot be done twice: any request that has not left this machine or was refused for
    coming too fast (429); reading, and events with an idempotency key, also when the connection broke or the server
    was not ready (503).

    Attributes:
        attempts: further ones after the first.
        first_seconds, most_seconds: the pause before the second attempt, which then doubles, and where it ends.
    """

    attempts: int = 4
    first_seconds: float = 0.1
    most_seconds: float = 5.0

    def pause(self, call: Call[object], failed: int, error: ClientError) -> float | None:
        """Seconds to wait until the next attempt; None where there is none.

        Args:
            call: what was sent.
            failed: how many attempts have failed, 1 or more.
            error: what came of the last.
        """
        if failed > self.attempts or not self._may_repeat(call, error):
            return None
        pause = self.backoff(failed)
        if isinstance(error, ApiError) and error.retry_after is not None:
            # who is told to wait longer than it would ever wait fails at once: it can say so
            return None if error.retry_after > self.most_seconds else max(pause, error.retry_after)
        return pause

    def backoff(self, failed: int) -> float:
        """Seconds after so many failures in a row; spread, so that those who failed together do not come together."""
        full = min(self.most_seconds, self.first_seconds * 2.0 ** min(failed - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it

    @staticmethod
    def _may_repeat(call: Call[object], error: ClientError) -> bool:
        if isinstance(error, TooFast):
            return True
        if isinstance(error, Unreachable):
            return call.repeatable or not error.sent
        return call.repeatable and isinstance(error, Unavailable)
