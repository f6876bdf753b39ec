"""A client for the Ostinato server, sync and async; the `ostinato` command uses it too. docs/client.md shows how."""

from ostinato.server.client import calls
from ostinato.server.client.async_client import AsyncClient
from ostinato.server.client.batches import Sending, Sent
from ostinato.server.client.call import Call
from ostinato.server.client.client import Client
from ostinato.server.client.errors import (
    ApiError,
    BadAnswerError,
    ClientError,
    Conflict,
    Forbidden,
    NoServerError,
    NotFound,
    Refused,
    Stale,
    TooFast,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from ostinato.server.client.following import Lost, MatchesLostError
from ostinato.server.client.retries import Retries
from ostinato.server.client.target import find_target

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadAnswerError",
    "Call",
    "Client",
    "ClientError",
    "Conflict",
    "Forbidden",
    "Lost",
    "MatchesLostError",
    "NoServerError",
    "NotFound",
    "Refused",
    "Retries",
    "Sending",
    "Sent",
    "Stale",
    "TooFast",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "calls",
    "find_target",
]
