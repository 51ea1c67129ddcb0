"""Does a head learn better errors if networks of other folds, which have not seen a case, predict half of the batches?

    .venv/bin/python Testing/Benchmarks/adopt_fold_share.py --work ../runs/nnunet/adopted/hippocampus_nnunet_adoption \\
        --dataset ../runs/nnunet/raw/Dataset004_hippocampus

Needs an adoption with several folds, made with `--fold-share 0.5` (`adopt.py`). Trains the
first fold's head once more on its own network alone, and compares both on that fold's validation cases, which neither
network nor heads have seen. Writes `results/adopt_fold_share.json`.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.temperature_scaling import fit_temperature
from SegWithUCore.cli.console import Console
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.metrics.bootstrap import mean_interval, paired_bootstrap
from SegWithUCore.metrics.calibration import negative_log_likelihood
from SegWithUCore.metrics.error_detection import auroc, average_precision, score_groups
from SegWithUCore.util.strict_json import read_json_object
from SegWithULab.training.dataset import find_cases
from SegWithULab.training.fold_networks import (
    PreparedCases,
    load_prediction,
    predict_fold,
    prediction_file,
    train_fold_head,
    write_plain_bundle,
)
from SegWithULab.training.nnunet_folds import Fold
from SegWithULab.training.run_folder import RunFolder

HERE = Path(__file__).resolve().parent
METRICS = ("auroc ranking", "auprc ranking", "auprc softmax", "nll tempered")


def main() -> int:
    """Train, predict, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the stages of an adoption")
    parser.add_argument("--dataset", required=True, help="the raw data set")
    options = parser.parse_args()
    stages = read_json_object(options.work / "stages.json")["stages"]
    seen, unseen = stages["head"]["settings"]["cases"], stages["predictions"]["settings"]["cases"]
    cases = {case.name: case for case in find_cases(options.dataset)}
    mixed, alone = RunFolder(options.work / "fold_0"), RunFolder(options.work / "without_other_folds")
    alone.path.mkdir(exist_ok=True)
    for name in ("run.json", "backbone_best.safetensors"):
        shutil.copyfile(mixed.path / name, alone.path / name)
    fold = Fold("0", "0", tuple(seen), tuple(unseen), {})
    with Console().progress("fold share") as progress:
        prepared = PreparedCases(cases, alone.recipe())(fold.seen, progress)
        train_fold_head(alone, prepared, {}, False, progress)
        model = Model(write_plain_bundle(alone, alone.path / "bundle"))
        predict_fold(fold, cases, model, alone.path / "predictions", progress)
    values = {name: measured(run, unseen) for name, run in (("half by other folds", mixed), ("own alone", alone))}
    found = {"cases": len(unseen), "train_cases": len(seen), "epochs": alone.recipe().head_training.epochs}
    for number, metric in enumerate(METRICS):
        rows = {name: known[:, number].tolist() for name, known in values.items()}
        entry = {name: asdict(mean_interval(row)) for name, row in rows.items()}
        entry["difference"] = asdict(paired_bootstrap(rows["half by other folds"], rows["own alone"]))
        found[metric] = entry
    (HERE / "results" / "adopt_fold_share.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


def measured(run: RunFolder, names: list[str]) -> np.ndarray:
    """`METRICS` of each case, (cases, metrics); the tempering scale is fitted on all of them, for both alike."""
    known = [load_prediction(prediction_file(run.path / "predictions", name)) for name in names]
    scale = fit_temperature([tempered_logits(prediction) for prediction, _ in known], [truth for _, truth in known])
    rows = []
    for prediction, truth in known:
        wrong = prediction.classes != truth
        plain = 1 - softmax(prediction.logits.astype(np.float64), 0).max(0)
        ranking, confidence = score_groups(prediction.ranking, wrong), score_groups(plain, wrong)
        loss = negative_log_likelihood(softmax(tempered_logits(prediction, scale), 0), truth)
        rows.append([auroc(ranking), average_precision(ranking), average_precision(confidence), loss])
    return np.asarray(rows)


if __name__ == "__main__":
    sys.exit(main())
