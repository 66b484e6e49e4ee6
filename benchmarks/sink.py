"""An S3 server that throws everything away, so that a PUT costs what the sender makes it cost.

Knows as much of S3 as a PUT needs: a bucket that exists, objects, uploads in parts. It answers with a
constant ETag, believes the checksum of a whole that it is told, checks no signature, keeps nothing, and reads
no object back. Bodies are
dropped by the kernel without a copy (MSG_TRUNC). One thread a connection.
"""

import contextlib
import re
import socket
import sys
import threading
from collections.abc import Iterator

MiB = 1024 * 1024
DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0
ROOM = 1 * MiB
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<{0}><Bucket>b</Bucket><Key>k</Key>{1}</{0}>'
BEGUN = XML.format("InitiateMultipartUploadResult", "<UploadId>sink</UploadId>")
WHOLE = "<ETag>&quot;sink&quot;</ETag><ChecksumCRC64NVME>{}</ChecksumCRC64NVME>"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHECKSUM = re.compile(rb"\r\nx-amz-checksum-crc64nvme: *([^\r]+)", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


def serve(connection: socket.socket) -> None:
    """Answer every request of one connection."""
    room = bytearray(ROOM)
    with connection, contextlib.suppress(ConnectionError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for head, begun in _heads(connection):
            length = LENGTH.search(head)
            left = (int(length[1]) if length else 0) - begun
            if EXPECTS.search(head):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while left:
                got = connection.recv_into(room, min(ROOM, left), DISCARD)
                if not got:
                    return
                left -= got
            connection.sendall(_answer(head))


def _heads(connection: socket.socket) -> Iterator[tuple[bytes, int]]:
    """Yield every request's head, and how much of its body came along with it."""
    while True:
        read = b""
        while b"\r\n\r\n" not in read:
            data = connection.recv(64 * 1024)
            if not data:
                return
            read += data
        head, _, body = read.partition(b"\r\n\r\n")
        yield head, len(body)


def _answer(head: bytes) -> bytes:
    method, target, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
    text = ""
    if method == b"POST":
        text = BEGUN if b"uploads" in target.partition(b"?")[2] else _complete(head)
    status = "204 No Content" if method == b"DELETE" else "200 OK"
    return (
        f'HTTP/1.1 {status}\r\nETag: "sink"\r\nContent-Type: application/xml\r\n'
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _complete(head: bytes) -> str:
    told = CHECKSUM.search(head)
    return XML.format(
        "CompleteMultipartUploadResult", WHOLE.format(told[1].decode() if told else "")
    )


def main(port: int) -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
