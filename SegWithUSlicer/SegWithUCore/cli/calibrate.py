"""`segwithu calibrate`: probabilities, and numbers of whole cases, fitted on labelled cases."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.engines import OPENVINO, TORCH
from ..util.atomic_files import one_writer
from ..util.errors import InputError, UsageError
from .arguments import add_engine_option, add_network_option, add_threads_option
from .case_roles import add_role_options, calibration_record
from .console import Console
from .fold_options import add_fold_options, check_fold_options, given_folds
from .train import CASES_HELP, prepared_cases

if TYPE_CHECKING:
    from SegWithULab.training.dataset import Case
    from SegWithULab.training.fold_cases import Fold
    from SegWithULab.training.recalibrate import Recalibration
    from SegWithULab.training.reference_cases import OutOfFold
    from SegWithULab.training.whole_cases import PredictedCases

    from ..models.bundle import Bundle
    from ..util.progress import Progress


def add_commands(commands: Any) -> None:
    """Add the command."""
    calibrate = commands.add_parser(
        "calibrate",
        examples=(
            "calibrate --run runs/atrium --cases split.csv:calibration --output models/atrium",
            "calibrate -m hippocampus --cases mine.csv:calibration -o hippocampus_here",
        ),
        help="fit error probability and numbers per structure on calibration cases and write the model bundle",
        description="Predict the calibration cases with the best backbone and head of a run, or with a model that is "
        "there already, fit the error probability, the interval of the expected volume, the predicted Dice and the "
        "limits of flags, and write a complete model bundle. With --model each part is replaced only where the new "
        "cases show, each patient judged by the others, that it predicts better; where nothing does, the answer is to "
        "keep the model's own calibration, and nothing is written. How the training cases look was noted by "
        "train-backbone, or is noted anew with --train and --select.",
    )
    source = calibrate.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", dest="folder", type=Path, help="folder of the training run")
    source.add_argument(
        "-m", "--model", help="model to calibrate anew, as on cases of your own scanner: name or folder"
    )
    calibrate.add_argument("--cases", required=True, help=CASES_HELP)
    calibrate.add_argument("--output", required=True, type=Path, help="folder of the bundle to write")
    calibrate.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    calibrate.add_argument("--train", help="training cases, to compare inputs with them anew (goes with --select)")
    calibrate.add_argument("--select", help="validation cases, likewise")
    calibrate.add_argument(
        "--beside", help="model of the same backbone whose heads come along, for --head of segment (goes with --run)"
    )
    calibrate.add_argument(
        "--no-graphs",
        action="store_true",
        help="do not compile graphs for the engine openvino; the model needs torch then",
    )
    calibrate.add_argument(
        "--stage-two-only",
        action="store_true",
        help="fit only the stage two of the error probability, which sees the image, and keep the rest of the model's "
        "calibration (goes with --model)",
    )
    calibrate.add_argument(
        "--whole-cases-only",
        action="store_true",
        help="fit only what is said of whole cases (volume intervals, predicted Dice, limit of flags) and keep the "
        "rest of the model's calibration; validation cases may be among --cases (goes with --model)",
    )
    add_fold_options(
        calibrate,
        "training cases as new cases (with --stage-two-only or --whole-cases-only)",
        "Stage two is fitted on these too where that finds more errors in --cases; predicted Dice and flags count each "
        "as half a case.",
    )
    add_role_options(calibrate)
    add_engine_option(calibrate)
    add_network_option(calibrate)
    add_threads_option(calibrate)
    calibrate.set_defaults(run=run_calibrate)


FEW_CASES = 8
"""Below so many calibration cases the user is warned."""


def run_calibrate(options: argparse.Namespace, console: Console) -> int:
    """Write a bundle, or say that the model's own calibration is better kept."""
    console.started()
    if options.folder is None:
        _check_model_options(options)
    with one_writer(options.output, options.overwrite):
        return _calibrated(options, console)


def _calibrated(options: argparse.Namespace, console: Console) -> int:
    from SegWithULab.training.dataset import find_cases

    from ..models.quality import model_warnings

    cases = find_cases(options.cases)
    if (options.train is None) != (options.select is None):
        raise UsageError("--train and --select go together: give the cases that the run was trained with.")
    check_fold_options(options)
    if options.folds is not None and options.folder is not None:
        raise UsageError("--folds goes with --model: calibrate the run first, then the model that it gives.")
    sentences: tuple[str, ...] = ()
    if len(cases) < FEW_CASES and _fits_all_anew(options):
        console.note(
            f"Warning: {len(cases)} calibration cases are few. An error probability fitted on fewer than {FEW_CASES} "
            "can be far off, volume intervals need cases of 9 patients and predicted Dice 10 cases, and limits of "
            "flags tell nothing: give 20 or more."
        )
    if options.folder is None:
        outcome = _of_model(options, cases, console)
        sentences = outcome.sentences
        if outcome.bundle is None:
            _keep(options.model, sentences, console)
            return 0
        bundle = outcome.bundle
    else:
        make = partial(_of_run(options, console), record=calibration_record(options, cases, console))
        with console.progress("calibrate") as progress:
            bundle = make(cases, options.output, options.overwrite, progress=progress)
    if not options.no_graphs:
        compile_graphs(bundle, console)
    flags = (bundle.calibration or {}).get("flags") or {"rules": {}}
    lines = [*sentences, *(f"flags by {name}: {rule['sentence']}" for name, rule in flags["rules"].items())]
    version = bundle.about["version"]
    warnings = [f"Warning: {warning}" for warning in model_warnings(bundle)]
    text = "\n".join(
        [*warnings, f"{bundle.name} {version}, calibrated on {len(cases)} cases, in {options.output}", *lines]
    )
    data = {"bundle": str(options.output), "model": bundle.name, "version": version, "kept": False}
    console.result(text, {**data, "sentences": list(sentences)})
    return 0


