"""What checking every byte of an image file costs, against ITK alone and against an earlier version.

    python Testing/Benchmarks/reading_speed.py [--before COMMIT] [--rounds 30] [--output FOLDER]

Each reading follows ITK's reading of the same file in the same process, in turns, so that a busy machine slows both;
the figures are medians of the ratios over all rounds, of processor time (all threads) and of wall time. Without
--before only this version is measured. Exits 1 where a compressed file takes more than 1.5 times the processor time
or 1.2 times the wall time of ITK, NIfTI apart, which must not be slower than before.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
CT = ROOT.parent / "shared" / "data" / "ct_abdomen" / "images" / "example_ct.nii.gz"
FORMATS = ("packed.nii.gz", "packed.nrrd", "packed.mha", "plain.nrrd", "plain.mha")
MOST_CPU, MOST_WALL = 1.5, 1.2


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a commit whose reading is measured too")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_ratios(options.only, options.rounds)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        versions = {"now": ROOT / "SegWithUSlicer"}
        if options.before:
            versions["before"] = _source_of(options.before, work)
        rows = {}
        for path in _files(work):
            found = {name: _in_own_process(source, path, options.rounds) for name, source in versions.items()}
            rows[path.name] = {"bytes": path.stat().st_size, **found}
            print(f"{path.name}: {rows[path.name]}", file=sys.stderr, flush=True)
    facts = {"before": options.before, "rounds": options.rounds, "files": rows}
    text = _report(facts)
    (options.output / "reading_speed.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (options.output / "reading_speed.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if any(_too_slow(name, row) for name, row in rows.items()) else 0


def _source_of(commit: str, work: Path) -> Path:
    packed = subprocess.run(["git", "-C", ROOT, "archive", commit, "SegWithUSlicer"], check=True, capture_output=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(work / "before", filter="data")
    return work / "before" / "SegWithUSlicer"


def _files(work: Path) -> list[Path]:
    """The sample and a CT of 512 x 512 x 100 voxels in each format; a real CT resampled, with a scanner's noise."""
    small = sitk.ReadImage(str(CT))
    size = (512, 512, 100)
    spacing = [s * n / m for s, n, m in zip(small.GetSpacing(), small.GetSize(), size, strict=True)]
    fine = sitk.Resample(
        small, size, sitk.Transform(), sitk.sitkLinear, small.GetOrigin(), spacing, small.GetDirection()
    )
    noise = np.random.default_rng(0).normal(0, 12, size[::-1])
    large = sitk.GetImageFromArray(np.clip(sitk.GetArrayFromImage(fine) + noise, -1024, 3071).astype(np.int16))
    large.CopyInformation(fine)
    paths = []
    for name, image in (("MNI", sitk.ReadImage(str(SAMPLE))), ("CT", large)):
        bare = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image))
        bare.CopyInformation(image)
        for kind in FORMATS:
            paths.append(work / f"{name}-{kind}")
            sitk.WriteImage(bare, str(paths[-1]), useCompression=kind.startswith("packed"))
    return paths


def _in_own_process(source: Path, path: Path, rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", str(path), "--rounds", str(rounds)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(found.stdout))


def _ratios(path: Path, rounds: int) -> dict[str, float]:
    """Reading by the version on PYTHONPATH against ITK; milliseconds of ITK as the least of all rounds."""
    from SegWithUCore.io import volume
    from SegWithUCore.util.memory import keep_freed_memory

    keep_freed_memory()  # as every command does
    # Versions before one function read all files have it under its old name.
    read: Callable[[Path], Any] = getattr(volume, "read_file", None) or volume._read

    def own() -> object:
        return read(path)

    def itk() -> object:
        return sitk.ReadImage(str(path))

    known = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if not np.array_equal(sitk.GetArrayFromImage(read(path)), known):
        raise SystemExit(f"{path} is read as other voxels")
    rows = []
    for turn in range(rounds):
        first, second = (itk, own) if turn % 2 else (own, itk)
        times = {first: _timed(first), second: _timed(second)}
        rows.append((*times[itk], *times[own]))
    return {
        "itk_cpu_ms": round(1000 * min(row[0] for row in rows), 2),
        "itk_wall_ms": round(1000 * min(row[1] for row in rows), 2),
        "cpu_ratio": round(statistics.median(row[2] / row[0] for row in rows), 3),
        "wall_ratio": round(statistics.median(row[3] / row[1] for row in rows), 3),
    }


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def _too_slow(name: str, row: dict[str, Any]) -> bool:
    now, before = row["now"], row.get("before")
    if ".nii" in name:
        return before is not None and now["cpu_ratio"] > 1.1 * before["cpu_ratio"]
    return "packed" in name and (now["cpu_ratio"] > MOST_CPU or now["wall_ratio"] > MOST_WALL)


def _report(facts: dict[str, Any]) -> str:
    before = facts["before"]
    lines = [
        "# What checking every byte costs",
        "",
        f"Reading one file, {facts['rounds']} times in turns with ITK: processor time and wall time as multiples of",
        "ITK's own for the same file (medians). MNI: the sample, 197 x 233 x 189 uint8. CT: 512 x 512 x 100 int16.",
        "",
        "| file | ITK alone, ms CPU / wall | " + (f"{before} | " if before else "") + "now |",
        "|---|---|" + ("---|" if before else "") + "---|",
    ]
    for name, row in facts["files"].items():
        now = row["now"]
        versions = [row[key] for key in ("before", "now") if key in row]
        cells = " | ".join(f"{found['cpu_ratio']:.2f} / {found['wall_ratio']:.2f}" for found in versions)
        lines.append(f"| {name} | {now['itk_cpu_ms']:.1f} / {now['itk_wall_ms']:.1f} | {cells} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
