"""How many connections are open at once: in all, and from one address, so that none takes all of them.

Beyond a cap a connection is not served; nothing is answered on it, because an answer costs more than it
is worth to whoever floods. The connections of a listener that speaks TLS count once their handshake is
over. An IPv6 address counts with the rest of its /64, which one host has to itself; clients on a Unix
socket have no address.
"""

import asyncio
import ipaddress
from collections import Counter
from dataclasses import dataclass

from gateway.http.metrics import Metrics

_HOST_BITS = 64


@dataclass(frozen=True, slots=True)
class Caps:
    """The most connections at once; 0 is no cap."""

    connections: int = 0
    of_one_address: int = 0


class Crowd:
    """The connections of this process."""

    def __init__(self, caps: Caps, metrics: Metrics) -> None:
        self._caps = caps
        self._metrics = metrics
        self._open = 0
        self._from: Counter[str] = Counter()

    def enter(self, address: str | None) -> bool:
        """Count a connection in and tell whether it may be served: then it must `leave` once."""
        caps, refused = self._caps, self._metrics.refused
        if caps.connections and self._open >= caps.connections:
            refused.labels("all").inc()
            return False
        if address is not None and 0 < caps.of_one_address <= self._from[address]:
            refused.labels("address").inc()
            return False
        self._open += 1
        self._metrics.connections.inc()
        if address is not None:
            self._from[address] += 1
        return True

    def leave(self, address: str | None) -> None:
        """Count a connection out that has entered."""
        self._open -= 1
        self._metrics.connections.dec()
        if address is not None:
            self._from[address] -= 1
            if not self._from[address]:
                del self._from[address]


def address_of(transport: asyncio.BaseTransport) -> str | None:
    """Return what a client's connections are counted under, None when it has no address."""
    peer = transport.get_extra_info("peername")
    return counted(peer[0]) if isinstance(peer, tuple) and peer else None


def counted(host: str) -> str:
    """Return an address, an IPv6 one without its last half and one of IPv4 in disguise without that."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS))
