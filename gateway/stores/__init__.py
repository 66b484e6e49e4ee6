"""Adapters of the `Store` port: S3, a folder, memory, and a decorator that tries again."""
