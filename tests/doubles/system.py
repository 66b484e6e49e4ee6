"""`os` as one module of ours sees it: what other threads of the process call stays what it is."""

import os
from collections.abc import Callable
from typing import Any

import pytest


class _System:
    """The real `os`, but for the calls that are given."""

    def __init__(self, calls: dict[str, Callable[..., object]]) -> None:
        self.__dict__.update(calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def system_calls(
    monkeypatch: pytest.MonkeyPatch, module: str, **calls: Callable[..., object]
) -> None:
    """Let one module call these instead of what `os` has under their names."""
    monkeypatch.setattr(f"{module}.os", _System(calls))
