"""Training on a few real cases through the command line: it improves, resumes bit for bit, and ends in a bundle."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from training_runs import Workshop, tiny_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_files import verify_weights
from SegWithUCore.util.errors import InputError
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.dataset import find_cases, prepare
from SegWithULab.training.head import HeadTrainer
from SegWithULab.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("threads_and_signals_as_before")]

PARTS = ("backbone", "head")
TRAINERS: dict[str, Any] = {"backbone": BackboneTrainer, "head": HeadTrainer}


@pytest.fixture(scope="module")
def workshop(full_data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Holds "whole", a run of backbone and head that nobody interrupted."""
    shop = Workshop(full_data_folder, tmp_path_factory.mktemp("workshop"))
    for part in PARTS:
        assert shop.train(part, "whole") == 0
    return shop


def stopped(trainer: Any, after: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let a trainer's step number `after` (from 0) end in Ctrl-C; returns what undoes it."""
    step, count = trainer._step, 0

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(trainer, "_step", counted)
    return lambda: monkeypatch.setattr(trainer, "_step", step)


def test_a_tiny_network_improves_on_six_real_cases(workshop: Workshop) -> None:
    rows = workshop.log("whole", "backbone")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])
    assert float(rows[-1]["select_brier"]) < 0.5 * float(rows[0]["select_brier"])
    assert float(rows[-1]["select_dice"]) > float(rows[0]["select_dice"]) + 0.1


def test_the_head_improves_on_six_real_cases(workshop: Workshop) -> None:
    rows = workshop.log("whole", "head")
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["nll"]) < 0.97 * float(rows[0]["nll"])
    assert float(rows[-1]["select_nll"]) < 0.99 * float(rows[0]["select_nll"])


@pytest.mark.parametrize(
    ("part", "score"), [("backbone", ["select_brier"]), ("head", ["select_nll", "select_error_ce"])]
)
def test_the_best_epoch_has_the_lowest_proper_score(part: str, score: list[str], workshop: Workshop) -> None:
    rows = [row for row in workshop.log("whole", part) if row[score[0]]]  # empty where it was not measured
    looked_at = {int(row["epoch"]): sum(float(row[name]) for name in score) for row in rows}
    facts = RunFolder(workshop.folder / "whole").facts()[f"{part}_best"]
    assert facts["epoch"] + 1 == min(looked_at, key=lambda epoch: looked_at[epoch])


def test_a_worse_later_epoch_does_not_replace_the_best(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    briers = iter([0.5, 0.2, 0.3])
    monkeypatch.setattr(BackboneTrainer, "score", lambda _: {"select_brier": next(briers), "select_dice": 0.5})
    kept = []
    save = RunFolder.save_best
    monkeypatch.setattr(RunFolder, "save_best", lambda *a: (kept.append(1), save(*a))[1])
    changes = {"epochs": 3, "validate_every": 1, "batch_size": 6}
    assert workshop.train("backbone", "worse", recipe=tiny_recipe(backbone_training=changes)) == 0
    assert len(kept) == 2
    assert RunFolder(workshop.folder / "worse").facts()["backbone_best"] == {
        "epoch": 1,
        "select_brier": 0.2,
        "select_dice": 0.5,
    }


def test_epochs_that_do_not_fit_in_the_time_are_left_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackboneTrainer, "budget_s", 1e-6)
    assert workshop.train("backbone", "late", recipe=tiny_recipe(backbone_training={"epochs": 5})) == 0
    run = RunFolder(workshop.folder / "late")
    assert len(workshop.log("late", "backbone")) == 1
    run.check_finished("backbone")


