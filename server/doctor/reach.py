"""Whether anybody listens at an address, asked with a time limit that also holds for looking up names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import closing

TIMEOUT_SECONDS = 5.0
"""For every answer of a service; one that takes longer is taken for unreachable."""


def unreachable(host: str, port: int, seconds: float = TIMEOUT_SECONDS) -> str:
    """Why a connection cannot be made; empty where it can."""
    return unreachable_of([(host, port)], seconds)[host, port]


def unreachable_of(
    addresses: Iterable[tuple[str, int]], seconds: float = TIMEOUT_SECONDS
) -> dict[tuple[str, int], str]:
    """The same of several, at once."""
    wanted = list(dict.fromkeys(addresses))
    found: dict[tuple[str, int], str] = {}
    late = f"no answer within {seconds:g} s"

    def look(host: str, port: int) -> None:
        found[host, port] = _try(host, port, seconds)

    # nothing else can put an end to a name server that does not answer: the thread is left behind, and dies with us
    threads = [threading.Thread(target=look, args=address, daemon=True) for address in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 0.5)
    return {address: found.get(address, late) for address in wanted}


def _try(host: str, port: int, seconds: float) -> str:
    try:
        with closing(socket.create_connection((host, port), seconds)):
            return ""
    except socket.gaierror:
        return f"the name {host} is not known here"
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except ConnectionRefusedError:
        return f"nobody listens at {host}:{port}"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def hosts_of(servers: str) -> list[tuple[str, int]]:
    """``host:port`` with commas between, taken apart.

    >>> hosts_of("kafka:9092, [::1]:9093")
    [('kafka', 9092), ('::1', 9093)]
    """
    found = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        found.append((host.strip("[]"), int(port)))
    return found
