"""An nnU-Net adopted as a list of stages: import, a head for each fold, calibration with its judgement, model.

The calibration is judged without cases kept apart: each group of cases is measured with what the other groups give.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from SegWithUCore.calibration.error_counts import LEVELS, Reading, count_errors, patient_counts, reading
from SegWithUCore.calibration.per_structure import held_too_rarely
from SegWithUCore.inference.engines.compiled_graphs import add_graphs
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import error_probability
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.models.bundle import CARD_FILE, LICENCE_FILE, Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_files import weights_path
from SegWithUCore.models.model_card import licence_notice, model_card
from SegWithUCore.models.nnunet_import import NnunetFolder, about_of, head_recipe, read_nnunet_folder
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.models.training_record import TrainingRecord, write_record
from SegWithUCore.regions.region import UNCERTAIN
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import InputError, SegWithUError, UsageError
from SegWithUCore.util.progress import Progress, in_turn, part_of
from SegWithUCore.util.strict_json import read_json_object

from ..calibration.bundles import written_block
from ..calibration.cases import CalibrationCase, predict_case
from ..calibration.fit import fit
from ..training.case_reading import read_assessed
from ..training.dataset import Case, PreparedCase, file_facts, ood_reference, prepare
from ..training.head import HeadTrainer
from ..training.make_bundle import write_plain_bundle
from ..training.recipe import Recipe, recipe_from_json
from ..training.run_folder import RunFolder
from ..training.run_record import copy_logs, run_record, voxel_hashes
from ..training.stages import Stage, StageCall, noted
from .adopt_folds import Fold, FoldPlan
from .evaluate import Evaluation, add_case, recorded, summary
from .report import PAGE_FILE, with_interval, write_report

BACKBONE, HEAD = "backbone_best.safetensors", "head_best.safetensors"
JUDGED_FILE = "judged.json"
WINDOWS = 2000
"""Windows that a head is trained with unless the number of epochs is given: the shipped model's best epoch had 1764."""

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "not known"
GOOD_AUROC, POOR_AUROC = 0.8, 0.7
"""Of the error probability in the whole image: from here on it points at errors; below it hardly does."""
FAR_OFF = 1.5
"""So many times as often wrong as it reads, and a probability misleads."""
HEADLINES = {
    YES: "Yes: the uncertainty of this model can be trusted on images like these.",
    PARTLY: "With care: the uncertainty of this model helps, with the limits named here.",
    NO: "No: do not rely on the uncertainty of this model.",
    UNKNOWN: "Not known: there were too few cases to tell whether the uncertainty can be trusted.",
}


def verdict(result: Mapping[str, Any], readings: Sequence[Reading]) -> tuple[str, str]:
    """Judge whether the uncertainty can be trusted.

    Args:
        result: `summary.summary` of cases that nothing was fitted on.
        readings: of the error probability on these cases, at several levels.

    Returns:
        The answer, and a line with the metrics that decide: does it find errors, do the probabilities hold, and the
        volume intervals?
    """
    rows = {row["title"]: row for row in result["table"]}
    auroc = rows.get("auroc whole error probability", {})
    found = auroc.get("mean") is not None
    known = [each for each in readings if each.verdict != "no verdict"]
    far_off = [each for each in known if each.excess.low > 0 and each.observed.mean > FAR_OFF * each.read]
    gain = result["comparisons"].get("auprc whole, error probability - softmax by direction")
    limits = [each.message for each in known if each.verdict.startswith("too ")]
    if isinstance(gain, Mapping) and gain["high"] < 0:
        limits.append(f"The softmax, calibrated alike, finds errors better (AUPRC {gain['mean']:+.3g}).")
    for row in result["structures"]:
        held = row.get("volume_interval") or {"coverage": None}
        share, level = held["coverage"], held.get("level", 0.0)
        if share is not None and held_too_rarely(share * held["cases"], held["cases"], level):
            limits.append(f"{share:.0%} of the volumes of {row['structure']} lie in their {level:.0%} intervals.")
    if (found and auroc["low"] < POOR_AUROC) or far_off:
        answer = NO
    elif not found or all(each.level != UNCERTAIN for each in known):
        answer = UNKNOWN
    else:
        answer = PARTLY if limits or auroc["low"] < GOOD_AUROC else YES
    return answer, " ".join([HEADLINES[answer], f"AUROC of the error probability: {with_interval(auroc)}.", *limits])


