"""`segwithu calibrate` and `check-calibration`: fit a model's calibration on labelled cases, or judge it on them."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.engines import OPENVINO, TORCH
from ..regions.region import UNCERTAIN
from ..util.atomic_files import one_writer
from ..util.errors import InputError, UsageError
from .arguments import add_engine_option, add_network_option, add_threads_option
from .case_roles import (
    add_fold_options,
    add_role_options,
    calibration_record,
    check_fold_options,
    given_folds,
    note_patients,
    test_record,
)
from .console import Console, table
from .train import CASES_HELP

if TYPE_CHECKING:
    from SegWithULab.calibration.bundles import Calibrated
    from SegWithULab.calibration.cases import PredictedCases
    from SegWithULab.calibration.cross_validation import Fold
    from SegWithULab.training.dataset import Case

    from ..calibration.error_counts import Reading
    from ..models.bundle import Bundle
    from ..util.progress import Progress


def add_commands(commands: Any) -> None:
    """Add both commands."""
    calibrate = commands.add_parser(
        "calibrate",
        examples=(
            "calibrate --run runs/atrium --cases split.csv:calibration --output models/atrium",
            "calibrate -m models/imported --cases mine.csv:calibration -o models/calibrated",
            "calibrate -m hippocampus --add mine.csv:calibration -o hippocampus_here",
        ),
        help="fit error probability and numbers per structure on labelled cases, or add cases to a calibrated model",
        description="Predict labelled cases with the best backbone and head of a run, or with a model, and write a "
        "calibrated model bundle. With --cases everything is fitted on them: the error probability, the interval of "
        "the expected volume, the predicted Dice and the limits of flags. With --add each part of a calibrated model "
        "is replaced only where the cases show, each patient judged by the others, that another predicts better; "
        "where none does, the model's own calibration is kept, and nothing is written.",
    )
    source = calibrate.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", dest="folder", type=Path, help="folder of the training run")
    source.add_argument("-m", "--model", help="name or folder of a model")
    wish = calibrate.add_mutually_exclusive_group(required=True)
    wish.add_argument("--cases", help=f"fit everything on these cases: {CASES_HELP}")
    wish.add_argument("--add", metavar="CASES", help="add these cases to the calibration that the model has")
    calibrate.add_argument(
        "--select",
        metavar="CASES",
        help="validation cases of the run: intervals, predicted Dice and flags are fitted on them, too (with --run)",
    )
    calibrate.add_argument("--output", required=True, type=Path, help="folder of the bundle to write")
    calibrate.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    calibrate.add_argument(
        "--beside", help="model of the same backbone whose heads come along, for --head of segment (goes with --run)"
    )
    calibrate.add_argument(
        "--no-graphs",
        action="store_true",
        help="do not compile graphs for the engine openvino; the model needs torch then",
    )
    add_fold_options(
        calibrate,
        "training cases as new cases (with --cases)",
        "The second stage is fitted on these too where that finds more errors in --cases; predicted Dice and flags "
        "count each as half a case.",
    )
    add_role_options(calibrate)
    _add_engine_options(calibrate)
    calibrate.set_defaults(run=run_calibrate)
    check = commands.add_parser(
        "check-calibration",
        examples=("check-calibration -m hippocampus --cases mine.csv:labelled",),
        help="say whether a model's error probabilities hold on labelled cases of your own",
        description="Predict labelled cases and compare what the error probability says with what was wrong: of "
        f"voxels that read {UNCERTAIN:g}, how many were wrong? Intervals are of patients; with fewer than 8 there is "
        "no verdict. Nothing is written.",
    )
    check.add_argument("--model", required=True, help="name or folder of a calibrated model")
    check.add_argument("--cases", required=True, help=CASES_HELP)
    check.add_argument(
        "--allow-seen-cases", action="store_true", help="judge on cases that the model was trained or calibrated with"
    )
    _add_engine_options(check)
    check.set_defaults(run=run_check, record=False)


def _add_engine_options(command: argparse.ArgumentParser) -> None:
    add_engine_option(command)
    add_network_option(command)
    add_threads_option(command)


FEW_CASES = 8
"""Below so many calibration cases the user is warned."""


def run_calibrate(options: argparse.Namespace, console: Console) -> int:
    """Write a bundle, or say that the model's own calibration is better kept."""
    from SegWithULab.training.dataset import find_cases

    from ..models.quality import model_warnings

    console.started()
    _check_options(options)
    with one_writer(options.output, options.overwrite):
        cases = find_cases(options.cases or options.add)
        if options.cases and len(cases) < FEW_CASES:
            console.note(
                f"Warning: {len(cases)} calibration cases are few. An error probability fitted on fewer than "
                f"{FEW_CASES} can be far off, volume intervals need cases of 9 patients and predicted Dice 10 cases, "
                "and limits of flags tell nothing: give 20 or more."
            )
        made = _of_model(options, cases, console) if options.folder is None else _of_run(options, cases, console)
        note_patients(cases, console)
        if made.bundle is None:
            kept = "Keep the model's own calibration: on these cases nothing else predicts better; nothing was written."
            data: dict[str, Any] = {"bundle": None, "kept": True, "sentences": list(made.messages)}
            console.result("\n".join([f"{kept} ({options.model})", *made.messages]), data)
            return 0
        bundle = made.bundle
        if not options.no_graphs:
            compile_graphs(bundle, console)
        flags = (bundle.calibration or {}).get("flags") or {"rules": {}}
        version = bundle.about["version"]
        lines = [
            *(f"Warning: {warning}" for warning in model_warnings(bundle)),
            f"{bundle.name} {version}, calibrated on {len(cases)} cases, in {options.output}",
            *made.messages,
            *(f"flags by {name}: {rule['sentence']}" for name, rule in flags["rules"].items()),
        ]
        data = {"bundle": str(options.output), "model": bundle.name, "version": version, "kept": False}
        console.result("\n".join(lines), {**data, "sentences": list(made.messages)})
    return 0


