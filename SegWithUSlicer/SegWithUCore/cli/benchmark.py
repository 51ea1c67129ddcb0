"""`segwithu benchmark`: every usual baseline on one frozen segmentation."""

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import UsageError
from .arguments import add_network_option, add_threads_option
from .case_roles import add_fold_options, check_fold_options, given_folds
from .console import Console, table

if TYPE_CHECKING:
    from SegWithULab.benchmark.benchmark import Benchmark
    from SegWithULab.calibration.cross_validation import Fold
    from SegWithULab.training.dataset import Case

CASES_HELP = "TABLE.csv:ROLE or an nnU-Net folder"
JSON_FILE, MARKDOWN_FILE, CSV_FILE, PAGE_FILE = "rivals.json", "rivals.md", "rivals.csv", "rivals.html"
PLOT_FILE = "rivals.png"


def add_commands(commands: Any) -> None:
    """Add `benchmark`."""
    command = commands.add_parser(
        "benchmark",
        examples=("benchmark -m hippocampus --cases split.csv:test --calibration split.csv:calibration -o benchmark",),
        help="compare a model's uncertainty with every usual baseline on the same frozen segmentation",
        description="Segment the test cases once with the model's backbone and let every baseline say where that "
        "segmentation is wrong: softmax, temperature scaling, distance to the boundary, test-time augmentation, "
        "Monte-Carlo dropout, deep ensemble, feature density, and the heads of the models. What is fitted is fitted on "
        "calibration, training and validation cases. Killed or cancelled, the command goes on with --resume.",
    )
    command.add_argument(
        "--model",
        required=True,
        action="append",
        help="name of an installed model, or a bundle's folder; further ones must share the first one's backbone",
    )
    _add_cases(command)
    command.add_argument(
        "--ensemble",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="bundles or training runs whose backbones form an ensemble with the frozen one (two for one of 3)",
    )
    command.add_argument("--baselines", help="which ones, separated by commas (default: all); a wrong name lists them")
    command.add_argument(
        "--mirror",
        action="store_true",
        help="let test-time augmentation exchange left and right, for backbones that were trained so",
    )
    command.add_argument("--band", default="3mm", help="around the predicted surface: 3mm (default), or 2px in slices")
    command.add_argument("--repeats", type=int, default=5, help="turns in which time is measured (default: 5)")
    add_network_option(command)
    add_threads_option(command)
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the benchmark")
    command.add_argument("--resume", action="store_true", help="go on where an earlier run in the folder stopped")
    command.set_defaults(run=run)


