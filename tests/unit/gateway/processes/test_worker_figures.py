"""The figures of a worker that died are gone on with by its successor, in the same files."""

import asyncio
import json
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from gateway.processes import workers
from gateway.processes.workers import Workers

LIVES = 4
WORKER = """
    import json, os, pathlib, signal, sys
    from prometheus_client.parser import text_string_to_metric_families
    from gateway.http.metrics import Metrics
    from gateway.processes import figures

    lives, told = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    figures.share()
    metrics = Metrics(["primary"])
    metrics.degraded.inc()
    metrics.ended("GET", 200, 0.01)
    metrics.running.inc()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.expose().decode())
        for sample in family.samples
        if sample.labels.get("method", "GET") == "GET" and sample.value
    }
    if found["sealgate_degraded_acknowledgements_total"] < lives:
        os.kill(os.getpid(), signal.SIGKILL)
    files = sorted(os.listdir(os.environ[figures.FOLDER]))
    told.write_text(json.dumps({"found": found, "files": files}))
    sys.exit(78)
"""


async def test_a_worker_that_dies_again_and_again_leaves_no_files_and_no_figure_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "SLOWEST", 0.01)
    told = tmp_path / "told.json"
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(LIVES), str(told)]
    assert not await Workers(command, 1, drain_timeout=0.0, fatal=78).run()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(each)

    shown = json.loads(told.read_text())
    assert {name.rpartition("_")[2] for name in shown["files"]} == {"0.db"}
    assert {name.partition("_")[0] for name in shown["files"]} == {"counter", "gauge", "histogram"}
    found = shown["found"]
    assert found["sealgate_degraded_acknowledgements_total"] == LIVES
    assert found["sealgate_http_requests_total"] == LIVES
    assert found["sealgate_http_request_seconds_count"] == LIVES
    assert found["sealgate_http_requests_running"] == 1, "what the dead were at is over"
