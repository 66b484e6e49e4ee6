"""Ports for servers that the tests start.

They lie below those that the system gives to clients: a server that is killed and started again could
find its port taken by any connection that a client opened meanwhile. A port is free when it is handed
out, and no two callers of a process get the same; another program may still take it before the server
binds it, so whoever starts a server reports that and is started again.
"""

import itertools
import secrets
import socket
from pathlib import Path
from typing import Final

LOOPBACK = "127.0.0.1"
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000  # what is below belongs to well-known programs
_CLIENTS: Final = 32_768  # where those of clients begin, if the system does not say
_TRIES: Final = 1000
_taken: set[int] = set()


def free_port() -> int:
    """Return a TCP port on the loopback address that nobody listens on."""
    first = _first_of_clients()
    room = first - _LOWEST
    for number in itertools.count():
        # Drawn, since two runs of the tests may share the machine.
        port = _LOWEST + secrets.randbelow(room) if room > _TRIES and number < _TRIES else 0
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
        if found not in _taken:
            _taken.add(found)
            return found
    raise AssertionError


def _first_of_clients() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except OSError:
        return _CLIENTS
