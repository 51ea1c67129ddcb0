"""`segwithu evaluate`: how well a model works on cases with references."""

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..metrics.overlap import Band
from ..models.bundle import CARD_FILE, with_head, write_bundle_json
from ..models.installed import resolve_model
from ..models.training_record import TrainingRecord, write_record
from ..util.atomic_files import atomic_folder, write_text
from ..util.errors import UsageError
from .arguments import CASES_HELP, add_command, named_labels, opened_model, refuse_if
from .case_roles import note_unlike, test_record
from .console import Console

if TYPE_CHECKING:
    from ..inference.model import Model


def add_commands(commands: Any) -> None:
    """Add `evaluate`."""
    command = add_command(commands, "evaluate", run)
    command.add_shared("--model", "--head")
    command.add_argument("--cases", required=True, help=CASES_HELP)
    command.add_shared("--labels")
    command.add_shared("--output", required=False, help="JSON file that receives all figures, also those of each case")
    command.add_argument("--report", type=Path, metavar="DIR", help="folder for tables and one HTML page")
    command.add_shared("--overwrite", help="replace an existing report")
    command.add_argument("--band", default="3mm", help="around the predicted surface: 3mm (default), or 2px in slices")
    command.add_flag("--record", "write the figures into the model's bundle and model card")
    command.add_flag("--unlike-training", "continue although the cases are out of distribution")
    command.add_shared("--allow-seen-cases", "--engine", "--network", "--threads")


def parsed_band(text: str) -> Band:
    """Read --band.

    Raises:
        UsageError: it is not a band.
    """
    try:
        return Band.from_text(text)
    except ValueError as error:
        raise UsageError(f"--band: {error}") from error


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure a model on cases with references.

    Segment the cases as `segment` does and compare with their references: Dice, error detection, calibration, whole
    cases; as means over cases with bootstrap intervals over patients (column 'patient'; without it each case is one
    patient). Whole heads are cut to the model's boxes.

    Examples:
    evaluate -m hippocampus --cases split.csv:test --report evaluation
    evaluate -m models/atrium --cases split.csv:test --record
    """
    from SegWithULab.calibration.corrected import added_cases
    from SegWithULab.evaluation.evaluate import evaluate, recorded, summary
    from SegWithULab.evaluation.report import messages, write_report

    is_other = options.head or options.band != "3mm" or options.labels
    refuse_if((options.record and is_other, "--record goes with none of --head, --band and --labels."))
    band = parsed_band(options.band)
    bundle = with_head(resolve_model(options.model), options.head)
    report = atomic_folder(options.report, options.overwrite) if options.report else nullcontext()
    with TemporaryDirectory() as work, report as folder:
        cases = added_cases(options.cases, bundle, Path(work), named_labels(options.labels))
        record = test_record(bundle, cases, options.allow_seen_cases, options.record, console)
        note_unlike(options, cases, bundle, console)  # before minutes go by
        model = opened_model(bundle, options.engine, console, "cpu", options.head)
        with console.progress("evaluate") as progress:
            evaluation = evaluate(cases, model, band, progress)
        result = summary(evaluation, bundle)
        if folder is not None:
            write_report(folder, result, evaluation, model.bundle, options.cases)
    text = "\n".join([*messages(result), f"{len(result['table'])} figures more with --report DIR or --output FILE."])
    console.result(text, {key: value for key, value in result.items() if key != "metrics_by_case"})
    if options.report:
        console.note(f"Look at {options.report / 'report.html'}.")
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")
    if options.record:
        _record(model, recorded(result), record)
    return 0


def _record(model: "Model", result: dict[str, Any], record: TrainingRecord | None) -> None:
    from ..models.bundle_files import weights_path
    from ..models.model_card import model_card

    folder = weights_path(model.bundle).parent
    if record is not None:
        write_record(folder, record)
    about = {key: text for key, text in model.bundle.about.items() if key != "judged"}  # of figures that go now
    written = write_bundle_json(replace(model.bundle, metrics=result, about=about), folder)
    write_text(folder / CARD_FILE, model_card(written))
