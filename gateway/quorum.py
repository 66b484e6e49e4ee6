"""When an upload may be acknowledged: which targets must hold it, and whether they still can."""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.ports import Store


class Role(enum.StrEnum):
    """What a target is for."""

    PRIMARY = "primary"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class Target:
    """A configured store with a name and a role."""

    name: str
    role: Role
    store: Store


class QuorumLost(GatewayError):
    """Too few targets can hold the upload, so it cannot be acknowledged."""

    retry_after = 5.0


@dataclass(frozen=True, slots=True)
class Quorum:
    """Acknowledge once the primary and at least `backups` of the backups hold a blob."""

    backups: int = 1

    def satisfied(self, targets: Sequence[Target], names: Collection[str]) -> bool:
        """Tell whether the targets called `names` are enough of `targets`."""
        backups = [target.name for target in targets if target.role is Role.BACKUP]
        primaries = [target.name for target in targets if target.role is Role.PRIMARY]
        held = sum(name in names for name in backups)
        return all(name in names for name in primaries) and held >= self.backups
