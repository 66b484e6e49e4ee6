"""The composition root: from settings to a running gateway.

`core` wires adapters to use cases; `running` serves them over HTTP for as long as its block lasts;
`serve` is that until a signal, with readiness withdrawn first and running streams finished. This is
the only module that reads settings and the only one that knows every adapter.
"""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aiohttp import web

from gateway import schedule, work
from gateway.admission import Admission
from gateway.ahead import KeysAhead
from gateway.background import Background
from gateway.buffers import Pool
from gateway.catalog import SqlCatalog, open_catalog
from gateway.config import ConfigError, FolderTarget, Settings, secret
from gateway.config import Target as TargetSettings
from gateway.downloads import Downloads
from gateway.entrance import Entrance
from gateway.failover import Failover
from gateway.healing import Healing
from gateway.heartbeat import Heartbeat
from gateway.http.connection import Runner, TcpSite
from gateway.http.crowd import Caps, Crowd
from gateway.http.health import DRAINING
from gateway.http.metrics import Metrics
from gateway.http.pace import Pace
from gateway.http.server import application
from gateway.http.services import Services
from gateway.inventory import Inventory
from gateway.keydesk import Custody, custody
from gateway.lag import Lags
from gateway.ledger_copies import LedgerCopies
from gateway.listing import Listing
from gateway.operations import Operations
from gateway.placing import Placing
from gateway.policies import Policies
from gateway.ports import Bin, Catalog, Placements, Replicas, Runs, Shreds, Wraps
from gateway.pump import PumpSettings
from gateway.purger import Purger
from gateway.quorum import Role, Target
from gateway.reaper import Reaper
from gateway.repairer import Repairer
from gateway.replica import Haste
from gateway.replication import FanSettings, Replication
from gateway.rescue import Rescue, rescue
from gateway.scrub import Scrub
from gateway.shreds import ShredOrders
from gateway.stores.open import FolderSettings, open_store
from gateway.stores.retrying import RetryingStore
from gateway.stores.s3_settings import S3Settings
from gateway.tenants import Tenants
from gateway.ticker import Ticker
from gateway.tokens import Tokens
from gateway.trash import Trash
from gateway.uploads import Uploads
from keyservice.client import KeyServiceClient
from keyservice.wire import Unavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Core:
    """Everything but HTTP, opened and checked by nobody yet."""

    services: Services
    catalog: Catalog
    replicas: Replicas
    runs: Runs
    bin: Bin
    placements: Placements
    wraps: Wraps
    custody: Custody
    targets: tuple[Target, ...]
    placing: Placing
    failover: Failover
    reaper: Reaper
    purger: Purger
    repairer: Repairer
    lags: Lags
    scrub: Scrub
    inventory: Inventory
    heartbeat: Heartbeat
    shreds: Shreds
    orders: ShredOrders
    ledger_copies: LedgerCopies
    rescue: Rescue
    keys: KeyServiceClient


def catalog_url(settings: Settings) -> str:
    """Return the database's URL. Raises ConfigError."""
    url = settings.catalog.url or secret(settings.catalog.url_file)
    if not url:
        raise ConfigError("the catalog's url_file is empty")
    return url


