"""The composition root's second page: from settings to the work that goes on beside requests."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from gateway.background import Background
from gateway.buffers import Pool
from gateway.config import Settings
from gateway.copying import Copier
from gateway.http.copy_figures import CopyFigures
from gateway.http.scrub_figures import ScrubFigures
from gateway.inventory import Inventory
from gateway.keys import KeyService
from gateway.lag import Lags
from gateway.opening import Opening
from gateway.policies import Policies
from gateway.ports import Catalog, Replicas, Wraps
from gateway.pump import PumpSettings
from gateway.quorum import Target
from gateway.rate import Rate
from gateway.repairer import Repairer, RepairSettings
from gateway.replication import FanSettings, Replication
from gateway.reseal import Reseal
from gateway.reseals import Reseals
from gateway.scrub import Scrub, ScrubSettings

if TYPE_CHECKING:
    from gateway.app import Core

log = structlog.get_logger()
SLOW: Final = 60.0  # seconds that a backup may keep waiting who can wait
LONG: Final = 3600.0  # seconds that such work waits for a buffer


def repairer(
    settings: Settings, replicas: Replicas, targets: Sequence[Target], figures: CopyFigures
) -> Repairer:
    """Return what brings copies back, over these targets."""
    repair, limits = settings.repair, settings.limits
    copier = Copier(
        {target.name: target.store for target in targets},
        part_size=limits.part_size,
        parallel=limits.parts_at_once,
        rate=Rate(repair.bytes_per_second, repair.requests_per_second),
        memory=repair.memory,
    )
    return Repairer(
        replicas,
        copier,
        targets,
        watch=figures,
        settings=RepairSettings(
            parallel=repair.parallel,
            lease=repair.lease,
            pause=repair.pause,
            adopt_every=repair.adopt_every,
        ),
    )


def scrub(
    settings: Settings,
    replicas: Replicas,
    keys: KeyService,
    targets: Sequence[Target],
    figures: ScrubFigures,
    *,
    wraps: Wraps,
) -> Scrub:
    """Return what verifies replicas on these targets."""
    section = settings.scrub
    return Scrub(
        replicas,
        wraps,
        targets,
        Opening(keys),
        rate=Rate(section.bytes_per_second, section.requests_per_second),
        settings=ScrubSettings(
            parallel=section.parallel,
            cycle=timedelta(seconds=section.cycle),
            every=timedelta(seconds=section.every),
            sample=section.sample,
            patience=section.patience,
        ),
        watch=figures,
    )


def inventory(
    settings: Settings,
    catalog: Catalog,
    replicas: Replicas,
    targets: Sequence[Target],
    figures: ScrubFigures,
) -> Inventory:
    """Return what compares the listings of these targets with the catalog."""
    rate = Rate(0.0, settings.scrub.requests_per_second)
    return Inventory(catalog, replicas, targets, rate=rate, watch=figures)


def reseals(
    settings: Settings,
    wired: "Core",
    background: Background,
    *,
    parallel: int,
    rate: Rate,
) -> Reseals:
    """Return what gives versions new data keys, `parallel` of them at a time."""
    limits, placing = settings.limits, wired.placing
    # Twice what they hold together, since one tenant may have half of it.
    held = parallel * limits.parts_in_flight * limits.part_size
    replication = Replication(
        lambda: placing.now,
        pool=Pool(limits.part_size, 2 * held, patience=LONG),
        background=background,
        settings=FanSettings(
            window=limits.parts_in_flight,
            parallel=limits.parts_at_once,
            patience=max(limits.backup_patience, SLOW),
        ),
    )
    reseal = Reseal(
        wired.catalog,
        wired.wraps,
        wired.keys,
        wired.services.downloads,
        replication,
        policies=Policies(wired.catalog, settings.required),
        placing=placing,
        background=background,
        settings=PumpSettings(
            part_size=limits.part_size, inline=limits.inline, max_size=limits.max_attachment
        ),
        rate=rate,
    )
    return Reseals(reseal, wired.replicas, wired.targets[0].name, parallel=parallel)


def lags(settings: Settings, replicas: Replicas, figures: CopyFigures) -> Lags:
    """Return what watches how far the targets are behind."""
    return Lags(
        replicas,
        [target.name for target in settings.targets],
        figures,
        threshold=settings.repair.threshold,
        every=settings.repair.report_every,
    )


async def warm_up(targets: Sequence[Target]) -> None:
    """Connect to every store ahead of the first request. One that is down is no reason not to start."""
    checks = (target.store.check() for target in targets)
    for target, end in zip(
        targets, await asyncio.gather(*checks, return_exceptions=True), strict=True
    ):
        if isinstance(end, Exception):
            log.warning("target not ready", target=target.name, reason=type(end).__name__)
