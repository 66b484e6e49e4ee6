"""Downloads in turn, as fast as they come, in a process of its own: `python -m tests.load.pull`.

Takes the port and the path as arguments and the token on standard input; `streams` at once; until it is
stopped.
"""

import socket
import sys
import threading

_BLOCK = 256 * 1024


def pull(port: int, path: str, token: str) -> None:
    """Download again and again."""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    )
    room = bytearray(_BLOCK)
    while True:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"{head}\r\n".encode())
            while connection.recv_into(room):
                pass


if __name__ == "__main__":
    at, where, streams = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    secret = sys.stdin.readline().strip()
    for _ in range(streams):
        threading.Thread(target=pull, args=(at, where, secret)).start()
