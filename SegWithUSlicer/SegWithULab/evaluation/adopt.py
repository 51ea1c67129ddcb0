"""An nnU-Net adopted as a list of stages: import, heads, predictions, calibration, judgement, model and page.

The calibration is judged without cases kept apart: each group of cases is measured with what the other groups give.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SegWithUCore.calibration.error_counts import LEVELS, ErrorCounts, count_errors, patient_counts, reading
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import error_probability
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.models.bundle import Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_files import weights_path
from SegWithUCore.models.nnunet_import import NnunetFolder, about_of, read_nnunet_folder
from SegWithUCore.models.stage_two_file import BLOCK, read_stage_two
from SegWithUCore.models.training_record import TrainingRecord, write_record
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.strict_json import read_json_object, to_json

from ..calibration.bundles import written_block
from ..calibration.cases import CalibrationCase
from ..calibration.fit import fit
from ..training.case_reading import read_assessed
from ..training.case_roles import hashes_of
from ..training.dataset import Case
from ..training.make_bundle import write_plain_bundle
from ..training.recipe import Recipe
from ..training.run_folder import RunFolder
from ..training.run_record import copy_curves, run_record
from ..training.stages import Begun, Input, Stage, noted
from ..training.training_fingerprint import training_fingerprint
from .adopt_folds import Fold, FoldPlan
from .adopt_networks import (
    PREDICTION_FORMAT,
    PreparedCases,
    adoption_recipe,
    begin_fold,
    check_alike,
    head_epochs_kept,
    load_prediction,
    predict_fold,
    prediction_file,
    train_fold_head,
)
from .adopt_page import JUDGED_FILE, head_words, judged_words, trust_of, write_adopted
from .evaluate import Evaluation, PooledHistograms, Settings, add_case
from .pictures import WorstCases
from .report import write_report
from .summary import recorded, summary

BACKBONE, HEAD = "backbone_best.safetensors", "head_best.safetensors"
CALIBRATION_FILE = "calibration.json"
_SECONDS = {"window": 1.0, "case": 3.0, "fit": 1.0}
"""Guesses before anything was timed; only their proportions count."""


@dataclass(frozen=True)
class Adoption:
    """What is adopted, and where it goes.

    Attributes:
        result: nnU-Net's result folder.
        cases: of the data set, by name, with patients.
        plan: who has seen what.
        options: of `read_nnunet_folder` beyond folder and fold.
        about: what the user says of the model, by field.
        output: the bundle to be written.
        work: folder of the stages.
        epochs: of each head, None for the default.
        hashes: keep voxel hashes of the cases in the model, so that it is not judged on them.
        replaces: whether a bundle in the place of the output is replaced.
    """

    result: Path
    cases: Mapping[str, Case]
    plan: FoldPlan
    options: Mapping[str, Any]
    about: Mapping[str, str | None]
    output: Path
    work: Path
    epochs: int | None = None
    hashes: bool = True
    replaces: bool = True

    def read(self, fold: Fold) -> NnunetFolder:
        """Read the network of a fold."""
        return read_nnunet_folder(self.result, fold.network, **self.options)

    def recipe(self, first: NnunetFolder) -> Recipe:
        """Make the recipe that all heads share."""
        about = about_of(first, self.about)
        return adoption_recipe(first, about, max(len(fold.seen) for fold in self.used), self.epochs)

    @property
    def used(self) -> Sequence[Fold]:
        """The folds that are needed: all, or the first alone where too few cases are left to fit anything on."""
        return self.plan.folds if self.plan.groups()[0] != "none" else self.plan.folds[:1]

    def run(self, fold: Fold) -> RunFolder:
        """Where a fold's network and head lie."""
        return RunFolder(self.work / f"fold_{fold.name}")

    def predictions(self, fold: Fold) -> Path:
        """Where its predictions lie."""
        return self.run(fold).path / "predictions"

    def predicted(self, name: str) -> CalibrationCase:
        """Read what the fold that has not seen a case predicted of it."""
        (fold,) = (fold for case, fold in self.plan.unseen if case == name)
        return CalibrationCase(*load_prediction(prediction_file(self.predictions(fold), name)), self.cases[name].group)


def adoption_stages(job: Adoption, first: NnunetFolder) -> list[Stage]:
    """List the stages of an adoption.

    Args:
        first: the network of the first fold, read and so known to be usable.
    """
    recipe = job.recipe(first)
    prepared = PreparedCases(job.cases, recipe)
    kind, _ = job.plan.groups()
    listed = _listed(job.cases)
    stages = [_import_stage(job, first, recipe)]
    for fold in job.used:
        stages.append(_head_stage(job, fold, recipe, prepared, listed))
        if kind != "none":
            stages.append(_prediction_stage(job, fold, listed))
    stages.append(_model_stage(job, recipe))
    if kind != "none":
        stages.append(_judge_stage(job, listed))
    stages.append(_finish_stage(job))
    return stages


