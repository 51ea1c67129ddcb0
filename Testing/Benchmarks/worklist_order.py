#!/usr/bin/env python3
"""Measure at which rank orders of a worklist put the worst cases, on cases with references.

    python Testing/Benchmarks/run.py worklist-order --cache FOLDER [--changed]

Hippocampi: cases with the roles select and calibration of `split_by_scan.csv`, which the shipped network was not
trained with (its predicted Dice was fitted on them); with --changed once more, each with one change of `input_shifts`,
so that some fail. Brains: both sides of the five for decisions, in boxes around the reference. Bad: the lowest Dice of
a structure (of brains, of the whole hippocampus) is in the lowest twentieth, but at least two cases. Predictions are
kept in the cache (pickled `CalibrationCase`). Writes `results/worklist_order.json`.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from input_shifts import shifts
from scipy.stats import spearmanr

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.regions.find_regions import Assessed, find_regions
from SegWithUCore.review.worklist import WorklistEntry
from SegWithULab.calibration.cases import CalibrationCase, CaseNumbers, case_numbers
from SegWithULab.training.case_reading import read_assessed
from SegWithULab.training.dataset import find_cases

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RESULTS = Path(__file__).resolve().parent / "results" / "worklist_order.json"
BRAINS = ("1000", "1001", "1002", "1006", "1007")
MARGIN_ZYX = (20, 26, 18)
"""Voxels from the reference's middle to the edge of the box, along S, A and R."""
CHANGES = (
    *("shading, x 3", "noise, 20% of the contrast", "blur, 1.5 mm", "gamma, 3.5", "ghost, 40%", "surface coil, x 4"),
    *("bright artefact, 1.0% of the voxels", "axes in the header, RAI", "thick slices, 3 mm", "cut field of view, 25%"),
)
Given = tuple[str, Callable[[], tuple[sitk.Image, np.ndarray, str]]]
"""Name of a case, and what reads its image, reference and patient."""


@dataclass(frozen=True)
class Figures:
    """What orders are made of: numbers of a case, and its error probability summed up by predicted class."""

    case: CalibrationCase
    numbers: CaseNumbers
    wrong: np.ndarray
    dice: CaseLevelCalibration

    @property
    def structures(self) -> list[int]:
        """Class indices without the background."""
        return list(range(1, len(self.numbers.predicted)))

    def soft(self) -> list[float]:
        """Soft Dice of each structure."""
        return [float(self.numbers.confidence(index)) for index in self.structures]

    def predicted(self) -> list[float]:
        """Predicted Dice of each structure."""
        return [self.dice.dice[index](soft) for index, soft in zip(self.structures, self.soft(), strict=True)]

    def shares(self) -> list[float]:
        """Expected wrong share of each structure."""
        return [float(self.wrong[index] / max(self.numbers.predicted[index], 1)) for index in self.structures]

    def expected(self) -> list[float]:
        """Dice of each structure that its wrong voxels and its expected volume make."""
        predicted, sums = self.numbers.predicted, self.numbers.sums.expected
        return [float(2 * (predicted[i] - self.wrong[i]) / max(predicted[i] + sums[i], 1)) for i in self.structures]

    def benefit(self) -> float:
        """As `review.worklist` has it for a case that nobody has reviewed."""
        found = self.case.prediction
        assert found.error_probability is not None
        names = {index: str(index) for index in range(len(self.numbers.predicted))}
        regions = find_regions(
            Assessed(found.error_probability, found.classes, found.runner_up, names, np.eye(4))
        ).regions
        wrong = sum(region.expected_wrong_mm3 for region in regions)
        return WorklistEntry("", Path(), open_regions=len(regions), open_wrong_mm3=wrong).benefit


ORDERS: dict[str, Callable[[Figures], float]] = {
    "expected wrong share of the case": lambda f: -float(f.wrong.sum() / max(f.numbers.predicted[1:].sum(), 1)),
    "largest expected wrong share of a structure": lambda f: -max(f.shares()),
    "expected missed tissue": lambda f: -float(f.wrong[0] / max(f.numbers.predicted[1:].sum(), 1)),
    "expected wrong volume": lambda f: -float(f.wrong.sum()),
    "mean predicted Dice": lambda f: float(np.mean(f.predicted())),
    "lowest predicted Dice": lambda f: min(f.predicted()),
    "lowest soft Dice": lambda f: min(f.soft()),
    "lowest Dice of expected volumes": lambda f: min(f.expected()),
    "benefit per minute": lambda f: -f.benefit(),
}
"""Lowest first."""


