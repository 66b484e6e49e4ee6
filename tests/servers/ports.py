"""Ports for servers that the tests start.

They lie below those that the system gives to clients: a server that is killed and started again could
find its port taken by any connection that a client opened meanwhile. No two callers get the same, of no
process on Linux: there a socket stays bound to the port, without listening, beside which a server that
sets SO_REUSEADDR or SO_REUSEPORT (as all do) still binds it, as often as it is started.
"""

import itertools
import secrets
import socket
import sys
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
            if found in _taken:
                continue
            _taken.add(found)
            if sys.platform == "linux":
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    probe.setsockopt(socket.SOL_SOCKET, option, 1)
                probe.detach()  # it is closed when the process ends
            return found
    raise AssertionError


def _first_of_clients() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except OSError:
        return _CLIENTS