def store_settings(target: TargetSettings, *, stall: float) -> FolderSettings | S3Settings:
    """Return what a store's adapter takes, its secrets read from their files. Raises ConfigError."""
    if isinstance(target, FolderTarget):
        return FolderSettings(name=target.name, path=target.path, patience=stall)
    try:
        return S3Settings(
            name=target.name,
            bucket=target.bucket,
            endpoint=target.endpoint,
            region=target.signing_region,
            access_key=secret(target.access_key_file),
            secret_key=secret(target.secret_key_file),
            addressing=target.addressing,
            checksum=target.checksum,
            ca_file=str(target.ca_file) if target.ca_file is not None else None,
            connections=target.connections,
            stall_timeout=stall,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def key_client(settings: Settings) -> KeyServiceClient:
    """Return the client of the key service, not yet connected. Raises ConfigError."""
    keys = settings.keyservice
    return KeyServiceClient(
        keys.url,
        ca_file=keys.ca_file,
        certificate=keys.certificate,
        private_key=keys.private_key,
        token=secret(keys.token_file),
        timeout=keys.timeout,
        cache_size=keys.cache_size,
        cache_ttl=keys.cache_ttl,
    )


@contextlib.contextmanager
def _usable(section: str) -> Iterator[None]:
    """Say of which section a value is that an adapter cannot use. Raises ConfigError."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from None


@contextlib.asynccontextmanager
async def core(
    settings: Settings, *, patience: float | None = None, share: float = 1.0
) -> AsyncIterator[Core]:
    """Open the adapters, wire the use cases, and close everything at the end of the block.

    `patience` is how many seconds one step of the catalog may take, where that is much; `share` the part
    of the time in which it may write, where requests come first.
    """
    async with contextlib.AsyncExitStack() as stack:
        # These read secrets from files, which may block.
        url = await asyncio.to_thread(catalog_url, settings)
        client = await asyncio.to_thread(key_client, settings)
        stall = settings.limits.stall_timeout
        stores = [
            await asyncio.to_thread(store_settings, each, stall=stall) for each in settings.targets
        ]
        with _usable("catalog"):
            catalog = await open_catalog(
                url,
                connections=settings.catalog.connections,
                patience=patience,
                share=share,
            )
        stack.push_async_callback(catalog.close)
        with _usable("keyservice"):
            keys = await stack.enter_async_context(client)
        targets = []
        for target, adapter in zip(settings.targets, stores, strict=True):
            store = RetryingStore(open_store(adapter))
            stack.push_async_callback(store.close)
            targets.append(Target(target.name, Role(target.role), store, target.region))
        background = await stack.enter_async_context(Background())
        yield _wire(settings, catalog, keys, tuple(targets), background)


def _wire(
    settings: Settings,
    catalog: SqlCatalog,
    keys: KeyServiceClient,
    targets: tuple[Target, ...],
    background: Background,
) -> Core:
    limits, policies = settings.limits, Policies(catalog, settings.required)
    metrics = Metrics(tuple(target.name for target in targets))
    placing = Placing(catalog.placements, targets, changed=metrics.placed)
    metrics.placed(placing.now)
    replication = Replication(
        lambda: placing.now,
        pool=Pool(limits.part_size, limits.parts_memory),
        background=background,
        settings=FanSettings(
            window=limits.parts_in_flight,
            parallel=limits.parts_at_once,
            patience=limits.backup_patience,
            degraded=settings.quorum.degraded,
        ),
    )
    heartbeat = Heartbeat(catalog, settings.heartbeat)
    uploads = Uploads(
        catalog,
        keys,
        replication,
        policies=policies,
        placing=placing,
        ahead=KeysAhead(keys, background, fresh=settings.keyservice.cache_ttl),
        heartbeat=heartbeat,
        background=background,
        settings=PumpSettings(
            part_size=limits.part_size, inline=limits.inline, max_size=limits.max_attachment
        ),
    )
    downloads = Downloads(
        catalog,
        keys,
        lambda: placing.now.targets,
        haste=Haste(limits.first_byte, limits.silence),
        hedge_after=limits.hedge_after,
        report=Healing(catalog.replicas, background).found,
        watch=metrics,
    )

    async def keys_ready() -> None:
        status = await keys.status()
        if not status.healthy:
            raise Unavailable(f"the key service's {status.root} does not answer")

    def required(good: frozenset[str]) -> bool:
        stores = {name.removeprefix("store ") for name in good}
        return {"catalog", "key service"} <= good and replication.possible(
            policies.default, stores, placing.now
        )

    services = Services(
        catalog=catalog,
        uploads=uploads,
        operations=Operations(
            catalog, uploads, downloads, background, lease=4 * settings.heartbeat
        ),
        downloads=downloads,
        listing=Listing(catalog, keys),
        trash=Trash(catalog, catalog.bin),
        tenants=Tenants(catalog, keys, targets),
        tokens=Tokens(catalog),
        metrics=metrics,
        admission=Admission(limits.streams, limits.tenant_streams),
        pace=lambda: Pace(limits.min_rate, limits.slow_grace),
        entrance=Entrance(keys),
        ready={
            "catalog": catalog.check,
            "key service": keys_ready,
            **{f"store {target.name}": target.store.check for target in targets},
        },
        required=required,
    )
    reaper = Reaper(
        catalog,
        targets,
        grace=timedelta(seconds=settings.reaper.grace),
        age=timedelta(seconds=settings.reaper.sweep_age),
        keep=timedelta(seconds=settings.reaper.keep_complete),
    )
    return Core(
        services=services,
        catalog=catalog,
        replicas=catalog.replicas,
        runs=catalog.runs,
        bin=catalog.bin,
        placements=catalog.placements,
        wraps=catalog.wraps,
        custody=custody(settings, catalog, catalog.wraps, keys.control, targets),
        targets=targets,
        placing=placing,
        failover=Failover(catalog.placements, catalog.replicas, targets),
        reaper=reaper,
        purger=Purger(catalog.bin, catalog.wraps, targets),
        repairer=work.repairer(settings, catalog.replicas, targets, metrics.copies),
        lags=work.lags(settings, catalog.replicas, metrics.copies),
        scrub=work.scrub(
            settings, catalog.replicas, keys, targets, metrics.scrubs, wraps=catalog.wraps
        ),
        inventory=work.inventory(settings, catalog, catalog.replicas, targets, metrics.scrubs),
        heartbeat=heartbeat,
        shreds=catalog.shreds,
        orders=ShredOrders(keys, keys.shreds, catalog, catalog.shreds),
        ledger_copies=LedgerCopies(keys.shreds, catalog.shreds, targets),
        rescue=rescue(settings, catalog, keys, targets, background),
        keys=keys,
    )


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """Serve for as long as the block lasts; yields the URL. Raises ConfigError and OSError."""
    context = await asyncio.to_thread(server_context, settings)
    async with core(settings) as wired, contextlib.AsyncExitStack() as stack:
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
