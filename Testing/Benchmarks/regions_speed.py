"""Measure time and memory of making regions on large volumes.

    python Testing/Benchmarks/regions_speed.py [--cases TABLE.csv:test] [--repeat 3] [--output FOLDER]

Volumes are tiled from predictions of real test cases: every tile holds a crop (far more uncertain voxels than a body
has), one tile in ten, or every tile with the crops drawn on finer voxels, whose uncertain shells are thick. Each
volume is measured in a process of its own. Exits 1 when regions are found more slowly than asked for.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from region_cases import SHIPPED_MODEL, ScoredCase, scored_cases, tiled, upsampled  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from SegWithUCore.models.bundle import read_bundle  # noqa: E402
from SegWithUCore.regions.find_regions import Assessed, RegionSettings, find_regions  # noqa: E402
from SegWithUCore.regions.uncertain_voxels import uncertain_voxels  # noqa: E402
from SegWithUCore.regions.watershed import (  # noqa: E402
    basins,
    error_density,
)

LIMITS_S = {300: 2.0, 1000: 20.0}
SHARES = {"every tile": 1.0, "one tile in ten": 0.1, "every tile, finer voxels": 1.0}
FINER = 1.25
BASELINE_SLICES = 100
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
        print(json.dumps(_measured(options)))
        return 0
    names = [f"{what}/{slices}" for slices in LIMITS_S for what in SHARES] + ["baseline"]
    rows = {name: _in_own_process(options, name) for name in names}
    text = _report(rows)
    (options.output / "regions_speed.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (options.output / "regions_speed.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(row["wall_s"] <= row["limit_s"] for row in rows.values() if "limit_s" in row) else 1


def _in_own_process(options: argparse.Namespace, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--cases", options.cases, "--repeat", str(options.repeat), "--only", name]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"{name}: {found.stdout.strip()}", file=sys.stderr, flush=True)
    return dict(json.loads(found.stdout))


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    crops = _crops(options.cases)
    if options.only == "baseline":
        return _against_simpleitk(crops)
    what, slices = options.only.split("/")
    if "finer" in what:
        crops = [upsampled(crop, FINER) for crop in crops]
    assessed = tiled(crops, (int(slices), 512, 512), SHARES[what], seed=0)
    before = _resident_mib()
    _forget_peak()
    runs = [_one_run(assessed) for _ in range(options.repeat)]
    best = min(runs, key=lambda run: float(run["wall_s"]))
    uncertain = int(np.count_nonzero(assessed.error_probability > RegionSettings().threshold))
    volume = {"voxels": assessed.error_probability.size, "spacing_mm": float(assessed.spacing_zyx[0])}
    memory = {"peak_mib_above_maps": _peak_mib() - before, "maps_mib": _mib(assessed)}
    limit = {"limit_s": LIMITS_S[int(slices)], "load_average": os.getloadavg()[0], "cores": os.cpu_count()}
    return {**volume, "uncertain_voxels": uncertain, **best, **memory, **limit}


def _crops(source: str) -> list[ScoredCase]:
    found = []
    for case in scored_cases(read_bundle(SHIPPED_MODEL), source):
        found.append(case)
        if len(found) == CROPS:
            break
    return found


def _one_run(assessed: Assessed) -> dict[str, float]:
    wall, all_threads, this_thread = time.perf_counter(), time.process_time(), time.thread_time()
    found = find_regions(assessed)
    this = time.thread_time() - this_thread
    others = time.process_time() - all_threads - this
    # The two other threads run side by side; the clock of a machine with other work on it cannot show that.
    alone = this + others / min(2, os.cpu_count() or 1)
    elapsed = time.perf_counter() - wall
    return {"regions": len(found.regions), "wall_s": elapsed, "cpu_s": this + others, "alone_s": alone}


def _against_simpleitk(crops: Sequence[ScoredCase]) -> dict[str, Any]:
    """Only the watershed, ours and SimpleITK's, from the same density and with the same summits as markers."""
    assessed = tiled(crops, (BASELINE_SLICES, 512, 512), 1.0, seed=0)
    settings = RegionSettings()
    voxels = uncertain_voxels(assessed.error_probability, assessed.segmentation, assessed.runner_up, settings.threshold)
    voxels = type(voxels)(voxels.zyx, voxels.probability, np.zeros(len(voxels), np.int64), voxels.shape_zyx)
    density = error_density(voxels, assessed.spacing_zyx, settings.sigma_mm)
    started = time.process_time()
    ours = basins(voxels, density, assessed.spacing_zyx, split=1.1, extent_mm=np.inf)
    seconds = time.process_time() - started
    z, y, x = voxels.zyx.T
    summits = np.lexsort((np.arange(len(density)), -density, ours))
    summits = summits[np.unique(ours[summits], return_index=True)[1]]
    kept = np.where(assessed.error_probability > settings.threshold, assessed.error_probability, 0)
    height = -gaussian_filter(kept, settings.sigma_mm / assessed.spacing_zyx, truncate=3, mode="constant")
    height[kept == 0] = 1.0
    markers = np.zeros(kept.shape, np.uint32)
    markers[z[summits], y[summits], x[summits]] = 1 + ours[summits]
    image, seeds = sitk.GetImageFromArray(height), sitk.GetImageFromArray(markers)
    started = time.process_time()
    theirs = sitk.MorphologicalWatershedFromMarkers(image, seeds, markWatershedLine=False, fullyConnected=True)
    their_seconds = time.process_time() - started
    same = float(np.mean(sitk.GetArrayViewFromImage(theirs)[z, y, x] == ours + 1))
    return _against_skimage(height, markers, kept > 0, ours[None] + 1, (z, y, x)) | {
        "voxels": kept.size,
        "uncertain_voxels": len(voxels),
        "basins": len(summits),
        "ours_cpu_s": seconds,
        "simpleitk_cpu_s": their_seconds,
        "same_basin": same,
    }


