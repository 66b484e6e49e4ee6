"""Removing a blob from a store, in the one order that is safe.

Guarantees that the envelope goes before the body: without it the body is an orphan for everyone who
looks, while an envelope without its body would seem to be a version. Idempotent, so that whoever was
killed in between begins anew. Decides nothing about whether a blob may go.
"""

from gateway.model import body_key, envelope_key
from gateway.ports import Store


async def remove(store: Store, tenant: str, blob: str) -> None:
    """Remove envelope and body. Raises StoreErrors."""
    await store.delete(envelope_key(tenant, blob))
    await store.delete(body_key(tenant, blob))


async def remove_leftovers(store: Store, tenant: str, blob: str) -> None:
    """Remove what unfinished uploads left of it as well. Raises StoreErrors."""
    async for unfinished in store.unfinished(body_key(tenant, blob).removesuffix("body")):
        await store.discard(unfinished)
    await remove(store, tenant, blob)
