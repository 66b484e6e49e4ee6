"""One attachment all the way: gateway, key service, Vault, PostgreSQL, versitygw, and back."""

import pytest

from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket, Stack


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5 * MiB, 20 * MiB + 3])
async def test_the_same_bytes_come_back(client: Client, size: int) -> None:
    tenant = await client.create_tenant()
    path = f"/v1/tenants/{tenant}/attachments/report"

    made = await client.json("PUT", path, data=generated(size))

    assert made["size"] == size
    assert made["stored"] == ["east", "primary", "west"]
    assert await client.digest(path) == await digest_of(generated(size))


async def test_stores_see_ciphertext_and_random_names(client: Client, spine: Stack) -> None:
    tenant = await client.create_tenant()
    canary = b"canary-7f3a-" * 8192

    await client.json(
        "PUT",
        f"/v1/tenants/{tenant}/attachments/secret-reference",
        data=canary,
        headers={"Content-Disposition": 'attachment; filename="secret-name.txt"'},
    )

    for place in spine.targets.values():
        assert isinstance(place, Bucket)
        files = [file for file in (place.folder / "t" / tenant).rglob("*") if file.is_file()]
        assert sorted(file.name for file in files) == ["body", "envelope"]
        for file in files:
            assert b"canary-7f3a-" not in file.read_bytes()
            assert b"secret" not in file.read_bytes()
