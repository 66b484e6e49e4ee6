"""Two workers share what there is to do; one is killed, the other goes on where it stopped."""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from gateway.catalog import SqlCatalog, open_catalog
from gateway.catalog.tables import EPOCH
from gateway.model import ReplicaState
from gateway.ports import Finding, Run, RunState
from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port
from tests.service.spine.conftest import NewStack
from tests.stack.client import Client, generated
from tests.stack.stack import PATIENT_WITH_CATALOG, Stack, answers

COUNT = 5


class Workers:
    """Worker processes of one stack, by their process ids."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.daemons: dict[int, Daemon] = {}
        self.urls: dict[int, str] = {}

    def start(self, name: str) -> None:
        """Start one and wait until it is alive."""
        url, config = f"http://{LOOPBACK}:{free_port()}", self._stack.home / "gateway.toml"
        command = [sys.executable, "-m", "gateway", "worker", "--config", str(config)]
        daemon = Daemon(
            [*command, "--port", url.rpartition(":")[2]],
            log=self._stack.home / f"{name}.log",
            ready=lambda: answers(f"{url}/livez"),
            env=self._stack.environment,
        )
        daemon.start()
        self.daemons[daemon.pid] = daemon
        self.urls[daemon.pid] = url

    def stop(self) -> None:
        """Stop all that are left."""
        for daemon in self.daemons.values():
            daemon.stop()


async def repairing(
    catalog: SqlCatalog, wanted: Callable[[Run], bool], state: RunState = RunState.RUNNING
) -> Run:
    """Wait until the run that repairs east is as wanted."""
    async with asyncio.timeout(60):
        while True:
            for run in await catalog.runs.latest(state):
                if (run.kind, run.subject) == ("repair", "east") and wanted(run):
                    return run
            await asyncio.sleep(0.05)


def holder(run: Run) -> int:
    """Return the process id of the worker that has a run."""
    return int(run.holder.split("/")[1])


async def test_another_worker_goes_on_where_one_was_killed(
    tmp_path: Path, new_stack: NewStack
) -> None:
    stack = await new_stack(
        tmp_path / "stack",
        targets={name: tmp_path / name for name in ("primary", "east")},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        extra={
            "worker": {"lease": 2.0},
            "repair": {"pause": 0.2},
            "drill": {"enabled": False},
        },
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        for number in range(COUNT):
            path = f"/v1/tenants/{tenant}/attachments/{number}"
            await client.json("PUT", path, data=generated(70_000, str(number).encode()))

    catalog = await open_catalog(stack.catalog, patience=PATIENT_WITH_CATALOG)
    with ExitStack() as running:
        workers = Workers(stack)
        running.callback(workers.stop)
        for name in ("first", "second"):
            await asyncio.to_thread(workers.start, name)
        run = await repairing(catalog, lambda _: True)
        killed = workers.daemons.pop(holder(run))
        await asyncio.to_thread(killed.kill)
        await lose(catalog)  # what there is to do now, somebody else has to do

        (survivor,) = workers.daemons
        taken = await repairing(catalog, lambda run: holder(run) == survivor)
        assert taken.id == run.id
        await repaired(catalog)

        # The catalog knows of a copy before who made it has counted it.
        await told(
            f"{workers.urls[survivor]}/metrics",
            'sealgate_run_running{kind="repair",subject="east"} 1.0',
            f'sealgate_replicas_repaired_total{{target="east"}} {COUNT}.0',
            'sealgate_runs_total{end="failed",kind="purge",subject=""} 0.0',
        )
        await told(f"{workers.urls[survivor]}/readyz", "catalog: ok")

        await asyncio.to_thread(workers.daemons[survivor].stop)
        await repairing(catalog, lambda run: run.touched == EPOCH)  # given back, for the next

    done = await asyncio.to_thread(stack.sealgate, "worker", "--once", "--json")
    ends = {(run["kind"], run["subject"]): run["state"] for run in json.loads(done)["runs"]}
    assert set(ends.values()) == {"done"}
    assert ("catalog-backup", "") in ends
    ended = await repairing(catalog, lambda _: True, RunState.DONE)
    assert ended.id == run.id
    shown = await asyncio.to_thread(stack.sealgate, "runs", "--kind", "repair", "--json")
    assert [each["subject"] for each in json.loads(shown)["runs"]] == ["east", "primary"]
    await catalog.close()


async def lose(catalog: SqlCatalog) -> None:
    """Report every copy on east as missing; it is there, as the repairer finds out."""
    held = await catalog.replicas.held("east")
    missing = [Finding(each.version.id, "east", ReplicaState.MISSING, "absent") for each in held]
    assert await catalog.replicas.report(missing) == COUNT


async def repaired(catalog: SqlCatalog) -> None:
    """Wait until east holds everything again."""
    async with asyncio.timeout(60):
        while any(lag.objects for lag in await catalog.replicas.lag(["east"])):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)


async def told(url: str, *lines: str) -> None:
    """Wait until a page says all of this."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(url) as answer:
                text = await answer.text()
            if all(line in text for line in lines):
                return
            await asyncio.sleep(0.1)
