"""How much longer a case takes beside one other busy process a core, each in a session of its own.

    python Testing/Benchmarks/busy_machine.py [--edge 96] [--rounds 3] [--output FILE]

`segwithu segment` runs as a user runs it, with its default number of threads, on the sample brain; idle and busy runs
take turns, and of each the fastest counts. A fair share beside one other process a core is half of the machine, so that
2 would be perfect and 2.3 is meant to be the most. The machine must be idle otherwise: where another process runs
nothing is measured. Exits 1 where a ratio is above 2.3.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
RESULTS = Path(__file__).resolve().parent / "results"
CENTRE = (-28, -22, -14)
MOST = 2.3
ENGINES = ("openvino", "torch")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many cores busy, each by a process of its own session (and so its own scheduling group)."""
    loop = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(loop, start_new_session=True) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def seconds(engine: str, edge: int) -> float:
    """Wall time of one case, started as a command."""
    region = ",".join(map(str, (*CENTRE, edge, edge, edge)))
    with tempfile.TemporaryDirectory() as private:
        command = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(IMAGE), "--model", "hippocampus"]
        command += [f"--roi={region}", "--unlike-training", "--engine", engine, "--output", private]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment["PYTHONPATH"] = str(ROOT / "SegWithUSlicer")
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - begun


def main() -> int:
    """Measure both engines and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--edge", type=int, default=96, help="edge of the region, mm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "busy_machine.json")
    options = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    runnable = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0]) - 1
    if runnable > 0:
        sys.exit(f"{runnable} other process(es) are running: wait until the machine is idle.")
    found: dict[str, dict[str, float]] = {}
    for engine in ENGINES:
        times: dict[str, list[float]] = {"idle": [], "busy": []}
        for _ in range(options.rounds):
            times["idle"].append(seconds(engine, options.edge))
            with busy(cores):
                times["busy"].append(seconds(engine, options.edge))
        idle, beside = min(times["idle"]), min(times["busy"])
        found[engine] = {"idle_s": round(idle, 2), "busy_s": round(beside, 2), "ratio": round(beside / idle, 2)}
        print(engine, found[engine], flush=True)
    result = {
        "edge_mm": options.edge,
        "cores": cores,
        "rounds": options.rounds,
        "load_before": round(load, 1),
        "platform": f"{sys.platform} {platform.machine()}",
        "engines": found,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(engine["ratio"] <= MOST for engine in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
