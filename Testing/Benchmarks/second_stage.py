#!/usr/bin/env python3
"""Measure what the last calibration without plateaus and the mask's shape bring to the second stage.

    python Testing/Benchmarks/run.py second-stage [--model NAME] [--table SPLIT.csv:ROLES] [--output FOLDER]

Cases that the model was not trained on, each judged by a table, networks and last calibration of other patients (four
parts). *before*: isotonic steps, judged from 0.01, without the mask. Then the processor time of whole cases without a
second stage, with that of before and with that of today, in turns. With --brains instead: both hippocampi of the five
brains for decisions, judged by what was fitted on the other four. Writes `second_stage_mask.json` and `.md`.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.special import expit, logit

from SegWithUCore.calibration.error_probability import fit_error_probability, fit_increasing
from SegWithUCore.calibration.local_features import neighbour_axes
from SegWithUCore.calibration.second_stage import FLOOR, SecondStage
from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.segment import segment
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.calibration import brier_score, expected_calibration_error
from SegWithUCore.metrics.error_detection import aurc, average_precision, score_groups
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.training_record import read_record
from SegWithULab.calibration import fit_second_stage as fitting
from SegWithULab.calibration.cases import CalibrationCase, fit_table, predicted
from SegWithULab.training.dataset import Case, find_cases
from SegWithULab.training.run_record import voxel_hashes

RESULTS = Path(__file__).resolve().parent / "results"
DATA = RESULTS.parents[3] / "shared" / "data"
METRICS = ("AUPRC", "AURC x 1000", "AURC in the band x 1000", "Brier x 1000", "expected / true")
TURNS = 4
ROWS = {
    "before": (False, 0.01, "steps"),
    "without plateaus": (False, 0.01, "increasing"),
    "judged from 0.003": (False, 0.003, "increasing"),
    "with the mask's shape (as it is)": (True, 0.003, "increasing"),
}
"""Whether it sees the mask, from which error probability on it judges, last calibration."""
Known = tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]
"""Error probability of the table, judged voxels, and their log-odds by the networks."""


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--table", default=f"{DATA}/hippocampus/split_by_scan.csv:train+select+calibration")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--brains", action="store_true")
    options = parser.parse_args()
    if options.brains:
        found = on_brains(options.model)
        (options.output / "second_stage_brains.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found, indent=1))
        return 0
    cases = list(predicted(resolve_model(options.model), unseen(options.model, options.table), "openvino"))
    patients = [case.patient for case in cases]
    folds, rows = patient_folds(patients, fitting.FOLDS), dict[str, dict[str, Any]]()
    first: np.ndarray | None = None
    answers: dict[tuple[bool, float], list[Known]] = {}
    for name, (sees_mask, above, last) in ROWS.items():
        if (sees_mask, above) not in answers:
            answers[sees_mask, above] = judged(cases, folds, sees_mask, above)
        values, in_band = metrics_of(cases, calibrated(cases, folds, answers[sees_mask, above], last))
        first = values if first is None else first
        gaps = [asdict(paired_bootstrap(values[:, n], first[:, n], groups=patients)) for n in range(len(METRICS))]
        rows[name] = dict(zip(METRICS, values.mean(0).tolist(), strict=True))
        rows[name] |= {"ECE in the band, pooled x 1000": in_band, "minus before": dict(zip(METRICS, gaps, strict=True))}
    found = {"model": options.model, "cases": len(cases), "patients": len(set(patients)), "rows": rows}
    found["processor seconds a case"] = processor_seconds(
        options.model, unseen(options.model, options.table)[:6], cases
    )
    options.output.mkdir(exist_ok=True)
    (options.output / "second_stage_mask.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    page = page_of(found)
    (options.output / "second_stage_mask.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


def unseen(model: str, table: str) -> list[Case]:
    """Find the cases of a table that a model was not trained on."""
    record = read_record(resolve_model(model).folder)
    trained = set(((record and record.roles) or {}).get("train", ()))
    given = find_cases(table)
    return [case for case, sha256 in zip(given, voxel_hashes(given), strict=True) if sha256 not in trained]


def judged(cases: Sequence[CalibrationCase], folds: np.ndarray, sees_mask: bool, above: float) -> list[Known]:
    """Judge each case by networks of other patients."""
    fitting.LOOKS_ABOVE = above
    settings = settings_of(cases, sees_mask)
    found: dict[int, Known] = {}
    for fold in np.unique(folds).tolist():
        others = [case for case, own in zip(cases, folds, strict=True) if own != fold]
        table = fit_table(others)
        stage = fitting._fit_members(others, table, settings)
        for number in np.flatnonzero(folds == fold).tolist():
            before = fitting.table_probability(cases[number], table)
            voxels, features = fitting.features_of(cases[number], before, *settings[:2], sees_mask=sees_mask)
            found[number] = (before, voxels, stage.raw_log_odds(features))
    return [found[number] for number in range(len(cases))]


def settings_of(cases: Sequence[CalibrationCase], sees_mask: bool) -> fitting.Settings:
    """Return what the second stage of these cases shares between folds."""
    axes = neighbour_axes(np.median([case.view.working_mm for case in cases], 0).tolist())
    return fitting.Settings(fitting.pairs_of(cases), axes, sees_mask)


def _steps(raw: Sequence[np.ndarray], wrong: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    last = fit_error_probability(raw, wrong)
    return np.asarray(last.ranking), logit(np.clip(last.probability, FLOOR, 1 - FLOOR))


def calibrated(
    cases: Sequence[CalibrationCase], folds: np.ndarray, answers: Sequence[Known], last: str
) -> list[np.ndarray]:
    """Return the error probability of each case, its last calibration fitted on answers for other patients."""
    fit: Callable[..., tuple[np.ndarray, np.ndarray]] = fit_increasing if last == "increasing" else _steps
    found: dict[int, np.ndarray] = {}
    for fold in np.unique(folds).tolist():
        rest = np.flatnonzero(folds != fold).tolist()
        knots = fit([answers[n][2] for n in rest], [cases[n].wrong[answers[n][1]] for n in rest])
        for number in np.flatnonzero(folds == fold).tolist():
            before, voxels, raw = answers[number]
            found[number] = before.copy()
            found[number][voxels] = expit(np.interp(raw, *knots))
    return [found[number] for number in range(len(cases))]


def metrics_of(cases: Sequence[CalibrationCase], chances: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return `METRICS` of each case, and the ECE of all bands together."""
    rows, bands = [], []
    for case, chance in zip(cases, chances, strict=True):
        groups = score_groups(chance, case.wrong)
        band = Band().distance(case.prediction.classes, case.view.spacing_mm) <= Band().width
        bands.append((chance[band], case.wrong[band]))
        areas = (average_precision(groups), 1000 * aurc(groups), 1000 * aurc(score_groups(*bands[-1])))
        rows.append([*areas, 1000 * brier_score(chance, case.wrong), chance.sum() / case.wrong.sum()])
    chance, wrong = (np.concatenate(part) for part in zip(*bands, strict=True))
    return np.asarray(rows, float), 1000 * expected_calibration_error(chance, wrong)


