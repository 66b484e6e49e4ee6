"""Periodic work, shared by any number of workers, and the duties that need no more than a catalog."""
