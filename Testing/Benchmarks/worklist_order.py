#!/usr/bin/env python3
"""Measure at which rank orders of a worklist put the worst cases, on cases with references.

    python Testing/Benchmarks/run.py worklist-order --cache FOLDER [--figures]

Hippocampi: cases with a role of `split_by_scan.csv` other than test and unused, which the shipped model 1.4.0 was not
trained with; as they are, and once more with one change of `input_shifts` each, so that some fail. Whole brains: the
five for decisions, with --figures the other ten, too; one case has both sides. What is segmented is kept in the cache.
Bad: the lowest Dice of a structure (of brains, of a side) is in the lowest twentieth, but at least two cases.
Writes `results/worklist_order.json`.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "Benchmarks")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from input_shifts import shifts  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from SegWithUCore.case.case_file import read_case  # noqa: E402
from SegWithUCore.review.flags import metrics_of_case, structures_of, wrong_share  # noqa: E402
from SegWithUCore.review.worklist import read_for_worklist  # noqa: E402

DATA, RESULTS = ROOT.parent / "shared" / "data", ROOT / "Testing" / "Benchmarks" / "results" / "worklist_order.json"
BRAINS = ("1000", "1001", "1002", "1006", "1007")
CHANGES = (
    *("shading, x 3", "noise, 20% of the contrast", "blur, 1.5 mm", "gamma, 3.5", "ghost, 40%", "surface coil, x 4"),
    *("bright artefact, 1.0% of the voxels", "axes in the header, RAI", "thick slices, 3 mm", "cut field of view, 25%"),
)
Values = Mapping[str, Any]


def expected_dice(case: Values) -> float:
    """Lowest Dice of a structure that volume, expected volume and expected wrong volume make."""
    return min(
        2 * (one["volume_mm3"] - one["expected_wrong_mm3"]) / max(one["volume_mm3"] + one["expected_volume_mm3"], 1e-9)
        if one["expected_volume_mm3"] is not None else -1.0 for one in structures_of(case)
    )  # fmt: skip


def lowest(case: Values, name: str) -> float:
    """Lowest value of a structure; below all where one has none."""
    return min(-1.0 if one[name] is None else float(one[name]) for one in structures_of(case))


def missed_share(case: Values) -> float:
    """Expected wrong volume outside of all structures, as a share of what is segmented."""
    outside = next(one["expected_wrong_mm3"] for one in case["structures"] if one["value"] == 0)
    return float(outside / max(sum(one["volume_mm3"] for one in structures_of(case)), 1e-9))


ORDERS: dict[str, Callable[[Values, Path], float]] = {
    "expected wrong share of the case": lambda case, _: -float(metrics_of_case(case)["wrong_share"] or 0),
    "largest expected wrong share of a structure": lambda case, _: (
        -max(wrong_share(s) or 0 for s in structures_of(case))
    ),
    "expected missed tissue": lambda case, _: -missed_share(case),
    "expected wrong mm3": lambda case, _: -float(metrics_of_case(case)["wrong_mm3"] or 0),
    "lowest predicted Dice": lambda case, _: lowest(case, "dice_estimate"),
    "lowest soft Dice": lambda case, _: lowest(case, "soft_dice"),
    "lowest expected Dice of the volumes": lambda case, _: expected_dice(case),
    "benefit per minute": lambda _, folder: -read_for_worklist(folder).benefit,
}
"""Lowest first."""


def main() -> int:
    """Segment what is missing, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    found = {}
    for name, make in (("hippocampi", hippocampi), ("hippocampi and changed ones", changed), ("brains", brains)):
        work = options.cache / name.replace(" ", "_")
        names = make(work, options.figures)
        segment(work)
        rows = [row for each in names if (row := measured(work, each)) is not None]
        if name == "hippocampi and changed ones":
            rows += [row for each in hippocampi(options.cache / "hippocampi", False)
                     if (row := measured(options.cache / "hippocampi", each)) is not None]  # fmt: skip
        found[name] = ranked(rows)
        print(f"{name}: {text(found[name])}\n", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def usable() -> list[str]:
    """Hippocampi that are neither of the training of 1.4.0 nor kept for tests."""
    old, new = (
        {row["case"]: row["role"] for row in csv.DictReader((DATA / "hippocampus" / file).open(encoding="utf-8"))}
        for file in ("split.csv", "split_by_scan.csv")
    )
    return sorted(case for case in old if old[case] != "train" and new.get(case) not in ("test", "unused", None))


def placed(work: Path, name: str, image: Path, labels: Path) -> str:
    """Link image and reference of a case into the folder."""
    for folder, path in (("images", image), ("labels", labels)):
        (work / folder).mkdir(parents=True, exist_ok=True)
        link = work / folder / f"{name}.nii.gz"
        if not link.exists():
            link.symlink_to(path)
    return name


def hippocampi(work: Path, _: bool) -> list[str]:
    """Link the hippocampi as they are."""
    folder = DATA / "hippocampus"
    return [placed(work, c, folder / "images" / f"{c}.nii.gz", folder / "labels" / f"{c}.nii.gz") for c in usable()]


def changed(work: Path, _: bool) -> list[str]:
    """Write each hippocampus with one change, in turn."""
    by_name, names = {shift.name: shift for shift in shifts()}, []
    for number, case in enumerate(usable()):
        shift = by_name[CHANGES[number % len(CHANGES)]]
        name = f"{case}_{shift.family.replace(' ', '_')}"
        names.append(name)
        if (work / "labels" / f"{name}.nii.gz").exists():
            continue
        for folder in ("images", "labels"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        image = sitk.ReadImage(str(DATA / "hippocampus" / "images" / f"{case}.nii.gz"), sitk.sitkFloat32)
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(DATA / "hippocampus" / "labels" / f"{case}.nii.gz")))
        shifted = shift.of(case, image, truth.astype(np.uint8))
        reference = sitk.GetImageFromArray(shifted.truth.astype(np.uint8))
        reference.CopyInformation(shifted.image)
        sitk.WriteImage(shifted.image, str(work / "images" / f"{name}.nii.gz"))
        sitk.WriteImage(reference, str(work / "labels" / f"{name}.nii.gz"))
    return names


