"""What counts as one address, and that every connection which entered leaves again."""

import asyncio

import pytest

from gateway.http.crowd import Caps, Crowd, address_of, counted
from gateway.http.metrics import Metrics


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
    ],
)
def test_one_host_is_one_address(host: str, expected: str) -> None:
    assert counted(host) == expected


def test_the_caps_hold_and_what_leaves_makes_room() -> None:
    crowd = Crowd(Caps(3, 2), Metrics(()))
    assert [crowd.enter("a") for _ in range(3)] == [True, True, False]
    assert [crowd.enter("b") for _ in range(2)] == [True, False]
    assert not crowd.enter(None)
    crowd.leave("a")
    assert crowd.enter(None)
    for address in ("a", "b", None):
        crowd.leave(address)
    assert not crowd._from
    assert not crowd._open


@pytest.mark.parametrize("peer", [None, "", ()])
def test_a_unix_socket_has_no_address(peer: object) -> None:
    class Wire(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return peer if name == "peername" else default

    assert address_of(Wire()) is None
