"""The composition root's page of keys: from settings to what an administrator does with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gateway.keys.data_keys import KeyControl
from gateway.ports import Catalog, Rotation, Wraps
from gateway.rotation.due import Schedules
from gateway.rotation.retirement import Retirement
from gateway.rotation.status import KeyStatuses
from gateway.rotation.tiers import Tiers
from gateway.rotation.verification import Verification
from gateway.settings.config import Settings
from gateway.targets.quorum import Target


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
