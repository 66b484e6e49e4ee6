"""Roots, records and journal in Vault or OpenBao: ours, or one that a customer holds."""
