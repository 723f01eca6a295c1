"""Which hosts may be called where a stranger typed in the address: none of a private network.

What a name stands for is looked up once, and that very address is called: a name can't be looked
at as one host and called as another.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httpx

from membrane_sync.errors import Fatal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Hosts:
    """Public hosts, and these private ones: names, addresses and networks, as `10.0.0.0/8`."""

    private: tuple[str, ...] = ()

    def takes(self, host: str, address: Address) -> bool:
        """Whether this address of the host may be called."""
        if host.lower() in {name.lower() for name in self.private}:
            return True
        meant = _meant(address)
        if any(meant in network for network in self._networks()):
            return True
        return meant.is_global and not meant.is_multicast

    def _networks(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        for name in self.private:
            try:
                yield ipaddress.ip_network(name, strict=False)
            except ValueError:
                continue


class Guarded(httpx.BaseTransport):
    """Calls by `inner` what `hosts` takes; raises Fatal for the rest, before anything is sent."""

    def __init__(self, inner: httpx.BaseTransport, hosts: Hosts) -> None:
        self._inner = inner
        self._hosts = hosts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        *others, last = self._addresses(host, request.url.port)
        for address in others:
            try:
                return self._inner.handle_request(_pinned(request, address))
            except httpx.ConnectError:
                continue
        return self._inner.handle_request(_pinned(request, last))

    def close(self) -> None:
        self._inner.close()

    def _addresses(self, host: str, port: int | None) -> list[Address]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpx.ConnectError(f"{host} is no host that is known") from None
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        taken = [address for address in addresses if self._hosts.takes(host, address)]
        if not taken:
            raise Fatal(
                f"{host!r} is a host of a private network, and may not be called",
                hint="if it's the right one, the server's private_hosts has to name it",
            )
        return list(dict.fromkeys(taken))


def _pinned(request: httpx.Request, address: Address) -> httpx.Request:
    """The request to this address; its Host header, and what TLS asks for, stay the name."""
    extensions = {**request.extensions, "sni_hostname": request.url.host}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def _meant(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 one, as gateways and the system take it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner: Iterable[Address | None] = (address.ipv4_mapped, address.sixtofour, _translated(address))
    return next((found for found in inner if found is not None), address)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _translated(address: ipaddress.IPv6Address) -> Address | None:
    in_gateway = address in _NAT64
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if in_gateway else None
