"""Measure the overhead of workers: 500 cases that sleep 20 ms, on two workers of this computer.

    python Testing/Benchmarks/cohort_on_workers.py

The overhead of a case is wall time x workers minus the cases' own times, by the number of cases.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "SegWithUSlicer"))

from SegWithUCore.cohort import workers  # noqa: E402
from SegWithUCore.models.installed import resolve_model  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "cohort_on_workers.json"
WORKERS, CASES, CASE_S = 2, 500, 0.02


def sleeping_case(*_: Any) -> float:
    """A case that needs no processor; returns how long it took."""
    begun = time.perf_counter()
    time.sleep(CASE_S)
    return time.perf_counter() - begun


def timed(client: Any) -> dict[str, Any]:
    """Do the cases and return the overhead of one."""
    setup = workers.Setup.of(resolve_model("hippocampus"), None, "openvino", "cpu")
    setup = workers.ready_workers(client, setup, WORKERS)
    begun = time.perf_counter()
    each: Any = workers._each_case
    seconds = [took for _, took in each(client, setup, None, range(CASES))]
    wall = time.perf_counter() - begun
    overhead = 1000 * (wall * WORKERS - sum(seconds)) / len(seconds)
    return {"workers": WORKERS, "cases": len(seconds), "seconds": round(wall, 2), "overhead_ms": round(overhead, 2)}


def main() -> int:
    """Run and write the result."""
    replaced: Any = workers
    replaced.settle_here, replaced._seen = sleeping_case, lambda _, took: took
    with workers.connected(WORKERS, None) as client:
        result = timed(client)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
