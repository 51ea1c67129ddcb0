"""Measure the overhead of workers: 500 cases that sleep 20 ms, on two workers of this computer.

    python Testing/Benchmarks/cohort_on_workers.py

The overhead of a case is wall time x workers minus the cases' own times, by the number of cases.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "SegWithUSlicer"))

from SegWithUCore.cohort.workers import Setup, WorkersRequest, connected, each_case, ready_workers  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.models.installed import resolve_model  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "cohort_on_workers.json"
WORKERS, CASES, CASE_S = 2, 500, 0.02


def sleeping_case(_model: Model, seconds: float) -> float:
    """A case that needs no processor; returns how long it took."""
    begun = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - begun


def timed(client: Any) -> dict[str, Any]:
    """Do the cases and return the overhead of one."""
    setup = Setup.of(resolve_model("hippocampus"), None, "openvino", "cpu")
    setup = ready_workers(client, setup, WorkersRequest(WORKERS))
    begun = time.perf_counter()
    cases = ((f"case-{number}", (CASE_S,)) for number in range(CASES))
    seconds = [answer[1] for answer in each_case(client, setup, sleeping_case, cases) if not isinstance(answer, int)]
    wall = time.perf_counter() - begun
    overhead = 1000 * (wall * WORKERS - sum(seconds)) / len(seconds)
    return {"workers": WORKERS, "cases": len(seconds), "seconds": round(wall, 2), "overhead_ms": round(overhead, 2)}


def main() -> int:
    """Run and write the result."""
    with tempfile.TemporaryDirectory() as shared, connected(WorkersRequest(WORKERS), Path(shared)) as client:
        result = timed(client)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
