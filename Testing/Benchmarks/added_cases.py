#!/usr/bin/env python3
"""Measure what corrected cases of another cohort do to a model's calibration: 15 brains, 30 hippocampi.

    python Testing/Benchmarks/run.py added-cases predict       # once: what the model predicts, in a cache
    python Testing/Benchmarks/run.py added-cases factor        # the factor of a site from 3, 5 and 8 patients

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
from placement import DATA, SIZE_MM, centres

from SegWithUCore.calibration.error_counts import count_errors, fit_site_line, patient_counts
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import Prediction, predict
from SegWithUCore.models.installed import resolve_model
from SegWithULab.calibration.cases import CalibrationCase, predicted
from SegWithULab.training.dataset import find_cases

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


def predict_home(model: Model) -> list[CalibrationCase]:
    """Predict select and calibration cases of model 1.x, so far as they are no test cases of 2.x."""
    table = DATA / "hippocampus" / "split_by_scan.csv"
    rows = {row["case"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    cases = [
        replace(case, patient=rows[case.name]["patient"])
        for case in find_cases(f"{table.with_name('split.csv')}:select+calibration")
        if rows.get(case.name, {}).get("role") in ("train", "select", "calibration")
    ]
    return list(predicted(model.bundle, cases, "openvino"))


def factors(pool: list[CalibrationCase], draws: int, wanted: int) -> dict[str, Any]:
    """Calibrate on draws of so many patients, and compare expected and true errors of the rest."""
    errors = [count_errors(case.prediction.error_probability, case.wrong) for case in pool]
    patients = patient_counts(errors, [case.patient for case in pool])
    names, random = list(patients), np.random.default_rng(0)
    ratios, cases, taken, held, found = [], [], 0, 0, []
    for _ in range(draws):
        order = random.permutation(len(names))
        line = fit_site_line({names[n]: patients[names[n]] for n in order[:wanted]})
        rest = [patients[names[n]] for n in order[wanted:]]
        own = sum(each.expected() for each in rest)
        move = (line.slope, line.offset) if line.is_better else (1.0, 0.0)
        expected = np.array([each.expected(*move) for each in rest])
        wrong = np.array([each.errors.sum() for each in rest])
        taken += line.is_better
        held += line.factor.low <= wrong.sum() / own <= line.factor.high
        found.append(line.factor.factor)
        ratios.append(expected.sum() / wrong.sum())
        cases.append(np.abs(expected / wrong - 1) < 0.2)
    return {
        "taken": taken / draws,
        "factor": np.median(found).round(3),
        "interval holds the factor of the rest": held / draws,
        "expected over true, rest": np.quantile(ratios, [0.5, 0.025, 0.975]).round(3).tolist(),
        "patients within 20 %": float(np.mean(cases).round(3)),
    }


def measure_factors(pools: dict[str, list[CalibrationCase]], draws: int) -> dict[str, Any]:
    """Expected over true errors before, and after 3, 5, 8 patients."""
    result = {}
    for name, pool in pools.items():
        expected, wrong = (
            sum(float(np.sum(each)) for each in part)
            for part in ([case.prediction.error_probability for case in pool], [case.wrong for case in pool])
        )
        after = {f"{wanted} patients": factors(pool, draws, wanted) for wanted in (3, 5, 8)}
        patients = len({case.patient for case in pool})
        result[name] = {"patients": patients, "expected over true, before": round(expected / wrong, 3), **after}
    return result


def main() -> int:
    """Predict, or measure and write `results/added_cases.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["predict", "factor"])
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--cache", type=Path, default=Path("added_cases.pickle"))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "added_cases.json")
    options = parser.parse_args()
    if options.part == "predict":
        model = Model(resolve_model(options.model), engine="openvino")
        pools = {"brains": predict_brains(model), "home": predict_home(model)}
        options.cache.write_bytes(pickle.dumps(pools))
        return 0
    pools = pickle.loads(options.cache.read_bytes())
    found = {"factor": measure_factors(pools, options.draws)}
    before = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    options.output.write_text(json.dumps({**before, **found}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