def processor_seconds(name: str, given: Sequence[Case], cases: Sequence[CalibrationCase]) -> dict[str, float]:
    """Measure a case, read and written: the mean over cases of the least of some turns."""
    model, table = Model(resolve_model(name), engine="openvino"), fit_table(cases)
    plain, least = model.fitted, dict[tuple[str, str], float]()
    stages: dict[str, SecondStage | None] = {"without a second stage": None}
    for row in ("before", "with the mask's shape (as it is)"):
        fitting.LOOKS_ABOVE = ROWS[row][1]
        stages[row] = fitting._fit_members(cases, table, settings_of(cases, ROWS[row][0]))
    with tempfile.TemporaryDirectory() as folder:
        for _, case, (row, stage) in product(range(TURNS), given, stages.items()):
            model.fitted = replace(plain, error_probability=table, second_stage=stage)
            begun = time.process_time()
            segment(Job(case.name, case.channels, Path(folder) / case.name, overwrite=True), model)
            spent = time.process_time() - begun
            least[row, case.name] = min(spent, least.get((row, case.name), spent))
    return {row: sum(least[row, case.name] for case in given) / len(given) for row in stages}


def on_brains(name: str) -> dict[str, Any]:
    """Compare the second stage with and without the mask on brains of another cohort, each left out in turn."""
    model = Model(resolve_model(name), engine="openvino")
    with (DATA / "brains" / "cases.csv").open(encoding="utf-8") as file:
        names = [row["case"] for row in csv.DictReader(file)][:5]
    cases = [hippocampus_of(brain, value, model) for brain in names for value in (47, 48)]
    found: dict[str, list[float]] = {"model as it is": [], "table": [], "second stage": [], "with the mask's shape": []}
    for brain in names:
        own, others = ([case for case in cases if (case.patient == brain) == mine] for mine in (True, False))
        table = fit_table(others)
        stages = [fitting._fit_members(others, table, settings_of(cases, sees_mask)) for sees_mask in (False, True)]
        for case in own:
            assert case.prediction.error_probability is not None
            found["model as it is"].append(
                average_precision(score_groups(case.prediction.error_probability, case.wrong))
            )
            plain, shaped = (fitting._held_out(case, table, stage) for stage in stages)
            found["table"].append(plain.auprc_table)
            found["second stage"].append(plain.auprc)
            found["with the mask's shape"].append(shaped.auprc)
    groups = [case.patient for case in cases]
    gap = asdict(paired_bootstrap(found["with the mask's shape"], found["second stage"], groups=groups))
    return {"AUPRC": {key: float(np.mean(each)) for key, each in found.items()}, "difference": gap, "by case": found}