def _fits_all_anew(options: argparse.Namespace) -> bool:
    """Whether no calibration is there that would be kept where the cases are too few."""
    from ..models.registry import resolve_model

    return options.folder is not None or resolve_model(options.model).calibration is None


def _of_model(options: argparse.Namespace, cases: "Sequence[Case]", console: Console) -> "Recalibration":
    """Calibrate a model anew."""
    from SegWithULab.training.recalibrate import CalibrationJob, recalibrate, refit_whole_cases

    from ..models.registry import resolve_model

    model = resolve_model(options.model)
    bundle = replace(model, graphs=None) if options.no_graphs else model
    record = calibration_record(options, cases, console)
    job = CalibrationJob(
        bundle,
        cases,
        options.output,
        options.overwrite,
        engine=TORCH if options.no_graphs else options.engine,
        record=record,
    )
    job.check()
    folds = _folds(options, bundle, cases, console) if options.folds is not None else []
    with console.progress("calibrate") as progress:
        if options.whole_cases_only:
            return refit_whole_cases(job, _numbers(folds, progress), progress)
        out_of_fold = _stage_two_cases(folds, progress)
        return recalibrate(job, options.stage_two_only, out_of_fold, progress)


def _numbers(folds: "Sequence[Fold]", progress: "Progress") -> "PredictedCases | None":
    if not folds:
        return None  # before what follows asks for torch
    from SegWithULab.training.fold_predictions import numbers_out_of_fold, predicted_by_folds

    return numbers_out_of_fold(predicted_by_folds(folds, False, progress))


def _stage_two_cases(folds: "Sequence[Fold]", progress: "Progress") -> "OutOfFold | None":
    if not folds:
        return None  # before what follows asks for torch
    from SegWithULab.training.fold_predictions import all_out_of_fold, predicted_by_folds

    return all_out_of_fold(predicted_by_folds(folds, True, progress))


def _folds(options: argparse.Namespace, bundle: "Bundle", cases: "Sequence[Case]", console: Console) -> "list[Fold]":
    """Find what fold networks are to predict.

    Raises:
        UsageError: the model or --cases leave nothing to fit on them.
    """
    from SegWithULab.training.reference_cases import LEAST_GROUPS

    if bundle.calibration is None:
        raise UsageError(f"The model {bundle.name} is not calibrated: calibrate it without --folds first.")
    patients = len({case.group for case in cases})
    if options.stage_two_only and patients < LEAST_GROUPS:
        raise UsageError(
            f"{patients} patients among --cases are too few for stage two, also with --folds: give {LEAST_GROUPS}."
        )
    return given_folds(options, bundle, {"--cases": cases}, console, "calibrate")


def _keep(model: str, sentences: tuple[str, ...], console: Console) -> None:
    text = (
        f"Keep the model's own calibration: on these cases nothing else predicts better; nothing was written. ({model})"
    )
    console.result("\n".join([text, *sentences]), {"bundle": None, "kept": True, "sentences": list(sentences)})


def compile_graphs(bundle: "Bundle", console: Console) -> None:
    """Give the bundle graphs if it has none yet, or say why it goes without."""
    from ..models.graph_files import graphs_lacking

    if graphs_lacking(bundle) is None:
        return
    from ..inference.engines.openvino_import import OpenVINOImportError

    try:
        from ..inference.engines.compiled_graphs import compile_model

        compile_model(bundle)
    except (OpenVINOImportError, InputError, UsageError, ModuleNotFoundError) as error:
        reason = str(error).removesuffix(".")
        console.note(f"No graphs for the engine openvino: {reason}. The model is whole, and runs on torch.")


def _check_model_options(options: argparse.Namespace) -> None:
    if options.whole_cases_only and options.stage_two_only:
        raise UsageError("--whole-cases-only keeps stage two: leave --stage-two-only out.")
    if options.folds is not None and not (options.whole_cases_only or options.stage_two_only):
        raise UsageError("--folds goes with --stage-two-only or --whole-cases-only: say what is to be fitted on them.")
    if options.train is not None:
        raise UsageError("--train and --select go with --run: a model keeps what it knows of its training cases.")
    if options.beside is not None:
        raise UsageError("--beside goes with --run: a model that is calibrated anew keeps all its heads.")


def _of_run(options: argparse.Namespace, console: Console) -> "Callable[..., Bundle]":
    from SegWithULab.training.calibrate import training_fingerprint
    from SegWithULab.training.make_bundle import make_bundle
    from SegWithULab.training.run_folder import RunFolder

    from ..models.registry import resolve_model

    if options.engine == OPENVINO:
        raise UsageError("--engine openvino goes with --model: a run has no compiled graphs yet, so torch runs it.")
    if options.stage_two_only:
        raise UsageError("--stage-two-only goes with --model: a run has no calibration yet that could be kept.")
    if options.whole_cases_only:
        raise UsageError("--whole-cases-only goes with --model: a run has no calibration yet that could be kept.")
    run = RunFolder(options.folder)
    make = partial(make_bundle, run, beside=resolve_model(options.beside) if options.beside else None)
    if options.train is None:
        return make
    recipe = run.recipe()
    prepared = prepared_cases(options.train, options.select, recipe, console, "--train")
    return partial(make, fingerprint=training_fingerprint(*prepared, recipe))
