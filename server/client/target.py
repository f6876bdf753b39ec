"""Which server is meant, and how it is reached."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ostinato.server.client.errors import NoServerError
from ostinato.server.endpoint import Endpoint, running_servers
from ostinato.server.registry import RegistryError

URL, TOKEN, CA_FILE = "OSTINATO_URL", "OSTINATO_TOKEN", "OSTINATO_CA_FILE"
"""What in the environment says which server, with which token, and by which certificates it is known."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. `said`: whether somebody named it; else it was found running on this machine."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    said: bool = True


def find_target(
    url: str | None = None,
    token: str | None = None,
    ca_file: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Target:
    """The server that is meant: what is given here, else what the environment says (`OSTINATO_URL`, `OSTINATO_TOKEN`,
    `OSTINATO_CA_FILE`), else the one server of this user that runs on this machine, with its token.

    Raises:
        NoServerError: none is named, and none runs or several do; or the URL is none.
    """
    url = url or environment.get(URL) or None
    token = token or environment.get(TOKEN) or None
    ca_file = ca_file or environment.get(CA_FILE) or None
    if url is not None:
        url = _checked(url)
        found = next((each for each in _running() if each.url == url), None)
    else:
        found = _only(_running())
    if found is None:
        assert url is not None
        return Target(url, token, ca_file)
    return Target(found.url, token or found.token(), ca_file or found.ca_file, url is not None)


def _running() -> Sequence[Endpoint]:
    try:
        return running_servers()
    except RegistryError:
        return ()


def _only(running: Sequence[Endpoint]) -> Endpoint:
    if len(running) == 1:
        return running[0]
    if not running:
        raise NoServerError(
            f"no server: none of yours runs on this machine; start one (`ostinato server`) or say where it is ({URL})"
        )
    which = ", ".join(f"{each.url} ({each.data_dir})" for each in running)
    raise NoServerError(f"which server? Several of yours run on this machine: {which}; say one ({URL})")


def _checked(url: str) -> str:
    """A URL without what a base has not."""
    shown = url if "@" not in url else "the URL"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is checked when it is read
    except ValueError as error:
        raise NoServerError(f"{shown}: {error}; write http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoServerError(f"{shown}: this is no address of a server; write http://HOST:PORT or https://HOST:PORT")
    if parts.username is not None or parts.query or parts.fragment:
        raise NoServerError("the URL has more than an address; write http://HOST:PORT, and give the token for itself")
    return url.rstrip("/")
