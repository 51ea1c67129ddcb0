"""Train a measured model of a data set in stages: plan, cases, backbone, folds, head, calibrate, evaluate, model."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from SegWithUCore.calibration.flag_limits import FIGURE
from SegWithUCore.inference.model import Model
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import Bundle, read_bundle
from SegWithUCore.models.model_card import write_description
from SegWithUCore.models.training_record import TrainingRecord, read_record, write_record
from SegWithUCore.util.atomic_files import atomic_folder, write_text
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.strict_json import read_json_object, to_json

from .calibration.bundles import calibrate_run
from .calibration.cross_validation import predicted_by_run_folds
from .evaluation.evaluate import evaluate, recorded, summary
from .evaluation.report import PAGE_FILE, write_report
from .training import dataset
from .training import plan as planning
from .training.backbone import BackboneTrainer
from .training.head import HeadTrainer, out_of_fold_backbones
from .training.recipe import Recipe, read_recipe
from .training.recipe_check import check_labels_occur, check_recipe
from .training.run_folder import RunFolder
from .training.run_record import check_unseen, hashes_of, noted_roles, run_record
from .training.stages import Stage, StageCall, noted

TRAINED = ("train", "select")
NEEDED = (*TRAINED, "calibration")
NO_FOLDS = (
    "No cross-validation models were trained, so predicted Dice and the limit of flags are fitted on calibration and "
    "validation cases alone: give `segwithu train` more --hours."
)


@dataclass(frozen=True)
class TrainingJob:
    """What `segwithu train` is asked for.

    Attributes:
        data: an nnU-Net data set folder, a split table, or a folder with `images` and `labels`.
        output: folder of the model.
        folder: of the run.
        plan: options of the recipe that is planned.
        recipe: a recipe to use instead.
        allow_seen_cases: allow cases that were used in another role; the card names them.
        graphs: compile graphs for the engine openvino.
    """

    data: Path
    output: Path
    folder: Path
    plan: planning.PlanOptions
    recipe: Path | None = None
    allow_seen_cases: bool = False
    graphs: bool = True


class Pipeline:
    """The stages of one training, and what they share.

    Attributes:
        run: what `train-backbone` and `train-head` would have written, in `run/`; next to it `plan/`, `calibrated/`,
            `evaluation/`.
        note: receives warnings on the data.
        compile_graphs: gives a bundle graphs for the engine openvino, where it can.
    """

    def __init__(self, job: TrainingJob, note: Callable[[str], None], compile_graphs: Callable[[Bundle], None]) -> None:
        self.job, self.folder, self.note, self.compile_graphs = job, job.folder, note, compile_graphs
        self.recipe_file, self.cases_file = self.folder / "plan" / planning.RECIPE, self.folder / "cases.json"
        self.run = RunFolder(self.folder / "run")
        self.replaces = job.output.exists()  # and may be, as was checked; what comes later is another process's
        self.calibrated, self.evaluation = self.folder / "calibrated", self.folder / "evaluation"

    def stages(self) -> list[Stage]:
        """List the stages in their order."""
        weights, head = self.run.path / "backbone_best.safetensors", self.run.path / "head_best.safetensors"
        plan = [self.recipe_file, self.folder / "plan" / planning.REASONS]
        output = str(self.job.output.resolve())
        results = {"model": self.calibrated, "evaluation": self.evaluation, "graphs": self.job.graphs, "output": output}

        def fold_inputs() -> dict[str, Any]:
            settings = self.recipe().head_training
            names = ("cross_fit", "cross_fit_epochs", "cross_fit_scratch", "seed")
            return {"backbone": weights, **{name: getattr(settings, name) for name in names}}

        def head_inputs() -> dict[str, Any]:
            folds = {path.parent.name: path for path in self._fold_weights()}
            return {"backbone": weights, **self._inputs(TRAINED, "head", "head_training"), **folds}

        of_backbone = partial(self._inputs, TRAINED, "input", "labels", "backbone", "backbone_training")
        return [
            Stage("plan", self._plan, self._data_inputs, plan, editable=True, weight=0.02),
            Stage("cases", self._compare, self._case_inputs, [self.cases_file], weight=0.01),
            Stage("backbone", self._backbone, of_backbone, [weights], costly=True, weight=lambda: self._shares()[0]),
            Stage("folds", self._folds, fold_inputs, self._fold_weights, costly=True,
                  weight=lambda: self._shares()[1]),
            Stage("head", self._head, head_inputs, [head], costly=True, weight=planning.HEAD_SHARE),
            Stage("calibrate", self._calibrate,
                  lambda: {"backbone": weights, "head": head, **self._inputs(NEEDED, "about")}, [self.calibrated],
                  weight=0.04),
            Stage("evaluate", self._evaluate, lambda: {"model": self.calibrated, **self._inputs(["test"])},
                  [self.evaluation], weight=0.02),
            Stage("model", self._model, results, [self.job.output], editable=True, weight=0.01),
        ]  # fmt: skip

    def _inputs(self, roles: Sequence[str], *blocks: str) -> dict[str, Any]:
        """Return the files of the cases of some roles, and blocks of the recipe."""
        recipe = self.recipe().to_json() if blocks else {}
        return {"cases": self._files(*roles), **{name: recipe[name] for name in blocks}}

    def _case_inputs(self) -> dict[str, Any]:
        return {"table": self._table(), "files": self._files(*self._roles()), "allowed": self.job.allow_seen_cases}

    def _shares(self) -> tuple[float, float]:
        """Return the shares of the time of backbone and cross-validation models, as `choose_epochs` plans them."""
        folds = 0.0  # their epochs over all cases, in those of the backbone
        if self.recipe_file.is_file():
            recipe = self.recipe()
            head, epochs = recipe.head_training, recipe.backbone_training.epochs
            folds = max(0, head.cross_fit - 1) * head.cross_fit_epochs / epochs
        backbone = planning.BACKBONE_SHARE / (1 + folds)
        return backbone, planning.BACKBONE_SHARE - backbone

    def _seconds(self, share: float) -> float:
        """Return how long the epochs of a part may take."""
        hours = None if self.job.recipe is not None else self.job.plan.hours
        return math.inf if hours is None else share * hours * 3600

    def recipe(self) -> Recipe:
        """Read the recipe, which may have been edited since it was planned."""
        return read_recipe(self.recipe_file)

    def cases(self, role: str) -> list[dataset.Case]:
        """Find the cases of a role."""
        return dataset.find_cases(f"{self._table()}:{role}")

    def _table(self) -> Path:
        drawn = self.folder / "plan" / planning.SPLIT
        return drawn if drawn.is_file() else planning.table_of(self.job.data)

    def _roles(self) -> list[str]:
        there = dataset.roles_of(self._table())
        return [role for role in (*NEEDED, "test") if role in there]

    def _data_inputs(self) -> dict[str, Any]:
        given = {**asdict(self.job.plan), "data": str(self.job.data.resolve())}
        files = {"recipe": self.job.recipe, "table": self.job.data if self.job.data.is_file() else None}
        return given | {name: path for name, path in files.items() if path is not None}

    def _plan(self, call: StageCall) -> Mapping[str, Any]:
        shutil.rmtree(self.folder / "plan", ignore_errors=True)
        folder = self.recipe_file.parent
        made = planning.make_plan(self.job.data, folder, self.job.plan, self.job.recipe, call.progress, self.note)
        missing = [role for role in NEEDED if role not in self._roles()]
        if missing:
            wanted = f"add rows for {', '.join(NEEDED)} (and test), or give the data's folder, so that roles are drawn"
            raise UsageError(f"{self._table()} has no case with role '{missing[0]}': {wanted}.", "no-data-set")
        return {"cases": len(made.cases)}

    def _files(self, *roles: str) -> dict[str, Any]:
        """Return what a stage reads of the cases of some roles: what is done with others is not done again for them."""
        return {role: dataset.file_facts(self.cases(role)) for role in roles if role in self._roles()}

    def _compare(self, call: StageCall) -> Mapping[str, Any]:
        """Hash the voxels of all cases, and refuse those that turn up in two roles, or whose patient does."""
        known: dict[str, dict[str, str]] = {}
        remarks: dict[str, list[str]] = {}
        all_cases: list[tuple[dataset.Case, str]] = []
        for role in self._roles():
            cases = self.cases(role)
            given = hashes_of(cases, self.note, call.progress)
            remarks[role] = check_unseen(role, given, known, self.job.allow_seen_cases)
            all_cases += [(case, role) for case in cases]
            known[role] = given
        for patient, its in by_patient([case.group for case, _ in all_cases]).items():
            first, last = all_cases[its[0]], all_cases[its[-1]]
            if first[1] != last[1] and not self.job.allow_seen_cases:
                both = f"{last[1]} to {last[0].name} and {first[1]} to {first[0].name}, both of patient {patient}"
                raise UsageError(f"{self._table()} gives the role {both}: give a patient one role.", "seen-cases")
        write_text(self.cases_file, to_json(known) + "\n")
        return {"remarks": remarks}

    def _hashes(self, role: str) -> dict[str, str]:
        """Return hash -> name of the cases of a role."""
        return dict(read_json_object(self.cases_file)[role])

    def _remarks(self, role: str) -> list[str]:
        """Return the remarks for the card on cases of a role that were seen in another one."""
        return list(noted(self.folder)["cases"]["remarks"].get(role, []))

    def _backbone(self, call: StageCall) -> Mapping[str, Any]:
        recipe = self.recipe()
        check_recipe(recipe, str(self.recipe_file))
        call.progress("reading cases", 0.0)
        train, select = self._trainable
        check_labels_occur(recipe, train, str(self.recipe_file))
        if call.again and (self.run.path / "run.json").exists():
            self.run.change_recipe(recipe)
        else:
            self.run.forget("backbone")
            self.run.start(recipe, {})
        facts = noted_roles(self.run.facts(), train, select, self.job.allow_seen_cases)
        self.run.add_facts(facts | {"ood_reference": dataset.ood_reference(train, select, recipe)})
        trainer = BackboneTrainer(recipe, train, select, self.run)
        trainer.budget_s = self._seconds(self._shares()[0])
        trainer.resume()
        trainer.fit(call.progress)
        return dict(self.run.facts()["backbone_best"])

    @cached_property
    def _trainable(self) -> tuple[list[dataset.PreparedCase], list[dataset.PreparedCase]]:
        """Training and validation cases on the working grid."""
        recipe, found = self.recipe(), [self.cases("train"), self.cases("select")]
        dataset.check_channels([case for cases in found for case in cases], recipe.input)
        train, select = (
            [dataset.prepare(case, recipe.input, recipe.label_values) for case in cases] for cases in found
        )
        return train, select

    def _fold_weights(self) -> list[Path]:
        count = self.recipe().head_training.cross_fit
        return [self.run.path / f"fold{number}" / "backbone_best.safetensors" for number in range(count)]

    def _folds(self, call: StageCall) -> Mapping[str, Any]:
        recipe = self.recipe()
        self.run.change_recipe(recipe)
        if recipe.head_training.cross_fit:
            call.progress("reading cases", 0.0)
            out_of_fold_backbones(recipe, self._trainable[0], self.run, call.progress, self._seconds(self._shares()[1]))
        return {"folds": recipe.head_training.cross_fit}

    def _head(self, call: StageCall) -> Mapping[str, Any]:
        recipe = self.recipe()
        self.run.change_recipe(recipe)
        if not call.again:
            self.run.forget("head")
        call.progress("reading cases", 0.0)
        trainer = HeadTrainer(recipe, *self._trainable, self.run)
        trainer.budget_s = self._seconds(planning.HEAD_SHARE)
        trainer.resume()
        trainer.fit(call.progress)
        return dict(self.run.facts()["head_best"])

    def _calibrate(self, call: StageCall) -> Mapping[str, Any]:
        recipe, cases = self.recipe(), self.cases("calibration")
        self.run.change_recipe(recipe)
        with_folds = recipe.head_training.cross_fit > 0 and recipe.head_training.cross_fit_scratch
        remarks = [*self._remarks("calibration"), *([] if with_folds else [NO_FOLDS])]
        made = calibrate_run(
            self.run,
            cases,
            self.calibrated,
            overwrite=True,
            progress=call.progress,
            record=run_record(self.run, self._hashes("calibration"), remarks),
            validation=self.cases("select"),
            folds=partial(predicted_by_run_folds, self.run, self.cases("train"), call.progress) if with_folds else None,
        )
        assert made.bundle is not None and made.bundle.calibration is not None
        flags = made.bundle.calibration["flags"]
        judged = flags["cases"] + flags.get("cross_validated_cases", 0)
        return {"cases": len(cases), "flag_cases": judged, "flags": flags["rules"][FIGURE]["message"]}

    def _evaluate(self, call: StageCall) -> Mapping[str, Any]:
        with atomic_folder(self.evaluation, True) as work:
            if "test" not in self._roles():
                (work / "README.txt").write_text("The data set has no test cases: nothing was measured.\n")
                return {}
            model = Model(read_bundle(self.calibrated))
            evaluation = evaluate(self.cases("test"), model, progress=call.progress)
            result = summary(evaluation, model.bundle)
            write_report(work, result, evaluation, model.bundle, f"{self._table()}:test")
            (work / "recorded.json").write_text(json.dumps(recorded(result)), encoding="utf-8")
        dice = {row["title"]: row["mean"] for row in result["table"] if row["title"].startswith("dice ")}
        return {"cases": result["cases"], "dice": dice}

    def _model(self, call: StageCall) -> Mapping[str, Any]:
        with atomic_folder(self.job.output, self.replaces) as work:
            shutil.copytree(self.calibrated, work, dirs_exist_ok=True)
            bundle = replace(read_bundle(work), folder=work)
            measured = self.evaluation / "recorded.json"
            if measured.is_file():
                record = read_record(work) or TrainingRecord()
                write_record(work, record.with_role("test", list(self._hashes("test")), self._remarks("test")))
                bundle = write_description(replace(bundle, metrics=read_json_object(measured)), work)
            call.progress("compiling", 0.3)
            if self.job.graphs:
                self.compile_graphs(bundle)
        return {"model": str(self.job.output)}

    def report(self) -> Path | None:
        """Return the page of the evaluation, None where nothing was measured."""
        page = self.evaluation / PAGE_FILE
        return page if page.is_file() else None
