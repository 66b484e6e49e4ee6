"""The messages on the wire: strict in form, silent about what they refuse, one error table."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyservice import errors
from keyservice.errors import Conflict, Invalid, KeyServiceError, Throttled
from keyservice.protocol.messages import CreateTenant, Item, MakeDataKeys, Problem, UseKeys, parse
from keyservice.protocol.problems import PREFIX, STATUS, from_problem, to_problem
from keyservice.wire import ERRORS, MAX_BATCH, MAX_CONTEXT, DataKey, WrappedKey

ALL = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, KeyServiceError)]
CONTEXT = base64.b64encode(b"context").decode()


def body(**changes: object) -> str:
    return json.dumps({"reason": "upload", "contexts": [CONTEXT]} | changes)


def test_a_message_in_the_right_form_is_read() -> None:
    assert parse(MakeDataKeys, body()).contexts == (b"context",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 5000,
        body(extra=1),
        body(reason=""),
        body(reason="a\nb"),
        body(reason="é"),
        body(reason="x" * 201),
        body(reason=5),
        body(contexts=[]),
        body(contexts=CONTEXT),
        body(contexts=[CONTEXT] * (MAX_BATCH + 1)),
        body(contexts=[5]),
        body(contexts=[""]),
        body(contexts=["YQ"]),  # no padding
        body(contexts=["Y Q=="]),
        body(contexts=["-_=="]),
        body(contexts=["é"]),
        body(contexts=[base64.b64encode(bytes(MAX_CONTEXT + 1)).decode()]),
    ],
)
def test_a_message_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(MakeDataKeys, text)


@pytest.mark.parametrize("tenant", ["", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", 5, None])
def test_only_tenant_ids_are_created(tenant: object) -> None:
    with pytest.raises(Invalid):
        parse(CreateTenant, json.dumps({"tenant": tenant}))


def test_a_refusal_does_not_repeat_the_input() -> None:
    with pytest.raises(Invalid) as refused:
        parse(UseKeys, json.dumps({"reason": "r", "keys": [{"wrapped": "hush!", "hush": "hush"}]}))
    assert "hush!" not in str(refused.value)


@given(st.binary(max_size=200))
def test_no_bytes_make_another_error(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse(UseKeys, data)


def test_every_error_has_one_status_and_its_own_name() -> None:
    assert set(STATUS) == set(ALL)
    assert len({error.code for error in ALL}) == len(ALL)
    assert set(ERRORS.values()) == set(ALL) - {Conflict}


@pytest.mark.parametrize("kind", list(ERRORS.values()))
def test_an_error_crosses_the_wire_as_itself(kind: type[KeyServiceError]) -> None:
    problem = to_problem(kind("what it is", retry_after=1.5))
    back = from_problem(parse(Problem, problem.model_dump_json()))
    assert (type(back), str(back), back.retry_after) == (kind, "what it is", 1.5)
    assert problem.type == PREFIX + kind.code


@pytest.mark.parametrize("kind", ["about:blank", PREFIX + "conflict", PREFIX + "new", ""])
def test_an_unknown_error_is_a_plain_one(kind: str) -> None:
    assert type(from_problem(Problem(type=kind, status=418, detail="d"))) is KeyServiceError


def test_the_documented_statuses() -> None:
    found = {kind.code: status for kind, status in STATUS.items()}
    assert found == {
        "invalid": 400,
        "unauthenticated": 401,
        "denied": 403,
        "unknown-tenant": 404,
        "shredded": 410,
        "too-large": 413,
        "cannot-unwrap": 422,
        "suspended": 423,
        "throttled": 429,
        "internal": 500,
        "conflict": 503,
        "suspended-by-owner": 423,
        "shredding": 423,
        "wrong-state": 409,
        "unavailable": 503,
        "altered": 503,
    }
    assert issubclass(Throttled, KeyServiceError)


@pytest.mark.parametrize(
    "value",
    [
        DataKey(b"S" * 32, b"w", "k"),
        Item(dek=b"S" * 32),
        Item(dek=b"S" * 32, wrapped=b"w", kek="k"),
        [DataKey(b"S" * 32, b"w", "k")],
    ],
)
def test_a_data_key_is_not_shown(value: Any) -> None:
    assert "SSSS" not in repr(value) + str(value)


def test_a_data_key_crosses_the_wire_unchanged() -> None:
    dek = bytes(range(224, 256))
    assert parse(Item, Item(dek=dek).model_dump_json()).dek == dek


def test_a_wrapped_key_is_a_value() -> None:
    assert {WrappedKey(b"w", b"c"), WrappedKey(b"w", b"c")} == {WrappedKey(b"w", b"c")}
