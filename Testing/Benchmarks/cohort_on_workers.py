"""What handing out cases to workers costs: 500 cases that sleep 20 ms, on two workers of this computer.

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

from SegWithUCore.cohort.on_worker import RunFacts  # noqa: E402
from SegWithUCore.cohort.workers import Workers, WorkersRequest, connected  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "cohort_on_workers.json"
WORKERS, CASES, CASE_S = 2, 500, 0.02


def sleeping_case(seconds: float) -> dict[str, Any]:
    """A case that needs no processor; returns how long it took."""
    begun = time.perf_counter()
    time.sleep(seconds)
    return {"seconds": time.perf_counter() - begun}


def timed(workers: Workers) -> dict[str, Any]:
    """Do the cases and return the overhead of one."""
    run = RunFacts("benchmark")
    workers.get_ready(run, dict)
    begun = time.perf_counter()
    cases = ((f"case-{number}", (CASE_S,)) for number in range(CASES))
    answers = [answer for answer in workers.each(cases, sleeping_case, run) if answer is not None]
    wall = time.perf_counter() - begun
    own = sum(answer.value["seconds"] for answer in answers if answer.value is not None)
    overhead = 1000 * (wall * WORKERS - own) / len(answers)
    return {"workers": WORKERS, "cases": len(answers), "seconds": round(wall, 2), "overhead_ms": round(overhead, 2)}


def main() -> int:
    """Run and write the result."""
    with tempfile.TemporaryDirectory() as shared, connected(WorkersRequest(WORKERS), Path(shared), print) as workers:
        result = timed(workers)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
