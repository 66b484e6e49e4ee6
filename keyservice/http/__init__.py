"""Requests to use cases and back (docs/keyservice-api.md)."""
