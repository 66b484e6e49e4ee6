"""From a tenant's record to what callers are shown of it, which is no key."""

from __future__ import annotations

from collections.abc import Mapping

from keyservice.ports import RootVersions
from keyservice.protocol.messages import (
    KekView,
    OrderView,
    RateView,
    RootView,
    TenantView,
    VersionsView,
)
from keyservice.records import RootRef, ShredOrder, TenantRecord


def tenant(
    record: TenantRecord,
    used: Mapping[str, int] | None = None,
    retirable: Mapping[str, int] | None = None,
) -> TenantView:
    """Return the answer that describes a tenant.

    `used` is when each KEK was last used, `retirable` from when on those that were replaced may be retired.
    """
    allowance = record.allowance
    return TenantView(
        tenant=record.tenant,
        tier=record.tier,
        state=record.state,
        root=root(record.root),
        left=tuple(root(each) for each in record.left),
        revision=record.revision,
        cache_ttl=record.cache_ttl,
        rate=RateView(per_second=allowance.per_second, burst=allowance.burst)
        if allowance
        else None,
        order=order(record.order) if record.order else None,
        keks=tuple(
            KekView(
                id=k.id,
                state=k.state,
                created=k.created,
                root_version=k.root_version,
                last_used=(used or {}).get(k.id),
                retirable=(retirable or {}).get(k.id),
            )
            for k in record.keks
        ),
    )


def root(found: RootRef) -> RootView:
    """Return the answer that names a root."""
    return RootView(custody=found.custody, name=found.name, imported=found.imported)


def order(found: ShredOrder) -> OrderView:
    """Return the answer that describes an order to destroy a tenant's keys."""
    return OrderView(
        ordered=found.ordered,
        due=found.due,
        by=found.by,
        reason=found.reason,
        approved=found.approved,
        began=found.began,
        ended=found.ended,
    )


def versions(found: RootVersions) -> VersionsView:
    """Return the answer that describes a root key."""
    return VersionsView(latest=found.latest, minimum=found.minimum, created=found.created)
