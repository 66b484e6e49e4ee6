"""Who may do what: callers by identity, tenants by pattern, operations by name.

Guarantees: what no rule allows is denied; a rule that denies wins over every rule that allows; the
rate of the first rule that allows is spent per caller and tenant, counted in keys, and by new tenants per
caller. A request is let
in whole while any credit is left and is paid off afterwards, so a batch larger than the burst is
slowed and not impossible. This module reads no file; `policy_file` does.
"""

from __future__ import annotations

import enum
import fnmatch
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keyservice.access.spending import MAX_BUCKETS, Buckets
from keyservice.errors import Denied


class Operation(enum.StrEnum):
    """What a rule can allow or deny."""

    CREATE_TENANT = "create-tenant"
    DATA_KEYS = "data-keys"
    UNWRAP = "unwrap"
    REWRAP = "rewrap"
    TENANT_STATUS = "tenant-status"
    ROTATE_KEK = "rotate-kek"
    RETIRE_KEK = "retire-kek"
    ROTATE_ROOT = "rotate-root"
    RETIRE_ROOT = "retire-root"
    IMPORT_ROOT = "import-root"
    MOVE = "move"
    SETTINGS = "settings"
    SUSPEND = "suspend"
    RESUME = "resume"
    MEND = "mend"
    SHRED = "shred"
    APPROVE_SHRED = "approve-shred"
    UNDO_SHRED = "undo-shred"
    EXECUTE_SHRED = "execute-shred"
    JOURNAL = "journal"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Caller:
    """The identities that a connection proved, such as `dns:gateway.internal`; never empty.

    A rule for any of them applies. The first names the caller in the audit and in rates.
    """

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The identity by which the caller goes on record."""
        return self.names[0]


NOBODY = Caller(("",))
"""A caller that proved no identity: for the record of its refusal, never for a rule."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Strict):
    """Keys for each second, and how many may be taken at once after a rest."""

    per_second: Annotated[float, Field(gt=0, le=1e9)]
    burst: Annotated[float, Field(ge=1, le=1e9)]


Pattern = Annotated[str, Field(min_length=1, max_length=256)]


class Rule(_Strict):
    """One rule of the policy; `*` in a pattern stands for any text."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    effect: Literal["allow", "deny"]
    callers: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    tenants: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    operations: Annotated[tuple[Operation | Literal["*"], ...], Field(min_length=1)]
    rate: Rate | None = None

    def matches(self, caller: Caller, tenant: str, operation: Operation) -> bool:
        """Say whether the rule speaks about this request."""
        return (
            (operation in self.operations or "*" in self.operations)
            and any(fnmatch.fnmatchcase(tenant, pattern) for pattern in self.tenants)
            and any(
                fnmatch.fnmatchcase(name, pattern)
                for name in caller.names
                for pattern in self.callers
            )
        )


class Policy(_Strict):
    """The rules of one policy file, in its order."""

    rule: Annotated[tuple[Rule, ...], Field(min_length=1)]

    def allowing(self, caller: Caller, tenant: str, operation: Operation) -> Rule:
        """Return the first rule that allows the request, or raise Denied."""
        matching = [rule for rule in self.rule if rule.matches(caller, tenant, operation)]
        if not matching or any(rule.effect == "deny" for rule in matching):
            raise Denied(f"policy does not allow {operation.value} for this caller and tenant")
        return matching[0]


def parse(text: str) -> Policy:
    """Return the policy of a TOML text; raise ValueError with what is wrong, in one line."""
    try:
        policy = Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        msg = f"policy is not TOML: {error}"
        raise ValueError(msg) from None
    except ValidationError as error:
        faults = (".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors())
        msg = "policy is not valid: " + "; ".join(faults)
        raise ValueError(msg) from None
    names = [rule.name for rule in policy.rule]
    if len(set(names)) != len(names):
        raise ValueError("policy is not valid: two rules have one name")
    return policy


def allow_all(caller: str) -> Policy:
    """Return the policy of a development service: one caller, everything."""
    rule = Rule(
        name="development", effect="allow", callers=(caller,), tenants=("*",), operations=("*",)
    )
    return Policy(rule=(rule,))


class Gate:
    """The policy in force, and what each caller has spent of its rates."""

    def __init__(
        self,
        policy: Policy,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self.policy = policy
        self._spent = Buckets(clock=clock, max_buckets=max_buckets)

    def allows(self, caller: Caller, tenant: str, operation: Operation) -> bool:
        """Say whether the policy allows it, whatever was spent."""
        try:
            self.policy.allowing(caller, tenant, operation)
        except Denied:
            return False
        return True

    def admit(self, caller: Caller, tenant: str, operation: Operation, keys: int) -> None:
        """Let the request pass, or raise Denied or Throttled (which spends nothing)."""
        rule = self.policy.allowing(caller, tenant, operation)
        if rule.rate is not None:
            # Each new tenant would have a rate of its own: who makes them is counted for all together.
            making = operation is Operation.CREATE_TENANT
            whose, words = ("", "new tenants") if making else (tenant, "this caller and tenant")
            key, rate = (rule.name, rule.rate, caller.name, whose), rule.rate
            self._spent.spend(key, rate.per_second, rate.burst, keys, words)
