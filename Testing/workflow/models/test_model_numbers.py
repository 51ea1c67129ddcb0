"""Models with numbers that cannot be: NaN, infinite or complex weights, absurd fields, labels beyond a label file."""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_results import nnunets_network, plans, write_result_folder
from safetensors.torch import load_file, save_file
from segwithu_command import MODEL, Command, changed_description, entries, one_sentence, real_image, refused
from tfjs_files import convolution, write_model
from tfjs_weights import read_tfjs_layers

from SegWithUCore.case.case_regions import label_values
from SegWithUCore.models.bundle import block_sha256, file_sha256, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.models.input_spec import HIGHEST_LABEL
from SegWithUCore.network.backbones import MAXIMUM_PARAMETERS, build_backbone
from SegWithUCore.network.specs import dynunet_spec
from SegWithUCore.network.weights import checked_tensors, read_state_dict
from SegWithUCore.util.errors import InputError

WEIGHTS = "weights.safetensors"
TENSOR = "backbone.input_block.conv1.conv.weight"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "models" / "tiny"))


def spoilt(tensor: torch.Tensor, value: float) -> torch.Tensor:
    """A copy with one number replaced."""
    changed = tensor.clone()
    changed.view(-1)[1] = value
    return changed


TENSORS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "NaN": (lambda t: spoilt(t, math.nan), "NaN"),
    "infinite": (lambda t: spoilt(t, -math.inf), "infinite"),
    "complex": (lambda t: t.to(torch.complex64), "complex"),
    "whole numbers": (lambda t: t.to(torch.int32), "int32"),
    "too large for float32": (lambda t: t.double() * 1e300, "infinite"),
    "other shape": (lambda t: t[:1].clone(), "shape"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_of_a_bundle_that_are_no_weights_are_named(kind: str, segwithu: Command, copy: Path) -> None:
    change, words = TENSORS[kind]
    tensors = load_file(copy / WEIGHTS)
    save_file({**tensors, TENSOR: change(tensors[TENSOR])}, copy / WEIGHTS)
    changed_description(copy, "weights_sha256", file_sha256(copy / WEIGHTS))
    expected = (str(copy / WEIGHTS), TENSOR.removeprefix("backbone."), words)
    one_sentence(segwithu("models", "verify", copy, "--load"), *expected)
    if kind not in ("whole numbers", "other shape"):  # only the network tells what it needs
        one_sentence(segwithu("models", "verify", copy), *expected)


@pytest.mark.parametrize("kind", ["NaN", "infinite", "complex"])
def test_such_weights_are_not_imported_or_written(kind: str, segwithu: Command, tmp_path: Path) -> None:
    change, words = TENSORS[kind]
    network = nnunets_network(plans())
    name = "decoder.seg_layers.2.weight"
    weights = network.state_dict()
    folder = write_result_folder(
        tmp_path / "n", network=network, network_weights={**weights, name: change(weights[name])}
    )
    outcome = segwithu("import-nnunet", folder, "--output", tmp_path / "out" / "bundle")
    one_sentence(outcome, "checkpoint_final.pth", name, words)
    assert entries(tmp_path / "out") == []
    torch.save({"a": torch.zeros(2), "b": change(torch.ones(2))}, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state.pt has no usable weights: .b. .*\[unusable-weights\]"):
        read_state_dict(tmp_path / "state.pt")
    if kind != "complex":
        with pytest.raises(InputError, match=r"'backbone\.b. holds"):
            write_weights(tmp_path, {"b": change(torch.ones(2))}, {})
        assert not (tmp_path / WEIGHTS).exists()


def test_a_tensor_that_repeats_one_number_costs_no_time_and_small_numbers_pass() -> None:
    huge = torch.tensor([math.inf]).expand(10**6, 10**6)
    with pytest.raises(InputError, match="NaN or infinite"):
        checked_tensors({"huge": huge}, "f")
    fine = {"half": torch.ones(3).half(), "counted": torch.tensor(7), "none": torch.zeros(0), "one": torch.tensor(1.0)}
    assert checked_tensors(fine, "f") == fine


def test_nan_in_the_weights_of_tensorflow_js_is_named(tmp_path: Path) -> None:
    kernel = np.zeros((3, 3, 3, 1, 2))
    kernel[0, 0, 0, 0, 1] = np.nan
    path = write_model(tmp_path, [convolution("c", 2)], {"c/kernel": kernel, "c/bias": np.zeros(2)})
    with pytest.raises(InputError, match="NaN or infinite values in the weight 'c/kernel'"):
        read_tfjs_layers(path)


def test_many_paths_and_pipes_of_tensorflow_js_are_refused_at_once(tmp_path: Path) -> None:
    weights = {"c/kernel": np.zeros((3, 3, 3, 1, 2)), "c/bias": np.zeros(2)}
    path = write_model(tmp_path, [convolution("c", 2)], weights)
    data = json.loads(path.read_text(encoding="utf-8"))
    manifest = data["weightsManifest"][0]
    for paths, words in (
        ([f"w{n}.bin" for n in range(20_000)], "weightsManifest/0/paths"),
        (["a\0b"], "no control characters"),
        (["../weights.bin"], "must lie beside"),
        (["w\\x.bin"], "must lie beside"),
    ):
        manifest["paths"] = paths
        path.write_text(json.dumps(data), encoding="utf-8")
        with pytest.raises(InputError, match=words) as caught:
            read_tfjs_layers(path)
        assert len(str(caught.value)) < 600
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    write_json = data | {"weightsManifest": [manifest | {"paths": ["weights.bin"]}]}
    path.write_text(json.dumps(write_json), encoding="utf-8")
    with pytest.raises(InputError, match=r"weights\.bin is a pipe"):
        read_tfjs_layers(path)


def calibrated(folder: Path, place: str, value: Any) -> None:
    """Change a field of the calibration block, and the hash with it."""
    block = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["calibration"]
    inner = block
    *steps, last = place.split("/")
    for step in steps:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[last] = value
    changed_description(folder, "calibration", block)
    changed_description(folder, "calibration_sha256", block_sha256(block))


ONES = {"low": [1, 1, 1], "high": [1, 1, 1]}
CALIBRATION = {
    "tempering_scale": (0, -1, 1e308, "1"),
    "volume_interval/1/factor": (0, 1e308, None),
    "volume_interval/1/half_width": (-1, 1e300),
    "volume_interval/77": ({"factor": 1, "half_width": 1, "level": 0.9, "cases": 3},),
    "predicted_dice/1/slope": (-1, 1e308, True),
    "error_probability/directions/0/slope": (0, 1e9),
    "error_probability/directions/0/predicted": (3, 1.0, -1),
    "baselines/temperature": (0, 1e308),
}
FIELDS = {
    "labels/1/value": (32768, 65536, 65538, -1, 2, 1.0, True),
    "labels/1/name": ("", "a\nb", "x" * 400),
    "input/window": ([4, 4, 1028], [1024**3] * 3, [36, 52]),
    "input/spacing_mm": ([0, 1, 1], [1, 1, 1e308], [1, 1]),
    "input/normalisation/low": (-1, 100, 1e308),
    "input/orientation": ("RAS\n", ""),
    "backbone/size_divisor": (0, 10**9, 4.0),
    "backbone/arguments/filters": ([10**7] * 3, [4, -4, 8], [], [4.0, 4, 8]),
    "heads/0/feature_channels": (10**7, 0, 4.0),
    "heads/0/probes": (10**6, -1),
    "heads/0/taps": ([], "output_block", ["a"] * 100),
    "display": ({"ranking": [1, 0]}, {"ranking": [0, 1e308]}, {"opacity_3d": {"cortex": 1.5}}, {"opacity_3d": [0, 1]}),
    "ood_reference": (
        {"cases": 1, "field_of_view_mm": ONES, "spacing_mm": {"low": [0, 1, 1], "high": [1, 1, 1]}},
        {"cases": 1, "field_of_view_mm": ONES, "spacing_mm": {"low": [5, 5, 5], "high": [1, 1, 1]}},
        {"cases": 1, "spacing_mm": ONES, "field_of_view_mm": {"low": [1, 1, 1], "high": [1e9, 1, 1]}},
    ),
    "about/name": ("a" * 200, "a\n"),
}


@pytest.mark.parametrize("place", [*FIELDS, *CALIBRATION])
def test_an_absurd_field_is_refused_with_file_place_and_value(
    place: str, segwithu: Command, copy: Path, tiny: Path
) -> None:
    original = (tiny / "bundle.json").read_text(encoding="utf-8")
    for value in (FIELDS | CALIBRATION)[place]:
        (copy / "bundle.json").write_text(original, encoding="utf-8")
        if place in CALIBRATION:
            calibrated(copy, place, value)
        else:
            changed_description(copy, place, value)
        sentence = one_sentence(segwithu("models", "verify", copy, "--load"), str(copy / "bundle.json"))
        assert len(sentence) < 700, sentence


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_in_json_is_refused(literal: str, segwithu: Command, copy: Path) -> None:
    path = copy / "bundle.json"
    text = path.read_text(encoding="utf-8")
    assert '"tempering_scale": ' in text
    path.write_text(text.replace('"tempering_scale": ', f'"tempering_scale": {literal}, "other": '), encoding="utf-8")
    named = f"holds {float(literal)} at calibration/tempering_scale,"
    one_sentence(segwithu("models", "verify", copy), str(path), named)


def test_nan_that_was_computed_is_named_where_a_bundle_is_written(tiny: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny)
    calibration = {**(bundle.calibration or {}), "tempering_scale": math.nan}
    with pytest.raises(InputError, match="nan at calibration/tempering_scale,"):
        write_bundle_json(replace(bundle, calibration=calibration), tmp_path)
    assert entries(tmp_path) == []


def test_the_highest_label_comes_back_as_it_went(copy: Path) -> None:
    changed_description(copy, "labels/2/value", HIGHEST_LABEL)
    for block in ("volume_interval", "predicted_dice", "quality"):
        entry = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))["calibration"][block]
        calibrated(copy, block, {"1": entry["1"], str(HIGHEST_LABEL): entry["2"]})
    changed_description(copy, "ood_reference", None)
    values = label_values(np.array([0, 1, 2]), read_bundle(copy).labels)
    assert values.tolist() == [0, 1, HIGHEST_LABEL]