def _listed(cases: Mapping[str, Case]) -> list[list[Any]]:
    """Size and time of every file: a data set of many gigabytes is not hashed at each call."""
    files = [path for case in cases.values() for path in (*case.channels, case.reference)]
    return [[path.name, path.stat().st_size, int(path.stat().st_mtime)] for path in files]


def _import_stage(job: Adoption, first: NnunetFolder, recipe: Recipe) -> Stage:
    def work(begun: Begun) -> None:
        folders = {job.used[0].network: first}
        for number, fold in enumerate(job.used):
            begun.progress("importing", number / len(job.used), f"fold {fold.network}")
            if fold.network not in folders:
                folders[fold.network] = job.read(fold)
            check_alike([first, folders[fold.network]])
            begin_fold(job.run(fold), recipe, folders[fold.network])

    names = sorted({fold.network for fold in job.used})
    checkpoints = {f"fold {name}": job.result / f"fold_{name}" / job.options["checkpoint"] for name in names}
    inputs: dict[str, Input] = {
        "plans": job.result / "plans.json",
        "data set": job.result / "dataset.json",
        **checkpoints,
    }
    inputs |= {"recipe": recipe.to_json(), "folds": [[fold.name, fold.network] for fold in job.used]}
    return Stage(
        "import",
        "importing the networks",
        work,
        inputs,
        [job.run(fold).path / BACKBONE for fold in job.used],
        seconds=5.0 * len(names),
    )


def _head_stage(job: Adoption, fold: Fold, recipe: Recipe, prepared: PreparedCases, listed: list[list[Any]]) -> Stage:
    run, main = job.run(fold), fold is job.used[0]

    def work(begun: Begun) -> dict[str, Any] | None:
        cases = prepared(fold.seen, begun.progress)
        train_fold_head(run, cases, begun.again, begun.progress)
        if not main:
            return None
        look = training_fingerprint(cases, prepared(fold.unseen, begun.progress), recipe)
        return {"fingerprint": look}

    return Stage(
        _numbered("head", job, fold),
        "training the head" if main else f"training the head of fold {fold.name}",
        work,
        {
            "network": run.path / BACKBONE,
            "settings": {"head": dict(recipe.head), **recipe.to_json()["head_training"]},
            "cases": list(fold.seen),
            "files": listed,
        },
        [run.path / HEAD],
        seconds=_SECONDS["window"] * recipe.head_training.epochs * len(fold.seen),
        costly=True,
        kept=head_epochs_kept(run),
    )


def _numbered(name: str, job: Adoption, fold: Fold) -> str:
    return name if fold is job.used[0] else f"{name} of fold {fold.name}"


def _prediction_stage(job: Adoption, fold: Fold, listed: list[list[Any]]) -> Stage:
    run, target = job.run(fold), job.predictions(fold)

    def work(begun: Begun) -> None:
        if not begun.again:
            shutil.rmtree(target, ignore_errors=True)
        bundle = write_plain_bundle(run, run.path / "bundle")
        predict_fold(fold, job.cases, Model(bundle), target, begun.progress)

    return Stage(
        _numbered("predictions", job, fold),
        f"predicting what fold {fold.name} has not seen",
        work,
        {
            "network": run.path / BACKBONE,
            "head": run.path / HEAD,
            "cases": list(fold.unseen),
            "files": listed,
            "format": PREDICTION_FORMAT,
        },
        [target],
        seconds=_SECONDS["case"] * len(fold.unseen),
    )


def _model_stage(job: Adoption, recipe: Recipe) -> Stage:
    """Calibrate; or, where too few cases are left, write the model without."""
    kind, groups = job.plan.groups()
    run, target = job.run(job.used[0]), job.work / "calibrated"

    def work(begun: Begun) -> None:
        bundle = write_plain_bundle(run, run.path / "bundle", noted(job.work)["head"]["fingerprint"])
        with atomic_folder(target, overwrite=True) as folder:
            shutil.copyfile(weights_path(bundle), folder / weights_path(bundle).name)
            write_bundle_json(_calibrated(job, bundle, folder, begun) if groups else bundle, folder)
            copy_curves(run, folder)
            write_record(folder, _record(job, run))

    places = {f"predictions of fold {fold.name}": job.predictions(fold) for fold in job.used if kind != "none"}
    return Stage(
        "calibration",
        "calibrating" if groups else "writing the model",
        work,
        {"head": run.path / HEAD, **places, "about": dict(recipe.about), "hashes": job.hashes},
        [target],
        seconds=_SECONDS["fit"] * (5 + len(groups)),
    )


def _record(job: Adoption, run: RunFolder) -> TrainingRecord:
    """Note who has seen what: the head's cases, and those that the calibration was fitted on."""
    first = job.used[0]
    record = run_record(run, None, [head_words(job.plan, first)])
    if not job.hashes:
        return record
    fitted_on = [case for case, _ in job.plan.unseen] if job.plan.groups()[1] else []
    roles = {"train": first.seen, "calibration": fitted_on}
    found = {role: sorted(hashes_of([job.cases[name] for name in names])) for role, names in roles.items() if names}
    return replace(record, roles=found)


