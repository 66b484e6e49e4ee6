"""The composition root's page of keys: from settings to what an administrator does with them."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.config import Settings
from gateway.due import Schedules
from gateway.patience import Patience
from gateway.ports import Rotation, Wraps
from gateway.pushing import Pushing
from gateway.rate import Rate
from gateway.renewal import Renewal
from gateway.rewrapping import Rewrapping
from gateway.roots import Roots
from gateway.rotation import Rotation as KekRotation

if TYPE_CHECKING:
    from gateway.app import Core

THROTTLED = 1000  # times that one call is throttled while others pass


def schedules(settings: Settings, wraps: Wraps) -> Schedules:
    """Return how often keys are rotated; the root that standard tenants share is not theirs to rotate."""
    section = settings.rotation
    return Schedules(
        wraps,
        {
            "business": Rotation(
                timedelta(seconds=section.business_kek), timedelta(seconds=section.business_root)
            ),
            "standard": Rotation(timedelta(seconds=section.standard_kek)),
        },
        grace=timedelta(seconds=section.grace),
    )


def pushing(
    settings: Settings, core: "Core", told: Callable[[int], None] = lambda _: None
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
    settings: Settings, core: "Core", told: Callable[[int], None] = lambda _: None
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


def roots(settings: Settings, core: "Core") -> Roots:
    """Return what rotates root keys."""
    patience = Patience(settings.rotation.patience, tries=THROTTLED)
    return Roots(core.catalog, core.runs, core.keys.control, patience=patience)
