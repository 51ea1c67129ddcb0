"""`segwithu evaluate`: how well a model works on cases with references."""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from .arguments import add_engine_option, add_network_option, add_threads_option, finite_number, opened_model
from .case_roles import test_record
from .console import Console
from .workers import add_worker_options, each_on_workers, workers_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from SegWithULab.evaluation.evaluate import Evaluation, Settings
    from SegWithULab.training.dataset import Case

    from ..inference.model import Model
    from ..models.bundle import Bundle
    from ..models.training_record import TrainingRecord


def add_commands(commands: Any) -> None:
    """Add `evaluate`."""
    command = commands.add_parser(
        "evaluate",
        examples=(
            "evaluate -m hippocampus --cases split.csv:test --report evaluation",
            "evaluate -m models/atrium --cases split.csv:test --record",
        ),
        help="measure a model on cases with references",
        description="Segment the cases as `segment` does and compare with their references: Dice, error detection, "
        "calibration, whole cases; each as mean over cases, with intervals that resample patients (column 'patient' "
        "of the table, or else each case for itself).",
    )
    command.add_argument("--model", required=True, help="name of an installed model, or a bundle's folder")
    command.add_argument("--head", help="a head of the model other than the default")
    command.add_argument("--cases", required=True, help="TABLE.csv:ROLE or an nnU-Net folder")
    command.add_argument("--output", type=Path, help="JSON file that receives all figures, also those of each case")
    command.add_argument(
        "--report", type=Path, metavar="DIR", help="folder for figures as tables and plots, and one HTML page"
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing report")
    command.add_argument(
        "--band",
        default="3mm",
        help="around the predicted surface: 3mm (default), or 2px for voxels slice by slice where spacing is uncertain",
    )
    command.add_argument(
        "--surface-tolerance", type=finite_number, default=1.0, metavar="MM", help="of surface Dice, in mm (default: 1)"
    )
    command.add_argument("--mirrored", action="store_true", help="exchange left and right of all cases first")
    command.add_argument(
        "--record",
        action="store_true",
        help="write the figures into the model's bundle and model card",
    )
    command.add_argument(
        "--allow-seen-cases",
        action="store_true",
        help="measure on cases that the model was trained, validated or calibrated with; its card says so (--record)",
    )
    command.add_argument(
        "--unlike-training",
        action="store_true",
        help="go on although the cases look unlike those that the model was trained with",
    )
    add_engine_option(command)
    add_network_option(command)
    add_threads_option(command)
    add_worker_options(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Evaluate a model."""
    from SegWithULab.evaluation.report import write_report
    from SegWithULab.evaluation.summary import recorded, summary
    from SegWithULab.training.dataset import find_cases

    from ..models.bundle import with_head
    from ..models.installed import resolve_model
    from ..util.atomic_files import atomic_folder

    settings = _settings(options)
    bundle = with_head(resolve_model(options.model), options.head)
    cases = find_cases(options.cases)
    record = test_record(bundle, cases, options, console)
    if not options.unlike_training and not options.mirrored:
        _look_first(cases, bundle, console)
    model = opened_model(bundle, options.engine, console, "cpu", options.head)
    with atomic_folder(options.report, options.overwrite) if options.report else nullcontext() as folder:
        evaluation = _evaluated(cases, model, settings, options, console)
        console.note("Computing intervals, tables and plots..." if folder is not None else "Computing intervals...")
        result = summary(evaluation, bundle)
        if folder is not None:
            write_report(folder, result, evaluation, model.bundle, options.cases)
    console.result(_text(result, options), {key: value for key, value in result.items() if key != "details_by_case"})
    if options.report:
        console.note(f"Look at {options.report / 'report.html'}.")
    if options.output:
        _write_json(options.output, result)
    if options.record:
        _record(model, recorded(result), record)
    return 0


def _look_first(cases: "Sequence[Case]", bundle: "Bundle", console: Console) -> None:
    """Compare some cases with the training cases before minutes go by; warnings are summed up."""
    from SegWithULab.evaluation.like_training import check_like_training

    notes = check_like_training(cases, bundle)
    for note in notes[:_MOST_NOTES]:
        console.note(f"Note: {note}")
    if len(notes) > _MOST_NOTES:
        console.note(f"... and {len(notes) - _MOST_NOTES} more differences from the training cases.")


_MOST_NOTES = 3


def _evaluated(
    cases: "Sequence[Case]", model: "Model", settings: "Settings", options: argparse.Namespace, console: Console
) -> "Evaluation":
    """Measure all cases, here or on workers; the first that fails ends it."""
    from SegWithULab.evaluation.evaluate import evaluate, evaluate_on_worker, in_order

    from ..cohort.run import ModelSource

    request = workers_request(options)
    if request is None:
        with console.progress("evaluate") as progress:
            return evaluate(cases, model, settings, progress)
    # The engine that was chosen here, so that each worker takes the same.
    source = ModelSource.of(model.bundle, options.head, model.engine.name, model.device, options.network)
    arguments = {case.name: (case, source, settings) for case in cases}
    found: dict[str, Evaluation] = {}
    for answer in each_on_workers(arguments, evaluate_on_worker, request, options, console):
        if answer.value is None:
            raise InputError(answer.reason)
        found[answer.name] = answer.value["evaluation"]
        console.step(f"{len(found)} of {len(cases)} cases measured", {"event": "measured", "case": answer.name})
    return in_order(cases, found, settings)


def _settings(options: argparse.Namespace) -> "Settings":
    """Read the options, and check them before minutes go by."""
    from SegWithULab.evaluation.evaluate import Settings

    from ..metrics.overlap import Band

    if options.record and (options.mirrored or options.head or options.band != "3mm"):
        raise UsageError(
            "--record goes with none of --mirrored, --head and --band: a bundle records the figures of images as they "
            "are, of its default head, with a band of 3 mm."
        )
    if options.report:
        import matplotlib  # noqa: F401 - said before the run when it is missing
    try:
        band = Band.from_text(options.band)
    except ValueError as error:
        raise UsageError(f"--band: {error}") from error
    if options.surface_tolerance < 0:
        raise UsageError(f"--surface-tolerance is {options.surface_tolerance:g}: give millimetres, 0 or more.")
    return Settings(band, options.surface_tolerance, options.mirrored)


def _text(result: dict[str, Any], options: argparse.Namespace) -> str:
    """Say what was found in some ten sentences, and where all figures are."""
    from SegWithULab.evaluation.messages import messages

    places = [str(options.report / "figures.md")] if options.report else []
    places += [str(options.output)] if options.output else []
    figures = f"All {len(result['table'])} figures, also of each case: "
    figures += ", ".join(places) if places else "with --report DIR or --output FILE"
    return "\n".join([*messages(result), f"{figures}."])


def _write_json(path: Path, data: dict[str, Any]) -> None:
    from ..util.atomic_files import atomic_file

    with atomic_file(path) as work:
        work.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _record(model: "Model", result: dict[str, Any], record: "TrainingRecord | None") -> None:
    from dataclasses import replace

    from ..models.bundle import CARD_FILE, write_bundle_json
    from ..models.bundle_files import weights_path
    from ..models.model_card import model_card
    from ..models.training_record import write_record
    from ..util.atomic_files import atomic_file

    folder = weights_path(model.bundle).parent
    if record is not None:
        write_record(folder, record)
    about = {key: text for key, text in model.bundle.about.items() if key != "judged"}  # of figures that go now
    written = write_bundle_json(replace(model.bundle, figures=result, about=about), folder)
    with atomic_file(folder / CARD_FILE) as work:
        work.write_text(model_card(written), encoding="utf-8")
