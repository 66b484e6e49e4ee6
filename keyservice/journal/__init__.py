"""The key journal: what happened to a tenant's keys, signed and chained."""