def _add_cases(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cases", required=True, help=f"test cases: {CASES_HELP}")
    command.add_argument(
        "--calibration", required=True, help="cases for temperatures and error probabilities, likewise"
    )
    command.add_argument("--train", help="the backbone's training cases, for the feature density, likewise")
    command.add_argument("--select", help="validation cases, which choose the dropout rate, likewise")
    add_fold_options(
        command,
        "training cases as new cases, for a model whose stage two was fitted on them",
        "What learns where a segmentation is wrong learns from these, too: softmax with distance, boosted trees, local "
        "temperature scaling. With --resume give them again.",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Run or resume a benchmark."""
    from SegWithULab.benchmark.summary import benchmark_summary, reference_row

    benchmark = _benchmark(options)
    reference = reference_row(benchmark.chosen.baselines)
    for title, reason in benchmark.chosen.not_run.items():
        console.note(f"{title}: {reason}")
    if options.folds is not None:
        _add_folds(benchmark, options, console)
    with console.progress("benchmark") as progress:
        result = benchmark.run(options.output, options.resume, options.repeats, progress)
    if result.replaced:
        console.note(f"Measured again, because their settings had changed: {', '.join(result.replaced)}.")
    summary = benchmark_summary(benchmark, result, reference)
    _write(options.output, summary, console)
    console.result(_text(summary), {key: value for key, value in summary.items() if key != "by_case"})
    console.note(f"Look at {options.output / MARKDOWN_FILE}.")
    return 0


def _add_folds(benchmark: "Benchmark", options: argparse.Namespace, console: Console) -> None:
    """Let baselines learn from training cases, too.

    Raises:
        UsageError: none of them would; a case is among the others, too.
    """
    from SegWithULab.benchmark.baselines import fold_backbones

    if not any(baseline.learns_from_folds for baseline in benchmark.chosen.baselines):
        raise UsageError("None of the baselines learns from --folds: leave it out, or add one, such as image-trees.")
    fitting, bundle = benchmark.fitting, benchmark.backbone.bundle
    others = {"--cases": benchmark.cases, "--calibration": fitting.calibration, "--select": fitting.select}
    folds = given_folds(options, bundle, others, console, "benchmark")
    _check_unseen(benchmark.cases, folds)
    check = (bundle.calibration or {}).get("stage_two_check") or {}
    if not (check.get("out_of_fold") or {}).get("taken"):
        console.note(
            f"Stage two of {bundle.name} was not fitted on cases of folds, so baselines learn from more cases here."
        )
    benchmark.fitting = replace(fitting, folds=fold_backbones(folds))


def _check_unseen(test: "Sequence[Case]", folds: "Sequence[Fold]") -> None:
    """Refuse networks that have seen a test case, if only to choose their epoch."""
    from SegWithULab.training.case_roles import hashes_of
    from SegWithULab.training.run_record import known_to

    hashes = hashes_of(test)
    for fold in folds:
        seen = [hashes[sha256] for role in known_to(fold.run).values() for sha256 in role if sha256 in hashes]
        if seen:
            raise UsageError(
                f"{fold.run.path} has seen {len(seen)} of the test cases, {seen[0]} first: give another run."
            )


def _benchmark(options: argparse.Namespace) -> "Benchmark":
    """Build the benchmark that the options describe, checked before minutes go by."""
    from SegWithULab.benchmark.baselines import BASELINES, frozen_backbone, select_baselines
    from SegWithULab.benchmark.baselines.base import BaselineInputs, FittingCases
    from SegWithULab.benchmark.benchmark import Benchmark
    from SegWithULab.training.dataset import find_cases

    from ..metrics.overlap import Band
    from ..models.installed import resolve_model

    names = tuple(BASELINES) if options.baselines is None else options.baselines.split(",")
    for name in names:
        if name not in BASELINES:
            raise UsageError(f"--baselines: there is no '{name}', choose from {', '.join(BASELINES)}.")
    if options.repeats < 1:
        raise UsageError(f"--repeats is {options.repeats}: give 1 or more.")
    check_fold_options(options)
    try:
        band = Band.from_text(options.band)
    except ValueError as error:
        raise UsageError(f"--band: {error}") from error
    bundles = [resolve_model(model) for model in options.model]
    test, roles = find_cases(options.cases), {}
    for role in ("train", "select", "calibration"):
        source = getattr(options, role)
        roles[role] = find_cases(source) if source else []
        _check_apart(test, roles[role], role)
    backbone = frozen_backbone(bundles[0])
    fitting = FittingCases(backbone, roles["train"], roles["select"], roles["calibration"])
    inputs = BaselineInputs(backbone, bundles, options.ensemble, band, options.mirror)
    chosen = select_baselines(names, inputs, fitting)
    if not chosen.baselines:
        reasons = " ".join(f"{title} {reason}" for title, reason in chosen.not_run.items())
        raise UsageError(f"No baseline can be run: {reasons}")
    return Benchmark(chosen, test, fitting, band)


def _check_apart(test: "Sequence[Case]", others: "Sequence[Case]", role: str) -> None:
    files = {path.resolve() for case in others for path in case.channels}
    both = [case.name for case in test if any(path.resolve() in files for path in case.channels)]
    if both:
        raise UsageError(
            f"{len(both)} cases, such as {both[0]}, are in --cases and --{role}: nothing may be fitted on test cases."
        )


def _write(folder: Path, summary: dict[str, Any], console: Console) -> None:
    """Write the summary as JSON, Markdown, CSV and page, and a plot where matplotlib is installed."""
    from SegWithULab.benchmark.store import write_json
    from SegWithULab.benchmark.table import benchmark_markdown, benchmark_page, draw_baselines, write_table

    from ..util.atomic_files import atomic_file

    write_json(folder / JSON_FILE, summary)
    plot = folder / PLOT_FILE if importlib.util.find_spec("matplotlib") else None
    if plot is None:
        console.note("No plot: matplotlib is missing; install segwithu-slicer[desktop], which brings it.")
    else:
        with atomic_file(plot) as work:
            draw_baselines(summary, work)
    for name, text in ((MARKDOWN_FILE, benchmark_markdown(summary)), (PAGE_FILE, benchmark_page(summary, plot))):
        with atomic_file(folder / name) as work:
            work.write_text(text, encoding="utf-8")
    write_table(folder / CSV_FILE, summary)


def _text(summary: dict[str, Any]) -> str:
    """Print the first table; the files have all."""
    from SegWithULab.benchmark.table import benchmark_tables

    first = benchmark_tables(summary)[0]
    rows = [[cell.strip("*") for cell in row] for row in first.rows]
    return "\n".join([table(first.header, rows), *(f"{title}: {why}" for title, why in summary["not_run"].items())])
