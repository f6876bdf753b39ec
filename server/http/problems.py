"""Every error of the API as application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from ostinato.patterns.errors import PatternError, did_you_mean
from ostinato.server import failures
from ostinato.server.catalog.database import CatalogError, CatalogFullError
from ostinato.server.failures import Flaw
from ostinato.server.http.schemas.common import ErrorDetail, Problem

CONTENT_TYPE = b"application/problem+json"
TYPES = {
    400: ("malformed", "The request cannot be read"),
    401: ("unauthorized", "A token is needed"),
    403: ("forbidden", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Not with this method"),
    408: ("timeout", "The request took too long to come"),
    409: ("conflict", "Not as things stand"),
    412: ("precondition-failed", "Changed in the meantime"),
    413: ("too-large", "Too large"),
    415: ("unsupported-media-type", "Not in this form"),
    421: ("misdirected", "Not for this host"),
    422: ("refused", "Cannot be done"),
    426: ("upgrade-required", "For WebSockets only"),
    429: ("too-many-requests", "Too fast"),
    500: ("internal", "The server has failed at this"),
    503: ("unavailable", "Not just now"),
}
"""The kinds of problems by status: the end of `type`, and `title`."""

_STATUSES: Sequence[tuple[type[failures.ServiceError], int]] = (
    (failures.NotThereError, 404),
    (failures.MalformedError, 400),
    (failures.RefusedError, 422),
    (failures.ConflictError, 409),
    (failures.StaleError, 412),
    (failures.TooLargeError, 413),
    (failures.TooManyError, 429),
    (failures.NotAllowedError, 403),
    (failures.NotReadyError, 503),
)
_MOST_FLAWS = 100
"""A body of a million wrong events is answered with the first of them."""

_log = logging.getLogger("ostinato.http")


class HttpError(Exception):
    """A request cannot be answered as asked; ends any handler."""

    def __init__(
        self,
        status: int,
        detail: str,
        flaws: Sequence[Flaw] = (),
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the member's name
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.flaws = tuple(flaws)
        self.headers = dict(headers or {})
        self.id = id

    def document(self, instance: str) -> Problem:
        """What is sent; `instance` is the path of the request."""
        kind, title = TYPES.get(self.status, ("error", HTTPStatus(self.status).phrase))
        errors = [
            ErrorDetail(flaw.message, flaw.hint, flaw.path, flaw.line, flaw.column, flaw.end_line, flaw.end_column)
            for flaw in self.flaws[:_MOST_FLAWS]
        ]
        return Problem(f"urn:ostinato:problem:{kind}", title, self.status, self.detail, instance, errors, self.id)

    def body(self, instance: str) -> bytes:
        """The same as JSON."""
        return msgspec.json.encode(self.document(instance))


def problem_of(error: Exception, what: str) -> HttpError:
    """The problem that an exception of a handler becomes; what nobody expected is logged, and not shown.

    Args:
        error: what was raised.
        what: method and route, for the log.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, failures.ServiceError):
        return _of_service(error)
    if isinstance(error, PatternError):
        flaws = pattern_flaws(error)
        return HttpError(422, flaws[0].message if len(flaws) == 1 else f"{len(flaws)} things are wrong", flaws)
    if isinstance(error, CatalogError):
        _log.error("the catalog: %s", error)
        full = "the server's disk is full" if isinstance(error, CatalogFullError) else "the server's catalog is stuck"
        return HttpError(503, f"{full}; nothing was changed", headers={"retry-after": "5"})
    number = secrets.token_hex(6)
    _log.error("%s failed (%s)", what, number, exc_info=error)
    return HttpError(500, f"this is a defect of the server; its log says more under {number}", id=number)


def _of_service(error: failures.ServiceError) -> HttpError:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    headers = {}
    if isinstance(error, failures.TooManyError | failures.NotReadyError):
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    return HttpError(status, error.message, error.flaws, headers=headers)


def pattern_flaws(error: PatternError) -> list[Flaw]:
    """The problems of a text with their places."""
    flaws = []
    for problem in error.problems:
        span = problem.span
        place = (span.line, span.column, span.end_line, span.end_column) if span else (None, None, None, None)
        flaws.append(Flaw(problem.message, problem.hint, None, *place))
    return flaws


def invalid(error: msgspec.ValidationError, what: str, names: Sequence[str] = ()) -> HttpError:
    """What msgspec says of a body or a query: ``Expected `int`, got `str` - at `$.version```."""
    message, at, path = str(error).rpartition(" - at ")
    if not at:
        message, path = str(error), ""
    hint = None
    unknown = message.partition("unknown field `")[2].partition("`")[0]
    if unknown and names:
        hint = did_you_mean(unknown, names) or f"there are {', '.join(names)}"
    flaw = Flaw(message, hint, path.strip("`") or None)
    where = f" at {flaw.path}" if flaw.path else ""
    return HttpError(422, f"{what}: {message}{where}" + (f"; {hint}" if hint else ""), [flaw])