def test_weights_that_give_infinite_output_are_refused(
    segwithu: Command, copy: Path, data_folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(copy / WEIGHTS)
    last = "backbone.output_block.conv.conv.weight"
    save_file({**tensors, last: torch.full_like(tensors[last], 3e38)}, copy / WEIGHTS)
    changed_description(copy, "weights_sha256", file_sha256(copy / WEIGHTS))
    outcome = segwithu.segment(real_image(data_folder), model=copy, output=tmp_path / "out")
    refused(outcome, "unusable-weights")
    assert entries(tmp_path / "out") == []


def test_a_backbone_larger_than_its_weights_takes_no_memory(segwithu: Command, copy: Path) -> None:
    changed_description(copy, "backbone/arguments/filters", [4096] * 3)
    one_sentence(segwithu("models", "verify", copy, "--load"), str(copy / "bundle.json"), "parameters")
    with pytest.raises(InputError, match=f"more than {MAXIMUM_PARAMETERS}"):
        build_backbone(dynunet_spec(1, 3, [4096] * 6))


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_pipes_in_place_of_the_files_of_a_bundle_are_refused(segwithu: Command, copy: Path) -> None:
    for name in (WEIGHTS, "bundle.json"):
        (copy / name).unlink()
        os.mkfifo(copy / name)
        one_sentence(segwithu("models", "verify", copy), str(copy / name), "is a pipe")


def test_the_shipped_model_and_its_heads_pass(segwithu: Command) -> None:
    assert segwithu("models", "verify", MODEL).out == "hippocampus: whole\n"
    assert segwithu("models", "verify", MODEL, "--load").out == "hippocampus: whole\n"