def _calibrated(job: Adoption, bundle: Bundle, folder: Path, begun: Begun) -> Bundle:
    """Fit on all cases; a second stage goes into `folder` where cross-validation wants it."""
    names, known = [case for case, _ in job.plan.unseen], []
    for number, name in enumerate(names):
        begun.progress("reading", 0.3 * number / len(names), name)
        known.append(job.predicted(name))
    begun.progress("fitting", 0.3)
    found = fit(known, bundle.labels)
    return replace(bundle, calibration=written_block(found, bundle, folder), display=found.display)


def _judge_stage(job: Adoption, listed: list[list[Any]]) -> Stage:
    _, groups = job.plan.groups()
    target, parts = job.work / "judged", job.work / "left_out"
    calibrated = job.work / "calibrated"

    def work(begun: Begun) -> dict[str, Any]:
        if not begun.again:
            shutil.rmtree(parts, ignore_errors=True)
        bundle = read_bundle(calibrated)
        found = LeftOut(Evaluation(Settings(), [], PooledHistograms(), WorstCases()), {}, {})
        judge_left_out(job, groups, bundle, parts, found, begun)
        result = summary(found.evaluation, bundle)
        patients = patient_counts(list(found.counts.values()), [job.cases[name].group for name in found.counts])
        readings = [reading(patients, level) for level in LEVELS]
        assert bundle.calibration is not None
        trust = trust_of(result, readings, bundle.calibration)
        with atomic_folder(target, overwrite=True) as folder:
            write_report(folder, result, found.evaluation, bundle, judged_words(job.plan))
            kept: dict[str, Any] = {"figures": recorded(result), "answers": [vars(answer) for answer in trust.answers]}
            kept |= {"readings": [one.to_json() for one in readings], "patients": result["patients"]}
            kept |= {"with_stage_two": list(found.with_stage_two.values())}
            (folder / JUDGED_FILE).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        return {"trust": trust.level, "headline": trust.headline}

    return Stage(
        "judgement",
        "judging on cases left out",
        work,
        {"model": calibrated / "bundle.json", "groups": dict(groups), "files": listed},
        [target],
        seconds=_SECONDS["fit"] * len(groups) * (1 + len(set(groups.values()))),
    )


@dataclass(frozen=True)
class LeftOut:
    """Cases measured with calibrations that were fitted without them.

    Attributes:
        evaluation: as of a model on test cases.
        counts: voxels and errors by error probability, of each case.
        with_stage_two: whether the calibration without a group took a second stage, by group.
    """

    evaluation: Evaluation
    counts: dict[str, ErrorCounts]
    with_stage_two: dict[str, bool]


def judge_left_out(
    job: Adoption, groups: Mapping[str, str], bundle: Bundle, folder: Path, found: LeftOut, begun: Begun
) -> None:
    """Measure each group with the calibration that the other groups give, and note it in `found`.

    Args:
        groups: of each case that is measured.
        bundle: what it all belongs to; its own calibration is not used.
        folder: keeps the calibrations, so that a second call goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(set(groups.values()))
    for number, group in enumerate(names):
        begun.progress("judging", number / len(names), f"without {group}")
        place = folder / f"without_{hashlib.sha256(group.encode()).hexdigest()[:16]}"
        if not place.is_dir():
            others = [job.predicted(case) for case, its in groups.items() if its != group]
            with atomic_folder(place) as work:
                block = written_block(fit(others, bundle.labels), bundle, work)
                (work / CALIBRATION_FILE).write_text(to_json(block) + "\n", encoding="utf-8")
        block = read_json_object(place / CALIBRATION_FILE, f"remove {place}, and run the same command again")
        calibrated = replace(bundle, calibration=block, folder=place)
        found.with_stage_two[group] = BLOCK in block
        for name in (case for case, its in groups.items() if its == group):
            _measure(found, job.cases[name], job.predicted(name), calibrated)
    begun.progress("judging", 1.0)


def _measure(found: LeftOut, case: Case, known: CalibrationCase, bundle: Bundle) -> None:
    fitted = FittedCalibration.from_json(bundle.calibration, read_stage_two(bundle))
    chance = error_probability(fitted, known.view, known.prediction.logits, known.prediction.head_maps)
    assert chance is not None
    prediction = replace(known.prediction, error_probability=chance)
    add_case(found.evaluation, case, prediction, known.truth, read_assessed(case, bundle).images, bundle)
    found.counts[case.name] = count_errors(chance, known.wrong)


def _finish_stage(job: Adoption) -> Stage:
    calibrated, judged = job.work / "calibrated", job.work / "judged"
    kind, _ = job.plan.groups()
    inputs = {"model": calibrated, **({"judgement": judged / JUDGED_FILE} if kind != "none" else {})}
    return Stage(
        "model",
        "writing the model and its page",
        lambda begun: write_adopted(
            job.plan, calibrated, judged if kind != "none" else None, job.output, begun.progress, job.replaces
        ),
        inputs,
        [job.output],
        seconds=20.0,
        editable=True,
    )
