"""What the session does with answers that a real Vault gives too rarely to wait for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyservice.errors import Unavailable
from keyservice.vault.login import AppRoleLogin, Refused
from keyservice.vault.session import ATTEMPTS, VaultSession

DROP = 0
Answers = Callable[[int], tuple[int, dict[str, str]]]


class Stub:
    """A server that answers the n-th request for `/v1/x` as it is told; 0 drops the connection."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls = 0
        self.running = 0
        self.most = 0
        self.log_ins = 0
        self.failing_log_ins = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, headers = 200, {"": ""}
            if "/login" in head:
                self.log_ins += 1
                status = 500 if self.failing_log_ins else 200
                self.failing_log_ins = max(0, self.failing_log_ins - 1)
            else:
                self.calls += 1
                self.running += 1
                self.most = max(self.most, self.running)
                await asyncio.sleep(0.02)
                self.running -= 1
                status, headers = self.answers(self.calls)
            if status != DROP:
                token = f"s.stub-{self.log_ins}"
                auth = {"client_token": token, "lease_duration": 0, "renewable": False}
                body = json.dumps({"auth": auth, "data": {}, "errors": []})
                lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
                lines += [f"{name}: {value}" for name, value in headers.items() if name]
                lines += ["Connection: close", "", body]
                writer.write("\r\n".join(lines).encode())
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def stubbed(answers: Answers, folder: Path) -> AsyncIterator[tuple[Stub, VaultSession]]:
    stub = Stub(answers)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    word = folder / "word"
    await asyncio.to_thread(word.write_text, "word")
    session = VaultSession(
        f"http://127.0.0.1:{port}", AppRoleLogin(word, word), timeout=30.0, deadline=60.0, threads=4
    )
    try:
        yield stub, session
    finally:
        await session.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [DROP, 307, 429, 472, 473, 500, 502, 503])
async def test_what_may_pass_is_asked_again(status: int, tmp_path: Path) -> None:
    async with stubbed(lambda n: (status if n == 1 else 200, {"Retry-After": "0"}), tmp_path) as (
        stub,
        session,
    ):
        assert (await session.call("get", "x")).status == 200
        assert stub.calls == 2


@pytest.mark.parametrize("status", [DROP, 500, 502, 503])
async def test_attempts_are_bounded(status: int, tmp_path: Path) -> None:
    async with stubbed(lambda _: (status, {}), tmp_path) as (stub, session):
        with pytest.raises(Unavailable) as failed:
            await session.call("get", "x")
        assert failed.value.retry_after
        assert stub.calls == ATTEMPTS


@pytest.mark.parametrize("status", [DROP, 500, 502])
async def test_what_may_have_happened_is_not_done_twice(status: int, tmp_path: Path) -> None:
    async with stubbed(lambda _: (status, {}), tmp_path) as (stub, session):
        with pytest.raises(Unavailable):
            await session.call("post", "x", {}, repeatable=False)
        assert stub.calls == 1


@pytest.mark.parametrize("status", [307, 429, 472, 473, 503])
async def test_what_cannot_have_happened_is(status: int, tmp_path: Path) -> None:
    async with stubbed(lambda n: (status if n == 1 else 200, {"Retry-After": "0"}), tmp_path) as (
        stub,
        session,
    ):
        assert (await session.call("post", "x", {}, repeatable=False)).status == 200
        assert stub.calls == 2


async def test_a_long_pause_is_the_callers_choice(tmp_path: Path) -> None:
    async with stubbed(lambda _: (429, {"Retry-After": "30"}), tmp_path) as (stub, session):
        with pytest.raises(Unavailable) as failed:
            await session.call("get", "x")
        assert failed.value.retry_after == 30
        assert stub.calls == 1


async def test_a_log_in_may_be_tried_again_before_a_write(tmp_path: Path) -> None:
    async with stubbed(lambda _: (200, {}), tmp_path) as (stub, session):
        stub.failing_log_ins = 1
        assert (await session.call("post", "x", {}, repeatable=False)).status == 200
        assert stub.calls == 1


async def test_a_call_may_have_less_time_than_the_session(tmp_path: Path) -> None:
    async with stubbed(lambda _: (500, {}), tmp_path) as (stub, session):
        with pytest.raises(Unavailable):
            await session.call("get", "x", deadline=0.1)
        assert stub.calls < ATTEMPTS


async def test_redirects_are_not_followed(tmp_path: Path) -> None:
    answer = (307, {"Location": "http://127.0.0.1:1/v1/x"})
    async with stubbed(lambda _: answer, tmp_path) as (_, session):
        with pytest.raises(Unavailable, match="307"):
            await session.call("get", "x")


async def test_threads_bound_what_is_under_way(tmp_path: Path) -> None:
    async with stubbed(lambda _: (200, {}), tmp_path) as (stub, session):
        await asyncio.gather(*(session.call("get", "x") for _ in range(40)))
        assert stub.calls == 40
        assert stub.most <= 4


async def test_a_forbidden_path_does_not_throw_the_shared_token_away(tmp_path: Path) -> None:
    async with stubbed(lambda _: (403, {}), tmp_path) as (stub, session):
        for _ in range(5):
            with pytest.raises(Refused):
                await session.call("get", "x")
        assert stub.log_ins == 2  # the first, and one to see whether it was the token
        assert stub.calls == 6


async def test_a_lost_token_is_replaced(tmp_path: Path) -> None:
    async with stubbed(lambda n: (403 if n in {2, 4} else 200, {}), tmp_path) as (stub, session):
        for _ in range(3):
            assert (await session.call("get", "x")).status == 200
        assert (stub.calls, stub.log_ins) == (5, 3)
