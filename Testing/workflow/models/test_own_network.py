"""A user's own network: its code is never part of a model, the user names the file, and a changed file is noticed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from segwithu_command import Command, entries, one_sentence, real_image
from training_runs import Workshop, tiny_recipe

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.network.backbones import user_network

NETWORK = """
from torch import nn


def make_network(in_channels, num_classes, width=4):
    return nn.Sequential(
        nn.Conv3d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, num_classes, 3, padding=1)
    )


def make_number(**_):
    return 7
"""
KIND = "python:make_network"


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every test begins like a new process of a user without settings."""
    monkeypatch.setattr(user_network, "_FILES", {})
    monkeypatch.setenv("SEGWITHU_NETWORKS", str(tmp_path / "networks.json"))
    yield


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    path = tmp_path / "my networks" / "net.py"
    path.parent.mkdir()
    path.write_text(NETWORK, encoding="utf-8")
    return path


def own_recipe(tmp_path: Path, **backbone: Any) -> Path:
    """The tiny recipe on a user's network, with a head on its last layer."""
    data = tiny_recipe(head={"taps": ["2"]}, backbone_training={"epochs": 1}, head_training={"epochs": 1})
    data["backbone"] = {"kind": KIND, **backbone}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def bundle(segwithu: Command, tmp_path: Path, network_file: Path) -> Path:
    """A bundle made of the user's own weights."""
    namespace: dict[str, Any] = {}
    exec(NETWORK, namespace)
    torch.manual_seed(0)
    torch.save(namespace["make_network"](1, 3).state_dict(), tmp_path / "mine.pt")
    call = ("import-checkpoint", tmp_path / "mine.pt", "--kind", "weights", "--recipe", own_recipe(tmp_path))
    place = f"{network_file}:make_network"
    outcome = segwithu(*call, "--output", tmp_path / "model", "--network", place)
    assert outcome.code == 0, outcome.err
    user_network._FILES.clear()
    return tmp_path / "model"


def test_a_bundle_names_the_network_and_carries_no_code(bundle: Path, network_file: Path) -> None:
    assert entries(bundle) == ["LICENSE.txt", "MODEL_CARD.md", "bundle.json", "weights.safetensors"]
    found = read_bundle(bundle)
    assert found.backbone.kind == KIND
    assert found.backbone.arguments == {"in_channels": 1, "num_classes": 3}
    assert found.about["network_file"] == "net.py"
    assert "def make_network" not in (bundle / "bundle.json").read_text(encoding="utf-8")


