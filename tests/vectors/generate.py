"""Write the vectors, one case a file and the same bytes on every run.

`python -m tests.vectors.generate [folder]`; without a folder it renews `cases/` beside itself.
"""

import json
import sys
from pathlib import Path

from tests.vectors.range_cases import range_cases
from tests.vectors.record_cases import attributes_cases, context_cases, envelope_cases, wrap_cases
from tests.vectors.segment_cases import segment_cases

CASES = (
    context_cases,
    segment_cases,
    range_cases,
    wrap_cases,
    attributes_cases,
    envelope_cases,
)


def generate(folder: Path) -> None:
    """Write every case into `folder`, and remove cases that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = dict(case for family in CASES for case in family())
    for old in folder.glob("*.json"):
        if old.stem not in cases:
            old.unlink()
    for name, case in cases.items():
        (folder / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("cases"))
