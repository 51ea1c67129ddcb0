"""How long the steps of a review take that a reviewer waits for, with far more regions and voxels than usual.

    python Testing/Benchmarks/review_speed.py [--repeat 3]

Processor time, the best of some repeats: a verdict and what follows it among 10,000 regions, a log of 10,000 lines,
the curves of ten million voxels, an edit of an image of 79 million voxels. Exits 1 where a limit is passed; the tests
of the same name count calls and bytes instead, which no busy machine disturbs.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

from review_cases import HEADER, a_region, events_of  # noqa: E402

from SegWithUCore.review.budget import expected_risk_coverage, true_risk_coverage  # noqa: E402
from SegWithUCore.review.log import AuditLog  # noqa: E402
from SegWithUCore.review.log_format import Commented, Verdict, VerdictGiven  # noqa: E402
from SegWithUCore.review.rescoring import WHOLE, Rescoring  # noqa: E402
from SegWithUCore.review.state import ReviewState  # noqa: E402

MANY = 10_000
Step = tuple[str, float, Callable[[], object]]
"""What, how many seconds it may take, and how it is done."""


def main() -> int:
    """Measure, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        for what, limit_s, step in [*_steps(), *_log(Path(folder)), *_curves(), *_edits()]:
            best = min(_seconds(step) for _ in range(repeat))
            slow += best > limit_s
            print(f"{what:<40} {best:8.4f} s (limit {limit_s} s)")
    return int(slow > 0)


def _seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _steps() -> list[Step]:
    regions = [a_region(n, structure=f"structure {n % 3}") for n in range(1, MANY + 1)]
    order = [region.id for region in regions]
    state = ReviewState(regions, 1000.0)
    for region in order[:-2]:
        state.apply(events_of(VerdictGiven(region, Verdict.ACCEPTED, None, 2.0))[0])
    given = events_of(VerdictGiven(MANY - 1, Verdict.ACCEPTED, "x", 1.0))[0]
    return [
        ("verdict among 10,000 regions", 0.05, lambda: state.apply(given)),
        ("next undecided region", 0.05, lambda: state.next_undecided(order, MANY - 1)),
        ("progress", 0.05, state.progress),
        ("one structure", 0.05, lambda: state.structure("structure 0")),
    ]


def _log(folder: Path) -> list[Step]:
    log = AuditLog.open(folder, "Anna", HEADER)
    for number in range(MANY):
        log.append(Commented(number, "x"))
    log.close()

    def opened() -> None:
        AuditLog.open(folder, "Anna", HEADER).close()

    return [("opening a log of 10,000 lines", 2.0, opened)]


def _curves() -> list[Step]:
    random = np.random.default_rng(0)
    score = random.random(10_000_000, dtype=np.float32)
    error = random.random(score.size) < score
    return [
        ("expected curve of 10 million voxels", 1.0, lambda: expected_risk_coverage(score)),
        ("true curve of 10 million voxels", 1.0, lambda: true_risk_coverage(score, error)),
    ]


def _edits() -> list[Step]:
    shape = (300, 512, 512)
    probability = np.zeros(shape, np.float32)
    probability[100:200] = np.random.default_rng(0).random((1, 512, 512), dtype=np.float32)
    labels, regions = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    labels[100:200, 100:300, 100:300] = 1
    regions[120:130, 100:120, 100:150] = np.arange(1, 11)[:, None, None]
    rescoring = Rescoring(probability, labels, regions, 1.0)
    box = (slice(120, 130), slice(85, 115), slice(85, 125))
    edited = labels.copy()
    edited[125, 90:110, 90:120] = 1
    return [
        ("re-scoring a small edit", 0.3, lambda: rescoring.after(edited[box], {1}, box)),
        ("re-scoring the whole image", 0.3, lambda: rescoring.after(edited, {1}, WHOLE)),
    ]


if __name__ == "__main__":
    sys.exit(main())
