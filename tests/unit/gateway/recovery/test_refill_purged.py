"""What a restore wrote beside a purge, or beside a catalog that was rolled back."""

from tests.unit.gateway.recovery.test_refill import BLOBS, Shelf


async def test_of_what_is_being_purged_nothing_stays() -> None:
    """The purger may have been at this target before, and forgets the version when it has been at all."""
    shelf = Shelf(BLOBS)
    await shelf.place()
    refill, results = shelf.refill(), []
    for blob in BLOBS:
        await shelf.befall("primary", blob, "gone")
        results.append(await refill.do(blob.version))
    shelf.doomed |= {blob.version.blob for blob in BLOBS[:2]}
    await refill.record(results)
    left = {key.split("/")[2] for key in shelf.stores["primary"].keys}
    assert left == {blob.version.blob for blob in BLOBS[2:]}
    assert all(len(shelf.stores[name].keys) == 6 for name in ("east", "west"))


async def test_what_a_catalog_forgot_that_was_rolled_back_stays() -> None:
    """It knows the upload that the version was once; nothing says that it was purged."""
    shelf = Shelf(BLOBS)
    await shelf.place()
    refill, blobs = shelf.refill(), {blob.version.blob for blob in BLOBS}
    results = []
    for blob in BLOBS:
        await shelf.befall("primary", blob, "gone")
        results.append(await refill.do(blob.version))
    shelf.purged |= blobs
    shelf.begun |= blobs
    await refill.record(results)
    assert {key.split("/")[2] for key in shelf.stores["primary"].keys} == blobs
