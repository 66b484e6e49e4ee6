"""Data keys for the use cases, and whether a tenant's keys may be used at all."""
