"""The composition root: from settings to a running gateway.

`running` serves a core over HTTP for as long as its block lasts; `serve` is that until a signal, with
readiness withdrawn first and running streams finished.
"""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web

from gateway.duties.ticker import Ticker
from gateway.http.connection import Runner, TcpSite
from gateway.http.crowd import Caps, Crowd
from gateway.http.health import DRAINING
from gateway.http.server import application
from gateway.settings.config import FolderTarget, Settings
from gateway.wiring import schedule, work
from gateway.wiring.adapters import catalog_url, key_client, store_settings
from gateway.wiring.core import open_core
from keyservice.layered import ConfigError

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """Serve for as long as the block lasts; yields the URL. Raises ConfigError and OSError."""
    context = await asyncio.to_thread(server_context, settings)
    async with open_core(settings) as wired, contextlib.AsyncExitStack() as stack:
        app, limits = application(wired.services), settings.limits
        runner = Runner(
            app,
            drain_timeout=settings.drain_timeout,
            head_timeout=limits.head_timeout,
            crowd=Crowd(
                Caps(limits.connections, limits.address_connections), wired.services.metrics
            ),
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await wired.placing.refresh()
        await work.warm_up(wired.targets)
        url = await _listen(runner, settings, context)
        log.info("serving", url=url, targets=[target.name for target in wired.targets])
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(wired.heartbeat.run()),
                tasks.create_task(wired.lags.run()),
                tasks.create_task(wired.overdue.run()),
                tasks.create_task(Ticker(wired.bin).run()),
                tasks.create_task(wired.placing.run(settings.failover.refresh)),
            ]
            if duties := schedule.gateways(settings, wired):
                loops.append(tasks.create_task(schedule.worker(settings, wired, duties).run()))
            try:
                yield url
            finally:
                app[DRAINING].set()
                log.info("draining", delay=settings.drain_delay, timeout=settings.drain_timeout)
                # Load balancers see that it is not ready before it stops to take connections.
                await asyncio.sleep(settings.drain_delay)
                await runner.cleanup()
                for loop in loops:
                    loop.cancel()


async def _listen(runner: web.AppRunner, settings: Settings, context: ssl.SSLContext | None) -> str:
    listen = settings.listen
    if listen.unix_socket is not None:
        await web.UnixSite(runner, str(listen.unix_socket), ssl_context=context).start()
        return f"unix://{listen.unix_socket}"
    await TcpSite(
        runner,
        listen.host,
        listen.port,
        ssl_context=context,
        reuse_port=listen.shared or None,
        handshake_timeout=settings.limits.head_timeout,
    ).start()
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'https' if context else 'http'}://{host}:{runner.addresses[0][1]}"


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of the listener, 1.2 at least, or None. Raises ConfigError."""
    if settings.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls.certificate, settings.tls.private_key)
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"tls: {error.strerror or 'not a certificate and its key'}") from None
    return context


def check(settings: Settings) -> None:
    """Read every file that the settings name, and start nothing. Raises ConfigError."""
    server_context(settings)
    catalog_url(settings)
    key_client(settings)
    for target in settings.targets:
        store_settings(target, stall=settings.limits.stall_timeout)
        if isinstance(target, FolderTarget) and not target.path.is_dir():
            raise ConfigError(f"target {target.name}: no such folder: {target.path}")
    if settings.drill.folder is not None and not settings.drill.folder.is_dir():
        raise ConfigError(f"drill.folder: no such folder: {settings.drill.folder}")


async def serve(settings: Settings, *, started: Callable[[str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. `started` is called with the URL once requests are taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as url:
        if started is not None:
            started(url)
        await stop.wait()
