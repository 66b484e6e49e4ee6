"""The composition root's page of keys: from settings to what an administrator does with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.config import Settings
from gateway.due import Schedules
from gateway.key_status import KeyStatuses
from gateway.keys import KeyControl
from gateway.patience import Patience
from gateway.ports import Catalog, Rotation, Wraps
from gateway.pushing import Pushing
from gateway.quorum import Target
from gateway.rate import Rate
from gateway.renewal import Renewal
from gateway.retirement import Retirement
from gateway.rewrapping import Rewrapping
from gateway.roots import Roots
from gateway.rotation import Rotation as KekRotation
from gateway.rounds import Rounds
from gateway.tiers import Tiers
from gateway.verification import Verification

if TYPE_CHECKING:
    from gateway.app import Core

THROTTLED = 1000  # times that one call is throttled while others pass


@dataclass(frozen=True, slots=True)
class Custody:
    """What an administrator does with keys."""

    control: KeyControl
    schedules: Schedules
    statuses: KeyStatuses
    retirement: Retirement
    verification: Verification
    tiers: Tiers


def custody(
    settings: Settings,
    catalog: Catalog,
    wraps: Wraps,
    control: KeyControl,
    targets: Sequence[Target],
) -> Custody:
    """Wire it over one catalog and one key service."""
    turns = schedules(settings, wraps)
    statuses = KeyStatuses(catalog, control, wraps, turns)
    return Custody(
        control=control,
        schedules=turns,
        statuses=statuses,
        retirement=Retirement(control, wraps, statuses),
        verification=Verification(catalog, wraps, targets),
        tiers=Tiers(catalog, control),
    )


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


def rounds(settings: Settings, core: "Core") -> Rounds:
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