def _check_options(options: argparse.Namespace) -> None:
    check_fold_options(options)
    if options.folder is not None and options.add is not None:
        raise UsageError("--add goes with --model: a run has no calibration yet, so give --cases.", "add-to-run")
    if options.folder is not None and options.engine == OPENVINO:
        raise UsageError("--engine openvino goes with --model: a run has no compiled graphs yet, so torch runs it.")
    if options.folder is None and options.select is not None:
        raise UsageError("--select goes with --run: a model does not say on which cases its epochs were chosen.")
    if options.folder is None and options.beside is not None:
        raise UsageError("--beside goes with --run: a model that is there already keeps all its heads.")
    if options.folds is not None and options.add is not None:
        raise UsageError("--folds goes with --cases: --add keeps what the model was calibrated on.", "add-with-folds")


def _of_model(options: argparse.Namespace, cases: "Sequence[Case]", console: Console) -> "Calibrated":
    from SegWithULab.calibration.bundles import calibrate_model

    from ..models.installed import resolve_model

    bundle = resolve_model(options.model)
    if options.add and bundle.calibration is None:
        raise UsageError(f"The model {bundle.name} is not calibrated yet: give --cases.", "not-calibrated")
    if options.cases and bundle.calibration is not None:
        raise UsageError(
            f"The model {bundle.name} is calibrated: give --add to improve its calibration with these cases, or "
            "calibrate the run that it was made of.",
            "already-calibrated",
        )
    record = calibration_record(options, cases, console)
    folds = given_folds(options, bundle, {"--cases": cases}, console, "calibrate")
    with console.progress("calibrate") as progress:
        return calibrate_model(
            replace(bundle, graphs=None) if options.no_graphs else bundle,
            cases,
            options.output,
            options.overwrite,
            TORCH if options.no_graphs else options.engine,
            progress,
            record,
            partial(_predicted_by, folds, progress) if folds else None,
        )


