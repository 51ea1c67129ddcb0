"""A head trained on the backbone of a model that exists already: same machinery, same weights, licence handed on."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from segwithu_command import Command, entries, one_sentence, tiny_bundle
from training_runs import Workshop, tiny_recipe

from SegWithUCore.models.bundle import read_bundle
from SegWithULab.training.run_folder import RunFolder

pytestmark = pytest.mark.slow

LICENCE = "Permission is hereby granted by whoever trained it.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", calibrated=False)
    (folder / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def workshop(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(data_folder, tmp_path_factory.mktemp("workshop"))


def recipe(target: Path, model: Path | str, **changes: Any) -> Path:
    """A recipe on a model's backbone that takes input, labels and head from the model."""
    data = {"about": tiny_recipe()["about"] | {"name": "tiny-again"}, "backbone": {"model": str(model)}}
    settings = {"epochs": 2, "batch_size": 2, "learning_rate": 0.01, "seed": 3}
    target.write_text(json.dumps(data | {"head_training": settings} | changes), encoding="utf-8")
    return target


def train(segwithu: Command, workshop: Workshop, run: Path, *more: str | Path) -> Any:
    cases = ("--cases", f"{workshop.table}:train", "--select", f"{workshop.table}:select", "--threads", "1")
    return segwithu("train-head", "--run", run, *cases, *more)


def test_a_head_is_trained_on_the_models_backbone_which_stays_as_it_is(
    segwithu: Command, workshop: Workshop, model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    outcome = train(segwithu, workshop, run, "--recipe", recipe(tmp_path / "r.json", model))
    assert outcome.code == 0, outcome.err
    assert train(segwithu, workshop, run, "--resume", "--epochs", "3").code == 0
    assert len((run / "head_log.csv").read_text().splitlines()) == 4
    assert json.loads((run / "run.json").read_text())["recipe"]["head_training"]["epochs"] == 3
    RunFolder(run).check_finished("head")
    made = tmp_path / "made"
    outcome = segwithu("calibrate", "--run", run, "--cases", f"{workshop.table}:calibration", "--output", made)
    assert outcome.code == 0, outcome.err
    old, new = (load_file(folder / "weights.safetensors") for folder in (model, made))
    assert set(old) == set(new)
    for name, tensor in old.items():
        assert (name.startswith("backbone.")) == bool((tensor == new[name]).all()) or name.endswith("offset"), name
    bundle, first = read_bundle(made), read_bundle(model)
    assert bundle.backbone == first.backbone
    assert (bundle.input, bundle.labels, bundle.name) == (first.input, first.labels, "tiny-again")
    assert bundle.about["origin"] == f"from the model tiny {first.about['version']} (SHA-256 {first.weights_sha256})"
    assert bundle.ood_reference is not None
    assert bundle.ood_reference["cases"] == 6
    assert LICENCE in (made / "LICENSE.txt").read_text(encoding="utf-8")
    assert "not trained here: from the model tiny" in (made / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_recipe_may_give_its_own_head_and_window(
    segwithu: Command, workshop: Workshop, model: Path, tmp_path: Path
) -> None:
    head = {"variant": "paper", "taps": ["output_block"], "feature_channels": 4, "probes": 4, "aleatoric": False}
    path = recipe(tmp_path / "r.json", model, head=head, head_training={"epochs": 1, "batch_size": 6})
    assert train(segwithu, workshop, tmp_path / "run", "--recipe", path).code == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["head"] == head


def test_wrong_calls_are_one_sentence_and_leave_the_run_alone(
    segwithu: Command, workshop: Workshop, model: Path, tmp_path: Path
) -> None:
    run, path = tmp_path / "run", recipe(tmp_path / "r.json", model)
    other = recipe(tmp_path / "other.json", model, backbone={"kind": "dynunet", "filters": [4, 4, 8]})
    calls: list[tuple[tuple[str | Path, ...], tuple[str, ...], int]] = [
        (("--recipe", path, "--resume"), ("holds no run", "leave out --resume"), 2),
        (("--recipe", other), ("other.json names no model", "train-backbone"), 1),
        (("--recipe", recipe(tmp_path / "no.json", "nobody")), ("nobody", "choose one of brain, hippocampus"), 2),
        (("--recipe", recipe(tmp_path / "w.json", model, heads={})), ("w.json does not fit a recipe", "'heads'"), 1),
        ((), ("is not a training run", "train-head --recipe"), 1),
    ]
    for more, words, code in calls:
        one_sentence(train(segwithu, workshop, run, *more), *words, code=code)
        assert not run.exists()
    assert train(segwithu, workshop, run, "--recipe", path, "--epochs", "1").code == 0
    before = entries(run)
    one_sentence(train(segwithu, workshop, run, "--recipe", path), "holds a head already", "--resume")
    (run / "head_last.pt").unlink()
    one_sentence(train(segwithu, workshop, run, "--recipe", path), "holds a run already", "--restart")
    assert sorted([*entries(run), "head_last.pt"]) == before
    assert train(segwithu, workshop, run, "--recipe", path, "--restart", "--epochs", "1").code == 0
    call = ("train-backbone", "--run", tmp_path / "b", "--cases", f"{workshop.table}:train")
    outcome = segwithu(*call, "--select", f"{workshop.table}:select", "--recipe", path)
    one_sentence(outcome, "r.json takes its backbone from the model", "train-head")
