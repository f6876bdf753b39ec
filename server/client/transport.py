"""What the sync and the async client have in common: how httpx is set up, and what it says in our words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit

import httpx

from ostinato.server.client.call import Call
from ostinato.server.client.errors import ClientError, NoServerError, Unreachable, error_of
from ostinato.server.client.following import QUIET_SECONDS
from ostinato.server.client.target import Target

T = TypeVar("T")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Settings(TypedDict):
    """Arguments of httpx's clients."""

    base_url: str
    headers: Mapping[str, str]
    timeout: float
    verify: ssl.SSLContext | bool
    trust_env: bool
    limits: httpx.Limits


def settings_of(target: Target, timeout_seconds: float) -> Settings:
    """How httpx is set up for a server.

    Raises:
        NoServerError: the file of certificates cannot be used.
    """
    headers = {"user-agent": f"ostinato/{version('ostinato')}", "accept-encoding": "identity"}
    if target.token is not None:
        headers["authorization"] = f"Bearer {target.token}"
    verify: ssl.SSLContext | bool = False
    if target.url.startswith("https://"):
        try:
            verify = ssl.create_default_context(cafile=target.ca_file)
        except (OSError, ssl.SSLError) as error:
            said = error.strerror or "no certificates in PEM form"
            raise NoServerError(f"the certificates in {target.ca_file} cannot be used: {said}") from None
    return {
        "base_url": target.url,
        "headers": headers,
        "timeout": timeout_seconds,
        "verify": verify,
        # a proxy of the environment is not for servers on this machine
        "trust_env": urlsplit(target.url).hostname not in _LOOPBACK,
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0),
    }


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call[Any], *, streamed: bool = False) -> httpx.Request:
    """A call as httpx has it; `streamed`: its answer goes on for as long as something comes."""
    timeout = http.timeout
    if streamed:
        timeout = _with_read(timeout, QUIET_SECONDS)
    elif call.seconds is not None:
        timeout = _with_read(timeout, call.seconds or None)
    pairs: Any = call.pairs()
    return http.build_request(
        call.method, call.path, params=pairs or None, content=call.body, headers=dict(call.headers), timeout=timeout
    )


def _with_read(timeout: httpx.Timeout, seconds: float | None) -> httpx.Timeout:
    return httpx.Timeout(connect=timeout.connect, write=timeout.write, pool=timeout.pool, read=seconds)


def answer_of(call: Call[T], response: httpx.Response) -> T:
    """What the server answered; the response was read.

    Raises:
        ApiError: a problem.
        BadAnswerError: it is no answer of a server of ours.
    """
    if not response.is_success and response.status_code not in call.also:
        raise problem_of(response)
    return call.decode(response.content)


def problem_of(response: httpx.Response) -> ClientError:
    """What an answer that is none means; the response was read."""
    url = str(response.request.url.copy_with(query=None))
    return error_of(response.status_code, response.content, response.headers, url)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """What httpx raises within comes out as `Unreachable`."""
    try:
        yield
    except httpx.TransportError as error:
        raise _broken(error, url) from error


def _broken(error: httpx.TransportError, url: str) -> Unreachable:
    sent = not isinstance(error, _NOT_SENT)
    if isinstance(error, httpx.ConnectTimeout):
        return Unreachable(f"{url} cannot be reached: nobody answers there")
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(f"{url} did not answer in time", sent=sent)
    if not sent:
        return Unreachable(f"{url} cannot be reached: {_cause(error)}")
    return Unreachable(f"the connection to {url} broke: {_cause(error)}", sent=True)


def _cause(error: BaseException) -> str:
    """The innermost thing that says something: what the system says is better than "All connection attempts failed"."""
    found = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {cause.verify_message} (say whose it is: --ca-file, OSTINATO_CA_FILE)"
            )
        if isinstance(cause, OSError) and cause.strerror:
            found = cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return found or type(error).__name__
