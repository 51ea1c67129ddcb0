"""`segwithu calibrate` and `check-calibration`: fit a model's calibration on labelled cases, or judge it on them."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..inference.engines import OPENVINO, TORCH
from ..models.installed import resolve_model
from ..models.quality import model_warnings, site_message
from ..models.training_record import TrainingRecord
from ..util.atomic_files import one_writer
from ..util.errors import UsageError
from .arguments import CASES_HELP, add_command, named_labels, refuse_if
from .case_roles import calibration_record, given_folds, note_patients, note_unlike, test_record
from .console import Console, table
from .models import compile_graphs

if TYPE_CHECKING:
    from SegWithULab.calibration.bundles import Calibrated
    from SegWithULab.training.dataset import Case

    from ..calibration.error_counts import Reading

# Below so many calibration cases the user is warned.
FEW_CASES = 8


def add_commands(commands: Any) -> None:
    """Add both commands."""
    calibrate = add_command(commands, "calibrate", run_calibrate)
    add = calibrate.add_argument
    source = calibrate.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", dest="folder", type=Path, help="folder of the training run")
    source.add_argument("-m", "--model", help="name or folder of a model")
    wish = calibrate.add_mutually_exclusive_group(required=True)
    wish.add_argument("--cases", help=f"fit everything on these cases: {CASES_HELP}")
    wish.add_argument("--add", metavar="CASES", help="add these cases to the calibration that the model has; also a "
        "folder of case folders with finished structures, or their worklist.json")  # fmt: skip
    add("--select", metavar="CASES", help="with --run: its validation cases; intervals, predicted Dice and flags are "
        "fitted on them, too")  # fmt: skip
    wish.add_argument("--pairs", type=Path, metavar="TABLE.csv", help="give the model the intervals of change that "
        "compare shows, from segmented scans of patients in whom nothing changed: columns case, patient")  # fmt: skip
    calibrate.add_shared("--labels", "--output", "--overwrite")
    calibrate.add_flag("--unlike-training", "continue although the cases are out of distribution")
    add("--heads-of", help="with --run: model of the same backbone whose heads are copied")
    calibrate.add_flag("--no-graphs", "do not compile graphs for the engine openvino; the model needs torch then")
    calibrate.add_shared("--folds", "--fold-cases", "--allow-seen-cases")
    calibrate.add_shared("--engine", "--network", "--threads")
    judge = add_command(commands, "fit-judge", run_fit_judge)
    judge.add_argument("table", type=Path, metavar="TABLE.csv", help="columns image, mask (as it was made), reference "
        "(as it should be) and, where a patient has several cases, patient; paths count from the table")  # fmt: skip
    judge.add_shared("--labels")
    judge.add_argument("--name", default="judge", help="of the model (default: judge)")
    judge.add_argument("--modality", default="MR", help="of the images, as DICOM names it (default: MR)")
    judge.add_shared("--output", "--overwrite", "--threads")
    check = add_command(commands, "check-calibration", run_check)
    check.add_shared("--model")
    check.add_argument("--cases", required=True, help=CASES_HELP)
    check.add_shared("--labels")
    check.add_flag("--unlike-training", "continue although the cases are out of distribution")
    check.add_shared("--allow-seen-cases", "--engine", "--network", "--threads")


def run_calibrate(options: argparse.Namespace, console: Console) -> int:
    """Fit error probability and numbers per structure on labelled cases, or add cases to a calibrated model.

    Predict labelled cases with the best backbone and head of a run, or with a model, and write a calibrated model
    bundle. With --cases everything is fitted on them: the error probability, the interval of the expected volume,
    the predicted Dice and the limits of flags. With --add three patients or more move the error probability structure
    by structure, unless that predicts none of them better as fitted on the others, and the volume intervals; with more
    patients further parts are fitted anew (docs/models/train.md). With fewer nothing is written.

    Examples:
    calibrate --run runs/atrium --cases split.csv:calibration --output models/atrium
    calibrate -m models/imported --cases mine.csv:calibration -o models/calibrated
    calibrate -m hippocampus --add mine.csv:calibration -o hippocampus_here
    calibrate -m brain --pairs rescans.csv -o brain_here
    """
    from SegWithULab.calibration.corrected import added_cases
    from SegWithULab.training.dataset import find_cases

    console.started()
    _check_options(options)
    if options.pairs:
        return _run_pairs(options, console)
    labels = named_labels(options.labels)
    with one_writer(options.output, options.overwrite), TemporaryDirectory() as work:
        if options.cases:
            cases = [replace(case, labels=labels) for case in find_cases(options.cases)]
        else:
            cases = added_cases(options.add, resolve_model(options.model), Path(work), labels)
        if options.cases and len(cases) < FEW_CASES:
            console.warn(f"{len(cases)} calibration cases are few, so the calibration can be far off: give 20.")
        made = _calibrated(options, cases, console)
        note_patients(cases, console)
        if made.bundle is None:
            kept = f"Nothing predicts better on these cases: {options.model} stays as it is, nothing was written."
            data: dict[str, Any] = {"bundle": None, "kept": True, "messages": list(made.messages)}
            console.result("\n".join([kept, *made.messages]), data)
            return 0
        bundle = made.bundle
        if not options.no_graphs:
            compile_graphs(bundle, console)
        rules = ((bundle.calibration or {}).get("flags") or {"rules": {}})["rules"]
        version = bundle.about["version"]
        lines = [
            *(f"Warning: {warning}" for warning in model_warnings(bundle)),
            f"{bundle.name} {version}, calibrated on {len(cases)} cases, in {options.output}",
            *filter(None, [site_message(bundle.calibration)]),
            *made.messages,
            *(f"flags by {name}: {rule['message']}" for name, rule in rules.items()),
        ]
        data = {"bundle": str(options.output), "model": bundle.name, "version": version, "kept": False}
        data["site"] = (bundle.calibration or {}).get("site")
        console.result("\n".join(lines), {**data, "messages": list(made.messages)})
    return 0


def _run_pairs(options: argparse.Namespace, console: Console) -> int:
    from SegWithULab.calibration.fit_changes import calibrate_pairs

    made = calibrate_pairs(resolve_model(options.model), options.pairs, options.output, options.overwrite)
    rows = [
        [name, f"{each.repeats_within_percent:.1f} %", str(each.patients), str(each.scans)]
        for name, each in made.changes.items()
    ]
    text = f"{made.name} {made.about['version']}, in {options.output}\n"
    text += table(["structure", "repeats within", "patients", "scans"], rows)
    console.result(
        text, {"bundle": str(options.output), "changes": {name: asdict(each) for name, each in made.changes.items()}}
    )
    return 0


def run_fit_judge(options: argparse.Namespace, console: Console) -> int:
    """Fit a model that judges the masks of one source, such as another program, without a network.

    It learns from masks that were corrected or drawn anew: where masks of this source are wrong, by their shape and the
    image. `judge`, Slicer and the browser use it like any model. With few patients its figures are rough.

    Examples:
    fit-judge corrected.csv --labels freesurfer --name aseg -o models/aseg
    """
    from SegWithULab.calibration.fit_judge import fit_judge, table_cases
    from SegWithULab.training.run_record import hashes_of

    names = named_labels(options.labels)
    with one_writer(options.output, options.overwrite), console.progress("fit-judge") as progress:
        cases = table_cases(options.table)
        record = TrainingRecord().with_role("calibration", list(hashes_of(cases, console.note, progress)))
        source = f"{len(cases)} masks with references of {options.table.name}"
        about = {"name": options.name, "version": "1.0.0", "task": "Judges masks of the source that it was fitted on.",
                 "licence_weights": "of its masks and references", "licence_data": "not stated", "data": source,
                 "citation": "none"}  # fmt: skip
        made = fit_judge(cases, names, about, options.modality, options.output, options.overwrite, progress, record)
    note_patients(cases, console)
    assert made.bundle is not None
    lines = [*(f"Warning: {warning}" for warning in model_warnings(made.bundle)),
             f"{options.name} 1.0.0, fitted on {source}, in {options.output}", *made.messages]  # fmt: skip
    data = {"bundle": str(options.output), "model": options.name, "cases": len(cases)}
    console.result("\n".join(lines), {**data, "messages": list(made.messages)})
    return 0


def _check_options(options: argparse.Namespace) -> None:
    is_run = options.folder is not None
    adds, has_folds = options.add is not None, options.folds is not None
    refuse_if(
        (options.pairs and is_run, "--pairs goes with --model."),
        (adds and is_run, "--add goes with --model: a run has no calibration yet, so give --cases."),
        (adds and has_folds, "--folds goes with --cases: --add keeps what the model was calibrated on."),
        (is_run and options.engine == OPENVINO, "--engine openvino goes with --model: a run has no graphs yet."),
        (not is_run and options.select is not None, "--select goes with --run."),
        (not is_run and options.heads_of is not None, "--heads-of goes with --run: a model keeps all its heads."),
    )


def _calibrated(options: argparse.Namespace, cases: "Sequence[Case]", console: Console) -> "Calibrated":
    """Calibrate the run or the model."""
    from SegWithULab.calibration.bundles import calibrate_model, calibrate_run

    heads_of = resolve_model(options.heads_of) if options.heads_of else None
    if options.folder is None:
        bundle, trained = resolve_model(options.model), None
        if options.add and bundle.calibration is None:
            raise UsageError(f"The model {bundle.name} is not calibrated yet: give --cases.", "contradicting-options")
        if options.cases and bundle.calibration is not None:
            raise UsageError(f"The model {bundle.name} is calibrated: add cases by --add.", "already-calibrated")
        record, _ = calibration_record(options, cases, console)
        note_unlike(options, cases, bundle, console)
    else:
        from SegWithULab.training.dataset import find_cases
        from SegWithULab.training.make_bundle import plain_bundle
        from SegWithULab.training.run_folder import RunFolder
        from SegWithULab.training.run_record import check_unseen, hashes_of, known_to

        run = RunFolder(options.folder)
        (record, given), known = calibration_record(options, cases, console), known_to(run)
        validation, trained = find_cases(options.select) if options.select else [], known.get("train", {})
        check_unseen("select", hashes_of(validation, console.note), {**known, "calibration": given}, False)
        bundle = plain_bundle(run.recipe(), "", run.facts())
    folds = given_folds(options, bundle, {"--cases": cases}, console, trained)
    if folds:  # which needs torch
        from SegWithULab.calibration.cross_validation import predicted_by_folds
    target = (cases, options.output, options.overwrite)
    with console.progress("calibrate") as progress:
        by_folds = (lambda *_: predicted_by_folds(folds, progress)) if folds else None
        if options.folder is not None:
            return calibrate_run(run, *target, progress, heads_of, record, validation, by_folds)
        engine = TORCH if options.no_graphs else options.engine
        bundle = replace(bundle, graphs=None) if options.no_graphs else bundle
        return calibrate_model(bundle, *target, engine, progress, record, by_folds)


def run_check(options: argparse.Namespace, console: Console) -> int:
    """Say whether a model's error probabilities hold on labelled cases of your own.

    Predict labelled cases and compare what the error probability says with what was wrong: of voxels that read
    0.25, how many were wrong? Intervals are of patients; with fewer than 8 there is no verdict. Whole heads are cut to
    the model's boxes, as by calibrate. Nothing is written.

    Examples:
    check-calibration -m hippocampus --cases mine.csv:labelled
    """
    from SegWithULab.calibration.cases import errors_of_patients
    from SegWithULab.calibration.corrected import added_cases

    from ..calibration.error_counts import LEVELS, patient_counts, reading
    from ..models.bundle_files import verify_weights

    console.started()
    bundle = resolve_model(options.model)
    if bundle.calibration is None:
        raise UsageError(f"The model {bundle.name} is not calibrated: see segwithu calibrate.", "contradicting-options")
    with TemporaryDirectory() as work:
        cases = added_cases(options.cases, bundle, Path(work), named_labels(options.labels))
        verify_weights(bundle)
        test_record(bundle, cases, options.allow_seen_cases, False, console)
        note_unlike(options, cases, bundle, console)
        with console.progress("check-calibration") as progress:
            patients = patient_counts(*errors_of_patients(bundle, cases, options.engine, progress))
    note_patients(cases, console)
    readings, headline = [reading(patients, level) for level in LEVELS], reading(patients)
    data = {"model": bundle.name, "cases": len(cases), "patients": len(patients), "verdict": headline.verdict}
    data |= {"message": headline.message, "readings": [one.to_json() for one in readings]}
    others = [f"{one.level:g} {one.verdict}" for one in readings if one.verdict not in (headline.verdict, "no verdict")]
    elsewhere = f" Not so elsewhere: {', '.join(others)}." if others else ""
    console.result(f"{headline.message}{elsewhere}\n{_table(readings)}", data)
    return 0


def _table(readings: "list[Reading]") -> str:
    rows = []
    for one in readings:
        observed = f"{one.observed.mean * 100:.1f} % ({one.observed.low * 100:.1f} to {one.observed.high * 100:.1f})"
        read, wrong = (f"{one.read * 100:.1f} %", observed) if one.voxels else ("", "")
        rows.append([f"{one.level:g}", read, wrong, str(one.voxels), str(one.patients), one.verdict])
    header = ["reads about", "on average", "wrong, with 95 % interval", "voxels", "patients", "verdict"]
    return table(header, rows, words=(2, 5))
