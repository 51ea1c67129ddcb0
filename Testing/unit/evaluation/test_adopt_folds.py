"""Who has seen what: read from nnU-Net's splits or validation predictions, and never guessed."""

import json
from pathlib import Path
from typing import Any

import pytest

from SegWithUCore.util.errors import InputError, SegWithUError, UsageError
from SegWithULab.evaluation.adopt_folds import FoldPlan, plan_folds
from SegWithULab.training.plan import patients_by_name


def cases(count: int) -> list[str]:
    return [f"case{number:03d}" for number in range(count)]


class Training:
    """A result folder without networks, and its splits."""

    def __init__(self, folder: Path, folds: list[Any], count: int = 30) -> None:
        self.result = folder / "nnUNet_results" / "Dataset001_A" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
        self.raw = folder / "nnUNet_raw" / "Dataset001_A"
        self.splits = folder / "nnUNet_preprocessed" / "Dataset001_A" / "splits_final.json"
        self.cases = cases(count)
        self.patients = {case: case for case in self.cases}
        for fold in folds:
            (self.result / f"fold_{fold}").mkdir(parents=True)
            (self.result / f"fold_{fold}" / "checkpoint_final.pth").touch()

    def split(self, *parts: int) -> None:
        """Let each fold validate so many cases, one after the other."""
        first, listed = 0, []
        for part in parts:
            val = self.cases[first : first + part]
            listed.append({"train": [case for case in self.cases if case not in val], "val": val})
            first += part
        self.splits.parent.mkdir(parents=True, exist_ok=True)
        self.splits.write_text(json.dumps(listed), encoding="utf-8")

    def validate(self, fold: int, names: list[str]) -> None:
        place = self.result / f"fold_{fold}" / "validation"
        place.mkdir()
        for name in names:
            (place / f"{name}.nii.gz").touch()
        (place / "summary.json").touch()

    def plan(self, **options: Any) -> FoldPlan:
        return plan_folds(self.result, self.raw, self.patients, **options)


def test_each_case_is_predicted_by_the_network_that_has_not_seen_it(tmp_path: Path) -> None:
    training = Training(tmp_path, [0, 1, 2])
    training.split(10, 10, 10)
    plan = training.plan()
    assert plan.source == "splits_final.json"
    assert {case: fold.network for case, fold in plan.unseen.items()} == {
        case: str(number // 10) for number, case in enumerate(training.cases)
    }
    for fold in plan.folds:
        assert not set(fold.seen) & set(fold.unseen)
    assert set(plan.groups.values()) == {"0", "1", "2"}


@pytest.mark.parametrize(("validating", "groups"), [(7, 0), (8, 8), (23, 23), (24, 3)])
def test_one_fold_is_judged_by_how_many_cases_validate_it(tmp_path: Path, validating: int, groups: int) -> None:
    training = Training(tmp_path, [0])
    training.split(validating)
    assert len(set(training.plan().groups.values())) == groups


def test_a_patient_is_never_on_both_sides(tmp_path: Path) -> None:
    training = Training(tmp_path, [0])
    training.cases = [f"patient{number // 2:03d}_frame{number % 2}" for number in range(40)]
    training.patients = patients_by_name(training.cases)
    training.split(25)  # the 25th case's patient has another one in training
    plan = training.plan()
    assert plan.dropped == (training.cases[24],)
    assert len(plan.unseen) == 24
    groups = plan.groups
    assert len(set(groups.values())) == 3
    assert all(groups[a] == groups[b] for a, b in zip(training.cases[:24:2], training.cases[1:24:2], strict=True))


def test_without_splits_the_validation_predictions_tell(tmp_path: Path) -> None:
    training = Training(tmp_path, [0])
    training.validate(0, training.cases[:9])
    plan = training.plan()
    assert list(plan.unseen) == training.cases[:9]
    assert plan.source == "the validation predictions of each fold"


def test_other_splits_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    training = Training(tmp_path, [0])
    training.split(10)
    training.validate(0, [*training.cases[:9], training.cases[20]])
    with pytest.raises(InputError, match="case020") as error:
        training.plan()
    assert error.value.code == "unknown-splits"


def test_cases_that_the_network_never_saw_are_dealt_in_parts(tmp_path: Path) -> None:
    """TotalSegmentator's folders: one fold (or `fold_all`), no splits, no validation predictions."""
    training = Training(tmp_path, ["all"])
    plan = training.plan(all_unseen=True)
    assert [fold.network for fold in plan.folds] == ["all"] * 3
    assert sorted(plan.unseen) == training.cases
    assert all(not set(fold.seen) & set(fold.unseen) for fold in plan.folds)
    assert set(plan.groups.values()) == {"part1", "part2", "part3"}


def test_what_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    training = Training(tmp_path, [0])
    _refused(training, InputError, "Nobody knows", "--splits", "--unseen")
    _refused(training, UsageError, "no fold 3", first="3")
    _refused(training, InputError, "checkpoint_best.pth", checkpoint="checkpoint_best.pth")
    _refused(Training(tmp_path / "all", ["all"]), UsageError, "fold_all", "--unseen")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({}, "list of folds"),
        ([{"train": ["case000"], "val": ["case000"]}], "case000"),
        ([{"train": ["case000"], "val": ["strange"]}], "strange"),
        ([], "folds"),
        ([{"train": "case000", "val": []}], "train"),
    ],
    ids=["no list", "both sides", "unknown case", "too few", "no names"],
)
def test_splits_that_cannot_be_used_are_named(tmp_path: Path, content: Any, word: str) -> None:
    training = Training(tmp_path, [0])
    training.split(10)
    training.splits.write_text(json.dumps(content), encoding="utf-8")
    _refused(training, InputError, "splits_final.json", word)


def _refused(training: Training, kind: type[SegWithUError], *words: str, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        training.plan(**options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
