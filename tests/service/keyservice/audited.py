"""A Vault whose file audit device is on, and what it says that one role asked of it."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.vault import Vault


@dataclass(frozen=True, slots=True)
class Audited:
    """The log of a server as far as it is about those who act under one policy."""

    policy: str
    file: Path

    def calls(self) -> list[dict[str, Any]]:
        """Return every answered request, in order."""
        entries = map(json.loads, self.file.read_text().splitlines())
        return [
            entry
            for entry in entries
            if entry["type"] == "response"
            and self.policy in entry.get("auth", {}).get("policies", [])
            and not entry["request"]["path"].endswith("/login")
        ]

    def counted(self, shapes: Mapping[str, str]) -> Counter[tuple[str, str]]:
        """Count what was done by name and what the shape caught; every request has exactly one shape."""
        found: Counter[tuple[str, str]] = Counter()
        for entry in self.calls():
            text = f"{entry['request']['operation']} {entry['request']['path']}"
            matching = [
                (name, match[1])
                for shape, name in shapes.items()
                if (match := re.fullmatch(shape, text))
            ]
            assert len(matching) == 1, f"nobody accounts for {text}"
            found[matching[0]] += "error" not in entry
        return found

    def refused(self) -> int:
        """Count the requests that were not carried out."""
        return sum("error" in entry for entry in self.calls())


@asynccontextmanager
async def auditing(server: Vault, policy: str, file: Path) -> AsyncIterator[Audited]:
    """Turn the file audit device on while the block lasts."""

    def turn(*, on: bool) -> None:
        with server.client() as client:
            if on:
                options = {"file_path": str(file)}
                client.sys.enable_audit_device(device_type="file", path=policy, options=options)
            else:
                client.sys.disable_audit_device(policy)

    await asyncio.to_thread(lambda: turn(on=True))
    try:
        yield Audited(policy, file)
    finally:
        await asyncio.to_thread(lambda: turn(on=False))
