"""The composition root's page of rotations: what gives a core's tenants new roots, KEKs and data keys."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from gateway.flow.buffers import Pool
from gateway.flow.pump import PumpSettings
from gateway.flow.replication import FanSettings, Replication
from gateway.pacing.background import Background
from gateway.pacing.patience import Patience
from gateway.pacing.rate import Rate
from gateway.rotation.keks import Rotation as KekRotation
from gateway.rotation.pushing import Pushing
from gateway.rotation.renewal import Renewal
from gateway.rotation.reseal import Reseal
from gateway.rotation.reseals import Reseals
from gateway.rotation.rewrapping import Rewrapping
from gateway.rotation.roots import Roots
from gateway.rotation.rounds import Rounds
from gateway.settings.config import Settings
from gateway.targets.policies import Policies
from gateway.wiring.core import Core

THROTTLED = 1000  # times that one call is throttled while others pass
SLOW: Final = 60.0  # seconds that a backup may keep waiting who can wait
LONG: Final = 3600.0  # seconds that such work waits for a buffer


def rounds(settings: Settings, core: Core) -> Rounds:
    """Return what goes round all tenants and rotates what is due, or with `enabled` off only tells it."""
    return Rounds(
        core.catalog,
        core.wraps,
        core.keys.control,
        core.custody.schedules,
        tiers=core.custody.tiers,
        rotation=rotation(settings, core),
        roots=roots(settings, core),
        shared_every=timedelta(seconds=settings.rotation.shared_root),
        watch=core.services.metrics.keys,
        only_look=not settings.rotation.enabled,
    )


def pushing(
    settings: Settings, core: Core, told: Callable[[int], None] = lambda _: None
) -> Pushing:
    """Return what writes rewrapped envelopes to the targets; `told` is called with how many more."""
    section = settings.rotation
    return Pushing(
        core.catalog,
        core.wraps,
        core.replicas,
        core.targets,
        rate=Rate(0.0, section.requests_per_second),
        parallel=section.parallel,
        lease=section.lease,
        watch=core.services.metrics.keys,
        told=told,
    )


def rotation(
    settings: Settings, core: Core, told: Callable[[int], None] = lambda _: None
) -> KekRotation:
    """Return what rotates tenants' KEKs; `told` is called with how many more envelopes are done."""
    section = settings.rotation
    rewrapping = Rewrapping(
        core.wraps,
        core.keys,
        rate=Rate(section.envelopes_per_second),
        patience=Patience(section.patience, tries=THROTTLED),
        told=told,
        watch=core.services.metrics.keys,
    )
    return KekRotation(
        core.runs,
        core.wraps,
        core.keys.control,
        Renewal(
            core.wraps,
            core.keys.control,
            rewrapping,
            pushing(settings, core, told),
            ahead=settings.keyservice.cache_ttl,
        ),
    )


def roots(settings: Settings, core: Core) -> Roots:
    """Return what rotates root keys."""
    patience = Patience(settings.rotation.patience, tries=THROTTLED)
    return Roots(core.catalog, core.runs, core.keys.control, patience=patience)


def reseals(
    settings: Settings,
    wired: Core,
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
