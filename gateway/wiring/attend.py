"""The composition root's page of the worker: a process that does the duties and takes no requests.

`attend` works until a signal, then gives back what it was at, so that another worker goes on at once.
`once` does every duty a single time and ends.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

import structlog
from aiohttp import web

from gateway.duties.ticker import Ticker
from gateway.duties.worker import Turn
from gateway.http.monitor import application
from gateway.settings.config import Settings
from gateway.wiring import schedule
from gateway.wiring.core import open_core

SHARE = 0.5  # of the time: it may write to a catalog that takes one writer at a time
PATIENCE = 60.0  # seconds for one step of the catalog: nobody waits for an answer here

log = structlog.get_logger()


async def attend(settings: Settings, *, started: Callable[[str], None] | None = None) -> None:
    """Work until SIGTERM or SIGINT. `started` is called with the URL of the figures.

    Raises ConfigError, CatalogErrors, and OSError for a port that is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        wired = await stack.enter_async_context(open_core(settings, patience=PATIENCE, share=SHARE))
        worker = schedule.worker(settings, wired, schedule.duties(settings, wired))
        services = wired.services
        runner = web.AppRunner(application(services.ready, services.metrics), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.worker.host, settings.worker.port)
        await site.start()
        url = f"http://{settings.worker.host}:{runner.addresses[0][1]}"
        log.info("working", url=url)
        if started is not None:
            started(url)
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(worker.run()),
                tasks.create_task(Ticker(wired.bin).run()),
                tasks.create_task(wired.lags.run()),
                tasks.create_task(wired.overdue.run()),
                tasks.create_task(wired.placing.run(settings.failover.refresh)),
            ]
            await stop.wait()
            log.info("stopping")
            for each in loops:
                each.cancel()
    log.info("stopped")


async def once(settings: Settings, kind: str | None) -> Sequence[Turn]:
    """Do every duty, or those of one kind, once and now. Raises ConfigError and CatalogErrors."""
    async with open_core(settings, patience=PATIENCE, share=SHARE) as wired:
        duties = schedule.duties(settings, wired)
        return await schedule.worker(settings, wired, duties).once(kind)
