"""Small real nnU-Nets adopted by the command, and what the model's own page promises held against cases kept apart.

    .venv/bin/python Testing/Benchmarks/adopt.py hippocampus --data ../shared/data --runs ../runs/nnunet --epochs 2

`adopt_trainings.py` makes the trainings, in nnU-Net's environment. The adopted model goes to RUNS/adopted; what it cost
and what came of it to `results/adopt_NAME.json`. The *test* cases of the split table were seen by nothing, but for
`LEFT_OUT`. ACDC's weights are never shipped (CC BY-NC-SA).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from adopt_trainings import CONFIGURATION, PLANS, SUBJECTS, TRAINER  # noqa: E402

FOLD_SHARE = 0.5
"""As measured by `adopt_fold_share.py`, which needs it."""
LEFT_OUT = {"acdc": ("patient074",)}
"""Test patients that are not measured: in this copy of ACDC patient074 is patient076 of the training cases."""
ROWS = (
    "auroc whole error probability",
    "auroc band error probability",
    "auprc whole error probability",
    "auprc whole softmax by direction",
    "error rate",
    "nll plain",
    "nll tempered",
    "nll temperature scaling",
    "error probability brier",
    "error probability brier softmax",
)
"""Of the figures, beside the Dice of each structure."""


def main() -> int:
    """Adopt, evaluate on the test cases, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SUBJECTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of nnU-Net's raw, preprocessed and results")
    parser.add_argument("--epochs", type=int, help="of each head")
    parser.add_argument("--most-test", type=int, help="so many test cases only, the first by name")
    options = parser.parse_args()
    subject = SUBJECTS[options.name]
    dataset = subject.dataset(options.name)
    result = options.runs / "results" / dataset / f"{TRAINER}__{PLANS}__{CONFIGURATION}"
    model = options.runs / "adopted" / f"{options.name}_nnunet"
    call = ["adopt", result, "--dataset", options.runs / "raw" / dataset, "--output", model]
    call += ["--splits", options.runs / "preprocessed" / dataset / "splits_final.json"]
    call += [
        "--fold-share",
        FOLD_SHARE,
        "--licence-data",
        subject.licence,
        "--licence-weights",
        subject.licence,
        "--threads",
        "1",
    ]
    said, _ = segwithu([*call, *(["--epochs", options.epochs] if options.epochs else [])])
    again, seconds_again = segwithu([*call, *(["--epochs", options.epochs] if options.epochs else [])])
    work = model.with_name(f"{model.name}_adoption")
    stages = {name: stage["seconds"] for name, stage in _read(work / "stages.json")["stages"].items()}
    table = options.data / options.name / "split.csv"
    found = {
        "nnunet": validation_dice(result),
        "trust": said["trust"],
        "headline": said["headline"],
        "stages_seconds": stages,
        "seconds": round(sum(stages.values())),
        "same_command_again_seconds": round(seconds_again, 1),
        "same_answer_again": again["headline"] == said["headline"],
        "machine": f"{os.cpu_count()} cores, shared with many other jobs; {platform.platform()}",
        "judged": {**_chosen(_read(model / "bundle.json")["metrics"]), **_words(work)},
        "test": on_test(table, model, options.most_test, LEFT_OUT.get(options.name, ())),
    }
    path = HERE / "results" / f"adopt_{options.name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


def segwithu(arguments: list[Any]) -> tuple[dict[str, Any], float]:
    """Run the command; returns its last event and the seconds it took."""
    begun = time.monotonic()
    call = [sys.executable, "-m", "SegWithUCore.cli", *map(str, arguments), "--json"]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), time.monotonic() - begun


def validation_dice(result: Path) -> dict[str, float]:
    """Mean Dice of nnU-Net's own validation of each fold."""
    files = sorted(result.glob("fold_*/validation/summary.json"))
    return {path.parents[1].name: round(_read(path)["foreground_mean"]["Dice"], 4) for path in files}


def on_test(table: Path, model: Path, most: int | None, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate on the test cases: figures, intervals, and how often voxels that read so much were wrong."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metrics.json"
        source = f"{_shortened(table, Path(folder), most, left_out)}:test" if most or left_out else f"{table}:test"
        call = ["evaluate", "--model", model, "--cases", source, "--output", file, "--threads", "1"]
        segwithu([*call, "--unlike-training"])
        result = _read(file)
    bars = [bar for bar in result["reliability"]["whole"] if bar["voxels"]]
    return {
        **_chosen(result),
        "left_out": list(left_out),
        "structures": result["structures"],
        "reliability": bars,
        "comparisons": result["comparisons"],
    }


def _shortened(table: Path, folder: Path, most: int | None, left_out: Sequence[str]) -> Path:
    header, *lines = table.read_text(encoding="utf-8").splitlines()
    tests = (line for line in lines if line.endswith(",test"))
    kept = sorted(line for line in tests if not any(patient in line.split(",") for patient in left_out))[:most]
    for part in ("images", "labels"):
        (folder / part).symlink_to((table.parent / part).resolve(), target_is_directory=True)
    (folder / "split.csv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    return folder / "split.csv"


def _chosen(figures: dict[str, Any]) -> dict[str, Any]:
    rows = {row["title"]: row for row in figures["table"]}
    titles = [title for title in rows if title.startswith("dice ")] + [title for title in ROWS if title in rows]
    found = {title: {key: rows[title].get(key) for key in ("mean", "low", "high")} for title in titles}
    return {"cases": figures["cases"], "metrics": found}


def _words(work: Path) -> dict[str, Any]:
    judged = _read(work / "judged" / "judged.json")
    return {"patients": judged["patients"], "answers": judged["answers"], "readings": judged["readings"]}


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


if __name__ == "__main__":
    sys.exit(main())
