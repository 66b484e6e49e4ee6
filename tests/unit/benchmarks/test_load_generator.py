"""The load generator and the sink, against each other and against servers that misbehave."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.load import Job, Outcome, Request
from benchmarks.rounds import LoadFailed, generate
from benchmarks.sink import serve

MiB = 1024 * 1024


@pytest.fixture
def sink() -> Iterator[int]:
    """Run a sink in this process; its connections end with the generator's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def put(size: int) -> Request:
    return Request(f"PUT /b/k HTTP/1.1\r\nContent-Length: {size}\r\n\r\n", sends=size)


def test_every_request_is_answered_and_timed(sink: int) -> None:
    job = Job("127.0.0.1", sink, 4, [put(size) for size in (0, 1, 100_000, 40 * MiB) * 5])
    outcome = generate(job, "the sink")
    assert len(outcome.first) == len(outcome.total) == 20
    assert all(
        0 < f <= t <= outcome.seconds for f, t in zip(outcome.first, outcome.total, strict=True)
    )


def test_an_upload_in_parts_ends_in_the_sink(sink: int) -> None:
    heads = [
        "POST /b/k?uploads HTTP/1.1\r\n\r\n",
        "PUT /b/k?partNumber=1&uploadId=sink HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST /b/k?uploadId=sink HTTP/1.1\r\n\r\n",
        "DELETE /b/k HTTP/1.1\r\n\r\n",
        "HEAD /b HTTP/1.1\r\n\r\n",
    ]
    generate(Job("127.0.0.1", sink, 1, [Request(head) for head in heads]), "the sink")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy", "503 Slow Down: busy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "ended its answer early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nword", "another length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "another length"),
        (b"", "without an answer"),
    ],
)
def test_what_is_not_the_expected_answer_ends_the_run(answer: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        server = threading.Thread(target=answer_once)
        server.start()
        request = Request("GET /k HTTP/1.1\r\n\r\n", receives=9)
        with pytest.raises(LoadFailed, match=told):
            generate(Job("127.0.0.1", listening.getsockname()[1], 1, [request]), "a server")
        server.join()


def test_a_job_travels_as_json() -> None:
    job = Job("127.0.0.1", 1, 2, [Request("GET / HTTP/1.1\r\n\r\n", 3, 4)])
    code = "import sys; from benchmarks.load import parse; print(parse(sys.stdin.read()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(asdict(job)),
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(job)
    assert Outcome(**json.loads(json.dumps(asdict(Outcome(1.0, 0.1, [0.1], [0.2]))))).cpu == 0.1