def test_without_the_file_one_sentence_says_what_to_do(
    bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    (bundle / "net.py").write_text(NETWORK, encoding="utf-8")  # a file in a model's folder is never run
    words = ("'make_network'", "--network FILE.py:make_network", "networks.json")
    one_sentence(segwithu.segment(real_image(data_folder), model=bundle, output=tmp_path / "out"), *words)
    one_sentence(segwithu("models", "verify", bundle, "--load"), *words)
    assert not (tmp_path / "out").exists()


def test_the_command_line_or_the_settings_file_says_where_the_network_is(
    bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path, network_file: Path
) -> None:
    image, place = real_image(data_folder), f"{network_file}:make_network"
    assert segwithu.segment(image, "--network", place, model=bundle, output=tmp_path / "a").code == 0
    user_network._FILES.clear()
    (tmp_path / "networks.json").write_text(json.dumps({"make_network": "my networks/net.py"}), encoding="utf-8")
    assert segwithu.segment(image, model=bundle, output=tmp_path / "b").code == 0
    cases = [next((tmp_path / name).iterdir()) for name in "ab"]
    first, second = (json.loads((case / "case.json").read_text(encoding="utf-8")) for case in cases)
    assert first["model"] == second["model"]
    assert first["model"]["network_sha256"] == read_bundle(bundle).about["network_sha256"]
    assert first["structures"] == second["structures"]


def test_a_changed_file_is_said_with_the_result(
    bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path, network_file: Path
) -> None:
    network_file.write_text(NETWORK.replace("nn.ReLU()", "nn.Tanh()"), encoding="utf-8")
    call = ("--network", f"{network_file}:make_network")
    outcome = segwithu.segment(real_image(data_folder), *call, model=bundle, output=tmp_path / "out")
    assert outcome.code == 0
    case = next((tmp_path / "out").iterdir())
    facts = json.loads((case / "case.json").read_text(encoding="utf-8"))
    (message,) = [warning["message"] for warning in facts["ood"]["warnings"] if "network file" in warning["message"]]
    assert message in outcome.err
    assert facts["model"]["network_sha256"] != read_bundle(bundle).about["network_sha256"]


@pytest.mark.parametrize(
    ("place", "words", "code"),
    [
        ("net.py", ("names no network", "FILE.py:FACTORY"), 2),
        ("net.txt:make_network", ("names no network",), 2),
        ("none.py:make_network", ("none.py does not exist",), 2),
        ("broken.py:make_network", ("broken.py cannot be run (SyntaxError",), 1),
        ("greedy.py:make_network", ("greedy.py cannot be run (ModuleNotFoundError", "no_such_package"), 1),
        ("net.py:make_other", ("--network FILE.py:make_network",), 1),
        ("empty.py:make_network", ("empty.py defines no make_network",), 1),
        ("number.py:make_network", ("makes a int: it must make a torch.nn.Module",), 1),
        ("picky.py:make_network", ("arguments of backbone 'python:make_network' do not fit",), 1),
    ],
)
def test_a_wrong_file_is_one_sentence(
    place: str, words: tuple[str, ...], code: int, bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    files = {"net.py": NETWORK, "net.txt": NETWORK, "broken.py": "def (", "greedy.py": "import no_such_package"}
    files |= {
        "empty.py": "",
        "number.py": "def make_network(**_):\n    return 7",
        "picky.py": "def make_network(): ...",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    call = ("--network", f"{tmp_path}/{place}")
    outcome = segwithu.segment(real_image(data_folder), *call, model=bundle, output=tmp_path / "out")
    one_sentence(outcome, *words, code=code)


def test_a_damaged_settings_file_is_named(bundle: Path, segwithu: Command, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text("[1, 2", encoding="utf-8")
    outcome = segwithu.segment(real_image(data_folder), model=bundle, output=tmp_path / "out")
    one_sentence(outcome, "networks.json is not valid JSON", "make_network")


def test_a_recipe_names_the_file_and_a_run_goes_on_only_with_the_same(
    segwithu: Command, data_folder: Path, tmp_path: Path, network_file: Path
) -> None:
    shop = Workshop(data_folder, tmp_path / "shop")
    path = own_recipe(tmp_path, file="my networks/net.py", arguments={"width": 6})
    run, cases = tmp_path / "run", ("--cases", f"{shop.table}:train", "--select", f"{shop.table}:select")
    outcome = segwithu("train-backbone", "--run", run, "--recipe", path, *cases, "--threads", "1")
    assert outcome.code == 0, outcome.err
    user_network._FILES.clear()
    outcome = segwithu("train-head", "--run", run, *cases, "--threads", "1")
    assert outcome.code == 0, outcome.err
    user_network._FILES.clear()
    outcome = segwithu("calibrate", "--run", run, "--cases", f"{shop.table}:calibration", "--output", tmp_path / "m")
    assert outcome.code == 0, outcome.err
    found = read_bundle(tmp_path / "m")
    assert found.backbone.arguments == {"in_channels": 1, "num_classes": 3, "width": 6}
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))["facts"]
    assert facts["network_sha256"] == found.about["network_sha256"]
    network_file.write_text(NETWORK + "\n# other", encoding="utf-8")
    outcome = segwithu("train-head", "--run", run, *cases, "--restart")
    one_sentence(outcome, "net.py is not what", "began with", "restore it")
