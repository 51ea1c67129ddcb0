"""Measure time and memory of making regions on large volumes.

    python Testing/Benchmarks/regions_speed.py [--cases TABLE.csv:test] [--repeat 3] [--output FOLDER]

Volumes are tiled from predictions of real test cases: every tile holds a crop (far more uncertain voxels than a body
has), or one tile in ten. Each volume is measured in a process of its own. Exits 1 when regions are found more slowly
than asked for. Writes `regions_speed.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402

from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import Prediction  # noqa: E402
from SegWithUCore.models.bundle import read_bundle  # noqa: E402
from SegWithUCore.regions.find_regions import Assessed, RegionSettings, find_regions  # noqa: E402
from SegWithULab.calibration.cases import predict_case  # noqa: E402
from SegWithULab.training.dataset import find_cases  # noqa: E402

LIMITS_S = {300: 2.0, 1000: 20.0}
SHARES = {"every tile": 1.0, "one tile in ten": 0.1}
CROPS = 12


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=f"{ROOT.parent}/shared/data/hippocampus/split.csv:test")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(options)))
        return 0
    rows = {}
    for name in [f"{what}, {slices} slices" for slices in LIMITS_S for what in SHARES]:
        command = [sys.executable, __file__, "--cases", options.cases, "--repeat", str(options.repeat), "--only", name]
        rows[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    (options.output / "regions_speed.md").write_text(report(rows), encoding="utf-8")
    print(report(rows))
    return int(any(row["clock s"] > row["limit s"] for row in rows.values()))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Find regions in one volume so many times; the figures of the quickest."""
    what, _, slices = options.only.removesuffix(" slices").rpartition(", ")
    assessed = tiled(options.cases, (int(slices), 512, 512), SHARES[what])
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak
    runs = []
    for _ in range(options.repeat):
        clock, processor = time.perf_counter(), time.process_time()
        found = find_regions(assessed)
        runs.append((time.perf_counter() - clock, time.process_time() - processor))
    clock, processor = min(runs)
    maps = (assessed.error_probability, assessed.segmentation, assessed.runner_up)
    return {
        "uncertain voxels": int(np.count_nonzero(assessed.error_probability > RegionSettings().threshold)),
        "regions": len(found.regions),
        "clock s": round(clock, 1),
        "CPU s": round(processor, 1),
        "limit s": LIMITS_S[int(slices)],
        "MiB above the maps": round(_status_mib("VmHWM") - before),
        "maps MiB": round(sum(array.nbytes for array in maps) / 2**20),
        "load": round(os.getloadavg()[0]),
    }


def tiled(source: str, shape_zyx: tuple[int, int, int], share: float) -> Assessed:
    """A volume filled with real crops side by side; so large a share of its cells, drawn at random, hold a crop."""
    bundle = read_bundle(ROOT / "Resources" / "Models" / "hippocampus")
    model = Model(bundle)
    crops: Sequence[Prediction] = [predict_case(case, model)[0] for case in islice(find_cases(source), CROPS)]
    cell = np.max([crop.classes.shape for crop in crops], axis=0)
    probability = np.zeros(shape_zyx, np.float32)
    segmentation, runner_up = np.zeros(shape_zyx, np.uint8), np.zeros(shape_zyx, np.uint8)
    random = np.random.default_rng(0)
    for number, place in enumerate(np.ndindex(*(-(-np.array(shape_zyx) // cell)))):
        if random.random() >= share:
            continue
        crop = crops[number % len(crops)]
        assert crop.error_probability is not None
        corner = np.array(place) * cell
        size = np.minimum(crop.classes.shape, np.array(shape_zyx) - corner)
        there = tuple(slice(low, low + n) for low, n in zip(corner, size, strict=True))
        here = tuple(slice(n) for n in size)
        probability[there] = crop.error_probability[here]
        segmentation[there], runner_up[there] = crop.classes[here], crop.runner_up[here]
    names = {number: label.name for number, label in enumerate(bundle.labels)}
    return Assessed(probability, segmentation, runner_up, names, np.eye(4))


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def report(rows: dict[str, dict[str, Any]]) -> str:
    """The figures as a page of Markdown."""
    names = list(next(iter(rows.values())))
    lines = [
        "# Regions of large volumes",
        "",
        "Volumes of 512 x 512 voxels a slice, tiled from predictions of hippocampus *test* cases. By "
        "`Testing/Benchmarks/regions_speed.py`.",
        "",
        f"| volume | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {name} | {' | '.join(f'{value:,}' for value in row.values())} |" for name, row in rows.items()),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
