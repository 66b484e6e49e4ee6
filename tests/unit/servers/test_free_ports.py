"""A port that was handed out is still there when its server comes, and when it comes again."""

import socket
import sys

import pytest

from tests.servers.ports import LOOPBACK, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="others keep no port")


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_nobody_else_is_given_a_port_before_its_server_comes(option: int) -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, port))
    for _ in range(2):  # a server that is started again
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
            server.bind((LOOPBACK, port))
            server.listen()
            with socket.create_connection((LOOPBACK, port)):
                pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port)).close()
