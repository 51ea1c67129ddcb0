"""How much longer a case takes beside one other busy process a core.

    python Testing/Benchmarks/busy_machine.py [--edge 96] [--rounds 3] [--apart session] [--output FILE]

`segwithu segment` runs as a user runs it, with its default number of threads, on the sample brain; idle and busy runs
take turns, and of each the fastest counts. 2.3 is meant to be the most.

How much a machine gives to whom is the kernel's: where Linux groups processes by session (autogroup, the default of
desktops), two busy programs and ours on two cores get a third of the machine each, however many threads they have, and
even work that never waits takes 3 times as long on all cores. So beside the engines stands a control, as many
processes as cores that only count; an engine whose ratio is not above it loses nothing by waiting or spinning.
`--apart group` puts the others into process groups of their own within one session: then each thread counts.

`processor` is the processor time of the busy run over that of the idle one: spinning would raise it. The machine must
be idle otherwise: where another process runs nothing is measured. Exits 1 where a ratio is above 2.3 and above the
control's.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
RESULTS = Path(__file__).resolve().parent / "results"
CENTRE = (-28, -22, -14)
MOST = 2.3
ENGINES = ("openvino", "torch")


CONTROL = """
import multiprocessing, sys
def count(steps):
    while steps:
        steps -= 1
workers = [multiprocessing.Process(target=count, args=(30_000_000,)) for _ in range(int(sys.argv[1]))]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""
APART: dict[str, dict[str, Any]] = {"session": {"start_new_session": True}, "group": {"process_group": 0}}


@contextmanager
def busy(processes: int, apart: str) -> Iterator[None]:
    """Keep so many cores busy, each by a process set apart from ours and from the others."""
    loop = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(loop, **APART[apart]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(command: list[str]) -> tuple[float, float]:
    """Wall time and processor time of a command."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(ROOT / "SegWithUSlicer")
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def segmenting(engine: str, edge: int, private: str) -> list[str]:
    """Return the command that segments one case."""
    region = ",".join(map(str, (*CENTRE, edge, edge, edge)))
    command = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(IMAGE), "--model", "hippocampus"]
    return [*command, f"--roi={region}", "--unlike-training", "--engine", engine, "--overwrite", "--output", private]


def compared(command: list[str], cores: int, rounds: int, apart: str) -> dict[str, float]:
    """Run a command idle and busy in turns."""
    idle, beside = [], []
    for _ in range(rounds):
        idle.append(run(command))
        with busy(cores, apart):
            beside.append(run(command))
    fastest, slowed = min(idle), min(beside)
    return {
        "idle_s": round(fastest[0], 2),
        "busy_s": round(slowed[0], 2),
        "ratio": round(slowed[0] / fastest[0], 2),
        "processor": round(slowed[1] / fastest[1], 2),
    }


def main() -> int:
    """Measure both engines and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--edge", type=int, default=96, help="edge of the region, mm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apart", choices=tuple(APART), default="session", help="how the others are set apart")
    parser.add_argument("--output", type=Path, default=RESULTS / "busy_machine.json")
    options = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    runnable = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0]) - 1
    if runnable > 0:
        sys.exit(f"{runnable} other process(es) are running: wait until the machine is idle.")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as private:
        commands = {"control": [sys.executable, "-c", CONTROL, str(cores)]}
        commands |= {engine: segmenting(engine, options.edge, private) for engine in ENGINES}
        for name, command in commands.items():
            found[name] = compared(command, cores, options.rounds, options.apart)
            print(name, found[name], flush=True)
    control = found.pop("control")
    grouping = Path("/proc/sys/kernel/sched_autogroup_enabled")
    result = {
        "edge_mm": options.edge,
        "cores": cores,
        "rounds": options.rounds,
        "apart": options.apart,
        "grouped_by_session": grouping.exists() and grouping.read_text(encoding="ascii").strip() == "1",
        "load_before": round(load, 1),
        "platform": f"{sys.platform} {platform.machine()}",
        "control": control,
        "engines": found,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(engine["ratio"] <= max(MOST, control["ratio"]) for engine in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
