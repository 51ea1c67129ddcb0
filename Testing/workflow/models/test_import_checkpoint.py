"""Weights that were trained elsewhere come in through one door, and leave as a bundle that says what it is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from convert import convert, main
from repository import ROOT
from safetensors.torch import load_file, save_file
from segwithu_command import Command, entries, one_sentence

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.segment import checked_against_training
from SegWithUCore.inference.settings import RunSettings
from SegWithUCore.models.bundle import Bundle, read_bundle
from SegWithUCore.models.bundle_network import load_network
from SegWithUCore.models.input_spec import Normalisation

RECIPE = ROOT / "examples" / "brainchop" / "recipes" / "meshnet_tissue_light.json"
AUTHORS_NETWORK = {"kind": "dynunet", "filters": [4, 8, 16, 16, 16]}
AUTHORS_HEAD = {
    "variant": "paper",
    "taps": ["upsamples.1.conv_block", "upsamples.2.conv_block", "output_block"],
    "feature_channels": 4,
    "probes": 8,
    "aleatoric": True,
}
CLOSE = 4e-5
"""Measured with reasons in `test_reference_vectors.py`."""


def meshnet(data_folder: Path, name: str = "model5_gw_ae") -> Path:
    return data_folder / "meshnet" / name / "model.json"


def imported_meshnet(segwithu: Command, model: Path, path: Path, target: Path, *more: str | Path) -> Bundle:
    """The bundle of a converted network."""
    weights, completed = convert(model, path, target.with_name("converted"))
    return imported(segwithu, weights, "weights", completed, target, *more)


def recipe(target: Path, source: Path = RECIPE, **changes: Any) -> Path:
    """A shipped recipe with some blocks exchanged, or left out where they are None."""
    data = json.loads(source.read_text(encoding="utf-8")) | changes
    target.write_text(json.dumps({k: v for k, v in data.items() if v is not None}), encoding="utf-8")
    return target


def four_labels() -> list[dict[str, Any]]:
    return [{"value": i, "name": f"class {i}", "color": [i, i, i]} for i in range(4)]


def imported(segwithu: Command, source: Path, kind: str, recipe_file: Path, target: Path, *more: str | Path) -> Bundle:
    outcome = segwithu("import-checkpoint", source, "--kind", kind, "--recipe", recipe_file, "--output", target, *more)
    assert outcome.code == 0, outcome.err
    assert "not calibrated" in outcome.out
    return read_bundle(target)


def test_the_bundle_of_a_meshnet_is_whole_and_says_what_it_is_not(
    segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    licence = data_folder / "meshnet" / "LICENSE"
    bundle = imported_meshnet(segwithu, meshnet(data_folder), RECIPE, tmp_path / "m", "--licence", licence)
    assert entries(tmp_path / "m") == ["LICENSE.txt", "MODEL_CARD.md", "bundle.json", "weights.safetensors"]
    assert (tmp_path / "m" / "LICENSE.txt").read_text() == licence.read_text()
    assert bundle.calibration is None
    assert not bundle.default_head.trained
    assert bundle.about["origin"].startswith("imported from converted/weights.safetensors (weights, SHA-256 ")
    assert bundle.about["converted_from"].startswith("model5_gw_ae/model.json of TensorFlow.js, SHA-256 ")
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("not trained here", "not trained: its ranking map", "not calibrated"):
        assert words in card
    assert segwithu("models", "verify", tmp_path / "m", "--load").out == "meshnet-tissue-light: whole\n"
    image = sitk.Image(64, 64, 64, sitk.sitkFloat32)
    job = Job("head", [], tmp_path / "case", RunSettings(roi=(0, 0, 0, 30, 30, 30)))
    (warning,) = checked_against_training([image], bundle, job)
    assert "leave out the region" in warning.message
    assert checked_against_training([image], bundle, replace(job, settings=RunSettings())) == []


def test_the_codes_of_the_tissues_are_those_of_the_dicom_dictionary() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    for name in ("meshnet_tissue", "meshnet_tissue_light"):
        labels = json.loads((RECIPE.parent / f"{name}.json").read_text(encoding="utf-8"))["labels"]
        assert [label["name"] for label in labels] == ["background", "white matter", "grey matter"]
        for label, keyword in zip(labels[1:], ("WhiteMatter", "GrayMatter"), strict=True):
            assert concepts[keyword][label["type"]["value"]][0] == label["type"]["meaning"]
            assert concepts["Tissue"][label["category"]["value"]][0] == label["category"]["meaning"]


def test_a_real_t1_is_segmented_plausibly_and_not_calibrated(
    segwithu: Command, data_folder: Path, full_data_folder: Path, tmp_path: Path
) -> None:
    """96 slices through the thalamus, one window: in a T1 white matter is brighter than grey, and both than fluid."""
    image = sitk.ReadImage(str(full_data_folder / "meshnet" / "t1_crop.nii.gz"))[48:208, 60:156, 80:176]
    sitk.WriteImage(image, str(tmp_path / "t1.nii.gz"))
    blocks = json.loads(RECIPE.read_text(encoding="utf-8"))["input"] | {"window": [160, 96, 96]}
    path = recipe(tmp_path / "recipe.json", input=blocks)
    imported_meshnet(segwithu, meshnet(data_folder), path, tmp_path / "m")
    outcome = segwithu.segment(tmp_path / "t1.nii.gz", model=tmp_path / "m", output=tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "not calibrated" in outcome.out
    assert "is not trained" in outcome.err
    case = tmp_path / "out" / "t1"
    assert not (case / "error_probability.nii.gz").exists()
    facts = json.loads((case / "case.json").read_text(encoding="utf-8"))
    assert facts["model"]["calibrated"] is False
    assert facts["model"]["head_trained"] is False
    assert any("not trained" in warning["message"] for warning in facts["ood"]["warnings"])
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "segmentation.nii.gz")))
    voxels = sitk.GetArrayFromImage(image)
    white, grey = (np.median(voxels[labels == value]) for value in (1, 2))
    assert white > grey + 20 > 80
    shares = [float((labels == value).mean()) for value in (1, 2)]
    assert all(0.1 < share < 0.4 for share in shares), shares
    left, right = labels[..., :80], labels[..., :79:-1]  # both sides alike: the axes are not mixed up
    for value in (1, 2):
        assert 0.8 < (left == value).sum() / (right == value).sum() < 1.25


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 100, [0, 0.25, 1]), (0, 50, [0, 1, 4]), (50, 100, [-1 / 3, 0, 1])]
)
def test_the_range_between_two_percentiles_becomes_zero_to_one(low: float, high: float, expected: list[float]) -> None:
    found = Normalisation("range", low, high)(np.array([0.0, 50.0, 200.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.other_machine
def test_an_authors_checkpoint_becomes_a_bundle_that_gives_their_outputs(
    segwithu: Command, reference_head: Path, tmp_path: Path
) -> None:
    folder = reference_head
    blocks = json.loads(RECIPE.read_text(encoding="utf-8"))["input"]
    spec = blocks | {"window": [32, 32, 32], "orientation": "RAS"}
    path = recipe(
        tmp_path / "recipe.json", labels=four_labels(), input=spec, backbone=AUTHORS_NETWORK, head=AUTHORS_HEAD
    )
    source = folder / "d_checkpoint_as_the_authors_write_it.safetensors"
    bundle = imported(segwithu, source, "segwithu", path, tmp_path / "m")
    assert (bundle.default_head.trained, bundle.calibration) == (True, None)
    expected = {k: torch.from_numpy(v) for k, v in np.load(folder / "d_checkpoint_expected.npz").items()}
    with torch.no_grad():
        logits, maps = load_network(bundle)(expected["x"])
    torch.testing.assert_close(logits, expected["logits"], atol=CLOSE, rtol=0)
    torch.testing.assert_close(maps.calibration, expected["cal"], atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.ranking, expected["rnk"], atol=2 * CLOSE, rtol=0)
    torch.testing.assert_close(maps.epistemic, expected["epi"], atol=1e-5, rtol=0)


def test_the_converter_writes_what_import_checkpoint_takes_or_says_what_is_wrong(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh, target = str(meshnet(data_folder)), tmp_path / "converted"
    assert main([mesh, "--recipe", str(RECIPE), "--output", str(target)]) == 0
    assert f"import-checkpoint {target / 'weights.safetensors'} --kind weights" in capsys.readouterr().out
    assert entries(target) == ["recipe.json", "weights.safetensors"]
    unet = recipe(tmp_path / "d.json", backbone={"kind": "dynunet", "filters": [4, 8, 8]})
    wrong: list[tuple[Path | str, Path, tuple[str, ...]]] = [
        (mesh, unet, ("holds a meshnet", "is a dynunet")),
        (target / "weights.safetensors", RECIPE, ("is not valid JSON", "model.json")),
        (tmp_path, RECIPE, ("is a folder", "model.json")),
        (mesh, tmp_path / "none.json", ("none.json does not exist",)),
    ]
    for model, path, words in wrong:
        assert main([str(model), "--recipe", str(path), "--output", str(tmp_path / "not")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert all(word in line for word in words)
        assert not (tmp_path / "not").exists()


@pytest.mark.other_machine
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_plain_weights_of_a_known_backbone_get_an_untrained_head(
    suffix: str, segwithu: Command, reference_head: Path, tmp_path: Path
) -> None:
    full = load_file(reference_head / "d_checkpoint_as_the_authors_write_it.safetensors")
    kept = {k.removeprefix("backbone."): t for k, t in full.items() if k.startswith("backbone.") and "heads" not in k}
    source = tmp_path / f"weights{suffix}"
    save_file(kept, source) if suffix == ".safetensors" else torch.save(kept, source)
    head = {"taps": ["output_block"], "variant": "paper", "feature_channels": 4, "probes": 4, "aleatoric": False}
    spec = json.loads(RECIPE.read_text(encoding="utf-8"))["input"] | {"window": [32, 32, 32]}
    backbone = {"kind": "dynunet", "filters": [4, 8, 16, 16, 16]}
    path = recipe(tmp_path / "r.json", labels=four_labels(), input=spec, backbone=backbone, head=head)
    bundle = imported(segwithu, source, "weights", path, tmp_path / "m")
    assert not bundle.default_head.trained
    expected = np.load(reference_head / "d_checkpoint_expected.npz")
    with torch.no_grad():
        logits = load_network(bundle)(torch.from_numpy(expected["x"]))[0]
    torch.testing.assert_close(logits, torch.from_numpy(expected["logits"]), atol=CLOSE, rtol=0)


class Touches:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_wrong_calls_and_foreign_files_are_one_sentence_and_leave_nothing(
    segwithu: Command, data_folder: Path, reference_head: Path, tmp_path: Path
) -> None:
    authors = reference_head / "d_checkpoint_as_the_authors_write_it.safetensors"
    mesh = meshnet(data_folder)
    weights, path = convert(mesh, RECIPE, tmp_path / "converted")
    torch.save({"a": Touches(tmp_path / "touched")}, tmp_path / "evil.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "list.pt").read_bytes()[:100])
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    head = json.loads(RECIPE.read_text(encoding="utf-8"))["head"]
    unet = {"kind": "dynunet", "filters": [4, 8, 8]}
    dynunet = recipe(tmp_path / "d.json", backbone=unet, head=head | {"taps": ["output_block"]})
    taps = head | {"taps": ["layers.30"]}
    calls: list[tuple[Path, str, Path, tuple[str, ...]]] = [
        (
            weights,
            "weights",
            recipe(tmp_path / "two.json", path, labels=four_labels()[:2]),
            ("two.json", "3 classes for 2 labels"),
        ),
        (weights, "weights", recipe(tmp_path / "t.json", path, head=taps), ("t.json", "'layers.30'", "layers.6")),
        (
            weights,
            "weights",
            recipe(tmp_path / "a.json", path, about=None),
            ("a.json does not fit", "'about' is a required"),
        ),
        (weights, "weights", tmp_path / "none.json", ("none.json does not exist",)),
        (weights, "weights", tmp_path / "list.json", ("list.json is not a recipe",)),
        (mesh, "segwithu", path, ("not a whole safetensors file",)),
        (tmp_path, "weights", path, ("is a folder", "--kind weights")),
        (authors, "segwithu", path, ("do not fit", "missing")),
        (authors, "weights", dynunet, ("do not fit", "missing")),
        (tmp_path / "evil.pt", "weights", dynunet, ("evil.pt", "holds more than weights", "state_dict()")),
        (tmp_path / "cut.pt", "weights", dynunet, ("cut.pt", "holds more than weights")),
        (tmp_path / "list.pt", "weights", dynunet, ("list.pt", "state_dict() alone")),
        (tmp_path / "no.pt", "weights", dynunet, ("no.pt does not exist",)),
    ]
    for source, kind, recipe_file, words in calls:
        outcome = segwithu(
            "import-checkpoint", source, "--kind", kind, "--recipe", recipe_file, "--output", tmp_path / "m"
        )
        one_sentence(outcome, *words)
        assert not (tmp_path / "m").exists()
    assert not (tmp_path / "touched").exists()
    call = ("import-checkpoint", mesh, "--kind", "weights", "--output", tmp_path / "m")
    one_sentence(segwithu(*call), "arguments are required: --recipe", code=2)
    (tmp_path / "m").mkdir()
    one_sentence(segwithu(*call, "--recipe", RECIPE), "exists already", "--overwrite")
    assert not list((tmp_path / "m").iterdir())