def _of_run(options: argparse.Namespace, cases: "Sequence[Case]", console: Console) -> "Calibrated":
    from SegWithULab.calibration.bundles import calibrate_run
    from SegWithULab.training.case_roles import check_unseen, hashes_of
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.make_bundle import plain_bundle
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import known_to

    from ..models.installed import resolve_model

    run = RunFolder(options.folder)
    record, trained = calibration_record(options, cases, console), known_to(run).get("train", {})
    validation = find_cases(options.select) if options.select else []
    check_unseen("select", hashes_of(validation), {**known_to(run), "calibration": hashes_of(cases)}, False)
    bundle = plain_bundle(run.recipe(), "", run.facts())
    folds = given_folds(options, bundle, {"--cases": cases}, console, "calibrate", trained)
    beside = resolve_model(options.beside) if options.beside else None
    with console.progress("calibrate") as progress:
        return calibrate_run(
            run,
            cases,
            options.output,
            options.overwrite,
            progress,
            beside,
            record,
            validation,
            partial(_predicted_by, folds, progress) if folds else None,
        )


def _predicted_by(folds: "Sequence[Fold]", progress: "Progress", *_: Any) -> "PredictedCases":
    from SegWithULab.calibration.cross_validation import predicted_by_folds

    return predicted_by_folds(folds, progress)


def compile_graphs(bundle: "Bundle", console: Console) -> None:
    """Give the bundle graphs if it has none yet, or say why it goes without."""
    from ..models.graphs import graphs_lacking

    if graphs_lacking(bundle) is None:
        return
    from ..inference.engines.openvino_import import OpenVINOImportError

    try:
        from ..inference.engines.compiled_graphs import compile_model

        compile_model(bundle)
    except (OpenVINOImportError, InputError, UsageError, ModuleNotFoundError) as error:
        reason = str(error).removesuffix(".")
        console.note(f"No graphs for the engine openvino: {reason}. The model is whole, and runs on torch.")


def run_check(options: argparse.Namespace, console: Console) -> int:
    """Say whether the probabilities hold."""
    from SegWithULab.calibration.cases import errors_of_patients
    from SegWithULab.training.dataset import find_cases

    from ..calibration.error_counts import LEVELS, patient_counts, reading
    from ..models.bundle_files import verify_weights
    from ..models.installed import resolve_model

    console.started()
    bundle = resolve_model(options.model)
    if bundle.calibration is None:
        raise UsageError(
            f"The model {bundle.name} is not calibrated, so it says no error probability: fit it with "
            f"`segwithu calibrate --model {options.model} --cases CASES`.",
            "not-calibrated",
        )
    cases = find_cases(options.cases)
    verify_weights(bundle)
    test_record(bundle, cases, options, console)
    with console.progress("check-calibration") as progress:
        patients = patient_counts(*errors_of_patients(bundle, cases, options.engine, progress))
    note_patients(cases, console)
    readings = [reading(patients, level) for level in LEVELS]
    headline = reading(patients)
    data = {"model": bundle.name, "cases": len(cases), "patients": len(patients), "verdict": headline.verdict}
    off = [f"{one.level:g} ({one.verdict})" for one in readings if one.is_off and one.level != headline.level]
    sentence = f"{headline.sentence} Other readings that are off: {', '.join(off)}." if off else headline.sentence
    data |= {"sentence": sentence, "readings": [one.to_json() for one in readings]}
    console.result(f"{sentence}\n{_table(readings)}", data)
    return 0


def _table(readings: "list[Reading]") -> str:
    rows = []
    for one in readings:
        observed = f"{one.observed.mean * 100:.1f} % ({one.observed.low * 100:.1f} to {one.observed.high * 100:.1f})"
        read, wrong = (f"{one.read * 100:.1f} %", observed) if one.voxels else ("", "")
        rows.append([f"{one.level:g}", read, wrong, str(one.voxels), str(one.patients), one.verdict])
    header = ["reads about", "on average", "wrong, with 95 % interval", "voxels", "patients", "verdict"]
    return table(header, rows, words=(2, 5))