def main() -> int:
    """Predict what is missing, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--changed", action="store_true", help="also measure changed hippocampi")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    sources = {"hippocampi": hippocampi(), "sides of brains": brains()}
    if options.changed:
        sources["changed hippocampi"] = changed()
    rows = {name: [row(name, each, options.cache) for each in given] for name, given in sources.items()}
    if options.changed:
        rows["hippocampi and changed ones"] = rows["hippocampi"] + rows["changed hippocampi"]
    found = {name: ranked(each) for name, each in rows.items()}
    for name, each in found.items():
        print(f"{name}: {text(each)}\n")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def usable() -> list[Any]:
    """Hippocampi that are neither of the training nor kept for tests."""
    return find_cases(f"{DATA / 'hippocampus' / 'split_by_scan.csv'}:select+calibration")


def hippocampi() -> Iterator[Given]:
    """Read the hippocampi as they are."""
    spec = resolve_model("hippocampus")
    for case in usable():
        yield case.name, lambda case=case: (*_read(case, spec), case.group)


def _read(case: Any, bundle: Any) -> tuple[sitk.Image, np.ndarray]:
    read = read_assessed(case, bundle)
    return read.images[0], read.truth


def changed() -> Iterator[Given]:
    """Read each hippocampus with one change, in turn."""
    by_name, spec = {shift.name: shift for shift in shifts()}, resolve_model("hippocampus")
    for number, case in enumerate(usable()):
        shift = by_name[CHANGES[number % len(CHANGES)]]

        def read(case: Any = case, shift: Any = shift) -> tuple[sitk.Image, np.ndarray, str]:
            made = shift.of(case.name, *_read(case, spec))
            return made.image, made.truth, case.group

        yield f"{case.name}_{shift.family.replace(' ', '_')}", read


def brains() -> Iterator[Given]:
    """Read boxes around both hippocampi of the brains for decisions."""
    for path in sorted((DATA / "brains" / "images").glob("brain_*.nii.gz")):
        for side, value in (("right", 47), ("left", 48)):
            if path.name[6:10] in BRAINS:
                yield f"{path.name[:10]}_{side}", lambda path=path, value=value: _box(path, value)


def _box(path: Path, value: int) -> tuple[sitk.Image, np.ndarray, str]:
    image, labels = (
        sitk.DICOMOrient(sitk.ReadImage(str(each), sitk.sitkFloat32), "RAS")
        for each in (path, path.parents[1] / "labels" / path.name)
    )
    truth = sitk.GetArrayFromImage(labels) == value
    places = np.argwhere(truth)
    low = np.maximum((places.min(0) + places.max(0)) // 2 - MARGIN_ZYX, 0)
    high = np.minimum(low + 2 * np.asarray(MARGIN_ZYX), truth.shape)
    box = sitk.RegionOfInterest(image, (high - low)[::-1].tolist(), low[::-1].tolist())
    return box, truth[tuple(map(slice, low, high))].astype(np.int16), path.name[:10]


def row(kind: str, given: Given, cache: Path) -> dict[str, Any]:
    """Sort keys and lowest Dice of a case."""
    name, read = given
    bundle, file = resolve_model("hippocampus"), cache / f"{name}.pkl"
    if not file.is_file():
        image, truth, patient = read()
        file.write_bytes(
            pickle.dumps(CalibrationCase(predict([image], Model(bundle, engine="openvino")), truth, patient))
        )
    case = pickle.loads(file.read_bytes())
    found, calibration = case.prediction, bundle.calibration or {}
    numbers = case_numbers(found, case.truth, float(calibration["tempering_scale"]))
    wrong = np.bincount(found.classes.ravel(), found.error_probability.ravel(), len(numbers.predicted))
    figures = Figures(case, numbers, wrong, CaseLevelCalibration.from_json(calibration))
    drawn, true = found.classes > 0, case.truth > 0
    whole = 2 * float((drawn & true).sum()) / max(float(drawn.sum() + true.sum()), 1.0)
    dice = whole if kind == "sides of brains" else float(np.nanmin(numbers.dice[1:]))
    return {"case": name, "dice": dice, **{order: key(figures) for order, key in ORDERS.items()}}


def ranked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ranks of the bad cases in each order (ties: the worst rank), the worst case first, and Spearman with the Dice."""
    by_dice = sorted(rows, key=lambda one: one["dice"])
    bad = by_dice[: max(2, round(len(rows) / 20))]
    orders = {}
    for order in ORDERS:
        values = np.asarray([one[order] for one in rows])
        ranks = [int((values <= one[order]).sum()) for one in bad]
        spearman = float(spearmanr(values, [one["dice"] for one in rows]).statistic)
        orders[order] = {"ranks": ranks, "mean_rank": float(np.mean(ranks)), "spearman": spearman}
    return {"cases": len(rows), "bad": {one["case"]: round(one["dice"], 3) for one in bad}, "orders": orders}


def text(found: Mapping[str, Any]) -> str:
    """Print as lines."""
    lines = [f"{found['cases']} cases, bad: {found['bad']}"]
    for order, entry in sorted(found["orders"].items(), key=lambda item: item[1]["mean_rank"]):
        ranks, spearman = " ".join(map(str, entry["ranks"])), f"Spearman {entry['spearman']:5.2f}"
        lines.append(f"  {order:45} mean rank {entry['mean_rank']:5.1f}  {spearman}  ranks {ranks}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
