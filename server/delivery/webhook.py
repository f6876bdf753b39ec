"""Matches to a URL: at least once and in order, each with the same idempotency key whenever it is tried."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ostinato.server.delivery.addresses import resolve
from ostinato.server.delivery.encoding import match_id, match_json
from ostinato.server.delivery.errors import RefusedError, RetryError
from ostinato.server.delivery.settings import OutputContext, WebhookOutput, header_value, secret_of
from ostinato.server.delivery.signature import HEADER, sign
from ostinato.server.matches import Match

if TYPE_CHECKING:
    import httpx

_RETRIED: Final = frozenset((408, 425, 429))
"""Of the 4xx; the others say that the request is wrong."""
_ANSWER_BYTES: Final = 64 << 10
"""What is read of an answer, so that the connection can be used again; it is not looked at."""
_RETRY_AFTER_SECONDS: Final = 3600.0
"""Nobody is believed who asks for a longer pause."""
_BATCH_BYTES: Final = 4 << 20


class Webhook:
    """See `Target`."""

    batch_bytes = _BATCH_BYTES
    has_own_cursor = False

    def __init__(self, name: str, settings: WebhookOutput, context: OutputContext) -> None:
        """Raises OutputError."""
        parts = urlsplit(settings.url)
        assert parts.hostname is not None
        self.batch_rows = settings.batch
        self._is_array = settings.batch > 1
        self._server = context.server
        self._scheme = parts.scheme
        self._hostname = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = None if settings.secret is None else secret_of(name, settings.secret, context)
        self._seconds = (settings.timeout_ms or context.timeout_ms) / 1000
        self._allow_private = context.allow_private
        self._headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "User-Agent": context.agent,
            **{header: header_value(name, value, context) for header, value in settings.headers.items()},
        }
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> int | None:
        import httpx

        # httpx writes a line for each request, with the whole URL in it
        logging.getLogger("httpx").setLevel(logging.WARNING)
        if self._client is None:
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                verify=httpx.create_ssl_context(),  # SSL_CERT_FILE is heeded
                trust_env=False,  # a proxy would resolve the name again
                timeout=None,  # noqa: S113 - there is one for the whole, in `deliver`
                limits=httpx.Limits(max_connections=4, max_keepalive_connections=1),
            )
        return None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def deliver(self, matches: Sequence[Match], _cursor: int, /) -> None:
        documents = [match_json(self._server, match) for match in matches]
        body = b"[%s]" % b",".join(documents) if self._is_array else documents[0]
        key = match_id(self._server, matches[0].seq)
        if len(matches) > 1:
            key = f"{key}..{matches[-1].seq}"
        headers = {**self._headers, "Idempotency-Key": key}
        if self._secret is not None:
            headers[HEADER] = sign(self._secret, body, int(time.time()))
        try:
            async with asyncio.timeout(self._seconds):
                status, retry_after = await self._post(body, headers)
        except TimeoutError:
            raise RetryError(f"no answer within {self._seconds:g} s") from None
        if 200 <= status < 300:
            return
        if status in _RETRIED or status >= 500:
            raise RetryError(f"the answer is {status}", _seconds(retry_after))
        if 300 <= status < 400:
            raise RefusedError(f"the answer is {status}: redirects are not followed, give the URL it leads to")
        raise RefusedError(f"the answer is {status}", is_one=status == 413)

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
        """Status, and when to come again. Addresses are tried in turn until there is a connection."""
        import httpx

        assert self._client is not None
        addresses = await resolve(self._hostname, self._port, allow_private=self._allow_private)
        for i, address in enumerate(addresses):
            host = f"[{address}]" if ":" in address else address
            request = self._client.build_request(
                "POST",
                f"{self._scheme}://{host}:{self._port}{self._path}",
                content=body,
                headers=headers,
                # the certificate has to be the name's
                extensions={"sni_hostname": self._hostname},
            )
            try:
                response = await self._client.send(request, stream=True)
            except httpx.ConnectError as error:
                if i + 1 < len(addresses):
                    continue
                raise RetryError(
                    f"no connection to {self._hostname}:{self._port} ({address}): {_said(error)}"
                ) from error
            except httpx.HTTPError as error:
                raise RetryError(f"{self._hostname}:{self._port}: {_said(error)}") from error
            try:
                await _drain(response)
            finally:
                await response.aclose()
            return response.status_code, response.headers.get("Retry-After")
        raise AssertionError("unreachable: there is one address at least")


async def _drain(response: httpx.Response) -> None:
    """Read a short answer to its end; what comes after its head changes nothing."""
    import httpx

    size = 0
    try:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > _ANSWER_BYTES:
                return
    except httpx.HTTPError:
        return


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _seconds(retry_after: str | None) -> float | None:
    """The pause that a target asks for: seconds, or a date.

    >>> _seconds("7"), _seconds("-7"), _seconds("soon"), _seconds(None)
    (7.0, None, None, None)
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _RETRY_AFTER_SECONDS)
    try:
        pause = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(pause, _RETRY_AFTER_SECONDS) if pause > 0 else None
