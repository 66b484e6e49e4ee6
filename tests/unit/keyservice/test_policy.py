"""Deny wins, silence denies, and rates are spent by caller and tenant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyservice.access.policy import Caller, Gate, Operation, Policy, Rule, allow_all, parse
from keyservice.errors import Denied, Throttled
from tests.unit.keyservice.fakes import FakeClock

GATEWAY = Caller(("dns:gateway.internal", "dns:other.internal"))
TENANT = "a" * 32

TEXT = """
[[rule]]
name = "gateways"
effect = "allow"
callers = ["dns:gateway.*"]
tenants = ["*"]
operations = ["unwrap", "data-keys"]
rate = { per_second = 10, burst = 20 }
"""
DENY = """
[[rule]]
name = "frozen"
effect = "deny"
callers = ["*"]
tenants = ["b*"]
operations = ["*"]
"""


def test_what_a_rule_allows_passes() -> None:
    Gate(parse(TEXT)).admit(GATEWAY, TENANT, Operation.UNWRAP, 1)


@pytest.mark.parametrize(
    ("caller", "operation"),
    [
        (Caller(("dns:stranger",)), Operation.UNWRAP),
        (Caller(("uri:gateway.internal",)), Operation.UNWRAP),
        (Caller(("token:development",)), Operation.UNWRAP),
        (GATEWAY, Operation.REWRAP),
        (GATEWAY, Operation.CREATE_TENANT),
    ],
)
def test_what_no_rule_allows_is_denied(caller: Caller, operation: Operation) -> None:
    with pytest.raises(Denied):
        Gate(parse(TEXT)).admit(caller, TENANT, operation, 1)


@pytest.mark.parametrize("text", [TEXT + DENY, DENY + TEXT])
def test_deny_wins_in_any_order(text: str) -> None:
    gate = Gate(parse(text))
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)
    with pytest.raises(Denied):
        gate.admit(GATEWAY, "b" * 32, Operation.UNWRAP, 1)


def test_a_denial_of_any_name_of_the_caller_counts() -> None:
    text = TEXT + DENY.replace('"*"]\ntenants', '"dns:other.internal"]\ntenants')
    with pytest.raises(Denied):
        Gate(parse(text)).admit(GATEWAY, "b" * 32, Operation.UNWRAP, 1)


@given(
    st.permutations(["allow", "allow", "deny"]),
    st.sampled_from([GATEWAY.names[0], "*"]),
    st.sampled_from([TENANT, "*"]),
)
def test_no_order_of_rules_overrules_a_denial(effects: list[str], caller: str, tenant: str) -> None:
    rules = tuple(
        Rule.model_validate(
            {
                "name": str(number),
                "effect": effect,
                "callers": (caller,),
                "tenants": (tenant,),
                "operations": ("*",),
            }
        )
        for number, effect in enumerate(effects)
    )
    with pytest.raises(Denied):
        Policy(rule=rules).allowing(GATEWAY, TENANT, Operation.UNWRAP)


def test_a_rate_is_spent_in_keys_and_comes_back() -> None:
    clock = FakeClock()
    gate = Gate(parse(TEXT), clock=clock)
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 15)
    gate.admit(GATEWAY, TENANT, Operation.DATA_KEYS, 15)  # 5 left: let in whole, 10 owed
    with pytest.raises(Throttled) as refused:
        gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)
    assert refused.value.retry_after == pytest.approx(1.1)
    clock.now += 1.1
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)


def test_a_refused_request_spends_nothing() -> None:
    clock = FakeClock()
    gate = Gate(parse(TEXT), clock=clock)
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 20)
    for _ in range(100):
        with pytest.raises(Throttled):
            gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1000)
    clock.now += 0.1
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)


def test_one_tenant_or_caller_does_not_spend_anothers_rate() -> None:
    gate = Gate(parse(TEXT), clock=FakeClock())
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1000)
    gate.admit(GATEWAY, "c" * 32, Operation.UNWRAP, 1)
    gate.admit(Caller(("dns:gateway.second",)), TENANT, Operation.UNWRAP, 1)


def test_new_tenants_share_one_rate() -> None:
    clock = FakeClock()
    gate = Gate(parse(TEXT.replace("unwrap", "create-tenant")), clock=clock)
    for number in range(20):
        gate.admit(GATEWAY, f"{number:032x}", Operation.CREATE_TENANT, 1)
    with pytest.raises(Throttled, match="new tenants"):
        gate.admit(GATEWAY, TENANT, Operation.CREATE_TENANT, 1)
    gate.admit(GATEWAY, TENANT, Operation.DATA_KEYS, 20)
    gate.admit(Caller(("dns:gateway.second",)), TENANT, Operation.CREATE_TENANT, 1)
    clock.now += 0.1
    gate.admit(GATEWAY, TENANT, Operation.CREATE_TENANT, 1)


def test_rest_fills_no_more_than_the_burst() -> None:
    clock = FakeClock()
    gate = Gate(parse(TEXT), clock=clock)
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)
    clock.now += 1e6
    gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 20)
    with pytest.raises(Throttled):
        gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)


def test_the_buckets_are_bounded() -> None:
    gate = Gate(parse(TEXT), clock=FakeClock(), max_buckets=10)
    for number in range(100):
        gate.admit(GATEWAY, f"{number:032x}", Operation.UNWRAP, 1)
    assert len(gate._spent._buckets) == 10


def test_the_development_policy_is_for_its_caller_alone() -> None:
    gate = Gate(allow_all("token:development"))
    gate.admit(Caller(("token:development",)), TENANT, Operation.CREATE_TENANT, 1)
    with pytest.raises(Denied):
        gate.admit(GATEWAY, TENANT, Operation.UNWRAP, 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "rule"),
        ("rule = []", "rule"),
        ("[[rule]", "TOML"),
        (TEXT + "extra = 1", "extra"),
        (TEXT.replace("unwrap", "unrap"), "operations"),
        (TEXT.replace('"allow"', '"permit"'), "effect"),
        (TEXT.replace('["dns:gateway.*"]', "[]"), "callers"),
        (TEXT.replace("per_second = 10", "per_second = 0"), "per_second"),
        (TEXT.replace("burst = 20", "burst = nan"), "burst"),
        (TEXT + TEXT, "one name"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(text)
