"""Time commands that need no network (processor time): `run.py start-cost [--repeats 10]`.

Each runs in a process of its own, whose user and system time the system counts. The fastest and the middle of the
repeats are written to results/start_cost.md: on a busy machine only the fastest says what the command itself takes.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMANDS = ("--help", "check --help", "models list", "models show hippocampus", "models verify")
LIMIT_S = 0.6
"""What `--help` and `models list` may take."""


def processor_seconds(command: str) -> float:
    """Run a command once and return its user and system time.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}
    call = [sys.executable, "-m", "SegWithUCore.cli", *command.split()]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    rows = []
    for command in COMMANDS:
        processor_seconds(command)  # files are in the system's cache, and bytecode is written, from here on
        seconds = [processor_seconds(command) for _ in range(repeats)]
        rows.append(f"| `segwithu {command}` | {min(seconds):.2f} | {statistics.median(seconds):.2f} |")
        print(rows[-1])
    text = "\n".join(
        [
            "# What a start costs",
            "",
            "Written by `Testing/Benchmarks/start_cost.py`; do not edit by hand.",
            "",
            f"Processor time (user and system, all threads) of {repeats} runs each, Python "
            f"{platform.python_version()}, {platform.system()} {platform.machine()}. "
            f"Limit for `--help` and `models list`: {LIMIT_S} s.",
            "",
            "| command | fastest, s | middle, s |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
    (HERE / "results" / "start_cost.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