def hippocampus_of(brain: str, value: int, model: Model) -> CalibrationCase:
    """Predict the box of 40 x 52 x 36 voxels around a hippocampus; only its outline counts, not its parts."""
    files = (DATA / "brains" / kind / f"{brain}.nii.gz" for kind in ("images", "labels"))
    image, labels = (sitk.DICOMOrient(sitk.ReadImage(str(file), sitk.sitkFloat32), "RAS") for file in files)
    places = np.argwhere(sitk.GetArrayViewFromImage(labels) == value)
    low = ((places.min(0) + places.max(0)) // 2)[::-1] - (18, 26, 20)
    parts = [sitk.RegionOfInterest(each, [36, 52, 40], low.tolist()) for each in (image, labels)]
    prediction, truth = predict(parts[:1], model), sitk.GetArrayFromImage(parts[1]) == value
    case = CalibrationCase(prediction, truth.astype(np.int16), brain)
    vars(case)["wrong"] = (prediction.classes > 0) != truth
    return case


def page_of(found: Mapping[str, Any]) -> str:
    """Return the results as a page; differences to the first row in brackets, with their 95 % interval by patient."""
    names = [*METRICS, "ECE in the band, pooled x 1000"]
    lines = [
        f"# Second stage, {found['model']}, {found['cases']} cases of {found['patients']} patients\n",
        "Cross-validated by patient; in brackets the difference to the first row. By `run.py second-stage`.\n",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for name, row in found["rows"].items():
        cells = []
        for metric in names:
            gap = row["minus before"].get(metric)
            more = "" if gap is None or name == "before" else " ({mean:+.4f}: {low:+.4f} to {high:+.4f})".format(**gap)
            cells.append(f"{row[metric]:.4f}{more}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    seconds = found.get("processor seconds a case", {})
    lines += ["", *(f"- {name}: {value:.3f} s of the processor a case" for name, value in seconds.items())]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
