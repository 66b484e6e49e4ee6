"""The composition root's second page: from settings to the work that goes on beside requests."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from gateway.http.copy_figures import CopyFigures
from gateway.http.scrub_figures import ScrubFigures
from gateway.keys.data_keys import KeyService
from gateway.pacing.rate import Rate
from gateway.ports import Catalog, Replicas, Wraps
from gateway.repair.copying import Copier
from gateway.repair.inventory import Inventory
from gateway.repair.opening import Opening
from gateway.repair.repairer import Repairer, RepairSettings
from gateway.repair.scrub import Scrub, ScrubSettings
from gateway.settings.config import Settings
from gateway.targets.lag import Lags
from gateway.targets.quorum import Target

log = structlog.get_logger()


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
