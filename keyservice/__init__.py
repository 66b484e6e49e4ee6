"""The key service: tenant keys on other servers than the data.

It guarantees that a data key leaves only for a caller whom the policy allows, for a tenant that is
active, and with a record of it on the audit sink. It never sees data, and its callers never see a
KEK or the root key. `keyservice.client.client` and `keyservice.wire` are what the gateway may import.
"""
