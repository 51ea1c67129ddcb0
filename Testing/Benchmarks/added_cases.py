#!/usr/bin/env python3
"""Measure what corrected cases of another cohort do to a model's calibration: 15 brains, 30 hippocampi.

    python Testing/Benchmarks/run.py added-cases predict       # once: what the model predicts, in a cache
    python Testing/Benchmarks/run.py added-cases factor        # calibrated on 3, 5 and 8 patients
    python Testing/Benchmarks/run.py added-cases curve         # second stages of 3 to 14 brains, on the others
    python Testing/Benchmarks/run.py added-cases away --model FOLDER --own TABLE.csv:test   # writes into the bundle

The references are those of a reviewer who corrects the outer border: where both have hippocampus, the parts stay as
drawn.
"""

import argparse
import csv
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from crossed_over import crossed_over
from input_shifts import shifts
from placement import DATA, SIZE_MM, centres
from scipy.special import expit

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.second_stage import SecondStage
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import Prediction, predict
from SegWithUCore.metrics.error_detection import average_precision, region_groups
from SegWithUCore.metrics.overlap import dice_of
from SegWithUCore.models.bundle import Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.model_card import model_card
from SegWithUCore.models.quality import away_markdown
from SegWithULab.calibration.cases import CalibrationCase, fit_table, predicted
from SegWithULab.calibration.fit_second_stage import (
    MOST_WITH_FOLDS,
    Settings,
    _fit_members,
    features_of,
    pairs_of,
    table_probability,
)
from SegWithULab.calibration.prior import summary_of
from SegWithULab.training.case_reading import read_assessed
from SegWithULab.training.dataset import Case, find_cases

SHIFTS = (
    *("shading, x 3", "blur, 1 mm", "noise, 10% of the contrast", "gamma, 0.5", "thick slices, 3 mm"),
    "cut field of view, 25%",
)
SIDES = {"left": 48, "right": 47}


def corrected(prediction: Prediction, hippocampus: np.ndarray) -> np.ndarray:
    """Correct a segmentation's outer border; voxels added are of the more probable part."""
    part = np.where(prediction.classes > 0, prediction.classes, 1 + prediction.logits[1:].argmax(0))
    return np.where(hippocampus, part, 0)


def boxed(image: sitk.Image, at: np.ndarray) -> sitk.Image:
    """Cut the box that the model places round a centre (LPS in mm)."""
    size = [0, 0, 0]
    axes = np.abs(np.reshape(image.GetDirection(), (3, 3))).argmax(0)
    for axis in range(3):
        size[axis] = round(SIZE_MM[axes[axis]] / image.GetSpacing()[axis])
    middle = image.TransformPhysicalPointToContinuousIndex(at.tolist())
    low = [max(0, round(c - (n - 1) / 2)) for c, n in zip(middle, size, strict=True)]
    size = [min(n, whole - at) for n, whole, at in zip(size, image.GetSize(), low, strict=True)]
    return sitk.RegionOfInterest(image, size, low)


def predict_brains(model: Model) -> list[CalibrationCase]:
    """Predict both sides of each brain, in boxes round their labels."""
    found = []
    for path in sorted((DATA / "brains" / "images").glob("brain_*.nii.gz")):
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        labels = sitk.ReadImage(str(DATA / "brains" / "labels" / path.name))
        for side, at in centres(labels, *SIDES.values()).items():
            prediction = predict([boxed(image, at)], model)
            truth = sitk.GetArrayFromImage(boxed(labels, at)) == SIDES[side]
            found.append(CalibrationCase(prediction, corrected(prediction, truth), path.name[:10]))
            print(path.name, side, flush=True)
    return found


