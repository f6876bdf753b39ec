"""What a client raises."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ostinato.server.http.schemas.common import ErrorDetail, Problem
from ostinato.state.typed import json_decoder


class ClientError(Exception):
    """The root of all that a client raises."""


class NoServerError(ClientError):
    """Nobody said which server, and there is not exactly one of this user on this machine."""


class Unreachable(ClientError):  # noqa: N818 - what it says is the whole of it
    """The server cannot be reached, or the connection broke before its answer was there.

    Attributes:
        sent: the request may have arrived: whether it was done is not known.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswerError(ClientError):
    """Something answered that is no server of ours, or one of another release."""


class ApiError(ClientError):
    """The server answered with a problem (RFC 9457).

    Attributes:
        status: of HTTP.
        problem: all that the server said.
        retry_after: seconds after which it may be tried again, where the server said so.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def errors(self) -> list[ErrorDetail]:
        """Each thing that is wrong in what was sent, with its place."""
        return self.problem.errors


class Unauthorized(ApiError):  # noqa: N818
    """401: no token, or one that the server does not know."""


class Forbidden(ApiError):  # noqa: N818
    """403: the token's role may not do this, or the configuration does not allow it."""


class NotFound(ApiError):  # noqa: N818
    """404: there is no such thing."""


class Conflict(ApiError):  # noqa: N818
    """409: it cannot be done as things stand."""


class Stale(ApiError):  # noqa: N818
    """412: it was changed since it was read (`if_match`), or is there already (`absent=True`)."""


class Refused(ApiError):  # noqa: N818
    """400, 413, 415, 422: what was sent is wrong; `errors` has the places."""


class TooFast(ApiError):  # noqa: N818
    """429: more than the limits allow; `retry_after` says when to go on."""


class Unavailable(ApiError):  # noqa: N818
    """503: not just now: the server starts or ends, or its disk is full."""


_KINDS: Mapping[int, type[ApiError]] = {
    400: Refused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Stale,
    413: Refused,
    415: Refused,
    422: Refused,
    429: TooFast,
    503: Unavailable,
}


_problem = json_decoder(Problem)


def error_of(status: int, body: bytes, headers: Mapping[str, str], url: str) -> ClientError:
    """The exception that an answer with a status of 400 or more becomes.

    >>> error_of(404, b'{"type":"x","title":"Not found","status":404,"detail":"no such"}', {}, "http://h")
    NotFound('no such')
    """
    try:
        problem = _problem.decode(body)
    except msgspec.DecodeError:
        said = " ".join(body[:200].decode("utf-8", "replace").split())
        return BadAnswerError(f"{url} answered {status} and no problem of ours: {said or 'nothing more'}")
    after = headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdigit() else None
    return _KINDS.get(problem.status, ApiError)(problem, seconds)
