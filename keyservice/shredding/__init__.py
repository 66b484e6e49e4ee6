"""A tenant's end: orders, the ledger that outlives every restore, destruction, receipts."""
