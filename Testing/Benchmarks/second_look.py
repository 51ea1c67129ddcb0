#!/usr/bin/env python3
"""Measure what further passes bring to the error probability, and what they cost.

    python Testing/Benchmarks/run.py second-look [--model NAME] [--table SPLIT.csv:ROLES] [--output FOLDER]

Cases that the model was not trained on; table, networks and last calibration are of other patients (four parts).
Writes `second_look.md`.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.calibration.error_probability import fit_increasing
from SegWithUCore.calibration.local_features import neighbour_axes
from SegWithUCore.calibration.per_structure import ProbabilitySums
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.passes import PADDING, Look, look_again
from SegWithUCore.inference.prediction import NetworkView, Prediction, error_probability
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.inference.uncertainty_maps import FittedCalibration, VoxelMaps, resample_to_grid, voxelwise
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.calibration import brier_score, expected_calibration_error
from SegWithUCore.metrics.error_detection import aurc, average_precision, score_groups
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.training_record import read_record
from SegWithULab.calibration import fit_second_stage as fitting
from SegWithULab.calibration.cases import CalibrationCase, fit_table
from SegWithULab.training.case_reading import read_assessed
from SegWithULab.training.dataset import Case, find_cases
from SegWithULab.training.run_record import voxel_hashes

RESULTS = Path(__file__).resolve().parent / "results"
DATA = RESULTS.parents[3] / "shared" / "data"
METRICS = ("AUPRC", "AURC x 1000", "AURC in the band x 1000", "Brier x 1000", "expected / true")

FIRST, MIRRORED, SHIFTED, BOTH = Look(), Look(True), Look(False, PADDING), Look(True, PADDING)
ROWS = {
    "1 pass": (),
    "2: shifted": (SHIFTED,),
    "2: mirrored": (MIRRORED,),
    "2: mirrored and shifted (--passes 2)": (BOTH,),
    "4 (--passes 4)": (BOTH, MIRRORED, SHIFTED),
}
"""Passes after the first."""


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--table", default=f"{DATA}/hippocampus/split_by_scan.csv:train+select+calibration")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    model = Model(resolve_model(options.model), engine="openvino")
    cases, seen, seconds = (
        list[CalibrationCase](),
        list[dict[Look, Prediction]](),
        dict.fromkeys(ROWS["4 (--passes 4)"], 0.0),
    )
    seconds[FIRST] = 0.0
    for case in unseen(options.model, options.table):
        read = read_assessed(case, model.bundle)
        looks = {}
        for look in (FIRST, *ROWS["4 (--passes 4)"]):
            begun = time.process_time()
            looks[look] = predicted(look, read.images, model)
            seconds[look] += time.process_time() - begun
        seen.append(looks)
        cases.append(CalibrationCase(looks[FIRST], read.truth, case.group))
    patients, rows = [case.patient for case in cases], dict[str, dict[str, Any]]()
    judges = judges_of(cases, patients)
    chances = [
        {look: error_probability(judge, its.view, its.logits, its.head_maps) for look, its in looks.items() if its.view}
        for judge, looks in zip(judges, seen, strict=True)
    ]
    first: np.ndarray | None = None
    for name, further in ROWS.items():
        pairs = zip(seen, chances, strict=True)
        values, in_band = metrics_of(cases, [averaged(looks, chance, further, model) for looks, chance in pairs])
        first = values if first is None else first
        gaps = [asdict(paired_bootstrap(values[:, n], first[:, n], groups=patients)) for n in range(len(METRICS))]
        rows[name] = dict(zip(METRICS, values.mean(0).tolist(), strict=True))
        rows[name] |= {"ECE in the band, pooled x 1000": in_band, "minus before": dict(zip(METRICS, gaps, strict=True))}
        rows[name]["seconds of network and maps"] = sum(seconds[look] for look in (FIRST, *further)) / len(cases)
    facts = {"model": options.model, "cases": len(cases), "patients": len(set(patients)), "rows": rows}
    options.output.mkdir(exist_ok=True)
    page = page_of(facts)
    (options.output / "second_look.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


def unseen(model: str, table: str) -> list[Case]:
    """Find the cases of a table that a model was not trained on."""
    record = read_record(resolve_model(model).folder)
    trained = set(((record and record.roles) or {}).get("train", ()))
    given = find_cases(table)
    return [case for case, sha256 in zip(given, voxel_hashes(given), strict=True) if sha256 not in trained]


def predicted(look: Look, images: Sequence[sitk.Image], model: Model) -> Prediction:
    """Predict a case as a pass sees it, on the grid of its image."""
    spec, target = model.bundle.input, images[0]
    array, working = network_input(images, spec)
    moved, grid = look.moved(array, VoxelGrid.of(working), spec.orientation, spec.window_zyx)
    working = grid.image(moved[0])
    output = resample_to_grid(stitched(model.engine, moved, spec), working, target)
    found = voxelwise(model.engine, output)
    maps = (found.classes, found.runner_up, found.calibration, found.ranking, found.epistemic, found.aleatoric)
    view = NetworkView.of(moved, working, target)
    return Prediction(output[: model.engine.num_classes], *maps, float(np.prod(target.GetSpacing())), view=view)


def settings_of(cases: Sequence[CalibrationCase], sees_mask: bool) -> fitting.Settings:
    """Return what the second stage of these cases shares between folds."""
    axes = neighbour_axes(np.median([case.view.working_mm for case in cases], 0).tolist())
    return fitting.Settings(fitting.pairs_of(cases), axes, sees_mask)


def judges_of(cases: Sequence[CalibrationCase], patients: Sequence[str]) -> list[FittedCalibration]:
    """Fit for each case, on other patients, what gives an error probability."""
    folds = patient_folds(list(patients), fitting.FOLDS)
    settings = settings_of(cases, sees_mask=True)
    found, raw = dict[int, FittedCalibration](), dict[int, tuple[np.ndarray, np.ndarray]]()
    for fold in np.unique(folds).tolist():
        others = [case for case, own in zip(cases, folds, strict=True) if own != fold]
        table = fit_table(others)
        stage = fitting._fit_members(others, table, settings)
        for number in np.flatnonzero(folds == fold).tolist():
            before = fitting.table_probability(cases[number], table)
            voxels, features = fitting.features_of(cases[number], before, *settings[:2], sees_mask=True)
            raw[number] = (stage.raw_log_odds(features), cases[number].wrong[voxels])
            found[number] = FittedCalibration(table, second_stage=stage)
    for fold in np.unique(folds).tolist():
        rest = [raw[number] for number in np.flatnonzero(folds != fold).tolist()]
        knots, values = (tuple(each.tolist()) for each in fit_increasing(*zip(*rest, strict=True)))
        for number in np.flatnonzero(folds == fold).tolist():
            stage = found[number].second_stage
            assert stage is not None
            found[number] = replace(found[number], second_stage=replace(stage, knots=knots, values=values))
    return [found[number] for number in range(len(cases))]


def averaged(
    looks: Mapping[Look, Prediction], chances: Mapping[Look, np.ndarray | None], further: Sequence[Look], model: Model
) -> np.ndarray:
    """Average the error probability of passes as `segment` does."""

    def maps(look: Look) -> VoxelMaps:
        its, chance = looks[look], chances[look]
        assert chance is not None
        none = ProbabilitySums.zeros(len(its.logits))
        return VoxelMaps(its.classes, its.runner_up, its.calibration, its.ranking, chance.copy(), None, None, none)

    first = maps(FIRST)
    if further:
        look_again(first, further, maps, model.bundle, None)
    return np.asarray(first.error_probability)


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


def page_of(found: Mapping[str, Any]) -> str:
    """Return the results as a page; differences to the first row in brackets, with their 95 % interval by patient."""
    names = [*METRICS, "ECE in the band, pooled x 1000"]
    lines = [
        f"# Further passes, {found['model']}, {found['cases']} cases of {found['patients']} patients\n",
        "Cross-validated by patient; in brackets the difference to the first row. By `run.py second-look`.\n",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for name, row in found["rows"].items():
        cells = []
        for metric in names:
            gap = row["minus before"].get(metric)
            more = (
                ""
                if gap is None or name == next(iter(found["rows"]))
                else " ({mean:+.4f}: {low:+.4f} to {high:+.4f})".format(**gap)
            )
            cells.append(f"{row[metric]:.4f}{more}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
