"""Caps on streams: in all and for one tenant, given back whatever happens."""

from contextlib import ExitStack

import pytest

from gateway.attachments.admission import Admission
from gateway.errors import Busy


def test_one_tenant_cannot_take_everything() -> None:
    admission = Admission(streams=4, per_tenant=2)
    with ExitStack() as running:
        running.enter_context(admission.stream("a"))
        running.enter_context(admission.stream("a"))
        with pytest.raises(Busy, match="this tenant"):
            running.enter_context(admission.stream("a"))
        running.enter_context(admission.stream("b"))
        running.enter_context(admission.stream("c"))
        with pytest.raises(Busy, match="this gateway") as refused:
            running.enter_context(admission.stream("d"))

    assert refused.value.retry_after
    assert admission.running == 0


def test_a_place_is_given_back_after_a_failure() -> None:
    admission = Admission(streams=1, per_tenant=1)
    for _ in range(3):
        with pytest.raises(RuntimeError), admission.stream("a"):
            raise RuntimeError

    assert admission.running == 0