def _against_skimage(
    height: np.ndarray, markers: np.ndarray, mask: np.ndarray, ours: np.ndarray, voxels: tuple[np.ndarray, ...]
) -> dict[str, float]:
    """The same with scikit-image's watershed within a mask; nothing where it is not installed."""
    try:
        from skimage.segmentation import watershed
    except ImportError:
        return {}
    started = time.process_time()
    theirs = watershed(height, markers.astype(np.int32), connectivity=np.ones((3, 3, 3)), mask=mask)
    seconds = time.process_time() - started
    return {"skimage_cpu_s": seconds, "skimage_same_basin": float(np.mean(theirs[voxels] == ours))}


def _mib(assessed: Assessed) -> float:
    arrays = (assessed.error_probability, assessed.segmentation, assessed.runner_up)
    return sum(array.nbytes for array in arrays) / 2**20


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def _resident_mib() -> float:
    return _status_mib("VmRSS")


def _peak_mib() -> float:
    return _status_mib("VmHWM")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _report(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "# `python Testing/Benchmarks/regions_speed.py`",
        "",
        "Volumes of 512 x 512 voxels a slice, tiled from predictions of hippocampus *test* cases. Alone: CPU seconds",
        "of the main thread and half of those of the two others, which is what an idle machine of two cores takes; the",
        "clock also counts what else the machine was busy with (load average in the last column). MiB: the highest",
        "resident size above the maps, the label volume of the regions (2 bytes a voxel) included.",
        "",
        "| volume | slices | voxel mm | uncertain voxels | regions | alone s | clock s | CPU s | limit s | MiB "
        "| maps MiB | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if name == "baseline":
            continue
        what, slices = name.split("/")
        figures = [f"{row[key]:.1f}" for key in ("alone_s", "wall_s", "cpu_s", "limit_s")]
        memory = [f"{row[key]:.0f}" for key in ("peak_mib_above_maps", "maps_mib")]
        count = [f"{row['spacing_mm']:.1f}", f"{row['uncertain_voxels']:,}", f"{row['regions']:,}"]
        lines.append("| " + " | ".join([what, slices, *count, *figures, *memory, f"{row['load_average']:.0f}"]) + " |")
    baseline = rows["baseline"]
    lines += [
        "",
        f"The watershed alone, without merging, on {BASELINE_SLICES} slices ({baseline['uncertain_voxels']:,} "
        f"uncertain voxels, {baseline['basins']:,} basins), CPU seconds: ours {baseline['ours_cpu_s']:.2f},",
        f"SimpleITK's `MorphologicalWatershedFromMarkers` with our markers {baseline['simpleitk_cpu_s']:.1f};",
        f"{baseline['same_basin']:.2%} of the uncertain voxels are in the same basin.",
    ]
    if "skimage_cpu_s" in baseline:
        lines.append(
            f"scikit-image's `watershed(mask=)` with the same markers: {baseline['skimage_cpu_s']:.2f} s, "
            f"{baseline['skimage_same_basin']:.2%} in the same basin."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
