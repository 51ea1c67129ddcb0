"""Cross-fitted backbones, and heads that learn from their out-of-fold predictions."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from training_runs import Workshop, tiny_recipe

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.dataset import PreparedCase, find_cases, prepare
from SegWithULab.training.head import HeadTrainer, folds_of, out_of_fold_backbones
from SegWithULab.training.recipe import Recipe, recipe_from_json
from SegWithULab.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("threads_and_signals_as_before")]

EPOCHS = 3
SHORT = {
    "head": {"variant": "context"},
    "backbone_training": {"epochs": EPOCHS},
    "head_training": {"epochs": 2, "cross_fit": 2, "cross_fit_epochs": EPOCHS},
}


def case(name: str, patient: str = "") -> PreparedCase:
    empty = np.zeros((1, 1, 1, 1), np.float32)
    return PreparedCase(name, empty, empty[0].astype(np.int16), (1, 1, 1), (1, 1, 1), group=patient)


@pytest.fixture(scope="module")
def workshop(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(data_folder, tmp_path_factory.mktemp("cross-fitting"))
    recipe = tiny_recipe(**SHORT)
    assert made.train("backbone", "run", recipe=recipe) == 0
    assert made.train("head", "run") == 0
    return made


def prepared(workshop: Workshop, recipe: Recipe, role: str) -> list[PreparedCase]:
    return [prepare(one, recipe.input, recipe.label_values) for one in find_cases(f"{workshop.table}:{role}")]


def test_no_patient_is_in_two_folds_and_folds_are_equal() -> None:
    cases = [case(f"{patient}-{number}", patient) for patient in "abcdefg" for number in range(3)]
    folds = folds_of(cases, 3, seed=0)
    assert len({(one.group, fold) for one, fold in zip(cases, folds, strict=True)}) == 7
    assert sorted(Counter(folds).values()) == [6, 6, 9]


def test_folds_depend_on_seed_and_names_alone() -> None:
    cases = [case(f"case{number}") for number in range(10)]
    folds = {one.name: fold for one, fold in zip(cases, folds_of(cases, 2, 1), strict=True)}
    again = {one.name: fold for one, fold in zip(cases[::-1], folds_of(cases[::-1], 2, 1), strict=True)}
    assert folds == again
    assert folds != dict(zip(folds, folds_of(cases, 2, 2), strict=True))


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(InputError, match="2 training patients cannot be cross-fitted in 3 folds"):
        folds_of([case("a", "x"), case("b", "x"), case("c", "y")], 3, 0)


def test_a_fold_is_trained_on_the_others_alone(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    run = RunFolder(workshop.folder / "run")
    recipe = run.recipe()
    cases = prepared(workshop, recipe, "train")
    monkeypatch.setattr(
        BackboneTrainer, "fit", lambda trainer, _progress: seen.append({one.name for one in trainer.train_cases})
    )
    backbones = out_of_fold_backbones(recipe, cases, run)
    folds = folds_of(cases, 2, recipe.head_training.seed)
    for fold in (0, 1):
        assert seen[fold] == {one.name for one, its in zip(cases, folds, strict=True) if its != fold}
    assert [backbone is backbones[0] for backbone in backbones] == [fold == folds[0] for fold in folds]


def test_the_frozen_backbone_stays_as_it_is(workshop: Workshop) -> None:
    run = RunFolder(workshop.folder / "run")
    recipe = run.recipe()
    before = workshop.weights("run", "backbone")
    trainer = HeadTrainer(recipe, prepared(workshop, recipe, "train"), prepared(workshop, recipe, "select"), run)
    for name, tensor in trainer.network.backbone.state_dict().items():
        if name in before:
            assert tensor.numpy().tobytes() == before[name]


def test_cross_fitting_goes_on_where_it_was_stopped(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(folder: RunFolder, part: str, rows: list[dict[str, float]], *more: bool) -> None:
        write(folder, part, rows, *more)
        if folder.path.name == "fold1" and len(rows) == 2:
            raise KeyboardInterrupt

    write = RunFolder.write_log
    whole = workshop.weights("run", "head")
    recipe = tiny_recipe(**SHORT)
    assert workshop.train("backbone", "stopped", recipe=recipe) == 0
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_log", noted)
        assert workshop.train("head", "stopped") == 130
    assert not (workshop.folder / "stopped" / "head_last.pt").exists()
    assert workshop.train("head", "stopped") == 0
    assert workshop.weights("stopped", "head") == whole


@pytest.mark.parametrize(
    ("changed", "anew"), [({}, False), ({"cross_fit_epochs": EPOCHS + 1}, True), ({"seed": 9}, True)]
)
def test_folds_that_were_made_otherwise_are_made_anew(
    changed: dict[str, int], anew: bool, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(workshop.folder / "run", run.path)
    recipe = run.recipe(head=changed)
    begun: list[int] = []
    fit = BackboneTrainer.fit

    def noted(trainer: BackboneTrainer, progress: Progress) -> None:
        begun.append(trainer.next_epoch)
        fit(trainer, progress)

    monkeypatch.setattr(BackboneTrainer, "fit", noted)
    out_of_fold_backbones(recipe, prepared(workshop, recipe, "train"), run)
    assert begun == ([0, 0] if anew else [EPOCHS, EPOCHS])


def test_half_of_the_batches_are_shown_by_out_of_fold_backbones(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(workshop.folder / "run")
    recipe = run.recipe()
    trainer = HeadTrainer(recipe, prepared(workshop, recipe, "train"), prepared(workshop, recipe, "select"), run)
    trainer.out_of_fold = out_of_fold_backbones(recipe, trainer.train_cases, run)
    shown: list[bool] = []

    def step(_batch: object, cases: list[int], seed: int) -> dict[str, float]:
        backbones = trainer.backbones_for(cases, seed)
        shown.extend(backbone is not trainer.network.backbone for backbone in backbones)
        return {"loss": 0.0}

    monkeypatch.setattr(trainer, "_step", step)
    for epoch in range(40):
        trainer._epoch(epoch, lambda *_: None)
    assert 0.4 < np.mean(shown) < 0.6


def test_the_recipe_of_a_run_keeps_its_cross_fitting(workshop: Workshop) -> None:
    held = json.loads((workshop.folder / "run" / "run.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe_from_json(held, "run").head_training.cross_fit == 2
