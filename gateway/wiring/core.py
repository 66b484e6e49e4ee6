"""The composition root of everything but HTTP: adapters from settings, and the use cases over them.

Guarantees that what was opened is closed at the end of the block, in reverse order. It checks nothing that
needs a connection: a target that is down is no reason not to start.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

from gateway.attachments.admission import Admission
from gateway.attachments.downloads import Downloads
from gateway.attachments.healing import Healing
from gateway.attachments.heartbeat import Heartbeat
from gateway.attachments.listing import Listing
from gateway.attachments.operations import Operations
from gateway.attachments.tenants import Tenants
from gateway.attachments.terms import Agreements
from gateway.attachments.tokens import Tokens
from gateway.attachments.trash import Trash
from gateway.attachments.uploads import Uploads
from gateway.catalog import SqlCatalog, open_catalog
from gateway.duties.purger import Purger
from gateway.duties.reaper import Reaper
from gateway.flow.buffers import Pool
from gateway.flow.pump import PumpSettings
from gateway.flow.replication import FanSettings, Replication
from gateway.http.metrics import Metrics
from gateway.http.pace import Pace
from gateway.http.services import Services
from gateway.keys.ahead import KeysAhead
from gateway.keys.entrance import Entrance
from gateway.pacing.background import Background
from gateway.ports import Bin, Catalog, Placements, Replicas, Runs, Shreds, Wraps
from gateway.recovery.departure import Departure
from gateway.repair.inventory import Inventory
from gateway.repair.repairer import Repairer
from gateway.repair.scrub import Scrub
from gateway.rotation.overdue import Overdue
from gateway.settings.config import Settings
from gateway.shredding.ledger_copies import LedgerCopies
from gateway.shredding.orders import ShredOrders
from gateway.stores.open import open_store
from gateway.stores.retrying import RetryingStore
from gateway.targets.failover import Failover
from gateway.targets.lag import Lags
from gateway.targets.placing import Placing
from gateway.targets.policies import Policies
from gateway.targets.quorum import Role, Target
from gateway.targets.replica import Haste
from gateway.wiring import work
from gateway.wiring.adapters import catalog_url, key_client, store_settings
from gateway.wiring.keydesk import Custody, custody
from gateway.wiring.rescue import Rescue, rescue
from keyservice.client.client import KeyServiceClient
from keyservice.layered import ConfigError
from keyservice.wire import Unavailable


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
    departure: Departure
    reaper: Reaper
    purger: Purger
    repairer: Repairer
    lags: Lags
    overdue: Overdue
    scrub: Scrub
    inventory: Inventory
    heartbeat: Heartbeat
    shreds: Shreds
    orders: ShredOrders
    ledger_copies: LedgerCopies
    rescue: Rescue
    keys: KeyServiceClient


@contextlib.contextmanager
def _usable(section: str) -> Iterator[None]:
    """Say of which section a value is that an adapter cannot use. Raises ConfigError."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from None


@contextlib.asynccontextmanager
async def open_core(
    settings: Settings,
    *,
    patience: float | None = None,
    share: float = 1.0,
    late: bool = False,
) -> AsyncIterator[Core]:
    """Open the adapters, wire the use cases, and close everything at the end of the block.

    `patience` is how many seconds one step of the catalog may take, where that is much; `share` the part
    of the time in which it may write, where requests come first; and `late` whether others may see what it
    writes some milliseconds before that is on disk.
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
                patience=settings.catalog.patience if patience is None else patience,
                share=share,
                late=late,
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

    tenants, trash = Tenants(catalog, keys, targets), Trash(catalog, catalog.bin)
    services = Services(
        catalog=catalog,
        uploads=uploads,
        operations=Operations(
            catalog, uploads, downloads, background, lease=4 * settings.heartbeat
        ),
        downloads=downloads,
        listing=Listing(catalog, keys),
        trash=trash,
        tenants=tenants,
        agreements=Agreements(tenants, trash, catalog.wraps),
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
        departure=Departure(
            catalog.traces,
            catalog.placements,
            catalog.runs,
            [target.name for target in targets],
        ),
        reaper=reaper,
        purger=Purger(catalog.bin, catalog.wraps, targets),
        repairer=work.repairer(settings, catalog.replicas, targets, metrics.copies),
        overdue=Overdue(catalog.runs, metrics.keys),
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
