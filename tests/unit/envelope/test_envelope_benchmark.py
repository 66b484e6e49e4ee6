"""The benchmark of the envelope runs and says which ratios it holds against targets."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "envelope.py"


def test_it_reports_every_ratio() -> None:
    command = [sys.executable, str(SCRIPT), "--rounds", "1", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert all(row["ratio"] > 0 for row in report["rows"])
    assert [row["target"] for row in report["rows"] if row["target"]] == [0.9, 0.9, 0.9, 0.8, 0.8]
