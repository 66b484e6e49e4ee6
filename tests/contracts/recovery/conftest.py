"""The catalogs of the catalog's own suite."""

from tests.contracts.catalog.conftest import (
    catalog,
    clock,
    empty_postgres,
    migrated_postgres,
    pristine_sqlite,
    tenant,
    url,
)

__all__ = [
    "catalog",
    "clock",
    "empty_postgres",
    "migrated_postgres",
    "pristine_sqlite",
    "tenant",
    "url",
]