def predict_own(model: Model) -> list[CalibrationCase]:
    """Predict select and calibration cases of model 1.x, so far as they are no test cases of 2.x."""
    table = DATA / "hippocampus" / "split_by_scan.csv"
    rows = {row["case"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    cases = [
        replace(case, patient=rows[case.name]["patient"])
        for case in find_cases(f"{table.with_name('split.csv')}:select+calibration")
        if rows.get(case.name, {}).get("role") in ("train", "select", "calibration")
    ]
    return list(predicted(model.bundle, cases, "openvino"))


def calibrated_on(bundle: Bundle, pool: list[CalibrationCase], wanted: int) -> dict[str, Any]:
    """Calibrate on draws of so many patients, and measure the others."""
    block = bundle.calibration or {}
    table, scale = ErrorProbability.from_json(block["error_probability"]), float(block["tempering_scale"])
    cases = [summary_of(case, table, scale, bundle.labels) for case in pool]
    return crossed_over(cases, bundle.labels, block, wanted)


def shifted_cases(model: Model, cases: list[Case], most: int) -> dict[str, list[CalibrationCase]]:
    """Predict some cases under the shifts of `SHIFTS`."""
    found: dict[str, list[CalibrationCase]] = {}
    for shift in shifts():
        if shift.name not in SHIFTS:
            continue
        for case in cases[:: max(1, len(cases) // most)][:most]:
            read = read_assessed(case, model.bundle)
            changed = shift.of(case.name, read.images[0], read.truth)
            made = CalibrationCase(predict([changed.image], model), changed.truth, case.group)
            found.setdefault(f"in-distribution, {shift.name}", []).append(made)
        print(shift.name, flush=True)
    return found


def away_row(bundle: Bundle, images: str, cases: list[CalibrationCase], added: int = 0) -> dict[str, Any]:
    """Figures of one kind of images, as a bundle's block `away` has them; after so many patients were added."""
    found = calibrated_on(bundle, cases, added)
    dice = [dice_of(case.prediction.classes > 0, case.truth > 0) for case in cases]
    return {
        "images": images,
        "patients": found["patients"],
        "dice": round(float(np.mean(dice)), 4),
        "expected_over_true": found["expected_over_true"],
        "within_20_percent": found["cases_within_20_percent"],
        "auprc": found["auprc"],
    }


def measure_away(model: Model, own: str, most: int) -> dict[str, Any]:
    """Make the block `away`: test cases, the brains before and after three patients, test cases under shifts."""
    cases, bundle = find_cases(own), model.bundle
    tested, brains = list(predicted(bundle, cases, "openvino")), predict_brains(model)
    other = "brains of another cohort (OASIS), another protocol"
    rows = [
        away_row(bundle, f"in-distribution ({own.rpartition(':')[2]} cases)", tested),
        away_row(bundle, other, brains),
        away_row(bundle, f"{other}, calibrated on 3 patients", brains, 3),
    ]
    shifted = shifted_cases(model, cases, most)
    return {"rows": [*rows, *(away_row(bundle, name, those) for name, those in shifted.items())]}


def write_away(folder: Path, block: dict[str, Any]) -> None:
    """Write the block and the card of a model."""
    bundle = write_bundle_json(replace(read_bundle(folder), away=block), folder)
    (folder / "MODEL_CARD.md").write_text(model_card(bundle), encoding="utf-8")
    print(away_markdown(block))


def curve(brains: list[CalibrationCase]) -> list[dict[str, Any]]:
    """Fit table and second stage on 3, 5, 8, 11 and 14 brains, and measure the others."""
    patients, random = sorted({case.patient for case in brains}), np.random.default_rng(0)
    found = [{"brains": 0, **figures([(case.prediction.error_probability, case) for case in brains])}]
    for wanted in (3, 5, 8, 11, 14):
        draws = (
            [[p for p in patients if p != left] for left in patients]
            if wanted == 14
            else [random.permutation(patients)[:wanted].tolist() for _ in range(5)]
        )
        answers = []
        for chosen in draws:
            fitted = [case for case in brains if case.patient in chosen]
            table = fit_table(fitted)
            settings = Settings(pairs_of(fitted), (True, True, True), True, MOST_WITH_FOLDS)
            stage = _fit_members(fitted, table, settings)
            answers += [(held_out(case, table, stage), case) for case in brains if case.patient not in chosen]
        found.append({"brains": wanted, **figures(answers)})
        print(found[-1], flush=True)
    return found


def held_out(case: CalibrationCase, table: ErrorProbability, stage: SecondStage) -> np.ndarray:
    """Error probability of a case that table and second stage were not fitted on, before the last calibration."""
    found = table_probability(case, table)
    voxels, features = features_of(case, found, stage.pairs, stage.axes, sees_mask=stage.sees_mask)
    found[voxels] = expit(stage.raw_log_odds(features))
    return found


def figures(answers: list[tuple[np.ndarray, CalibrationCase]]) -> dict[str, Any]:
    """AUPRC and Brier score (means over cases), and expected over true errors."""
    areas = [average_precision(region_groups(chance, case.wrong)["whole"]) for chance, case in answers]
    brier = [np.mean((chance - case.wrong) ** 2) for chance, case in answers]
    sums = np.sum([(chance.sum(), case.wrong.sum()) for chance, case in answers], 0)
    means = [round(float(value), 5) for value in (np.mean(areas), np.mean(brier), sums[0] / sums[1])]
    return dict(zip(("AUPRC", "Brier score", "expected over true"), means, strict=True))


def main() -> int:
    """Predict; or measure and write `results/added_cases.json`; or write the block `away` of a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["predict", "factor", "curve", "away"])
    parser.add_argument("--model", default="hippocampus", help="name; for away the folder that is written into")
    parser.add_argument("--own", help="away: test cases, such as TABLE.csv:test")
    parser.add_argument("--shifted", type=int, default=20, help="away: cases for each shift")
    parser.add_argument("--cache", type=Path, default=Path("added_cases.pickle"))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "added_cases.json")
    options = parser.parse_args()
    if options.part in ("predict", "away"):
        model = Model(resolve_model(options.model), engine="openvino")
    if options.part == "away":
        write_away(Path(options.model), measure_away(model, options.own, options.shifted))
        return 0
    if options.part == "predict":
        pools = {"brains": predict_brains(model), "in-distribution": predict_own(model)}
        options.cache.write_bytes(pickle.dumps(pools))
        return 0
    pools = pickle.loads(options.cache.read_bytes())
    bundle = read_bundle(resolve_model(options.model).folder)
    result: Any = curve(pools["brains"])
    if options.part == "factor":
        result = {
            name: [calibrated_on(bundle, pool, wanted) for wanted in (0, 3, 5, 8)] for name, pool in pools.items()
        }
    before = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    options.output.write_text(json.dumps({**before, options.part: result}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
