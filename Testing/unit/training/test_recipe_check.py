"""What is wrong with a recipe is found before any image is read, and which recipe may bring another head."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import tiny_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.util.errors import InputError, UsageError
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import Recipe, recipe_from_json
from SegWithULab.training.recipe_check import check_labels_occur, check_recipe, with_another_head


def recipe(**changes: Mapping[str, Any]) -> Recipe:
    return recipe_from_json(tiny_recipe(**changes), "r.json")


def test_the_recipes_of_the_repository_can_be_built(tmp_path: Path) -> None:
    check_recipe(recipe(), "r.json")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"about": {"name": "Left Atrium"}}, ("about/name", "Left Atrium")),
        ({"head": {"variant": "contxt"}}, ("variant", "contxt", "context")),
        ({"head": {"taps": ["upsamples.7.conv_block"]}}, ("upsamples.7.conv_block", "wrong-recipe")),
        ({"backbone": {"kind": "dynnet"}}, ("kind", "dynnet", "dynunet")),
        ({"backbone": {"kind": "vnet"}}, ("kind", "vnet", "meshnet")),
        ({"backbone": {"filters": [16]}}, ("filters", "[16]", "3 levels")),
        ({"backbone": {"flat_levels": 9}}, ("flat_levels", "9")),
        ({"backbone_training": {"deep_supervision_heads": 5}}, ("deep_supervision_heads", "5", "1 heads")),
        ({"backbone_training": {"window": [31, 44, 32]}}, ("31", "multiples of 4")),
        ({"head_training": {"window": [32, 44]}}, ("[32, 44]", "multiples of 4")),
        ({"input": {"window": [32, 45, 32]}}, ("45",)),
        ({"input": {"orientation": "xyz"}, "backbone_training": {"mirror": True}}, ("xyz", "mirror")),
        ({"backbone_training": {"epoch": 5}}, ("epoch",)),
    ],
)
def test_what_would_stop_a_later_stage_stops_the_first_one(
    changes: dict[str, Any], named: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "r.json", tmp_path / "run"
    path.write_text(json.dumps(tiny_recipe(**changes)), encoding="utf-8")
    cases = tmp_path / "missing.csv"  # cases that do not exist: nothing is looked for before the recipe is right
    arguments = ["--run", str(run), "--recipe", str(path), "--cases", f"{cases}:train", "--select", f"{cases}:select"]
    assert main(["train-backbone", *arguments]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in (*named, str(path))), said
    assert "unexpected error" not in said
    assert said.count("\n") == 1
    assert not run.exists()


def test_a_head_without_parameters_is_refused_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SegWithULab.training.recipe_check.SegWithU", lambda *_: torch.nn.ReLU())
    with pytest.raises(InputError) as error:
        check_recipe(recipe(), "r.json")
    assert error.value.code == "wrong-recipe"


def test_a_structure_that_no_training_case_holds_is_named() -> None:
    labels = np.array([[[0, 1, 1]]], np.int16)
    case = PreparedCase("a", np.zeros((1, 1, 1, 3), np.float32), labels, (1, 1, 1), (3, 1, 1))
    with pytest.raises(InputError, match=r"No training case holds .*\(2\), which r.json names"):
        check_labels_occur(recipe(), [case], "r.json")
    labels[0, 0, 2] = 2
    check_labels_occur(recipe(), [case], "r.json")


def test_another_head_comes_with_its_texts_and_settings() -> None:
    given = recipe(about={"name": "better"}, head={"variant": "context"}, head_training={"patience": 3})
    assert with_another_head(recipe(), given, "new.json") == given
    changed = recipe(backbone_training={"epochs": 30})
    assert with_another_head(recipe(), changed, "new.json") == recipe(), "what trained the backbone stays"


@pytest.mark.parametrize("changes", [{"backbone": {"filters": [8, 16, 32]}}, {"input": {"window": [32, 48, 32]}}])
def test_a_recipe_for_another_backbone_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        with_another_head(recipe(), recipe(**changes), "new.json")
    assert (
        error.value.code == "other-recipe"
        and "new.json" in str(error.value)
        and next(iter(changes)) in str(error.value)
    )
