"""The log is JSON, one line an event, and an error shows neither text nor values."""

import json
import re
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
    raise ValueError("s3cret in a message")
try:
    fail(bytes(range(65, 97)))
except ValueError:
    log.exception("failed")
try:
    try:
        fail(b"")
    except ValueError as cause:
        raise OSError("Authorization: Bearer s3cret") from cause
except OSError as error:
    logging.getLogger("other").error("foreign", exc_info=error)
"""


def test_every_line_is_json_and_errors_are_types_and_places() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in found.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["shown", "foreign", "failed", "foreign"]
    assert lines[0]["count"] == 1
    assert all(line["timestamp"].endswith("Z") for line in lines)
    (failed,) = lines[2]["exception"]
    assert re.fullmatch(r"ValueError < <string>:\d+ fail < <string>:\d+ <module>", failed)
    assert [text.split()[0] for text in lines[3]["exception"]] == ["OSError", "ValueError"]
    assert "s3cret" not in found.stderr + found.stdout
    assert "ABCDEFGH" not in found.stderr + found.stdout
