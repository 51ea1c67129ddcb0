"""brainchop's MeshNets: read from their TensorFlow.js files, equal to a plain numpy evaluation; damage is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convert import read_tfjs_meshnet
from tfjs_files import convolution, evaluated, layer, write_model

from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.backbones.meshnet import MeshNet, receptive_radius
from SegWithUCore.network.specs import BackboneSpec
from SegWithUCore.network.weights import load_state
from SegWithUCore.util.errors import InputError

MODELS = ["model5_gw_ae", "model11_gw_ae", "model20chan3cls", "model30chan18cls", "mindgrab"]
WINDOW = (9, 11, 13)


def imported(path: Path) -> MeshNet:
    arguments, state = read_tfjs_meshnet(path)
    network = build_backbone(BackboneSpec("meshnet", json.loads(json.dumps(arguments))))
    load_state(network, state, str(path))
    assert isinstance(network, MeshNet)
    return network.eval()


def logits(network: MeshNet, image: np.ndarray) -> np.ndarray:
    """Output (x, y, z, classes) of an image (x, y, z), turned for a network that takes (z, y, x)."""
    with torch.no_grad():
        output = network(torch.from_numpy(np.ascontiguousarray(image.transpose(), np.float32))[None, None])
    result: np.ndarray = output[0].numpy().transpose(3, 2, 1, 0)
    return result


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("name", MODELS)
def test_a_published_network_equals_the_plain_evaluation_of_its_files(name: str, full_data_folder: Path) -> None:
    folder = full_data_folder / "meshnet" / name
    image = np.abs(noise(*WINDOW))
    expected = evaluated(folder, image)
    found = logits(imported(folder / "model.json"), image)
    assert expected.std() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "radius"), [("model5_gw_ae", 46), ("model11_gw_ae", 24), ("model20chan3cls", 46)])
def test_a_voxel_sees_as_far_as_the_dilations_say_and_no_further(
    name: str, radius: int, full_data_folder: Path
) -> None:
    path = full_data_folder / "meshnet" / name / "model.json"
    assert receptive_radius(read_tfjs_meshnet(path)[0]["layers"]) == radius
    network = imported(path).double()
    image = torch.zeros(1, 1, 1, 1, 2 * radius + 5, dtype=torch.float64)
    for distance, seen in ((radius, True), (radius + 1, False)):
        changed = image.clone()
        changed[..., radius + 2 + distance] = 1000.0
        with torch.no_grad():
            difference = (network(changed) - network(image))[..., radius + 2].abs().max()
        assert bool(difference > 0) == seen, distance


def bare_chain(rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Two convolutions with a batch normalisation, a dropout and an activation between them."""
    layers = [convolution("a", 4, dilation=2, use_bias=False), layer("BatchNormalization", "norm", epsilon=0.01)]
    layers += [layer("Activation", "act", activation="elu"), layer("SpatialDropout3D", "drop", rate=0.5)]
    layers += [convolution("out", 2, kernel=1)]
    weights = {"a/kernel": rng.normal(size=(3, 3, 3, 1, 4))}
    weights |= {"norm/gamma": rng.normal(size=4), "norm/beta": rng.normal(size=4)}
    weights |= {"norm/moving_mean": rng.normal(size=4), "norm/moving_variance": rng.uniform(0.5, 2, 4)}
    return layers, weights | {"out/kernel": rng.normal(size=(1, 1, 1, 4, 2)), "out/bias": rng.normal(size=2)}


def test_batch_normalisation_is_folded_into_the_convolution_before_it(tmp_path: Path) -> None:
    path = write_model(tmp_path, *bare_chain(np.random.default_rng(3)))
    image = noise(*WINDOW)
    network = imported(path)
    assert [type(m).__name__ for m in network.modules()].count("Conv3d") == 2
    assert not any("Norm" in type(module).__name__ for module in network.modules())
    np.testing.assert_allclose(logits(network, image), evaluated(tmp_path, image), atol=1e-4, rtol=1e-4)


