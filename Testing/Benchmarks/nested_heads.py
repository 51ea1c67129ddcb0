"""Heads on one frozen network side by side, table, scale and stage two refitted in nested folds by patient.

    python Testing/Benchmarks/nested_heads.py "32 features=hippocampus" "16 features=runs/NAME" \\
        --cases DATA/split.csv:calibration+select [--output DIR] [--name N] [--cache FOLDER]

A head is given by its model, or by its training run. Five folds by
patient, three seeds of stage two; each case is judged by what was fitted on the other patients. Differences are to the
first head, with 95 % bootstrap intervals over patients. Writes N.json and N.md (nested_heads).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax
from stage_two import (
    FOLDS,
    METRICS,
    RESULTS,
    SEEDS,
    STAGE_TWO,
    TABLE,
    TITLES,
    Measured,
    fitted_scores,
    measured_scores,
)

from SegWithUCore.calibration.error_probability import fit_temperature
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.error_detection import metrics_of, region_groups
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.registry import resolve_model
from SegWithULab.calibration.cases import predict_case
from SegWithULab.training.dataset import find_cases
from SegWithULab.training.make_bundle import write_plain_bundle
from SegWithULab.training.run_folder import RunFolder

NLL, RANKING = "NLL of the class probabilities", "AUPRC of the ranking map"
SEED_OF_FOLDS = 100


def main() -> int:
    """Measure each head, compare, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", metavar="NAME=MODEL_OR_RUN")
    parser.add_argument("--cases", required=True)
    parser.add_argument("--output", type=Path, default=RESULTS.parent)
    parser.add_argument("--name", default="nested_heads", help="of the two files (default: nested_heads)")
    parser.add_argument("--cache", type=Path, help="folder that keeps what was measured of each head")
    options = parser.parse_args()
    measured = {}
    for pair in options.heads:
        name, _, source = pair.partition("=")
        file = options.cache / f"{name}.json" if options.cache else None
        if file is not None and file.is_file():
            measured[name] = json.loads(file.read_text(encoding="utf-8"))
            continue
        measured[name] = metrics_of_head(source, options.cases)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(measured[name]), encoding="utf-8")
    record = compared(measured)
    (options.output / f"{options.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (options.output / f"{options.name}.md").write_text(page(record), encoding="utf-8")
    print(page(record))
    return 0


def metrics_of_head(source: str, cases: str) -> dict[str, Any]:
    """Metrics by title, one entry a case, and the patients."""
    with tempfile.TemporaryDirectory() as work:
        known = predicted(bundle_of(source, Path(work)), cases)
    folds = patient_folds([case.group for case in known], FOLDS, SEED_OF_FOLDS)
    nll, scores = np.zeros(len(known)), [{TABLE: [], STAGE_TWO: []} for _ in known]
    for fold in range(FOLDS):
        others = [case for case, own in zip(known, folds, strict=True) if own != fold]
        scale = fit_temperature([tempered_logits(case.prediction) for case in others], [case.truth for case in others])
        fitted = fitted_scores(others)
        for number in np.flatnonzero(folds == fold).tolist():
            nll[number] = negative_log_likelihood(known[number], scale)
            scores[number] = {name: [score(known[number]) for score in each] for name, each in fitted.items()}
        print(f"{source}: fold {fold} done", file=sys.stderr, flush=True)
    ranking = [metrics_of(region_groups(c.prediction.ranking, c.wrong)["whole"])["auprc"] for c in known]
    found = {NLL: nll.tolist(), RANKING: ranking}
    for name in (TABLE, STAGE_TWO):
        runs = [measured_scores(known, list(each)).by_case for each in zip(*(s[name] for s in scores), strict=True)]
        found |= {f"{name}: {TITLES[m]}": np.mean([run[m] for run in runs], 0).tolist() for m in METRICS}
    return {"groups": [case.group for case in known], "metrics": found}


def bundle_of(source: str, work: Path) -> Bundle:
    """Read a model, or make one of the network and head of a run."""
    run = RunFolder(Path(source))
    return write_plain_bundle(run, work / "model") if (run.path / "run.json").is_file() else resolve_model(source)


def predicted(bundle: Bundle, source: str) -> list[Measured]:
    """Predict the cases."""
    model = Model(bundle)
    model.fitted = replace(model.fitted, stage_two=None)
    found = []
    for case in find_cases(source):
        prediction, truth = predict_case(case, model)
        assert prediction.view is not None
        distance = Band().distance(prediction.classes, prediction.view.spacing_mm)
        found.append(Measured(prediction, truth, case.group, distance))
    return found


def negative_log_likelihood(case: Measured, scale: float) -> float:
    """Mean over voxels of the tempered class probabilities."""
    logarithm = log_softmax(tempered_logits(case.prediction) / scale, 0)
    return float(-np.take_along_axis(logarithm, case.truth[None].astype(np.int64), 0).mean())


def compared(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means of each head, and paired differences to the first."""
    first = next(iter(measured.values()))
    found: dict[str, Any] = {}
    for name, head in measured.items():
        assert head["groups"] == first["groups"], "other cases"
        found[name] = {
            title: {
                **asdict(paired_bootstrap(values, first["metrics"][title], groups=head["groups"])),
                "value": float(np.nanmean(values)),
            }
            for title, values in head["metrics"].items()
        }
    return {"cases": len(first["groups"]), "seeds": len(SEEDS), "heads": found}


def page(record: dict[str, Any]) -> str:
    """The record as a page of Markdown."""
    names = list(record["heads"])
    lines = [
        f"# Heads on one frozen network, {record['cases']} cases",
        f"Everything refitted in {FOLDS} folds by patient, mean over {record['seeds']} seeds of stage two. "
        f"In brackets the paired difference to *{names[0]}* with its 95 % bootstrap interval over patients. "
        "By `Testing/Benchmarks/nested_heads.py`.",
        "",
        f"| | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
    ]
    for title in record["heads"][names[0]]:
        cells = [record["heads"][name][title] for name in names]
        texts = [f"{cells[0]['value']:.4g}"]
        texts += [f"{c['value']:.4g} ({c['mean']:+.2g}: {c['low']:+.2g} to {c['high']:+.2g})" for c in cells[1:]]
        lines.append(f"| {title} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
