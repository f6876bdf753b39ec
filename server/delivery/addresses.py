"""Which addresses a webhook may go to. The name is resolved here and the address that was looked at is connected to, so
that a name cannot stand for one address when it is checked and for another when it is used."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final, TypeAlias

from ostinato.server.delivery.errors import RetryError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Is it one of the internet's?

    >>> [is_public(ipaddress.ip_address(a)) for a in ("1.1.1.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False, False]
    """
    return all(each.is_global and not each.is_multicast and not each.is_reserved for each in _meant(address))


def _meant(address: Address) -> list[Address]:
    """The address, and the one of IPv4 that it leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    found: list[Address] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return found


async def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host that may be connected to, best first.

    Raises:
        RetryError: the name cannot be resolved now, or has no address that is allowed. A name may get another one.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RetryError(f"{host} cannot be resolved: {getattr(error, 'strerror', None) or error}") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    allowed = [
        address
        for address in addresses
        if "%" not in address  # with a zone: link-local
        and (allow_private or is_public(ipaddress.ip_address(address)))
    ]
    if not allowed:
        raise RetryError(
            f"{host} is {', '.join(addresses)}: of this machine or a private network, where webhooks may go only if "
            "webhooks.allow_private is set in the server's configuration"
        )
    return allowed
