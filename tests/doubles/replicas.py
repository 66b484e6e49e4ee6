"""What a catalog knows of replicas, in memory, for tests of those who repair. Real time, no tenants' rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway.errors import CatalogUnavailable
from gateway.model import ReplicaState, Version, now
from gateway.ports import Finding, Gap, Held, Holding, Kept, Lag

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPEN = frozenset({ReplicaState.MISSING, ReplicaState.DAMAGED})


@dataclass
class Row:
    """One replica."""

    version: Version
    target: str
    state: ReplicaState
    since: datetime = EPOCH
    tries: int = 0
    due: datetime = EPOCH
    until: datetime = EPOCH


class MemoryReplicas:
    """Implements the part of `Replicas` that repair uses. Set `down` to make every call fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.versions: dict[str, Version] = {}
        self.claims: list[bool] = []  # whether each asked for the newest
        self.retries: list[timedelta] = []
        self.down = False
        self.deaf = False  # to renewals only

    def add(self, version: Version, states: Mapping[str, ReplicaState]) -> None:
        """Commit a version."""
        self.versions[version.id] = version
        for target, state in states.items():
            self.rows[version.id, target] = Row(version, target, state, version.created)

    def states(self, version: Version) -> dict[str, str]:
        """Return what is known of one version's replicas."""
        return {row.target: row.state.value for row in self.rows.values() if row.version == version}

    async def report(self, findings: Sequence[Finding]) -> int:
        """See the port."""
        self._up()
        changed = 0
        for each in findings:
            row = self.rows.get((each.version, each.target))
            if row is not None and row.state is not each.state:
                changed += 1
                row.state, row.due, row.until = each.state, EPOCH, EPOCH
        return changed

    async def adopt(self, target: str, limit: int) -> int:
        """See the port."""
        self._up()
        new = [each for each in self.versions.values() if (each.id, target) not in self.rows]
        for each in new[:limit]:
            self.rows[each.id, target] = Row(each, target, ReplicaState.MISSING, now())
        return len(new[:limit])

    async def claim(
        self,
        targets: Collection[str],
        *,
        lease: timedelta,
        limit: int,
        newest: bool,
        tenant: str | None = None,
    ) -> Sequence[Gap]:
        """See the port."""
        self._up()
        self.claims.append(newest)
        at = now()
        due = [
            row
            for row in self.rows.values()
            if row.target in targets
            and row.state in OPEN
            and row.due <= at
            and row.until <= at
            and tenant in {None, row.version.tenant}
        ]
        due.sort(key=lambda row: row.version.created, reverse=newest)
        for row in due[:limit]:
            row.until = at + lease
        return [self._gap(row) for row in due[:limit]]

    async def extend(self, gaps: Sequence[Gap], lease: timedelta) -> Sequence[Gap]:
        """See the port."""
        self._up()
        if self.deaf:
            raise CatalogUnavailable("down")
        kept = []
        for gap in gaps:
            if row := self._held(gap):
                row.until = now() + lease
                kept.append(replace(gap, until=row.until))
        return kept

    async def filled(self, gap: Gap, kek: str) -> bool:
        """See the port."""
        self._up()
        assert kek == gap.version.kek
        row = self._held(gap)
        if row:
            row.state, row.until, row.tries = ReplicaState.STORED, EPOCH, 0
        return row is not None

    async def failed(self, gap: Gap, retry: timedelta) -> bool:
        """See the port."""
        self._up()
        self.retries.append(retry)
        if row := self._held(gap):
            row.tries, row.due, row.until = row.tries + 1, now() + retry, EPOCH
        return row is not None

    async def release(self, gaps: Sequence[Gap]) -> None:
        """See the port."""
        self._up()
        for gap in gaps:
            if row := self._held(gap):
                row.due = row.until = EPOCH

    async def lag(self, targets: Collection[str], *, tenant: str | None = None) -> Sequence[Lag]:
        """See the port."""
        self._up()
        found = []
        for target in targets:
            rows = [r for r in self.rows.values() if r.target == target and r.state in OPEN]
            rows = [row for row in rows if tenant in {None, row.version.tenant}]
            size = sum(row.version.body_size for row in rows)
            oldest = min((row.since for row in rows), default=None)
            found.append(Lag(target, len(rows), size, oldest, sum(r.tries > 0 for r in rows)))
        return found

    async def held(
        self,
        target: str,
        *,
        after: str | None = None,
        limit: int = 500,
        tenant: str | None = None,
        attachment: str | None = None,
    ) -> Sequence[Held]:
        """See the port."""
        raise NotImplementedError

    async def stranded(
        self, targets: Collection[str], *, after: str | None = None, limit: int = 500
    ) -> Sequence[Version]:
        """See the port."""
        raise NotImplementedError

    async def unchecked(self, target: str, limit: int, *, again: bool = False) -> Sequence[Held]:
        """See the port."""
        raise NotImplementedError

    async def kept(
        self, target: str, *, after: str | None = None, limit: int = 1000
    ) -> Sequence[Kept]:
        """See the port."""
        raise NotImplementedError

    async def holding(self, target: str, *, tenant: str | None = None) -> Holding:
        """See the port."""
        raise NotImplementedError

    async def version(self, version: str) -> Version | None:
        """See the port."""
        self._up()
        return self.versions.get(version)

    async def owners(self, blobs: Sequence[str]) -> dict[str, str]:
        """See the port."""
        raise NotImplementedError

    def _up(self) -> None:
        if self.down:
            raise CatalogUnavailable("down")

    def _held(self, gap: Gap) -> Row | None:
        row = self.rows.get((gap.version.id, gap.target))
        return row if row and row.until == gap.until and row.state in OPEN else None

    def _gap(self, row: Row) -> Gap:
        good = {
            each.target
            for each in self.rows.values()
            if each.version == row.version and each.state is ReplicaState.STORED
        }
        return Gap(
            row.version, row.target, row.state, row.since, row.tries, frozenset(good), row.until
        )
