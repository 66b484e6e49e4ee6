"""The AppRole by which a key service logs in, in our Vault or in one that a customer holds."""

from __future__ import annotations

from collections.abc import Sequence


def approle(policy: str, *, period: str, cidrs: Sequence[str]) -> dict[str, object]:
    """Return a role with one policy, for tokens of `period` and, if any, from these networks only."""
    role: dict[str, object] = {
        "token_policies": [policy],
        "token_no_default_policy": True,
        "token_type": "service",
        "token_period": period,
    }
    if cidrs:
        role |= {"token_bound_cidrs": list(cidrs), "secret_id_bound_cidrs": list(cidrs)}
    return role
