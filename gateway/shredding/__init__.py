"""The gateway's part in a tenant's end: orders that are due, and copies of the shred ledger."""