@pytest.mark.parametrize("part", PARTS)
def test_a_run_stopped_in_mid_epoch_resumes_bit_for_bit(
    part: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"stopped-{part}"
    if part == "head":  # the same backbone
        shutil.copytree(workshop.folder / "whole", workshop.folder / run)
        RunFolder(workshop.folder / run).forget("head")
    undo = stopped(TRAINERS[part], 8, monkeypatch)  # six steps an epoch: in the second
    assert workshop.train(part, run) == 130
    told = capsys.readouterr().err
    assert f"Cancelled; 1 epochs are kept in {workshop.folder / run}. Resume with --resume." in told
    assert "nan" not in told
    undo()
    assert len(workshop.log(run, part)) == 1
    assert workshop.train(part, run) == 1
    assert f"holds a {part} already: pass --resume" in capsys.readouterr().err
    assert workshop.train(part, run, "--resume") == 0
    assert workshop.log(run, part) == workshop.log("whole", part)
    assert workshop.weights(run, part) == workshop.weights("whole", part)
    assert not list((workshop.folder / run).glob(".segwithu-*"))


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undo = stopped(BackboneTrainer, 1, monkeypatch)
    assert workshop.train("backbone", "early") == 130
    undo()
    undo = stopped(BackboneTrainer, 1, monkeypatch)
    assert workshop.train("backbone", "early") == 130  # begins, without asking for --restart
    assert workshop.train("backbone", "early", "--resume") == 130  # likewise, with the recipe that the run holds
    undo()
    told = capsys.readouterr().err
    assert "No epoch of the backbone" in told
    assert "leave out --resume" not in told
    assert not (workshop.folder / "early" / "backbone_last.pt").exists()


def test_nothing_is_resumed_where_nothing_was_begun(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.train("backbone", "never", "--resume") == 2
    assert "holds no run: leave out --resume" in capsys.readouterr().err


def test_beginning_the_backbone_again_forgets_the_head_that_was_made_for_it(workshop: Workshop) -> None:
    run = RunFolder(workshop.folder / "forgotten")
    shutil.copytree(workshop.folder / "whole", run.path)
    run.forget("backbone")
    assert not list(run.path.glob("*_best.safetensors")) + list(run.path.glob("*_last.pt"))
    shutil.copytree(workshop.folder / "whole", run.path, dirs_exist_ok=True)
    run.forget("head")
    assert sorted(p.name for p in run.path.glob("*_best.safetensors")) == ["backbone_best.safetensors"]


def test_a_head_that_began_again_is_not_finished(workshop: Workshop) -> None:
    run = RunFolder(workshop.folder / "again")
    shutil.copytree(workshop.folder / "whole", run.path)
    run.check_finished("head")
    run.forget("head")
    assert "head_best" not in run.facts() and "backbone_best" in run.facts()
    shutil.copy(workshop.folder / "whole" / "head_best.safetensors", run.path)  # of a first epoch
    with pytest.raises(InputError, match=r"The head in .* is not finished, 0 of"):
        run.check_finished("head")


def test_another_head_is_trained_on_the_backbone_that_is_there(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    run, recipe = RunFolder(workshop.folder / "another-head"), workshop.folder / "another-head.json"
    shutil.copytree(workshop.folder / "whole", run.path)
    before = run.recipe()
    other = tiny_recipe(backbone_training={"epochs": 99}, head_training={"epochs": 1, "learning_rate": 0.02})
    recipe.write_text(json.dumps(other), encoding="utf-8")
    assert workshop.train("head", "another-head", "--recipe", str(recipe)) == 1
    assert workshop.train("head", "another-head", "--recipe", str(recipe), "--restart", "--seed", "5") == 0
    assert len(workshop.log("another-head", "head")) == 1
    assert workshop.weights("another-head", "backbone") == workshop.weights("whole", "backbone")
    now = run.recipe()
    assert (now.head_training.learning_rate, now.head_training.seed) == (0.02, 5)
    assert replace(now, head_training=before.head_training) == before  # the backbone's 99 epochs were not trained
    capsys.readouterr()
    recipe.write_text(json.dumps(tiny_recipe(input={"orientation": "LPS"})), encoding="utf-8")
    assert workshop.train("head", "another-head", "--recipe", str(recipe), "--restart") == 2
    assert "[other-recipe]" in capsys.readouterr().err
    assert run.recipe() == now


def test_a_run_folder_holds_the_whole_configuration(workshop: Workshop) -> None:
    run = workshop.folder / "whole"
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert settings["recipe"]["backbone_training"]["average_decay"] == 0.8
    assert settings["recipe"]["backbone_training"]["gradient_clip"] == 12.0  # defaults filled in
    assert settings["facts"]["ood_reference"]["cases"] == 6


def test_calibrate_writes_a_bundle_that_segment_uses(workshop: Workshop, tmp_path: Path) -> None:
    cases, target = f"{workshop.table}:calibration", tmp_path / "bundle"
    assert main(["calibrate", "--run", str(workshop.folder / "whole"), "--cases", cases, "--output", str(target)]) == 0
    bundle = read_bundle(target)
    verify_weights(bundle)
    assert bundle.calibration is not None
    assert bundle.calibration["cases"] == 1
    assert bundle.ood_reference is not None
    assert bundle.ood_reference["channels"] == {"T1": None}  # six cases say too little about how images vary
    assert bundle.calibration["volume_interval"] == bundle.calibration["predicted_dice"] == {}  # and one about numbers
    assert (target / "MODEL_CARD.md").read_text(encoding="utf-8").startswith("# hippocampus")
    assert (target / "LICENSE.txt").is_file()

    image = workshop.table.parent / "images" / f"{workshop.names[-1]}.nii.gz"
    assert main(["segment", str(image), "--model", str(target), "--output", str(tmp_path / "out")]) == 0
    case = tmp_path / "out" / workshop.names[-1]
    probability = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "error_probability.nii.gz")))
    classes = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "segmentation.nii.gz")))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(workshop.table.parent / "labels" / image.name)))
    # Fitted on this very case: the expected number of wrong voxels is its true number.
    assert probability.sum(dtype=float) == pytest.approx((classes != truth).sum(), rel=0.01)
    assert (
        json.loads((case / "case.json").read_text(encoding="utf-8"))["model"]["weights_sha256"] == bundle.weights_sha256
    )


