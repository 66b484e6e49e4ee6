"""Two workers on one port: both serve, a dead one is replaced, and stopping finishes what runs."""

import asyncio
import os
import re
import signal
from pathlib import Path

import psutil

from tests.service.spine.conftest import NewStack
from tests.stack.client import Client, MiB, generated
from tests.stack.stack import Stack


async def two_workers(home: Path, new_stack: NewStack) -> Stack:
    return await new_stack(
        home / "stack",
        targets={name: home / name for name in ("primary", "east")},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        top={"workers": 2},
    )


def worker_ids(stack: Stack) -> set[int]:
    return {child.pid for child in psutil.Process(stack.gateway.pid).children()}


async def until_two(stack: Stack, started: int = 2) -> set[int]:
    """Wait until two workers take connections, and so many were started."""
    async with asyncio.timeout(60):
        while True:
            ids = await asyncio.to_thread(worker_ids, stack)
            log = await asyncio.to_thread(stack.gateway.log.read_text)
            begun, serving = log.count("worker started"), log.count('"event": "serving"')
            if len(ids) == 2 and serving >= begun >= started:
                return ids
            await asyncio.sleep(0.1)


async def test_both_serve_and_their_figures_are_added_up(
    tmp_path: Path, new_stack: NewStack
) -> None:
    stack = await two_workers(tmp_path, new_stack)
    await until_two(stack)
    token = await asyncio.to_thread(stack.admin_token)
    tenants = set()
    for _ in range(24):  # a connection each, which the kernel spreads
        async with Client(stack.url, token) as client:
            tenants.add(await client.create_tenant())

    async with Client(stack.url, token) as client, client.request("GET", "/metrics") as answer:
        text = await answer.text()

    found = re.search(r'sealgate_http_requests_total\{method="POST",status="2xx"\} (\d+)', text)
    assert found is not None
    assert int(found[1]) == len(tenants) == 24


async def test_a_worker_that_dies_is_replaced(tmp_path: Path, new_stack: NewStack) -> None:
    stack = await two_workers(tmp_path, new_stack)
    before = await until_two(stack)
    folder = Path(psutil.Process(min(before)).environ()["PROMETHEUS_MULTIPROC_DIR"])
    os.kill(min(before), signal.SIGKILL)

    after = await until_two(stack, started=3)

    assert len(after & before) == 1
    files = await asyncio.to_thread(lambda: [path.stem for path in folder.iterdir()])
    assert {name.rpartition("_")[2] for name in files} == {"0", "1"}, "none of the dead one's own"
    async with Client(stack.url, await asyncio.to_thread(stack.admin_token)) as client:
        await client.create_tenant()


async def test_stopping_finishes_what_runs_and_leaves_no_worker(
    tmp_path: Path, new_stack: NewStack
) -> None:
    stack = await two_workers(tmp_path, new_stack)
    ids = await until_two(stack)
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        path = f"/v1/tenants/{tenant}/attachments/a"
        await client.json("PUT", path, data=generated(30 * MiB))
        async with client.request("GET", path) as answer, asyncio.TaskGroup() as group:
            await answer.content.readexactly(MiB)
            stopping = group.create_task(asyncio.to_thread(stack.gateway.stop))
            await asyncio.sleep(0.3)
            rest = await answer.content.read()
        assert len(rest) == 29 * MiB
        assert stopping.done()
    assert not any(psutil.pid_exists(pid) for pid in ids)
