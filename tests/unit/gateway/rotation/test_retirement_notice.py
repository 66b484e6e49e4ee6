"""A KEK that was replaced lately stays, and that is said before anything is done for it."""

from collections.abc import Sequence
from datetime import timedelta

from gateway.rotation.status import SETTLE
from tests.unit.gateway.rotation.conftest import TTL, Site


async def test_one_that_was_replaced_lately_is_told_before_anything_is_waited_for_or_verified(
    site: Site,
) -> None:
    """The key service would refuse it in the end: what is asked of targets before would be in vain."""
    site.control.notice = timedelta(days=7)
    await site.rotate()
    until = site.clock.now + timedelta(days=7)
    verified: list[str] = []

    async def verify(tenant: str, _: frozenset[str]) -> Sequence[str]:
        verified.append(tenant)
        return ()

    words = f"it may be retired from {until.isoformat(timespec='seconds')} on (shred.least_days)"
    (old, new) = (await site.statuses.of(site.tenant)).keks
    assert old.blocks[0] == words
    assert not any("least_days" in block for block in new.blocks)
    ((kek, blocks),) = (await site.retire(verify=verify)).items()
    assert (kek, blocks[0]) == (site.old, words)
    assert not site.waited
    assert not verified
    assert not site.control.called("retire_kek")
    assert not await site.closed()


async def test_one_goes_when_its_notice_is_over(site: Site) -> None:
    site.control.notice = timedelta(days=7)
    await site.rotate()
    site.clock.now += timedelta(days=7)
    assert (await site.statuses.of(site.tenant)).keks[0].blocks == ()
    assert await site.retire() == {site.old: ()}


async def test_a_notice_that_ends_before_the_caches_do_is_waited_out_with_them(site: Site) -> None:
    site.control.notice = timedelta(seconds=TTL / 2)
    await site.rotate()
    assert await site.retire() == {site.old: ()}
    assert site.waited == [timedelta(seconds=TTL) + SETTLE]