def brains(work: Path, figures: bool) -> list[str]:
    """Link whole brains."""
    folder = DATA / "brains"
    paths = [
        path for path in sorted((folder / "images").glob("brain_*.nii.gz")) if figures or path.name[6:10] in BRAINS
    ]
    return [placed(work, path.name[:10], path, folder / "labels" / path.name) for path in paths]


def segment(work: Path) -> None:
    """Segment what was not yet."""
    command = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(work / "images"), "--each", "-m", "hippocampus",
               "-o", str(work / "cases"), "--resume", "--unlike-training"]  # fmt: skip
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def measured(work: Path, name: str) -> dict[str, Any] | None:
    """Sort keys and lowest Dice of a case; None if it was not segmented."""
    folder = work / "cases" / name
    if not folder.is_dir():
        print(f"{name} was not segmented")
        return None
    drawn, truth = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (folder / "segmentation.nii.gz", work / "labels" / f"{name}.nii.gz")
    )
    pairs = [((1, 2), 48), ((3, 4), 47)] if name.startswith("brain") else [((1,), 1), ((2,), 2)]
    dice = []
    for values, true in pairs:
        one, other = np.isin(drawn, values), truth == true
        if other.any() or one.any():
            dice.append(2 * float((one & other).sum()) / float(one.sum() + other.sum()))
    case = read_case(folder)
    return {"case": name, "dice": min(dice), **{order: key(case, folder) for order, key in ORDERS.items()}}


def ranked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ranks of the bad cases in each order (ties: the worst rank), the worst case first, and Spearman with the Dice."""
    by_dice = sorted(rows, key=lambda row: row["dice"])
    bad = by_dice[: max(2, round(len(rows) / 20))]
    orders = {}
    for order in ORDERS:
        values = np.asarray([row[order] for row in rows])
        ranks = [int((values <= row[order]).sum()) for row in bad]
        spearman = float(spearmanr(values, [row["dice"] for row in rows]).statistic)
        orders[order] = {"ranks": ranks, "mean_rank": float(np.mean(ranks)), "spearman": spearman}
    return {"cases": len(rows), "bad": {row["case"]: round(row["dice"], 3) for row in bad}, "orders": orders}


def text(found: Mapping[str, Any]) -> str:
    """Print as lines."""
    lines = [f"{found['cases']} cases, bad: {found['bad']}"]
    for order, entry in sorted(found["orders"].items(), key=lambda item: item[1]["mean_rank"]):
        ranks = " ".join(map(str, entry["ranks"]))
        lines.append(
            f"  {order:45} mean rank {entry['mean_rank']:5.1f}  Spearman {entry['spearman']:5.2f}  ranks {ranks}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
