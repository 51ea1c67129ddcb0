"""What OpenVINO's settings for threads give beside other work: `engine_settings.py [--rounds 4] [--windows 12]`.

Each setting runs windows of the shipped model in a process and session of its own; settings take turns, so that each
meets the same machine. Besides the wall time of a window: its processor time, and of the time in which its first thread
did not run, how long it waited for a core and how long for other threads (Linux's schedstat). Work that never waits for
other threads is `two streams`: two windows at once, one thread each.

Writes results/engine_settings.json. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SETTINGS: dict[str, tuple[int, Mapping[str, Any]]] = {
    "as it is (two threads, not pinned)": (2, {}),
    "pinned": (2, {"ENABLE_CPU_PINNING": True}),
    "one thread": (1, {}),
    "two streams": (2, {"NUM_STREAMS": 2, "PERFORMANCE_HINT": "THROUGHPUT"}),
}


def windows(name: str, count: int) -> dict[str, float]:
    """Run windows with one of the settings, in this process; seconds a window."""
    sys.path[:0] = [str(ROOT / "SegWithUSlicer")]
    threads, changed = SETTINGS[name]
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import numpy as np

    from SegWithUCore.inference.engines import openvino_engine
    from SegWithUCore.models.registry import resolve_model

    usual = openvino_engine.settings
    openvino_engine.settings = lambda threads: usual(threads) | dict(changed)  # type: ignore[assignment]
    bundle = resolve_model("hippocampus")
    engine = openvino_engine.OpenVINOEngine(bundle)
    image = np.random.default_rng(0).normal(size=(1, *bundle.input.window_zyx)).astype(np.float32)
    for _ in range(2):
        engine.window(image)
    compiled = engine._window.get_compiled_model()
    requests = [compiled.create_infer_request() for _ in range(2 if "streams" in name else 1)]
    before, used, begun = _schedstat(), time.process_time(), time.perf_counter()
    for number in range(count):
        request = requests[number % len(requests)]
        request.wait()
        request.start_async([image[None]]) if len(requests) > 1 else engine.window(image)
    for request in requests:
        request.wait()
    wall, used, after = time.perf_counter() - begun, time.process_time() - used, _schedstat()
    ran, waited = after[0] - before[0], after[1] - before[1]
    found = {"wall": wall, "processor": used, "waits_for_a_core": waited, "waits_for_threads": wall - ran - waited}
    return {what: seconds / count for what, seconds in found.items()}


def _schedstat() -> tuple[float, float]:
    """Seconds that this process's first thread has run and has waited for a core."""
    ran, waited, _ = Path("/proc/self/schedstat").read_text(encoding="ascii").split()
    return int(ran) / 1e9, int(waited) / 1e9


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--only", choices=tuple(SETTINGS), help="run this setting here and print it")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(windows(options.only, options.windows)), flush=True)
        os._exit(0)  # OpenVINO's threads need no farewell
    load = os.getloadavg()[0]
    times: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(options.rounds):
        for name in SETTINGS:
            call = [sys.executable, __file__, "--only", name, "--windows", str(options.windows)]
            done = subprocess.run(call, check=True, capture_output=True, text=True, start_new_session=True)
            times[name].append(json.loads(done.stdout))
    figures = {
        name: {what: round(statistics.median(run[what] for run in runs), 3) for what in runs[0]}
        for name, runs in times.items()
    }
    for name, each in figures.items():
        print(f"{name:36}", each)
    cores = len(os.sched_getaffinity(0))
    result = {"rounds": options.rounds, "cores": cores, "load_before": round(load, 1), "seconds_a_window": figures}
    (HERE / "results" / "engine_settings.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
