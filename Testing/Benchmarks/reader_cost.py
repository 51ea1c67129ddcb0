"""What reading in a child process costs beside reading in this one.

    python Testing/Benchmarks/reader_cost.py [--data FOLDER] [--output FILE]

Real hippocampus crops, and a volume of 512 x 512 x 100 voxels as a CT has them (noise: the worst to compress), plain
and compressed. Both ways take turns, so that what else the machine does falls on both; medians are written.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

from SegWithUCore.io.input_reader import IN_THIS_PROCESS  # noqa: E402
from SegWithUCore.io.reader_process import ReaderProcess  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
CROPS, LARGE_TIMES = 100, 9


def seconds(step: Callable[[], object]) -> float:
    """Time of one call."""
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def compared(files: list[Path], times: int, child: ReaderProcess) -> dict[str, float]:
    """Median milliseconds of one file, both ways."""
    here, there = [], []
    for _ in range(times):
        for file in files:
            here.append(seconds(lambda file=file: IN_THIS_PROCESS.read(file)))
            there.append(seconds(lambda file=file: child.read(file)))
    added = statistics.median(b - a for a, b in zip(here, there, strict=True))
    both = (statistics.median(here), statistics.median(there), added)
    return dict(
        zip(("in_this_process_ms", "in_the_child_ms", "added_ms"), (round(1e3 * s, 2) for s in both), strict=True)
    )


def large_files(folder: Path) -> dict[str, Path]:
    """A volume of int16 noise, plain and compressed."""
    noise = np.random.default_rng(0).normal(0, 100, (100, 512, 512)).astype(np.int16)
    files = {"plain": folder / "large.nii", "compressed": folder / "large.nii.gz"}
    for file in files.values():
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(file))
    return files


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEGWITHU_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--output", type=Path, default=RESULTS / "reader_cost.json")
    options = parser.parse_args()
    crops = sorted((options.data / "hippocampus" / "images").glob("*.nii.gz"))[:CROPS]
    with ReaderProcess() as child, tempfile.TemporaryDirectory() as folder:
        found: dict[str, object] = {"start_and_first_crop_ms": round(1e3 * seconds(lambda: child.read(crops[0])), 1)}
        IN_THIS_PROCESS.read(crops[0])
        found["hippocampus_crops"] = {"files": len(crops), **compared(crops, 3, child)}
        for name, file in large_files(Path(folder)).items():
            found[f"512x512x100_{name}"] = compared([file], LARGE_TIMES, child)
    found["machine"] = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