def test_a_best_checkpoint_leaves_the_deep_supervision_heads_behind(workshop: Workshop) -> None:
    changes = {"epochs": 1, "batch_size": 6, "deep_supervision_heads": 1}
    assert workshop.train("backbone", "deep", recipe=tiny_recipe(backbone_training=changes)) == 0
    run = RunFolder(workshop.folder / "deep")
    state = run.load_state("backbone")
    assert state is not None
    assert any("deep_supervision" in name for name in state["network"])
    best = run.load_best("backbone")
    assert best.keys() == RunFolder(workshop.folder / "whole").load_best("backbone").keys()
    assert all(torch.isfinite(tensor).all() for tensor in best.values())


@pytest.mark.parametrize("part", PARTS)
def test_large_select_cases_are_scored_in_windows(part: str, workshop: Workshop, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(workshop.folder / "whole", tmp_path / "run"))
    recipe = run.recipe()
    small = replace(recipe, input=replace(recipe.input, window=(16, 20, 12)))
    cases = [prepare(case, small.input, small.label_values) for case in find_cases(f"{workshop.table}:select")]
    assert cases[0].labels.shape > (12, 20, 16)
    trainer = TRAINERS[part](small, cases, cases, run)
    network = trainer.average.module if part == "backbone" else trainer.network.backbone
    shapes = set()
    network.register_forward_pre_hook(lambda _module, inputs: shapes.add(tuple(inputs[0].shape[2:])))
    scores = trainer.score()
    assert shapes == {(12, 20, 16)}
    assert all(value == value and value >= 0 for value in scores.values())


def test_a_head_may_look_at_select_cases_now_and_then(workshop: Workshop, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(workshop.folder / "whole", tmp_path / "run"))
    run.forget("head")
    recipe = run.recipe(head={"validate_every": 3, "epochs": 5})
    cases = [prepare(case, recipe.input, recipe.label_values) for case in find_cases(f"{workshop.table}:select")]
    trainer = HeadTrainer(recipe, cases, cases, run)
    trainer.fit()
    looked = [row["epoch"] for row in trainer.rows if row["select_nll"] == row["select_nll"]]
    assert looked == [0, 3, 4]
    assert trainer.best_epoch in looked
