"""The log is JSON, one line an event, and a traceback shows no values."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from keyservice import logs
logs.configure("info")
log = structlog.get_logger("x")
log.debug("hidden")
log.info("shown", count=1)
logging.getLogger("other").warning("foreign")
def fail(key):
    raise ValueError("broken")
try:
    fail(bytes(range(65, 97)))
except ValueError:
    log.exception("failed")
"""


def test_every_line_is_json_and_no_value_of_a_frame_is_shown() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in found.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["shown", "foreign", "failed"]
    assert lines[0]["count"] == 1
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert "ValueError: broken" in lines[2]["exception"]
    assert "ABCDEFGH" not in found.stderr + found.stdout
