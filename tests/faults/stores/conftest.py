"""Faults are tried on the event loop of production, whose sockets fail in their own way."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on uvloop."""
    return {"uvloop": uvloop.new_event_loop}
