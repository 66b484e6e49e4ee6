"""The use cases of a tenant's keys, each at the one desk that asks the policy and writes the audit."""
