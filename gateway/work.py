"""The composition root's second page: from settings to the work that goes on beside requests."""

from collections.abc import Sequence

from gateway.config import Settings
from gateway.copying import Copier
from gateway.http.copy_figures import CopyFigures
from gateway.lag import Lags
from gateway.ports import Replicas
from gateway.quorum import Target
from gateway.rate import Rate
from gateway.repairer import Repairer, RepairSettings


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


def lags(settings: Settings, replicas: Replicas, figures: CopyFigures) -> Lags:
    """Return what watches how far the targets are behind."""
    return Lags(
        replicas,
        [target.name for target in settings.targets],
        figures,
        threshold=settings.repair.threshold,
        every=settings.repair.report_every,
    )