@dataclass(frozen=True)
class Adoption:
    """What is adopted, and where it goes.

    Attributes:
        result: nnU-Net's result folder.
        cases: of the data set, by name, with patients.
        plan: who has seen what.
        options: of `read_nnunet_folder` beyond folder and fold.
        about: description of the model that the user gives, by field.
        output: the bundle to be written.
        work: folder of the stages.
        epochs: of each head, None for as many as make about `WINDOWS` windows.
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
    replaces: bool = True


class AdoptionStages:
    """The stages of one adoption, and what they share.

    Args:
        first: the network of the first fold, read and so known to be usable.
    """

    def __init__(self, job: Adoption, first: NnunetFolder) -> None:
        self.job, self.first, self.plan = job, first, job.plan
        self.groups = job.plan.groups
        self.folds = self.plan.folds if self.groups else self.plan.folds[:1]
        self.main = self.run(self.folds[0])
        self.recipe = self._recipe()
        self.calibrated, self.judged = job.work / "calibrated", job.work / "judged"
        self._prepared: dict[str, PreparedCase] = {}

    def run(self, fold: Fold) -> RunFolder:
        """Where a fold's network and head lie."""
        return RunFolder(self.job.work / f"fold_{fold.name}")

    def stages(self) -> list[Stage]:
        """List the stages in their order."""
        listed = file_facts(list(self.job.cases.values()))
        networks = {f"fold {fold.name}": self.run(fold).path / BACKBONE for fold in self.folds}
        heads = {f"head of {fold.name}": self.run(fold).path / HEAD for fold in self.folds}
        imported = {
            "plans": self.job.result / "plans.json",
            "data set": self.job.result / "dataset.json",
            "recipe": self.recipe.to_json(),
            "folds": [[fold.name, fold.network] for fold in self.folds],
            **{f"fold {fold.network}": self._checkpoint(fold) for fold in self.folds},
        }
        stages = [Stage("import", self._import, imported, list(networks.values()))]
        for fold in self.folds:
            settings = {"head": dict(self.recipe.head), **self.recipe.to_json()["head_training"]}
            inputs = {"network": networks[f"fold {fold.name}"], "settings": settings, "files": listed}
            name = "head" if fold is self.folds[0] else f"head of fold {fold.name}"
            target = [heads[f"head of {fold.name}"]]
            stages.append(
                Stage(name, partial(self._train, fold), {**inputs, "cases": list(fold.seen)}, target, costly=True)
            )
        results = [self.calibrated, *([self.judged] if self.groups else [])]
        inputs = {**networks, **heads, "groups": self.groups, "files": listed}
        stages.append(Stage("calibration", self._calibrate, inputs, results))
        inputs = {"model": self.calibrated, "about": dict(self.recipe.about), "output": str(self.job.output.resolve())}
        stages.append(Stage("model", self._write, inputs, [self.job.output], editable=True))
        return stages

    def _checkpoint(self, fold: Fold) -> Path:
        return self.job.result / f"fold_{fold.network}" / str(self.job.options["checkpoint"])

    def _recipe(self) -> Recipe:
        """Make the recipe that all heads share."""
        most = max(len(fold.seen) for fold in self.folds)
        data = head_recipe(self.first, about_of(self.first, self.job.about))
        data["head"] |= {"variant": "context", "feature_channels": 32, "probes": 8, "aleatoric": True}
        data["head_training"] = {
            "epochs": self.job.epochs or max(1, round(WINDOWS / max(1, most))),
            "batch_size": 1,
            "learning_rate": 1.5e-3,
            "final_learning_rate": 5e-5,
            "mirror": False,
            "cross_fit_share": 0.0,  # heads trained on other folds' networks found errors worse where measured
            "seed": 1,
        }
        return recipe_from_json(data, self.first.source)

    def _import(self, call: StageCall) -> None:
        """Put each network into a run as if the run had trained it; a head on the same network stays."""
        for fold in in_turn(self.folds, "importing", call.progress, lambda fold: f"fold {fold.network}"):
            read = self.first
            if fold.network != self.folds[0].network:
                read = read_nnunet_folder(self.job.result, fold.network, **self.job.options)
            if (read.model.backbone, read.model.input) != (self.first.model.backbone, self.first.model.input):
                problem = f"{read.source} has another network or input than {self.first.source}"
                raise UsageError(f"{problem}: give folds of one training.", "unusable-folds")
            run = self.run(fold)
            run.path.mkdir(parents=True, exist_ok=True)
            if not _holds(run, read.weights):
                run.forget("backbone")
            run.start(self.recipe, {"origin": f"imported from the nnU-Net result folder {read.source}"})
            run.save_best("backbone", read.weights)

    def _cases(self, names: Sequence[str], progress: Progress) -> list[PreparedCase]:
        """Bring cases onto the working grid, each once."""
        for name in in_turn(names, "reading", progress, str):
            if name not in self._prepared:
                self._prepared[name] = prepare(self.job.cases[name], self.recipe.input, self.recipe.label_values)
        return [self._prepared[name] for name in names]

    def _train(self, fold: Fold, call: StageCall) -> Mapping[str, Any]:
        """Train the head of a fold for a fixed number of epochs, so that no validation cases are needed."""
        run, cases = self.run(fold), self._cases(fold.seen, part_of(call.progress, 0.0, 0.05))
        if not call.again:
            run.forget("head")
        trainer = HeadTrainer(run.recipe(), cases, [], run)
        trainer.resume()
        trainer.fit(part_of(call.progress, 0.05, 1.0))
        if fold is not self.folds[0]:
            return {}
        return {"ood_reference": ood_reference(cases, self._cases(fold.unseen, call.progress), self.recipe)}

    def _calibrate(self, call: StageCall) -> Mapping[str, Any]:
        """Predict what no network has seen, fit on it, and judge; without calibration where too few cases are left."""
        bundle = write_plain_bundle(self.main, self.main.path / "bundle", noted(self.job.work)["head"]["ood_reference"])
        known = self._predicted(part_of(call.progress, 0.0, 0.6)) if self.groups else {}
        with atomic_folder(self.calibrated, overwrite=True) as work:
            shutil.copyfile(weights_path(bundle), work / weights_path(bundle).name)
            if known:
                call.progress("fitting", 0.6)
                found = fit(list(known.values()), bundle.labels)
                bundle = replace(bundle, calibration=written_block(found, bundle, work), display=found.display)
            write_bundle_json(bundle, work)
            copy_logs(self.main, work)
        return self._judge(known, read_bundle(self.calibrated), part_of(call.progress, 0.7, 1.0)) if known else {}

    def _predicted(self, progress: Progress) -> dict[str, CalibrationCase]:
        """Predict each case with the network and head that have not seen it; all of them stay in memory."""
        found: dict[str, CalibrationCase] = {}
        for fold in self.folds:
            model = Model(write_plain_bundle(self.run(fold), self.run(fold).path / "bundle"))
            for name in fold.unseen:
                progress("predicting", len(found) / len(self.groups), name)
                case = self.job.cases[name]
                found[name] = CalibrationCase(*predict_case(case, model), case.group)
        return found

    def _judge(self, known: Mapping[str, CalibrationCase], bundle: Bundle, progress: Progress) -> Mapping[str, Any]:
        """Measure each group with the calibration that the other groups give."""
        evaluation = Evaluation()
        counts, names = [], sorted(set(self.groups.values()))
        for group in in_turn(names, "judging", progress, lambda group: f"without {group}"):
            made = fit([known[name] for name, its in self.groups.items() if its != group], bundle.labels)
            fitted = FittedCalibration.from_json(made.block, made.second_stage)
            for name in (name for name, its in self.groups.items() if its == group):
                one, case = known[name], self.job.cases[name]
                chance = error_probability(fitted, one.view, one.prediction.logits, one.prediction)
                assert chance is not None
                counts.append(count_errors(chance, one.wrong))
                prediction = replace(one.prediction, error_probability=chance)
                images = read_assessed(case, bundle).images
                add_case(evaluation, case, prediction, one.truth, images, replace(bundle, calibration=made.block))
        result = summary(evaluation, bundle)
        patients = patient_counts(counts, [case.group for case in evaluation.cases])
        answer, line = verdict(result, [reading(patients, level) for level in LEVELS])
        with atomic_folder(self.judged, overwrite=True) as work:
            write_report(work, result, evaluation, bundle, self.plan.message, [*model_warnings(bundle), line])
            (work / JUDGED_FILE).write_text(json.dumps(recorded(result)) + "\n", encoding="utf-8")
        return {"trust": answer, "headline": line}

    def _write(self, call: StageCall) -> Mapping[str, Any]:
        """Write the finished model; whole or not at all."""
        with atomic_folder(self.job.output, self.job.replaces) as work:
            shutil.copytree(self.calibrated, work, dirs_exist_ok=True)
            bundle, about = read_bundle(work), {**self.recipe.about}
            if self.groups:
                metrics = read_json_object(self.judged / JUDGED_FILE, "remove its folder, and run again")
                bundle, about["judged"] = replace(bundle, metrics=metrics), self.plan.message
                shutil.copyfile(self.judged / PAGE_FILE, work / PAGE_FILE)
            write_record(work, self._record())
            bundle, lacking = write_bundle_json(replace(bundle, about={**bundle.about, **about}), work), None
            call.progress("compiling", 0.3)
            try:
                bundle = add_graphs(replace(bundle, folder=work), work)
            except (SegWithUError, ImportError) as error:
                lacking = str(error).removesuffix(".")
            (work / CARD_FILE).write_text(model_card(bundle), encoding="utf-8")
            (work / LICENCE_FILE).write_text(licence_notice(bundle.about), encoding="utf-8")
        judged = noted(self.job.work)["calibration"]
        line = judged.get("headline", f"{HEADLINES[UNKNOWN]} {self.plan.message}")
        trust = judged.get("trust", UNKNOWN)
        return {"trust": trust, "headline": line, "graphs": lacking, "warnings": model_warnings(bundle)}

    def _record(self) -> TrainingRecord:
        """Note who has seen what: the head's cases, and those that the calibration was fitted on."""
        seen, plan = self.folds[0].seen, self.plan
        trained = "was trained with, so it saw fewer of its errors"
        saw = "has not seen (as the user states)" if plan.all_unseen else trained
        remarks = [f"The head was trained on {len(seen)} cases that the network {saw}.", f"Folds: {plan.source}."]
        record = run_record(self.main, {}, remarks)
        cases = {"train": seen, "calibration": tuple(self.groups)}
        roles = {role: voxel_hashes([self.job.cases[name] for name in names]) for role, names in cases.items() if names}
        return replace(record, roles={role: sorted({*hashes}) for role, hashes in roles.items()})


def _holds(run: RunFolder, weights: Mapping[str, torch.Tensor]) -> bool:
    try:
        known = run.load_best("backbone")
    except InputError:  # none yet, or damaged
        return False
    return known.keys() == weights.keys() and all(torch.equal(known[name], tensor) for name, tensor in weights.items())
