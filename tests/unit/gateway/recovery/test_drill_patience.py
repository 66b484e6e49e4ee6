"""A drill waits for what was busy or away for a while, and reports what stays so."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest

from gateway.errors import GatewayError, StoreDamaged, StoreError, StoreUnavailable
from gateway.model import SYSTEM
from gateway.pacing.patience import Patience, passing
from gateway.pacing.rate import Rate
from gateway.ports import Stat
from gateway.recovery.drill import Drill
from gateway.recovery.drilled import Drilled
from keyservice.wire import KeyServiceError, Throttled, Unavailable, WrappedKey
from tests.doubles.keys import MemoryKeys
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.recovery.conftest import Site, content
from tests.unit.gateway.recovery.test_drill import Places, fill


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, seconds: float = 60.0) -> Patience:
        return Patience(seconds, clock=lambda: self.now, sleep=self.sleep)


class Hiccups:
    """Fails the first `times` calls of each subject, but for one that it spares."""

    def __init__(self, error: GatewayError | KeyServiceError, times: int) -> None:
        self.error = error
        self.times = times
        self.seen: dict[str, int] = {}

    def meet(self, subject: str) -> None:
        self.seen[subject] = self.seen.get(subject, 0) + 1
        if self.seen[subject] <= self.times:
            raise self.error


class HiccupStore(FaultyStore):
    """A store that has to be asked again; `only` is what a key ends with."""

    hiccups: Hiccups | None = None
    only: tuple[str, ...] = ("body", "envelope")

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        if self.hiccups and key.endswith(self.only):
            self.hiccups.meet(f"read {key}")
        async for piece in super().read(key, start, stop):
            yield piece

    async def stat(self, key: str) -> Stat:
        if self.hiccups and key.endswith(self.only):
            self.hiccups.meet(f"stat {key}")
        return await super().stat(key)


class HiccupKeys(MemoryKeys):
    """A key service that has to be asked again for what is unwrapped."""

    hiccups: Hiccups | None = None

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        if self.hiccups and tenant != SYSTEM:
            self.hiccups.meet(reason)
        return await super().unwrap(tenant, keys, reason=reason, request_id=request_id)


async def drill(site: Site, time: Time, *, everything: bool, seconds: float = 60.0) -> Drilled:
    catalog = site.bench.catalog
    use = Drill(
        catalog.replicas,
        catalog.runs,
        site.bench.keys,
        site.backups(),
        scratch=Places(site),
        rate=Rate(),
        sample=50,
        part_size=5 << 20,
        at_once=1,
        patience=lambda: time.patience(seconds),
    )
    return await use.run(site.east, everything=everything)


@pytest.fixture
async def store(site: Site) -> HiccupStore:
    """Let the backup be one that fails on command."""
    site.bench.east = HiccupStore()
    await fill(site)
    await site.backups().make()
    return site.bench.east


@pytest.fixture
async def keys(site: Site) -> HiccupKeys:
    """Let the key service be one that fails on command."""
    made = HiccupKeys()
    made._keks, made.tiers = site.bench.keys._keks, site.bench.keys.tiers
    site.bench.keys = made
    await fill(site)
    await site.backups().make()
    return made


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_store_that_was_busy_is_waited_for(
    site: Site,
    store: HiccupStore,
    times: int,
    everything: bool,  # noqa: FBT001
) -> None:
    store.hiccups = Hiccups(StoreUnavailable("slow down", retry_after=3.0), times)
    time = Time()
    drilled = await drill(site, time, everything=everything)
    assert (drilled.good, drilled.failures, drilled.copy_failed) == (True, [], "")
    assert drilled.checked
    assert drilled.copy_rows
    assert time.now >= 3.0  # as long as it asked for


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("error", [Throttled("busy", retry_after=2.0), Unavailable("away")])
async def test_a_key_service_that_was_busy_is_waited_for(
    site: Site,
    keys: HiccupKeys,
    error: KeyServiceError,
    everything: bool,  # noqa: FBT001
) -> None:
    keys.hiccups = Hiccups(error, 2)
    drilled = await drill(site, Time(), everything=everything)
    assert (drilled.good, drilled.failures) == (True, [])
    assert keys.hiccups.seen["download"] > 2


@pytest.mark.parametrize("everything", [False, True])
async def test_a_store_that_stays_down_for_bodies_is_reported(
    site: Site,
    store: HiccupStore,
    everything: bool,  # noqa: FBT001
) -> None:
    await site.bench.store(content(300_000, 9), "large")
    store.only = ("body",)
    store.hiccups = Hiccups(StoreUnavailable("down"), 10**6)
    if not everything:  # which looks at what there is before it reads

        async def stat(key: str) -> Stat:
            return await FaultyStore.stat(store, key)

        store.stat = stat  # type: ignore[method-assign]
    time = Time()
    drilled = await drill(site, time, everything=everything, seconds=6.0)
    assert not drilled.good
    assert drilled.copy_failed == "StoreUnavailable"
    assert {why for _, why in drilled.failures} == {"Unreadable"}
    assert drilled.failed
    assert time.now < 10 * 6  # it is down once, not for each of them


async def test_keys_that_stay_away_for_downloads_are_reported(site: Site, keys: HiccupKeys) -> None:
    class Away(Hiccups):
        def meet(self, subject: str) -> None:
            if subject == "download":
                raise Unavailable("away")

    keys.hiccups = Away(Unavailable("away"), 0)
    time = Time()
    drilled = await drill(site, time, everything=True)
    assert not drilled.good
    assert (drilled.failed, drilled.checked) == (6, 0)
    assert {why for _, why in drilled.failures} == {"Unavailable"}
    assert time.now <= 2 * 60


async def test_damage_is_not_waited_for(site: Site, store: HiccupStore) -> None:
    time = Time()
    await site.bench.store(content(300_000, 9), "large")
    store.flip = 1000
    drilled = await drill(site, time, everything=True)
    assert not drilled.good
    assert time.now == 0.0


async def test_what_is_purged_meanwhile_is_no_failure(site: Site, store: HiccupStore) -> None:
    kept = await site.bench.store(content(300_000, 9), "large")
    victim = kept.version

    class Purging(Hiccups):
        def meet(self, subject: str) -> None:
            if victim.blob in subject and subject.startswith("read") and "body" in subject:
                gone.append(subject)
                raise StoreDamaged("half of it is gone")

    gone: list[str] = []
    held = site.bench.catalog.replicas.held

    async def without(target: str, **words: object) -> object:
        page = await held(target, **words)  # type: ignore[arg-type]
        return [each for each in page if not (gone and each.version.id == victim.id)]

    catalog = site.bench.catalog
    catalog.replicas.held = without  # type: ignore[method-assign, assignment]
    store.hiccups = Purging(StoreUnavailable(), 0)
    drilled = await drill(site, Time(), everything=True)
    assert gone
    assert (drilled.good, drilled.failures) == (True, [])


async def answers(script: list[Exception | int]) -> int:
    found = script.pop(0)
    if isinstance(found, Exception):
        raise found
    return found


async def test_patience_ends_and_begins_anew_with_a_success() -> None:
    time = Time()
    patience = time.patience(10.0)

    def ask(*script: Exception | int) -> Callable[[], Awaitable[int]]:
        left = list(script)
        return lambda: answers(left)

    down: list[Exception | int] = [StoreUnavailable() for _ in range(50)]
    with pytest.raises(StoreUnavailable):
        await patience.keep(ask(*down))
    assert time.now == 10.0
    with pytest.raises(StoreUnavailable):
        await patience.keep(ask(*down))
    assert time.now == 10.0  # it is spent for all of them
    assert await patience.keep(ask(7)) == 7
    assert await patience.keep(ask(StoreUnavailable(), 8)) == 8
    assert time.now == 11.0
    with pytest.raises(StoreDamaged):
        await patience.keep(ask(StoreDamaged(), 9))


async def test_one_that_fails_while_others_succeed_is_left_after_some_tries() -> None:
    time, tries = Time(), 0
    patience = time.patience(1000.0)

    async def works() -> int:
        return 1

    async def broken() -> int:
        nonlocal tries
        tries += 1
        if tries > 1:
            await patience.keep(works)
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        await patience.keep(broken)
    assert tries == 6


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (StoreUnavailable(), True),
        (StoreError(), False),
        (StoreDamaged(), False),
        (GatewayError(retry_after=1), True),
        (Throttled(), True),
        (Unavailable(), True),
        (KeyServiceError(), False),
        (ValueError(), False),
    ],
)
def test_what_may_pass(error: Exception, may: bool) -> None:  # noqa: FBT001
    assert passing(error) is may
