"""The load generator: a process that costs next to nothing, so that it never is the bottleneck.

One thread, one `epoll`. A body goes out by `sendfile` from memory and comes in with MSG_TRUNC, which
lets the kernel throw it away without a copy; of an answer only its status and length are looked at.
Its own CPU time is part of what it tells. It reads one job as JSON from standard input and writes
what it measured to standard output. It does not check contents: `subjects.verify` does, beforehand.
"""

import json
import os
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

MiB = 1024 * 1024
SOURCE = 16 * MiB  # random bytes that bodies are cut from
RECEIVE = 1 * MiB
HEAD = 64 * 1024
PATIENCE = 120.0  # seconds without anything happening
DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0
OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its head to the letter, the size of its body, what must come back if known."""

    head: str
    sends: int = 0
    receives: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Requests to one server, at most `at_once` of them under way."""

    host: str
    port: int
    at_once: int
    requests: list[Request]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds: the whole, the generator's own CPU, each answer's first byte, each request's end."""

    seconds: float
    cpu: float
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


class Failed(Exception):
    """A server answered otherwise than it must; the figures would be worthless."""


class _Connection:
    """One kept-alive connection, on which one exchange follows the other."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._socket = self._connect()
        self._room = bytearray(RECEIVE)
        self._ends = False

    def _connect(self) -> socket.socket:
        made = socket.create_connection((self._load.job.host, self._load.job.port), PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        self._load.poll.register(made, 0)
        self._load.connections[made.fileno()] = self
        return made

    def begin(self, request: Request) -> None:
        if self._ends:
            self.close()
            self._socket = self._connect()
        self._head = memoryview(request.head.encode("latin-1"))
        self._unsent = request.sends
        self._at = 0
        self._expected = request.receives
        self._answer = bytearray()
        self._left = -1  # of the answer's body; unknown before its head is here
        self._first = 0.0
        self._began = time.perf_counter()
        self._load.poll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)
        self.send()

    def send(self) -> None:
        try:
            while self._head:
                self._head = self._head[self._socket.send(self._head) :]
            while self._unsent:
                start = self._at % SOURCE
                count = min(self._unsent, SOURCE - start)
                sent = os.sendfile(self._socket.fileno(), self._load.source, start, count)
                self._at += sent
                self._unsent -= sent
        except BlockingIOError:
            return
        self._load.poll.modify(self._socket, select.EPOLLIN)

    def receive(self) -> None:
        try:
            if self._left < 0:
                self._receive_head()
            while self._left > 0:
                got = self._socket.recv_into(self._room, min(RECEIVE, self._left), DISCARD)
                if not got:
                    raise Failed("the server ended its answer early")
                self._left -= got
        except BlockingIOError:
            return
        if not self._left:
            now = time.perf_counter()
            self._load.ended(self, self._first - self._began, now - self._began)

    def _receive_head(self) -> None:
        data = self._socket.recv(HEAD)
        self._first = self._first or time.perf_counter()
        self._answer += data
        head, found, body = bytes(self._answer).partition(b"\r\n\r\n")
        if not found:
            if not data:
                raise Failed("the server closed the connection without an answer")
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        named = dict(each.lower().split(": ", 1) for each in fields)
        if int(line.split()[1]) not in OK or self._unsent:
            raise Failed(f"{line}: {body[:300].decode(errors='replace')}")
        length = int(named.get("content-length", 0))
        if "transfer-encoding" in named or (self._expected or length) != length:
            raise Failed(f"{line}: another length than was expected: {named}")
        self._ends = named.get("connection") == "close"
        self._left = length - len(body)

    def close(self) -> None:
        del self._load.connections[self._socket.fileno()]
        self._socket.close()


class _Load:
    """All connections of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.poll = select.epoll()
        self.connections: dict[int, _Connection] = {}
        self.source = os.memfd_create("load")
        os.write(self.source, os.urandom(SOURCE))
        self._waiting = deque(job.requests)
        self._running = 0
        self._first: list[float] = []
        self._total: list[float] = []

    def run(self) -> Outcome:
        ready = [_Connection(self) for _ in range(min(self.job.at_once, len(self._waiting)))]
        began, before = time.perf_counter(), time.process_time()
        for connection in ready:
            self._next(connection)
        while self._running:
            events = self.poll.poll(PATIENCE)
            if not events:
                raise Failed(f"nothing happened for {PATIENCE:.0f} s")
            for number, event in events:
                connection = self.connections[number]
                if event & select.EPOLLOUT:
                    connection.send()
                if event & ~select.EPOLLOUT:
                    connection.receive()
        seconds = time.perf_counter() - began
        return Outcome(seconds, time.process_time() - before, self._first, self._total)

    def ended(self, connection: _Connection, first: float, total: float) -> None:
        self._first.append(first)
        self._total.append(total)
        self._running -= 1
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        if self._waiting:
            self._running += 1
            connection.begin(self._waiting.popleft())


def parse(text: str) -> Job:
    """Return the job in a JSON text."""
    told: dict[str, Any] = json.loads(text)
    return Job(**{**told, "requests": [Request(**each) for each in told["requests"]]})


def main() -> int:
    """Run the job on standard input."""
    try:
        outcome = _Load(parse(sys.stdin.read())).run()
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(asdict(outcome), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
