"""`segwithu models import MODEL.onnx`: what the network gives, what is refused, and a calibration without a head."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from onnx_files import STEEPNESS, THRESHOLD, network, specification, write_network
from segwithu_command import Command, entries, refused

from SegWithUCore.case.case_file import read_case
from SegWithUCore.inference.engines.openvino_engine import OpenVINOEngine
from SegWithUCore.models.bundle import read_bundle


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def image(file: Path, array: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.float32)), str(file))
    return file


def bright(folder: Path, number: int = 0) -> tuple[Path, Path]:
    """A noisy ball, and its reference: values near the threshold are often wrong."""
    random = np.random.default_rng(number)
    z, y, x = np.mgrid[:20, :30, :40]
    centre = np.add(random.uniform(-3, 3, 3), (10, 15, 20))
    truth = sum((axis - middle) ** 2 for axis, middle in zip((z, y, x), centre, strict=True)) < 49
    values = 0.25 + 0.5 * truth + random.normal(0, 0.12, truth.shape)
    (folder / "images").mkdir(exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    reference = folder / "labels" / f"case_{number}.nii.gz"
    made = sitk.GetImageFromArray(truth.astype(np.uint8))
    sitk.WriteImage(made, str(reference))
    picture = sitk.GetImageFromArray(values.astype(np.float32))
    sitk.WriteImage(picture, str(folder / "images" / f"case_{number}.nii.gz"))
    return folder / "images" / f"case_{number}.nii.gz", reference


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "logits": ({}, {}),
    "probabilities": ({"softmax": True}, {"output": "probabilities"}),
    "one channel": ({"classes": 1}, {}),
    "one probability": ({"classes": 1, "softmax": True}, {"output": "probabilities"}),
    "dynamic sizes": ({"window_zyx": ("z", "y", "x")}, {}),
    "slices": ({"window_zyx": (16, 16)}, {"window": (16, 16, 1)}),
    "slices with dynamic sizes": (
        {"window_zyx": ("y", "x"), "softmax": True}, {"window": (16, 16, 1), "output": "probabilities"}
    ),
    "a named output": ({"outputs": ("other", "seg")}, {"output_name": "seg"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_classes_and_probabilities_are_those_of_the_network(segwithu: Command, tmp_path: Path, kind: str) -> None:
    made, said = KINDS[kind]
    file = write_network(tmp_path, network(**made), specification(**said))
    outcome = segwithu("models", "import", file)
    assert outcome.code == 0, outcome.err
    assert "Found an ONNX network of bright. bright 1.0.0" in outcome.out
    assert segwithu("models", "verify", "bright", "--load").code == 0
    given, _ = bright(tmp_path)
    outcome = segwithu("segment", given, "--model", "bright", "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(given)))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "case_0" / "segmentation.nii.gz")))
    clear = abs(values - THRESHOLD) > 1e-4
    assert (found == (values > THRESHOLD))[clear].all()
    assert read_case(tmp_path / "out" / "case_0")["engine"]["name"] == "openvino"
    assert not (tmp_path / "out" / "case_0" / "calibration.nii.gz").exists()
    ranking = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "case_0" / "ranking.nii.gz")))
    odds = -STEEPNESS * abs(values - THRESHOLD)  # of an error: that of a softmax of two classes
    assert np.abs(ranking - odds)[clear].max() < 2e-3


def test_the_maps_are_exact_where_a_probability_rounds_to_one(segwithu: Command, tmp_path: Path, models: Path) -> None:
    file = write_network(tmp_path, network(classes=4), specification(labels=4))
    assert segwithu("models", "import", file).code == 0
    engine = OpenVINOEngine(read_bundle(models / "bright-1.0.0"))
    chunk = np.random.default_rng(0).normal(0, 20, (4, 5000)).astype(np.float32)
    maps, exact = engine.maps(chunk, 2.0), np.sort(chunk.astype(np.float64), 0)
    odds = np.log(np.exp(exact[:-1] - exact[-1]).sum(0))
    assert np.abs(maps.ranking - odds).max() < 1e-4
    assert (maps.classes == chunk.argmax(0)).all() and (maps.runner_up == chunk.argsort(0)[-2]).all()
    assert np.allclose(maps.epistemic, np.exp(odds) / (1 + np.exp(odds)), atol=1e-6)
    tempered = np.exp(chunk / 2.0 - chunk.max(0) / 2.0)
    assert np.allclose(maps.sums.expected, (tempered / tempered.sum(0)).sum(1), rtol=1e-4)


REFUSED: dict[str, tuple[bytes, Mapping[str, Any], str, tuple[str, ...]]] = {
    "no ONNX": (b"PK\x03\x04 no network" * 9, {}, "unusable-onnx", ("bright.onnx",)),
    "truncated": (network()[:-40], {}, "unusable-onnx", ("bright.onnx",)),
    "empty": (b"", {}, "unusable-onnx", ("bright.onnx",)),
    "weights in another file": (network(elsewhere="../secret.bin"), {}, "unusable-onnx", ("external_data=False",)),
    "an unknown operation": (network(last=("Invented", "")), {}, "unusable-onnx", ("Invented",)),
    "an operation of another domain": (network(last=("Relu", "com.acme")), {}, "unusable-onnx", ("com.acme",)),
    "an operation that graphs do not have": (network(last=("Acos", "")), {}, "unusable-onnx", ("Acos",)),
    "another window": (network((8, 16, 24)), {}, "unusable-onnx", ("24", "16")),
    "another number of channels": (network(channels=2), {}, "unusable-onnx", ("[1,2,8,16,16]",)),
    "another number of labels": (network(classes=3), {}, "unusable-onnx", ("3", "2 labels")),
    "slices for a volume": (network((16, 16)), {}, "unusable-onnx", ("[x, y, 1]",)),
    "several outputs": (network(outputs=("a", "b")), {}, "unusable-onnx", ("a, b", "output_name")),
    "an output that is not there": (network(), {"output_name": "seg"}, "unusable-onnx", ("logits",)),
    "labels, not logits": (network(last=("Not", "")), {}, "unusable-onnx", ("bright.onnx",)),
    "probabilities called logits": (network(softmax=True), {}, "unusable-onnx", ("probabilities, not logits",)),
    "logits called probabilities": (network(), {"output": "probabilities"}, "unusable-onnx", ("not probabilities",)),
    "NaN in its weights": (network(bias=float("nan")), {}, "unusable-weights", ()),
    "an unknown output": (network(), {"output": "sigmoid"}, "wrong-spec", ("sigmoid",)),
    "an unknown block": (network(), {"outputs": "logits"}, "wrong-spec", ("outputs",)),
    "a missing label": (network(), {"labels": 1}, "wrong-spec", ("labels",)),
    "no name": (network(), {"about": {"version": "1"}}, "wrong-spec", ("about",)),
    "a name of a folder": (network(), {"about": {**specification()["about"], "name": "../x"}}, "wrong-spec", ("name",)),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_taken_is_one_sentence_and_leaves_nothing(
    segwithu: Command, tmp_path: Path, models: Path, fault: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    content, changes, code, named = REFUSED[fault]
    file = write_network(tmp_path, content, specification(**changes))
    refused(segwithu("models", "import", file), code, *named)
    assert entries(models) == []


def test_sizes_and_missing_specifications_are_refused(
    segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_network(tmp_path)
    (tmp_path / "elsewhere.json").write_bytes(file.with_suffix(".json").read_bytes())
    file.with_suffix(".json").unlink()
    refused(segwithu("models", "import", file), "wrong-spec", "bright.json", "--spec")
    refused(segwithu("models", "import", file, "--spec", tmp_path / "none.json"), "missing-file", "none.json")
    with monkeypatch.context() as patch:
        patch.setattr("SegWithUCore.inference.engines.onnx_graphs.MAXIMUM_BYTES", 50)
        refused(segwithu("models", "import", file, "--spec", tmp_path / "elsewhere.json"), "large-file", "bright.onnx")
    assert segwithu("models", "import", file, "--spec", tmp_path / "elsewhere.json").code == 0
    refused(segwithu("models", "import", file, "--spec", tmp_path / "elsewhere.json"), "exists-already")


@pytest.mark.parametrize("name", ["weights.safetensors", "graph_window.xml", "graph_maps.xml", "graph_constants.bin"])
def test_a_changed_file_of_an_imported_network_is_refused(
    segwithu: Command, tmp_path: Path, models: Path, name: str
) -> None:
    assert segwithu("models", "import", write_network(tmp_path)).code == 0
    changed = models / "bright-1.0.0" / name
    changed.write_bytes(changed.read_bytes()[:-1] + b" ")
    refused(segwithu("models", "verify", "bright"), "damaged-bundle", name)
    given, _ = bright(tmp_path)
    refused(segwithu("segment", given, "--model", "bright", "--output", tmp_path / "out"), "damaged-bundle", name)


def test_what_needs_torch_says_that_an_onnx_network_has_none(segwithu: Command, tmp_path: Path) -> None:
    assert segwithu("models", "import", write_network(tmp_path)).code == 0
    refused(segwithu("models", "compile", "bright"), "no-torch-network", "bright", code=2)
    given, _ = bright(tmp_path)
    call = ("segment", given, "--model", "bright", "--output", tmp_path / "out", "--engine", "torch")
    refused(segwithu(*call), "contradicting-options", "openvino", code=2)


def test_a_calibration_gives_an_error_probability_without_a_head(segwithu: Command, tmp_path: Path) -> None:
    """Where the image is worse the network errs more: the second stage, which sees the image, is to learn it."""
    assert segwithu("models", "import", write_network(tmp_path)).code == 0
    rows = ["case,role", *(f"case_{number},{'labelled' if number < 10 else 'new'}" for number in range(13))]
    for number in range(13):
        bright(tmp_path, number)
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    cases, out = tmp_path / "cases.csv", tmp_path / "calibrated"
    outcome = segwithu("calibrate", "--model", "bright", "--cases", f"{cases}:labelled", "--output", out)
    assert outcome.code == 0, outcome.err
    assert "in " + str(out) in outcome.out
    bundle = read_bundle(out)
    assert bundle.calibration is not None and bundle.graphs is not None
    outcome = segwithu("evaluate", "--model", out, "--cases", f"{cases}:new", "--output", tmp_path / "found.json")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert 0.8 < found["comparisons"]["wrong voxels, expected / true"] < 1.25
    given = tmp_path / "images" / "case_12.nii.gz"
    assert segwithu("segment", given, "--model", out, "--output", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "case_12" / "error_probability.nii.gz").is_file()
