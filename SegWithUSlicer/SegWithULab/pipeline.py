"""Train a measured model of a data set in stages: plan, cases, backbone, folds, head, calibrate, evaluate, model."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from SegWithUCore.calibration.flag_limits import FIGURE
from SegWithUCore.inference.model import Model
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import CARD_FILE, Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.model_card import model_card
from SegWithUCore.models.training_record import TrainingRecord, read_record, write_record
from SegWithUCore.util.atomic_files import atomic_file, atomic_folder
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.strict_json import read_json_object

from .calibration.bundles import calibrate_run
from .calibration.cross_validation import predicted_by_run_folds
from .evaluation.evaluate import Settings, evaluate
from .evaluation.report import PAGE_FILE, write_report
from .evaluation.summary import recorded, summary
from .training.backbone import BackboneTrainer
from .training.case_roles import check_unseen, hashes_of
from .training.dataset import Case, PreparedCase, check_channels, find_cases, prepare, roles_of
from .training.head import HeadTrainer, out_of_fold_backbones
from .training.plan import REASONS, RECIPE, SPLIT, PlanOptions, make_plan, table_of
from .training.recipe import Recipe, read_recipe
from .training.recipe_check import check_labels_occur, check_recipe
from .training.run_folder import RunFolder
from .training.run_record import note_roles, run_record
from .training.stages import Begun, Stage, content_sha256, noted
from .training.training_fingerprint import training_fingerprint

NEEDED = ("train", "select", "calibration")
NO_FOLDS = (
    "No out-of-fold networks were trained, so predicted Dice and the limit of flags are fitted on calibration and "
    "validation cases alone: give `segwithu train` more --hours."
)
REFERENCES = "references"
"""In the list of cases beside the roles: one hash of the references of each role."""
SHARES = {"backbone_s": 0.65, "folds_s": 0.0, "head_s": 0.25}
"""Of the hours, before there is a plan."""


@dataclass(frozen=True)
class TrainingJob:
    """What `segwithu train` is asked for.

    Attributes:
        data: an nnU-Net data set folder, a split table, or a folder with `images` and `labels`.
        output: folder of the model.
        folder: of the run.
        plan: options of the recipe that is planned.
        recipe: a recipe to use instead.
        allow_seen_cases: take cases that were seen in another role; the card names them.
        hashes: keep voxel hashes of the cases in run and model.
        graphs: compile graphs for the engine openvino.
    """

    data: Path
    output: Path
    folder: Path
    plan: PlanOptions
    recipe: Path | None = None
    allow_seen_cases: bool = False
    hashes: bool = True
    graphs: bool = True


class Pipeline:
    """The stages of one training, and what they share.

    Attributes:
        run: what `train-backbone` and `train-head` would have written, in `run/`; beside it `plan/`, `calibrated/`,
            `evaluation/`.
        note: receives warnings on the data.
        compile_graphs: gives a bundle graphs for the engine openvino, where it can.
    """

    def __init__(self, job: TrainingJob, note: Callable[[str], None], compile_graphs: Callable[[Bundle], None]) -> None:
        self.job, self.folder, self.note, self.compile_graphs = job, job.folder, note, compile_graphs
        self.recipe_file, self.cases_file = self.folder / "plan" / RECIPE, self.folder / "cases.json"
        self.run = RunFolder(self.folder / "run")
        self.replaces = job.output.exists()  # and may be, as was checked; what comes later is another process's
        self.calibrated, self.evaluation = self.folder / "calibrated", self.folder / "evaluation"
        self._prepared: tuple[list[PreparedCase], list[PreparedCase]] | None = None

    def stages(self) -> list[Stage]:
        """List the stages in their order."""
        run, weights = self.run, self.run.path / "backbone_best.safetensors"
        head = run.path / "head_best.safetensors"
        return [
            Stage("plan", "planning", self._plan, self._data_inputs, [self.recipe_file, self.folder / "plan" / REASONS],
                  seconds=60, editable=True),
            Stage("cases", "comparing the cases of all roles", self._compare, self._table_inputs, [self.cases_file],
                  seconds=30),
            Stage("backbone", "training the backbone", self._backbone, self._backbone_inputs, [weights],
                  seconds=lambda: self._expected("backbone_s"), costly=True, kept=lambda: _epochs(run, "backbone")),
            Stage("folds", "training out-of-fold backbones", self._folds,
                  lambda: {"backbone": weights, **self._fold_settings()}, self._fold_weights,
                  seconds=lambda: self._expected("folds_s"), costly=True, kept=self._kept_folds),
            Stage("head", "training the head", self._head,
                  lambda: {"backbone": weights, "cases": self._seen("train", "select"), **self._head_settings(),
                           **{path.parent.name: path for path in self._fold_weights()}}, [head],
                  seconds=lambda: self._expected("head_s"), costly=True,
                  kept=lambda: _epochs(run, "head")),
            Stage("calibrate", "calibrating", self._calibrate,
                  lambda: {"backbone": weights, "head": head, "cases": self._seen(*NEEDED),
                           "about": self.recipe().about},
                  [self.calibrated], seconds=60),
            Stage("evaluate", "evaluating", self._evaluate,
                  lambda: {"model": self.calibrated, "cases": self._seen("test")}, [self.evaluation], seconds=60),
            Stage("model", "writing the model", self._model,
                  lambda: {"model": self.calibrated, "evaluation": self.evaluation, "graphs": self.job.graphs},
                  [self.job.output], seconds=30),
        ]  # fmt: skip

    def recipe(self) -> Recipe:
        """Read the recipe, which may have been edited since it was planned."""
        return read_recipe(self.recipe_file)

    def cases(self, role: str) -> list[Case]:
        """Find the cases of a role."""
        return find_cases(f"{self._table()}:{role}")

    def _table(self) -> Path:
        drawn = self.folder / "plan" / SPLIT
        return drawn if drawn.is_file() else table_of(self.job.data)

    def _expected(self, name: str) -> float:
        facts = noted(self.folder).get("plan", {})
        hours = self.job.plan.hours or 1.0
        return float(facts.get(name, SHARES[name] * hours * 3600))

    def _data_inputs(self) -> dict[str, Any]:
        given = {**asdict(self.job.plan), "data": str(self.job.data.resolve())}
        files = {"recipe": self.job.recipe, "table": self.job.data if self.job.data.is_file() else None}
        return given | {name: path for name, path in files.items() if path is not None}

    def _plan(self, begun: Begun) -> Mapping[str, Any]:
        shutil.rmtree(self.folder / "plan", ignore_errors=True)
        made = make_plan(
            self.job.data, self.recipe_file.parent, self.job.plan, self.job.recipe, begun.progress, self.note
        )
        roles = roles_of(self._table())
        missing = [role for role in NEEDED if role not in roles]
        if missing:
            raise UsageError(
                f"{self._table()} has no case with role '{missing[0]}': training needs {', '.join(NEEDED)} (and test, "
                "to measure the model); add rows, or give the folder of the data, so that roles are drawn."
            )
        seconds = {"backbone_s": made.backbone_s, "folds_s": made.folds_s, "head_s": made.head_s}
        return {**seconds, "cases": made.cases}

    def _table_inputs(self) -> dict[str, Any]:
        cases = [case for role in self._roles() for case in self.cases(role)]
        files = [(path, path.stat()) for case in cases for path in (*case.channels, case.reference)]
        listed = [[str(path), facts.st_size, int(facts.st_mtime)] for path, facts in files]
        return {"table": self._table(), "files": listed, "allowed": self.job.allow_seen_cases}

    def _roles(self) -> list[str]:
        there = roles_of(self._table())
        return [role for role in (*NEEDED, "test") if role in there]

    def _compare(self, begun: Begun) -> Mapping[str, Any]:
        """Hash the voxels of all cases, and refuse those that turn up in two roles, or whose patient does.

        Without hashes (`--no-hashes`) they are compared all the same, and names alone are kept; of the references of a
        role one hash for all is.
        """
        known: dict[str, dict[str, str]] = {}
        remarks: dict[str, list[str]] = {}
        all_cases: list[tuple[Case, str]] = []
        for role in self._roles():
            cases = self.cases(role)
            given = hashes_of(cases, begun.progress)
            remarks[role] = check_unseen(role, given, known, self.job.allow_seen_cases)
            all_cases += [(case, role) for case in cases]
            known[role] = given
        for patient, its in by_patient([case.group for case, _ in all_cases]).items():
            first, last = all_cases[its[0]], all_cases[its[-1]]
            if first[1] != last[1] and not self.job.allow_seen_cases:
                raise UsageError(
                    f"{self._table()} gives {last[0].name} to {last[1]} and {first[0].name} of the same patient "
                    f"{patient} to {first[1]}: give all cases of a patient one role."
                )
        kept: dict[str, Any] = dict(known)
        if not self.job.hashes:
            kept = {role: sorted(seen.values()) for role, seen in known.items()}
        kept[REFERENCES] = {role: _references_sha256(self.cases(role)) for role in known}
        with atomic_file(self.cases_file) as work:
            work.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {"remarks": remarks}

    def _seen(self, *roles: str) -> dict[str, Any]:
        """Return what a stage reads of the cases of some roles: what is done with others is not done anew for them."""
        kept = read_json_object(self.cases_file)
        there = [role for role in roles if role in kept]
        return {role: kept[role] for role in there} | {f"references of {r}": kept[REFERENCES][r] for r in there}

    def _hashes(self, role: str) -> dict[str, str] | None:
        """Return hash -> name of the cases of a role; None where hashes were to be left out."""
        seen = read_json_object(self.cases_file)[role]
        return None if not self.job.hashes else dict(seen)

    def _remarks(self, role: str) -> list[str]:
        """Return what the card says of the cases of a role that were seen in another one."""
        return list(noted(self.folder)["cases"]["remarks"].get(role, []))

    def _backbone_inputs(self) -> dict[str, Any]:
        recipe = self.recipe().to_json()
        parts = {name: recipe[name] for name in ("input", "labels", "backbone", "backbone_training")}
        return {"cases": self._seen("train", "select"), **parts}

    def _backbone(self, begun: Begun) -> Mapping[str, Any]:
        recipe = self.recipe()
        check_recipe(recipe, str(self.recipe_file))
        train, select = self._trainable(recipe, begun)
        check_labels_occur(recipe, train, str(self.recipe_file))
        if begun.again and (self.run.path / "run.json").exists():
            self.run.change_recipe(recipe)
        else:
            self.run.forget("backbone")
            self.run.start(recipe, {})
        note_roles(self.run, train, select, self.job.allow_seen_cases, self.job.hashes)
        self.run.add_facts({"fingerprint": training_fingerprint(train, select, recipe)})
        trainer = BackboneTrainer(recipe, train, select, self.run)
        trainer.resume()
        trainer.fit(begun.progress)
        return dict(self.run.facts()["backbone_best"])

    def _trainable(self, recipe: Recipe, begun: Begun) -> tuple[list[PreparedCase], list[PreparedCase]]:
        if self._prepared is None:
            found = [self.cases("train"), self.cases("select")]
            check_channels([case for cases in found for case in cases], recipe.input)
            train, select = ([prepare(case, recipe.input, recipe.label_values) for case in cases] for cases in found)
            self._prepared = train, select
        begun.progress("reading cases", 0.0)
        return self._prepared

    def _fold_settings(self) -> dict[str, Any]:
        names = ("cross_fit", "cross_fit_epochs", "cross_fit_scratch", "seed")
        head = self.recipe().to_json()["head_training"]
        return {name: head[name] for name in names}

    def _fold_weights(self) -> list[Path]:
        count = self.recipe().head_training.cross_fit
        return [self.run.path / f"fold{number}" / "backbone_best.safetensors" for number in range(count)]

    def _kept_folds(self) -> str:
        done = list(self.run.path.glob("fold*/backbone_last.pt"))
        return f"{len(done)} folds begun" if done else ""

    def _folds(self, begun: Begun) -> Mapping[str, Any]:
        recipe = self.recipe()
        self.run.change_recipe(recipe)
        if recipe.head_training.cross_fit:
            train, _ = self._trainable(recipe, begun)
            out_of_fold_backbones(recipe, train, self.run, begun.progress)
        return {"folds": recipe.head_training.cross_fit}

    def _head_settings(self) -> dict[str, Any]:
        recipe = self.recipe().to_json()
        return {name: recipe[name] for name in ("head", "head_training")}

    def _head(self, begun: Begun) -> Mapping[str, Any]:
        recipe = self.recipe()
        self.run.change_recipe(recipe)
        train, select = self._trainable(recipe, begun)
        if not begun.again:
            self.run.forget("head")
        trainer = HeadTrainer(recipe, train, select, self.run)
        trainer.resume()
        trainer.fit(begun.progress)
        return dict(self.run.facts()["head_best"])

    def _calibrate(self, begun: Begun) -> Mapping[str, Any]:
        recipe, cases = self.recipe(), self.cases("calibration")
        self.run.change_recipe(recipe)
        with_folds = recipe.head_training.cross_fit > 0 and recipe.head_training.cross_fit_scratch
        remarks = [*self._remarks("calibration"), *([] if with_folds else [NO_FOLDS])]
        record = run_record(self.run, self._hashes("calibration"), remarks)
        folds = partial(predicted_by_run_folds, self.run, self.cases("train"), begun.progress)
        made = calibrate_run(
            self.run,
            cases,
            self.calibrated,
            overwrite=True,
            progress=begun.progress,
            record=record,
            validation=self.cases("select"),
            folds=folds if with_folds else None,
        )
        assert made.bundle is not None and made.bundle.calibration is not None
        flags = made.bundle.calibration["flags"]
        judged = flags["cases"] + flags.get("fold_cases", 0)
        return {"cases": len(cases), "flag_cases": judged, "flags": flags["rules"][FIGURE]["sentence"]}

    def _evaluate(self, begun: Begun) -> Mapping[str, Any]:
        with atomic_folder(self.evaluation, True) as work:
            if "test" not in self._roles():
                (work / "README.txt").write_text("The data set has no test cases: nothing was measured.\n")
                return {}
            model = Model(read_bundle(self.calibrated))
            evaluation = evaluate(self.cases("test"), model, Settings(), begun.progress)
            result = summary(evaluation, model.bundle)
            write_report(work, result, evaluation, model.bundle, f"{self._table()}:test")
            (work / "recorded.json").write_text(json.dumps(recorded(result)), encoding="utf-8")
        dice = {row["title"]: row["mean"] for row in result["table"] if row["title"].startswith("dice ")}
        return {"cases": result["cases"], "dice": dice}

    def _model(self, begun: Begun) -> Mapping[str, Any]:
        with atomic_folder(self.job.output, self.replaces) as work:
            shutil.copytree(self.calibrated, work, dirs_exist_ok=True)
            bundle = replace(read_bundle(work), folder=work)
            figures = self.evaluation / "recorded.json"
            if figures.is_file():
                record = read_record(work) or TrainingRecord()
                hashes = self._hashes("test")
                tested = None if hashes is None else list(hashes)
                write_record(work, record.with_role("test", tested, self._remarks("test")))
                bundle = _rewrite(replace(bundle, figures=read_json_object(figures)), work)
            begun.progress("compiling", 0.3)
            if self.job.graphs:
                self.compile_graphs(bundle)
        return {"model": str(self.job.output)}

    def report(self) -> Path | None:
        """Return the page of the evaluation, None where nothing was measured."""
        page = self.evaluation / PAGE_FILE
        return page if page.is_file() else None


def _rewrite(bundle: Bundle, folder: Path) -> Bundle:
    """Write description and card of a bundle whose weights lie in `folder`."""
    written = write_bundle_json(bundle, folder)
    with atomic_file(folder / CARD_FILE) as work:
        work.write_text(model_card(written), encoding="utf-8")
    return written


def _references_sha256(cases: Sequence[Case]) -> str:
    """Hash the references of some cases together."""
    named = "".join(f"{case.name}\0{content_sha256(case.reference)}\n" for case in sorted(cases, key=lambda c: c.name))
    return hashlib.sha256(named.encode()).hexdigest()


def _epochs(run: RunFolder, part: str) -> str:
    try:
        state = run.load_state(part)
    except InputError:
        return ""
    count = state["next_epoch"] if state else 0
    return "" if not count else "1 epoch" if count == 1 else f"{count} epochs"
