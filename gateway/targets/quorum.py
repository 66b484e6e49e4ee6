"""When an upload may be acknowledged: which targets must hold it, and whether they still can.

A policy is one or more terms with commas between them, all of which must hold:

- `primary`: the primary; `primary+N`: the primary and N backups
- `majority`: more than half of all targets, the primary or not; `all`: every target
- `regions:N`: targets in N different regions; one whose region is not configured counts for none
"""

import enum
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from gateway.errors import GatewayError
from gateway.ports import Store

_PRIMARY = re.compile(r"primary(?:\+([1-9][0-9]?))?")
_REGIONS = re.compile(r"regions:([1-9][0-9]?)")
_TERMS = "primary, primary+N, majority, all and regions:N"


class Role(enum.StrEnum):
    """What a target is for."""

    PRIMARY = "primary"
    BACKUP = "backup"


class Place(Protocol):
    """What a quorum knows of a target: its settings have it as well as the target itself."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def role(self) -> str:
        """A `Role`."""

    @property
    def region(self) -> str | None:
        """Where in the world it is, in the operator's words."""


@dataclass(frozen=True, slots=True)
class Target:
    """A configured store with a name, a role, and a region where one is configured."""

    name: str
    role: Role
    store: Store
    region: str | None = None


class QuorumLost(GatewayError):
    """Too few targets can hold the upload, so it cannot be acknowledged."""

    retry_after = 5.0


@dataclass(frozen=True, slots=True)
class Quorum:
    """A policy: what must hold a blob before it is acknowledged. Unless said, a primary and a backup."""

    primary: bool = True
    backups: int = 1
    majority: bool = False
    everywhere: bool = False
    regions: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a policy as it is written in settings. Raises ValueError that says what is possible."""
        primary = majority = everywhere = False
        backups = regions = 0
        terms = [term.strip() for term in text.split(",")]
        kinds = {re.split(r"[+:]", term)[0] for term in terms}
        for term in terms:
            if match := _PRIMARY.fullmatch(term):
                primary, backups = True, int(match[1] or 0)
            elif match := _REGIONS.fullmatch(term):
                regions = int(match[1])
            elif term == "majority":
                majority = True
            elif term == "all":
                everywhere = True
            else:
                raise ValueError(f"a quorum policy is made of {_TERMS}, with commas between them")
        if len(kinds) != len(terms):
            raise ValueError("a quorum policy names each kind of term once")
        return cls(primary, backups, majority, everywhere, regions)

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        terms = []
        if self.primary:
            terms.append(f"primary+{self.backups}" if self.backups else "primary")
        if self.majority:
            terms.append("majority")
        if self.everywhere:
            terms.append("all")
        if self.regions:
            terms.append(f"regions:{self.regions}")
        return ",".join(terms)

    def satisfied(self, targets: Sequence[Place], names: Collection[str]) -> bool:
        """Tell whether the targets called `names` are enough of `targets`."""
        held = [target for target in targets if target.name in names]
        if self.primary:
            backups = [target.role for target in held].count(Role.BACKUP)
            if backups == len(held) or backups < self.backups:
                return False
        if self.majority and 2 * len(held) <= len(targets):
            return False
        if self.everywhere and len(held) < len(targets):
            return False
        return not self.regions or len(_regions(held)) >= self.regions

    def demand(self, targets: Sequence[Place]) -> None:
        """Raise ValueError, saying what is missing, if no number of these targets could satisfy it."""
        if self.satisfied(targets, {target.name for target in targets}):
            return
        backups = sum(target.role == Role.BACKUP for target in targets)
        if self.primary and backups < self.backups:
            raise ValueError(f"{self} asks for more backups than there are ({backups})")
        regions = len(_regions(targets))
        if regions < self.regions:
            raise ValueError(f"{self} asks for more regions than the targets name ({regions})")
        raise ValueError(f"{self} asks for a primary and there is none")


def _regions(targets: Iterable[Place]) -> frozenset[str]:
    return frozenset(target.region for target in targets if target.region is not None)
