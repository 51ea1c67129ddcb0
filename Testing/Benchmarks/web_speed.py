"""Time the server behind the page: from the command to its link, a case to its bytes, a verdict to its answer.

    python Testing/Benchmarks/web_speed.py CASE [--large CASE] [--verdicts 200] [--output FILE]

Cases are copied first. The server is a process of its own, so that times are those of its users; a verdict is on disk
before its answer (fsync), so its time is mostly the disk's.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

from web_client import WebClient  # noqa: E402
from web_process import started  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SHOWN_FIRST = ("image", "labels", "error_probability", "masks")


def measured(case: Path, verdicts: int) -> dict[str, Any]:
    """Serve a copy of a case, load it as the page does, and give verdicts."""
    begun = time.perf_counter()
    with started(case) as (_process, ready):
        link_s = time.perf_counter() - begun
        client = WebClient(ready["url"])
        begun = time.perf_counter()
        told = client.get("/api/cases/1")
        told_s = time.perf_counter() - begun
        size = sum(len(client.bytes(f"/api/cases/1/volumes/{name}")) for name in SHOWN_FIRST)
        loaded_s = time.perf_counter() - begun
        begun = time.perf_counter()
        client.get("/api/cases/1")
        again_s = time.perf_counter() - begun
        review = client.open("1", "Ana")
        times = []
        for number in range(verdicts):
            begun = time.perf_counter()
            review.judge(review.ids[number % len(review.ids)])
            times.append(1000 * (time.perf_counter() - begun))
        review.close()
    times.sort()
    return {
        "voxels": told["grid"]["size"],
        "command_to_link_s": round(link_s, 2),
        "case_first_time_s": round(told_s, 2),
        "case_with_volumes_s": round(loaded_s, 2),
        "volumes_mb": round(size / 1e6, 1),
        "case_again_s": round(again_s, 3),
        "verdict_ms_median": round(median(times), 1),
        "verdict_ms_95_percent": round(times[int(0.95 * len(times))], 1),
    }


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", type=Path)
    parser.add_argument("--large", type=Path)
    parser.add_argument("--verdicts", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS / "web_speed.json")
    options = parser.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    for name, case in (("small", options.case), ("large", options.large)):
        if case is not None:
            with tempfile.TemporaryDirectory() as private:
                copy = shutil.copytree(case, Path(private) / case.name)
                found[name] = measured(Path(copy), options.verdicts)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
