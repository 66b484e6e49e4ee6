"""A tenant whose KEKs are retired: a real catalog, a key service in memory, a clock that sleeping moves."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.errors import UploadLost
from gateway.model import Tenant, new_id
from gateway.rotation.due import Schedules
from gateway.rotation.retirement import Retirement
from gateway.rotation.status import KeyStatuses
from keyservice.wire import Kek
from tests.contracts.catalog.samples import (
    ANY,
    START,
    STORED,
    FakeClock,
    kek_of,
    new_upload,
    version_of,
)
from tests.doubles.control import MemoryControl

TTL = 60.0


class Site:
    """One business tenant in a real catalog, a key service in memory, and a clock that sleeping moves."""

    def __init__(self, catalog: SqlCatalog, clock: FakeClock) -> None:
        self.catalog, self.clock = catalog, clock
        self.control = MemoryControl(lambda: clock.now)
        self.tenant = new_id()
        self.waited: list[timedelta] = []
        self.asleep: Callable[[], Awaitable[object]] | None = None
        schedules = Schedules(catalog.wraps, {}, grace=timedelta(1), clock=lambda: clock.now)
        self.statuses = KeyStatuses(
            catalog, self.control, catalog.wraps, schedules, clock=lambda: clock.now
        )
        self.retirement = Retirement(
            self.control,
            catalog.wraps,
            self.statuses,
            clock=lambda: clock.now,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        if self.asleep is not None:
            await self.asleep()
        self.clock.now += timedelta(seconds=seconds)

    async def open(self) -> None:
        await self.catalog.add_tenant(Tenant(self.tenant, "business", START))
        self.control.add(self.tenant, tier="business", cache_ttl=TTL)

    @property
    def old(self) -> str:
        return kek_of(self.tenant)

    async def rotate(self) -> None:
        current = self.control.tenants[self.tenant].current
        assert current is not None
        await self.control.rotate_kek(self.tenant, current.id, reason="")

    async def retire(
        self,
        chosen: str | None = None,
        verify: Callable[[str, frozenset[str]], Awaitable[Sequence[str]]] | None = None,
    ) -> dict[str, tuple[str, ...]]:
        found = await self.retirement.retire(
            self.tenant, chosen, reason="test", verify=verify, waiting=self.waited.append
        )
        return {each.id: each.blocks for each in found}

    def gone(self) -> bool:
        return any(k.id == self.old and k.state == "destroyed" for k in self.keks())

    def keks(self) -> Sequence[Kek]:
        return self.control.tenants[self.tenant].keks

    async def closed(self) -> bool:
        """Tell whether nothing can come under the old KEK."""
        upload = new_upload(self.tenant)
        try:
            made = version_of(upload, await self.catalog.begin(upload, new_id()))
            await self.catalog.commit(made, STORED, ANY, None)
        except UploadLost:
            await self.catalog.forget(upload.id)
            return True
        return False


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    clock = FakeClock()
    catalog = await open_catalog(url, clock=clock)
    made = Site(catalog, clock)
    await made.open()
    yield made
    await catalog.close()
