"""Kill `segwithu segment --resume` at random moments, again and again, and compare with an uninterrupted run.

    python Testing/Benchmarks/kill_cohort.py [--data FOLDER] [--cases 10] [--kills 20] [--seed 20261125] [--output FILE]

Real hippocampi and the shipped model; each run is a new process, from the import of torch on. A third of the kills
come at any moment, a third while a case is computed, a third while one is written. After each kill every visible case
must be whole and none may have been lost or made again; at the end all must equal those of the uninterrupted run,
voxel by voxel, with nothing left beside them. Exits 1 where that is not so. (The suite does the same with a quick
model and forked processes.)
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

from cohort_kills import assert_same_cases, kill_often  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"


class Process:
    """A run of the command as a new process."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._log = log
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}
        with log.open("wb") as file:
            call = [sys.executable, "-m", "SegWithUCore.cli", *arguments]
            self._process = subprocess.Popen(call, stdout=file, stderr=file, env=environment)

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None

    def saw(self, words: str, within_s: float = 300.0) -> bool:
        """Wait until it has printed `words`; false where it ended without."""
        deadline = time.monotonic() + within_s
        while words not in self.text:
            if self.ended or time.monotonic() > deadline:
                return words in self.text
            time.sleep(0.005)
        return True

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Exit code, or minus the signal that killed it."""
        return self._process.wait()


class Cohort:
    """The cases, and where the runs of this program write."""

    def __init__(self, data: Path, count: int, root: Path) -> None:
        self.images = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[:count]
        self.names = [path.name.removesuffix(".nii.gz") for path in self.images]
        self._root = root

    def start(self, output: str, log: str = "log", *options: str) -> Process:
        """A process that makes the cohort in the folder `output`."""
        where = ["--model", str(ROOT / "Resources" / "Models" / "hippocampus"), "--output", str(self.folder(output))]
        return Process(["segment", *map(str, self.images), *where, *options], self._root / log)

    def folder(self, name: str) -> Path:
        """A folder of this program."""
        return self._root / name


def uninterrupted(cohort: Cohort) -> tuple[float, float]:
    """Make the cohort in one go; returns seconds until the first case begins, and seconds a case."""
    begun = time.monotonic()
    process = cohort.start("uninterrupted")
    assert process.saw("0% reading"), process.text
    start_s = time.monotonic() - begun
    assert process.wait() == 0, process.text
    return start_s, (time.monotonic() - begun - start_s) / len(cohort.images)


def killed(cohort: Cohort, kills: int, seed: int) -> dict[str, Any]:
    """The kills, and whether what came out is what it should be."""
    start_s, case_s = uninterrupted(cohort)
    output = cohort.folder("killed")
    done = kill_often(
        lambda: cohort.start("killed", "log", "--resume", "--take-over"),
        output,
        kills,
        random.Random(seed),
        case_s,
        start_s,
    )
    last = cohort.start("killed", "log", "--resume", "--take-over")
    assert last.wait() == 0, last.text
    assert_same_cases(output, cohort.folder("uninterrupted"), cohort.names)
    return {
        "seconds_to_start": round(start_s, 2),
        "seconds_per_case": round(case_s, 2),
        "kills": [asdict(kill) for kill in done],
        "kills_that_left_a_begun_case": sum(kill.begun > 0 for kill in done),
        "kills_that_left_a_half_written_folder": sum(kill.temporary > 0 for kill in done),
        "equal_to_uninterrupted": True,
    }


def main() -> int:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEGWITHU_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--output", type=Path, default=RESULTS / "kill_cohort.json")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as root:
        cohort = Cohort(options.data, options.cases, Path(root))
        try:
            result = {"cases": options.cases, "seed": options.seed, **killed(cohort, options.kills, options.seed)}
        except AssertionError as error:
            print(f"FAILED: {error}")
            return 1
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
