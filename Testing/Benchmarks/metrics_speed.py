"""How long error detection over many voxels takes by histogram and by sorting, and how far the figures differ.

    python Testing/Benchmarks/metrics_speed.py [--voxels 100000000] [--repeat 3] [--output FOLDER]

One thread. Seconds are those of the CPU, because the machine may be shared; wall seconds stand beside them. Sorting
100 million voxels needs about 7 GB. Exits 1 when counting is less than 50 times faster than sorting, or when a figure
lies outside its bounds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402

from SegWithUCore.metrics import score_histogram  # noqa: E402
from SegWithUCore.metrics.error_detection import ScoreGroups, augrc, aurc, auroc, average_precision, score_groups  # noqa: E402

FASTER = 50
FIGURES = {"AUROC": auroc, "AUPRC": average_precision, "AURC": aurc, "AUGRC": augrc}
CHUNKS = (1 << 16, 1 << 18, 1 << 20)
BLOCK = 1 << 22


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=float, default=1e8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    score, error = skewed(int(options.voxels))
    rows = {}
    for chunk in CHUNKS:
        score_histogram.CHUNK = chunk
        rows[f"histogram, {chunk // 1024}k voxels a step"] = _timed(lambda: counted(score, error), options.repeat)
    score_histogram.CHUNK = 1 << 18
    groups = counted(score, error)
    binned = {
        name: (figure(groups), *score_histogram.metric_bounds(groups, figure)) for name, figure in FIGURES.items()
    }
    rows["figures and bounds of the histogram"] = _timed(
        lambda: [score_histogram.metric_bounds(groups, figure) for figure in FIGURES.values()], options.repeat
    )
    print(json.dumps({"rows": rows, "binned": binned}, indent=1), file=sys.stderr, flush=True)
    rows["np.argsort alone, numpy's default kind"] = _timed(lambda: np.argsort(score), 1)
    exact_groups: list[ScoreGroups] = []
    rows["sorting (score_groups)"] = _timed(lambda: exact_groups.append(score_groups(score, error)), 1)
    exact = {name: figure(exact_groups[0]) for name, figure in FIGURES.items()}
    return _report(options, rows, exact, binned, int(error.sum()))


def skewed(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores as a ranking map has them: most near its lowest value, some negative, few large; about 1 % wrong."""
    generator = np.random.default_rng(0)
    score, error = np.empty(size, np.float32), np.empty(size, bool)
    for start in range(0, size, BLOCK):
        part = slice(start, min(start + BLOCK, size))
        score[part] = np.exp(generator.normal(-3, 2, part.stop - start)) - 0.05
        error[part] = generator.random(part.stop - start) < np.clip(0.05 * (score[part] + 0.05), 0, 0.9)
    return score, error


def counted(score: np.ndarray, error: np.ndarray) -> ScoreGroups:
    """The same groups as `score_groups`, but for the bins."""
    histogram = score_histogram.ScoreHistogram()
    histogram.add(score, error)
    return histogram.groups()


def _timed(work: Callable[[], Any], repeat: int) -> dict[str, float]:
    best = {"cpu_s": float("inf"), "wall_s": float("inf")}
    for _ in range(repeat):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        best["cpu_s"] = min(best["cpu_s"], time.process_time() - cpu)
        best["wall_s"] = min(best["wall_s"], time.perf_counter() - wall)
    return best


def _report(
    options: argparse.Namespace,
    rows: dict[str, dict[str, float]],
    exact: dict[str, float],
    binned: dict[str, tuple[float, float, float]],
    errors: int,
) -> int:
    sorting = rows["sorting (score_groups)"]["cpu_s"]
    fastest = min(row["cpu_s"] for name, row in rows.items() if name.startswith("histogram"))
    voxels = int(options.voxels)
    lines = [
        "# Error detection over many voxels: counting in bins against sorting",
        f"{voxels:,} voxels, {errors:,} of them wrong; one thread; CPU seconds (the machine was shared), best of "
        f"{options.repeat} (sorting: one run). By `Testing/Benchmarks/metrics_speed.py`, numpy {np.__version__}.",
        "",
        "| what | CPU s | wall s | ns a voxel | sorting takes longer by |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        cpu = row["cpu_s"]
        lines.append(f"| {name} | {cpu:.2f} | {row['wall_s']:.2f} | {cpu / voxels * 1e9:.1f} | {sorting / cpu:.0f} x |")
    lines += ["", "| figure | sorted | counted | difference | told bounds |", "|---|---:|---:|---:|---:|"]
    for name, (value, low, high) in binned.items():
        lines.append(
            f"| {name} | {exact[name]:.7g} | {value:.7g} | {value - exact[name]:.1e} | {low - value:.1e} to "
            f"+{high - value:.1e} |"
        )
    text = "\n".join(lines) + "\n"
    data = {"voxels": voxels, "errors": errors, "rows": rows, "sorted": exact, "counted": binned}
    (options.output / "metrics_speed.md").write_text(text, encoding="utf-8")
    (options.output / "metrics_speed.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(text)
    inside = all(low <= exact[name] <= high for name, (_, low, high) in binned.items())
    return 0 if inside and sorting >= FASTER * fastest else 1


if __name__ == "__main__":
    sys.exit(main())
