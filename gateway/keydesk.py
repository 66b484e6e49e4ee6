"""The composition root's page of keys: from settings to what an administrator does with them."""

from datetime import timedelta

from gateway.config import Settings
from gateway.due import Schedules
from gateway.ports import Rotation, Wraps


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
