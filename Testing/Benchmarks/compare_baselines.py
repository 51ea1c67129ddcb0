#!/usr/bin/env python3
"""Compare a model's uncertainty with the usual baselines on one frozen segmentation.

    python Testing/Benchmarks/run.py baselines -m hippocampus --cases split.csv:test \\
        --calibration split.csv:calibration --output FOLDER

The test cases are segmented once with the model's backbone, and every baseline predicts the errors of that
segmentation: softmax, temperature scaling, distance to the boundary, test-time augmentation, deep ensemble, trees on
the image, and the heads of the models. Baselines are fitted on calibration cases. `--help` lists all options.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from baselines import BASELINES, fold_backbones, frozen_backbone, select_baselines
from baselines.base import BaselineInputs, FittingCases
from baselines.benchmark import Benchmark
from baselines.table import benchmark_tables, benchmark_text

from SegWithUCore.cli.__main__ import main as run_command
from SegWithUCore.cli.arguments import CASES_HELP, add_command, int_between, refuse_if
from SegWithUCore.cli.case_roles import given_folds
from SegWithUCore.cli.console import Console, table
from SegWithUCore.cli.evaluate import parsed_band
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.strict_json import to_json
from SegWithULab.training.dataset import find_cases
from SegWithULab.training.run_record import hashes_of, known_to, voxel_hashes

RUN = "python Testing/Benchmarks/run.py"
# Name of the files that are written, too.
COMMAND = NAME = "baselines"


def add_commands(commands: Any) -> None:
    """Add the one command of this program."""
    command = add_command(commands, COMMAND, run)
    add = command.add_argument
    command.add_shared("--model", action="append", help="name or folder of a model; further ones of the same backbone")
    add("--cases", required=True, help=f"test cases: {CASES_HELP}")
    add("--calibration", required=True, help="cases for temperatures and error probabilities, likewise")
    add("--ensemble", nargs="+", type=Path, default=[], metavar="DIR", help="bundles or training runs whose backbones "
        "form an ensemble with the frozen one (two for one of 3)")  # fmt: skip
    add("--baselines", help="which ones, separated by commas (default: all); a wrong name lists them")
    command.add_flag("--mirror", "let test-time augmentation exchange left and right, as the backbone's training did")
    add("--band", default="3mm", help="around the predicted surface: 3mm (default), or 2px in slices")
    add("--repeats", type=int_between(1, 1000), default=5, help="turns in which time is measured (default: 5)")
    command.add_shared("--folds", "--fold-cases", "--network", "--threads", "--output", "--overwrite")


def run(options: argparse.Namespace, console: Console) -> int:
    """Compare a model's uncertainty with the usual baselines on one frozen segmentation."""
    with atomic_folder(options.output, options.overwrite) as folder:
        benchmark = _benchmark(options, console)
        for title, reason in benchmark.chosen.not_run.items():
            console.note(f"{title}: {reason}")
        if options.folds is not None or options.fold_cases is not None:
            _add_folds(benchmark, options, console)
        with console.progress("benchmark") as progress:
            summary = benchmark.run(options.repeats, progress)
        for name, content in ((f"{NAME}.json", to_json(summary) + "\n"), (f"{NAME}.md", benchmark_text(summary))):
            (folder / name).write_text(content, encoding="utf-8")
    first = benchmark_tables(summary)[0]
    rows = [[cell.strip("*") for cell in row] for row in first.rows]
    text = "\n".join([table(first.header, rows), *(f"{title}: {why}" for title, why in summary["not_run"].items())])
    console.result(text, {key: value for key, value in summary.items() if key != "by_case"})
    console.note(f"Look at {options.output / NAME}.md.")
    return 0


def _add_folds(benchmark: Benchmark, options: argparse.Namespace, console: Console) -> None:
    """Let baselines learn from training cases, too.

    Raises:
        UsageError: none of them would; a case is among the others, too; a network has seen a test case.
    """
    learns = any(baseline.learns_from_folds for baseline in benchmark.chosen.baselines)
    refuse_if((not learns, "None of the baselines learns from --folds: leave it out, or add one, such as image-trees."))
    fitting, bundle = benchmark.fitting, benchmark.backbone.bundle
    folds = given_folds(options, bundle, {"--cases": benchmark.cases, "--calibration": fitting.calibration}, console)
    hashes = dict(zip(voxel_hashes(benchmark.cases), (case.name for case in benchmark.cases), strict=True))
    for fold in folds:  # a network has seen a test case, if only to choose its epoch
        seen = [hashes[sha256] for role in known_to(fold.run).values() for sha256 in role if sha256 in hashes]
        refuse_if((seen, f"{fold.run.path} has seen {len(seen)} of the test cases, such as {', '.join(seen[:1])}."))
    check = (bundle.calibration or {}).get("second_stage_check") or {}
    if not (check.get("out_of_fold") or {}).get("taken"):
        console.note(f"The second stage of {bundle.name} is fitted on fewer cases than the baselines, without --folds.")
    benchmark.fitting = replace(fitting, folds=fold_backbones(folds))


def _benchmark(options: argparse.Namespace, console: Console) -> Benchmark:
    """Build the benchmark that the options describe, checked before minutes go by."""
    names = tuple(BASELINES) if options.baselines is None else options.baselines.split(",")
    for name in names:
        refuse_if((name not in BASELINES, f"--baselines: '{name}' is not one of {', '.join(BASELINES)}."))
    band, bundles = parsed_band(options.band), [resolve_model(model) for model in options.model]
    test, calibration = find_cases(options.cases), find_cases(options.calibration)
    files = {path.resolve() for case in calibration for path in case.channels}
    both = [case.name for case in test if any(path.resolve() in files for path in case.channels)]
    refuse_if((both, f"{len(both)} cases, such as {', '.join(both[:1])}, are in --cases and --calibration."))
    hashes_of([*test, *calibration], console.note)
    backbone = frozen_backbone(bundles[0])
    fitting = FittingCases(backbone, calibration)
    chosen = select_baselines(names, BaselineInputs(backbone, bundles, options.ensemble, band, options.mirror))
    reasons = " ".join(f"{title} {reason}" for title, reason in chosen.not_run.items())
    refuse_if((not chosen.baselines, f"No baseline can be run: {reasons}"))
    return Benchmark(chosen, test, fitting, band)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison as a command of `segwithu`; returns its exit code."""
    return run_command([COMMAND, *(sys.argv[1:] if arguments is None else arguments)], (sys.modules[__name__],), RUN)


if __name__ == "__main__":
    sys.exit(main())
