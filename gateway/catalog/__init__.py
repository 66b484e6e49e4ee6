"""The catalog: one implementation of its port, on SQLite and on PostgreSQL.

`open` makes a `SqlCatalog` (`sql`) over a `Database` (`sqlite` or `postgres`), which runs the
functions of `tenants`, `tokens`, `attachments`, `uploads` and `operations` in transactions.
"""

from gateway.catalog.open import migrate, open_catalog
from gateway.catalog.sql import SqlCatalog

__all__ = ["SqlCatalog", "migrate", "open_catalog"]
