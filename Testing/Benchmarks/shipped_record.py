"""Write the training record of the shipped model: recipe, logs, and hashes of its cases, from what the project kept.

    segwithu calibrate --run RUNS/context --cases DATA/split.csv:calibration --select DATA/split.csv:select \\
        --folds RUNS/hippocampus_fold1 RUNS/hippocampus_fold2 RUNS/hippocampus_fold3 \\
        --fold-cases DATA/split.csv:train --beside hippocampus --output NEW
    python Testing/Benchmarks/shipped_record.py --data DATA --calibrated NEW --version 1.3.0
    segwithu evaluate --model Resources/Models/hippocampus --cases DATA/split.csv:test --record

The model was made before there were records. Logs lie in `results/`, roles in the data's split table. Checked: the test
cases are those of the bundle's own figures, and the numbers of calibration and training cases are those it names.
With `--calibrated` the shipped model becomes what `calibrate` wrote, under another version. DATA is the folder with
`split.csv` of the hippocampi, RUNS that of the trainings (`plan.md`).
"""

import argparse
import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import CARD_FILE, Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_files import check_whole
from SegWithUCore.models.model_card import model_card
from SegWithUCore.models.second_stage_file import BLOCK
from SegWithUCore.models.training_record import ROLE_WORDS, TRAINING_FOLDER, TrainingRecord, write_record
from SegWithUCore.util.atomic_files import atomic_file, atomic_folder
from SegWithULab.training.dataset import find_cases
from SegWithULab.training.recipe import read_recipe
from SegWithULab.training.run_folder import RunFolder
from SegWithULab.training.run_record import check_unseen, hashes_of, seen_of

ROOT = Path(__file__).parents[2]
MODEL, RESULTS = ROOT / "Resources" / "Models" / "hippocampus", ROOT / "Testing" / "Benchmarks" / "results"
LOGS = {"backbone": "hippocampus_backbone_log.csv", "head": "hippocampus_context_head_log.csv"}
MINIMISED = {"backbone": ("select_brier",), "head": ("select_nll", "select_error_ce")}


def rows_of(part: str) -> list[dict[str, float]]:
    """Read a kept log, whose epochs count from 0."""
    with (RESULTS / LOGS[part]).open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def training(part: str, planned: int) -> dict[str, Any]:
    """Tell how a part was trained."""
    rows = [row for row in rows_of(part) if all(row[name] == row[name] for name in MINIMISED[part])]
    best = min(rows, key=lambda row: sum(row[name] for name in MINIMISED[part]))
    scores = {name: value for name, value in best.items() if name.startswith("select_")}
    counted = {"epochs": len(rows_of(part)), "planned": planned, "best_epoch": int(best["epoch"]) + 1}
    return {"part": part, **counted, "scores": scores}


def check(bundle: Bundle, names: dict[str, set[str]]) -> None:
    """Compare roles with what the bundle says of itself."""
    assert bundle.calibration is not None
    assert bundle.ood_reference is not None
    assert bundle.metrics is None or set(bundle.metrics["by_case"]) == names["test"], "other test cases"
    assert bundle.calibration["cases"] == len(names["calibration"]), "other calibration cases"
    assert bundle.ood_reference["cases"] == len(names["train"]), "other training cases"


def take_over(calibrated: Path, version: str) -> None:
    """Make the shipped model what `calibrate` wrote; weights, graphs and heads must be the same."""
    before, bundle = read_bundle(MODEL), check_whole(calibrated)
    assert (bundle.weights_sha256, bundle.graphs) == (before.weights_sha256, before.graphs), "another model"
    with atomic_folder(MODEL, overwrite=True) as work:
        shutil.copytree(calibrated, work, dirs_exist_ok=True)
        write_bundle_json(replace(bundle, about={**bundle.about, "version": version}), work)


def seen_again(bundle: Bundle, hashes: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the hashes of each role, with what second stage was fitted on, and remarks for the card."""
    roles = {role: sorted(found) for role, found in hashes.items()}
    stage = (bundle.calibration or {}).get(BLOCK)
    if stage is None or stage["cases"] == len(hashes["calibration"]):
        return roles, []
    both = {**hashes["calibration"], **hashes["select"]}
    assert stage["cases"] == len(both), "second stage was fitted on other cases"
    known = seen_of({role: found for role, found in roles.items() if role != "test"})
    return {**roles, "calibration": sorted(both)}, check_unseen("calibration", both, known, allowed=True)


def main() -> None:
    """Write record, logs, curves and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibrated", type=Path, help="bundle that the shipped model is to become")
    parser.add_argument("--version", help="its version")
    options = parser.parse_args()
    data = options.data
    if options.calibrated is not None:
        take_over(options.calibrated, options.version)
    hashes = {role: hashes_of(find_cases(f"{data / 'split.csv'}:{role}")) for role in ROLE_WORDS}
    check(read_bundle(MODEL), {role: set(found.values()) for role, found in hashes.items()})
    recipes = ROOT / "Resources" / "Recipes"
    backbone = read_recipe(recipes / "hippocampus.json").to_json()
    head = json.loads((recipes / "hippocampus_context.json").read_text(encoding="utf-8"))
    recipe = {**backbone, "head": head["head"], "head_training": head["head_training"]}
    planned = {"backbone": backbone["backbone_training"]["epochs"], "head": head["head_training"]["epochs"]}
    trainings = tuple(training(part, planned[part]) for part in LOGS)
    roles, remarks = seen_again(read_bundle(MODEL), hashes)
    write_record(MODEL, TrainingRecord(recipe, trainings, roles, tuple(remarks)))
    with tempfile.TemporaryDirectory() as work:
        for part in LOGS:
            rows = [{**row, "epoch": int(row["epoch"]) + 1} for row in rows_of(part)]
            RunFolder(Path(work)).write_log(part, rows)
        for path in Path(work).iterdir():
            shutil.copyfile(path, MODEL / TRAINING_FOLDER / path.name)
    with atomic_file(MODEL / CARD_FILE) as file:
        file.write_text(model_card(read_bundle(MODEL)), encoding="utf-8")


if __name__ == "__main__":
    main()
