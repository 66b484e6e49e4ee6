"""Roots, records and journal in files: for development, tests, and a single machine."""
