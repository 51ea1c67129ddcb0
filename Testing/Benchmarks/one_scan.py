#!/usr/bin/env python3
"""Count pairs of cases that `segwithu plan` takes for parts of one scan, right ones and false alarms.

    python Testing/Benchmarks/one_scan.py

Data sets: the hippocampi but for *test*, whose scans `split_by_scan.csv` knows, the same with one side of each scan,
hearts, brains.
"""

import sys
from pathlib import Path

import SimpleITK as sitk
from placement import DATA

from SegWithUCore.util.csv_files import read_user_table
from SegWithULab.training.survey import grey_value_step, pairs_of_one_scan


def report(title: str, paths: list[Path], scans: dict[str, str] | None = None) -> None:
    """Print the pairs found in a data set; `scans` by case where they are known."""
    steps = {path.name.split(".")[0]: grey_value_step(sitk.GetArrayFromImage(sitk.ReadImage(path))) for path in paths}
    pairs = pairs_of_one_scan(steps)
    scans = scans or {name: name for name in steps}
    there = [scans[name] for name in steps]
    true = sum(there.count(scan) == 2 for scan in set(there))
    right = sum(scans[one] == scans[other] for one, other in pairs)
    print(f"{title}: {len(steps)} cases, {true} scans in two parts; {len(pairs)} pairs found, {right} right, "
          f"{len(pairs) - right} false")  # fmt: skip


def main() -> int:
    """Print the counts."""
    folder = DATA / "hippocampus"
    rows = read_user_table(folder / "split_by_scan.csv", ("case", "role", "patient"), "restore it")
    scans = {row["case"]: row["patient"] for row in rows if row["role"] not in ("test", "unused")}
    paths = [folder / "images" / f"{case}.nii.gz" for case in scans]
    report("hippocampi", paths, scans)
    first = {scan: case for case, scan in reversed(scans.items())}
    report("hippocampi, one side", [folder / "images" / f"{case}.nii.gz" for case in first.values()])
    for name in ("acdc", "brains"):
        report(name, sorted((DATA / name / "images").glob("*.nii.gz")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
