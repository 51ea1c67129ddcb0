"""Several heads in one bundle: each with its own calibration, the paper's selectable beside ours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from training_runs import Workshop, tiny_recipe

from SegWithUCore.cli.__main__ import main
from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import read_bundle, with_head
from SegWithUCore.models.bundle_files import verify_weights
from SegWithUCore.models.bundle_network import further_heads
from SegWithUCore.network.heads.context import ContextHead
from SegWithUCore.network.heads.paper import PaperHead
from SegWithUCore.util.errors import InputError
from SegWithULab.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("threads_and_signals_as_before")]


@pytest.fixture(scope="module")
def workshop(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Holds the bundles `paper`, and `both`: a context head of the same backbone, with the paper's beside it."""
    shop = Workshop(data_folder, tmp_path_factory.mktemp("heads"))
    recipe = tiny_recipe(backbone_training={"epochs": 4}, head_training={"epochs": 1})
    assert shop.train("backbone", "run", recipe=recipe) == shop.train("head", "run") == 0
    cases = ["--cases", f"{shop.table}:calibration"]
    assert main(["calibrate", "--run", f"{shop.folder / 'run'}", *cases, "--output", f"{shop.folder / 'paper'}"]) == 0
    again = {**recipe, "backbone": {"model": str(shop.folder / "paper")}}
    again["head"] = {**recipe["head"], "variant": "context"}
    (shop.folder / "context.json").write_text(json.dumps(again), encoding="utf-8")
    assert shop.train("head", "context-run", "--recipe", str(shop.folder / "context.json")) == 0
    arguments = [
        "calibrate",
        "--run",
        f"{shop.folder / 'context-run'}",
        *cases,
        "--heads-of",
        f"{shop.folder / 'paper'}",
    ]
    assert main([*arguments, "--output", f"{shop.folder / 'both'}"]) == 0
    return shop


def test_each_head_of_a_bundle_has_its_own_calibration(workshop: Workshop) -> None:
    paper, both = read_bundle(workshop.folder / "paper"), read_bundle(workshop.folder / "both")
    verify_weights(both)
    assert [(head.name, head.default) for head in both.heads] == [("context", True), ("paper", False)]
    chosen = with_head(both, "paper")
    assert (chosen.calibration, chosen.display) == (paper.calibration, paper.display)
    assert with_head(chosen, "context").to_json()["calibration"] == both.calibration
    assert with_head(both, None) is both


def test_the_paper_s_head_comes_along_exactly(workshop: Workshop) -> None:
    device = torch.device("cpu")
    alone, beside = (Model(read_bundle(workshop.folder / name), device, "paper") for name in ("paper", "both"))
    assert isinstance(beside.network.head, PaperHead)
    assert isinstance(Model(read_bundle(workshop.folder / "both"), device).network.head, ContextHead)
    for name, tensor in alone.network.state_dict().items():
        assert torch.equal(tensor, beside.network.state_dict()[name]), name


def test_segmenting_with_another_head_uses_its_calibration(workshop: Workshop, tmp_path: Path) -> None:
    image = str(workshop.table.parent / "images" / f"{workshop.names[-1]}.nii.gz")
    for output, model, head in (("alone", "paper", []), ("beside", "both", ["--head", "paper"]), ("ours", "both", [])):
        arguments = [
            "segment",
            image,
            "--model",
            str(workshop.folder / model),
            "--output",
            str(tmp_path / output),
            "--engine",
            "torch",
        ]
        assert main([*arguments, *head]) == 0
    found = {}
    for output in ("alone", "beside", "ours"):
        case = tmp_path / output / workshop.names[-1]
        names = ("segmentation", "error_probability", "ranking")
        found[output] = [sitk.GetArrayFromImage(sitk.ReadImage(str(case / f"{name}.nii.gz"))) for name in names]
        model = json.loads((case / "case.json").read_text(encoding="utf-8"))["model"]
        assert model["calibrated"] is True
        assert model["head"] == ("context" if output == "ours" else "paper")
    for alone, beside in zip(found["alone"], found["beside"], strict=True):
        np.testing.assert_array_equal(alone, beside)
    np.testing.assert_array_equal(found["ours"][0], found["alone"][0])  # one backbone, one segmentation
    assert not np.array_equal(found["ours"][2], found["alone"][2])


def test_heads_of_another_backbone_are_refused(workshop: Workshop) -> None:
    bundle = read_bundle(workshop.folder / "paper")
    backbone = RunFolder(workshop.folder / "run").load_best("backbone")
    first = next(iter(backbone))
    with pytest.raises(InputError, match="has another backbone"):
        further_heads(bundle, {**backbone, first: backbone[first] + 1}, "context")
    with pytest.raises(InputError, match="no head besides 'paper'"):
        further_heads(bundle, backbone, "paper")


def test_an_unknown_head_is_refused_with_the_names_of_those_there(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(workshop.table.parent / "images" / f"{workshop.names[-1]}.nii.gz")
    model = str(workshop.folder / "both")
    assert main(["segment", image, "--model", model, "--head", "other", "--output", str(tmp_path / "out")]) == 1
    assert "has no head 'other': choose one of context, paper" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_a_damaged_calibration_of_a_further_head_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    shutil.copytree(workshop.folder / "both", tmp_path / "both")
    path = tmp_path / "both" / "bundle.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["heads"][1]["calibration"]["error_probability"]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="does not fit the bundle format at heads/1/calibration"):
        read_bundle(tmp_path / "both")
