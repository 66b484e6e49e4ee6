"""Free loopback ports.

A port is free when it is handed out; another program may still take it before the
server binds it, so whoever starts a server reports that and is started again.
"""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port on the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