def test_quantised_weights_are_read_to_their_precision(tmp_path: Path) -> None:
    layers, weights = bare_chain(np.random.default_rng(4))
    path = write_model(tmp_path, layers, weights)
    plain = read_tfjs_meshnet(path)[1]
    data = json.loads(path.read_text(encoding="utf-8"))
    content = b""
    for entry in data["weightsManifest"][0]["weights"]:
        values = weights[entry["name"]]
        low, scale = float(values.min()), float(np.ptp(values) / 65535)
        entry["quantization"] = {"dtype": "uint16", "min": low, "scale": scale, "original_dtype": "float32"}
        content += np.rint((values - low) / scale).astype("<u2").tobytes()
    (tmp_path / "weights.bin").write_bytes(content)
    path.write_text(json.dumps(data), encoding="utf-8")
    for name, tensor in read_tfjs_meshnet(path)[1].items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-3, rtol=0)


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: _rewritten(folder / "group1-shard1of1.bin", change)


def _rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        change(data)
        (folder / "model.json").write_text(json.dumps(data), encoding="utf-8")

    return damage


def _layers(data: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data["modelTopology"]["model_config"]["config"]["layers"]
    return found


def _config(number: int, **changes: object) -> Callable[[Path], None]:
    return _json(lambda data: _layers(data)[number]["config"].update(changes))


def _weight(**changes: object) -> Callable[[Path], None]:
    return _json(lambda data: data["weightsManifest"][0]["weights"][0].update(changes))


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "bin cut short": (_bytes(lambda c: c[:1000]), ("model.json have 1000 bytes", "22392", "its end is missing")),
    "bin too long": (_bytes(lambda c: c + b"0000"), ("22396 bytes", "do not belong together")),
    "bin missing": (lambda folder: (folder / "group1-shard1of1.bin").unlink(), ("group1-shard1of1.bin", "beside")),
    "no JSON": (lambda folder: _rewritten(folder / "model.json", lambda c: c[:500]), ("is not valid JSON",)),
    "a graph model": (
        _json(lambda data: data.pop("modelTopology")),
        ("does not fit a TensorFlow.js layers model", "'modelTopology'"),
    ),
    "unknown layer": (_json(lambda d: _layers(d)[2].update(class_name="PReLU")), ("'22' (PReLU)", "only convolutions")),
    "unknown activation": (_config(2, activation="swish"), ("'swish'", "elu, gelu, linear, relu")),
    "stride": (_config(1, strides=[2, 2, 2]), ("strides [2, 2, 2]", "'21'")),
    "no padding": (_config(3, padding="valid"), ("padding valid", "'23'")),
    "even kernel": (_config(1, kernel_size=[2, 2, 2]), ("[2, 2, 2]", "only odd kernels")),
    "other filters": (_config(3, filters=6), ("convolution 2", "[3, 3, 3, 5, 5]", "[3, 3, 3, 5, 6]")),
    "a branch": (
        _json(lambda d: _layers(d)[4].update(inbound_nodes=[[["22", 0, 0, {}], ["23", 0, 0, {}]]])),
        ("is no chain", "'24' is fed by 22 and 23"),
    ),
    "a weight too many": (_weight(name="elsewhere/kernel"), ("weights of no layer: elsewhere/kernel",)),
    "whole numbers": (_weight(dtype="int32"), ("'21/kernel' as int32", "float16, float32")),
    "unknown quantisation": (_weight(quantization={"dtype": "int4"}), ("as int4", "without quantisation")),
    "a file elsewhere": (
        _json(lambda data: data["weightsManifest"][0].update(paths=["../secret.bin"])),
        ("'../secret.bin'", "must lie beside"),
    ),
    "no shape": (
        _json(lambda d: d["weightsManifest"][0]["weights"][0].pop("shape")),
        ("'shape' is a required property", "'shape'"),
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_or_foreign_file_is_one_clear_sentence(kind: str, data_folder: Path, tmp_path: Path) -> None:
    folder = Path(
        shutil.copytree(data_folder / "meshnet" / "model5_gw_ae", tmp_path / "m", copy_function=shutil.copyfile)
    )
    damage, words = DAMAGES[kind]
    damage(folder)
    with pytest.raises(InputError) as caught:
        read_tfjs_meshnet(folder / "model.json")
    for word in words:
        assert word in str(caught.value)


def test_a_batch_normalisation_that_cannot_be_folded_is_refused(tmp_path: Path) -> None:
    layers, weights = bare_chain(np.random.default_rng(5))
    layers[1], layers[2] = layers[2], layers[1]
    with pytest.raises(InputError, match=r"'norm' \(BatchNormalization\) where a MeshNet has none"):
        read_tfjs_meshnet(write_model(tmp_path, layers, weights))
