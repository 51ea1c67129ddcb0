"""Equality with the outputs of the authors' reference code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.heads.base import temper_logits
from SegWithUCore.network.heads.paper import MultiScaleFusion, PaperHead, sign_patterns
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import dynunet_spec
from SegWithUCore.network.weights import load_authors_checkpoint, rename_keys
from SegWithUCore.util.errors import InputError

HERE, ELSEWHERE = "b_2d_3classes_4probes", ["a_3d_4classes", "c_3d_no_aleatoric_one_tap"]
OUTPUTS = {
    "voxel_cal": "calibration",
    "voxel_rnk": "ranking",
    "voxel_epi": "epistemic",
    "voxel_ale": "aleatoric",
    "weight_map": "ambiguity",
    "margin_map": "margin",
    "delta_logits": "perturbation",
    "voxel_entropy": "entropy",
    "residual_map": "residual",
    "anchor_map": "anchor",
}
CLOSE = 4e-5
"""Fused features of two instruction sets (AVX-512, AVX2, SSE4) differ by up to 6.4e-6, and logits of about 10 from the
authors' by 8.5e-6; `test_import_checkpoint.py` takes the same. All other maps stay within 2.4e-6: 1e-5 is allowed."""
TAPS = ["upsamples.1.conv_block", "upsamples.2.conv_block", "output_block"]


class Reference:
    """One reference file with our modules, filled with its weights."""

    def __init__(self, path: Path) -> None:
        self.arrays: dict[str, Any] = dict(np.load(path))
        config = json.loads(str(self.arrays["config"]))
        self.fusion = MultiScaleFusion(config["tap_channels"], config["feature_ch"], config["spatial_dims"])
        self.head = PaperHead(
            config["feature_ch"],
            config["num_classes"],
            config["num_probes"],
            config["use_aleatoric"],
            config["margin_gamma"],
        )
        state = rename_keys({k[6:]: torch.from_numpy(v) for k, v in self.arrays.items() if k.startswith("param/")})
        self.fusion.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("fusion.")})
        self.head.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("head.")})
        self.taps = [self.tensor(f"tap{i}") for i in range(len(config["tap_channels"]))]

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])


@pytest.fixture(params=[HERE, *(pytest.param(name, marks=pytest.mark.full_data) for name in ELSEWHERE)])
def reference(request: pytest.FixtureRequest, data_folder: Path) -> Reference:
    folder = data_folder / "reference_head" if request.param == HERE else request.getfixturevalue("reference_head")
    return Reference(folder / f"{request.param}.npz")


@pytest.mark.other_machine
def test_fused_features_equal_the_reference(reference: Reference) -> None:
    with torch.no_grad():
        fused = reference.fusion(reference.taps)
    torch.testing.assert_close(fused, reference.tensor("fused"), atol=CLOSE, rtol=0)


@pytest.mark.other_machine
def test_every_map_equals_the_reference(reference: Reference) -> None:
    with torch.no_grad():
        logits = reference.tensor("logits")
        responses = reference.head.responses(reference.fusion(reference.taps))
        maps = reference.head.maps(logits, responses)
        softened = temper_logits(logits, maps.calibration)
    torch.testing.assert_close(responses[:, : reference.head.probes], reference.tensor("out/v"), atol=CLOSE, rtol=0)
    torch.testing.assert_close(softened, reference.tensor("tempered_logits"), atol=1e-5, rtol=0)
    compared = 0
    for theirs, ours in OUTPUTS.items():
        if f"out/{theirs}" in reference.arrays:
            torch.testing.assert_close(getattr(maps, ours), reference.tensor(f"out/{theirs}"), atol=1e-5, rtol=0)
            compared += 1
    assert compared == len(OUTPUTS) - (maps.aleatoric is None)


def test_sign_table_equals_the_reference(reference: Reference) -> None:
    assert torch.equal(sign_patterns(reference.head.probes), reference.tensor("sign_patterns"))


def test_maps_do_not_depend_on_the_shape_voxels_come_in(reference: Reference) -> None:
    logits, v = reference.tensor("logits"), reference.head.responses(reference.tensor("fused"))
    with torch.no_grad():
        whole = reference.head.maps(logits, v).ranking
        flat = reference.head.maps(logits.flatten(2), v.flatten(2)).ranking
    torch.testing.assert_close(flat.reshape(whole.shape), whole, atol=1e-6, rtol=0)


def test_maps_in_float64_and_bfloat16_differ_only_by_rounding(reference: Reference) -> None:
    logits, fused = reference.tensor("logits"), reference.tensor("fused")
    with torch.no_grad():
        single = reference.head.maps(logits, reference.head.responses(fused)).epistemic
        double = reference.head.double()
        exact = double.maps(logits.double(), double.responses(fused.double())).epistemic
        half = double.bfloat16()
        coarse = half.maps(logits.bfloat16(), half.responses(fused.bfloat16())).epistemic
    torch.testing.assert_close(single.double(), exact, atol=1e-7, rtol=1e-4)
    # The reference's own sign row flips in bfloat16; ours may only lose digits (8 bits: about 1 %).
    assert np.corrcoef(coarse.float().flatten(), single.flatten())[0, 1] > 0.99


def authors_network() -> SegWithU:
    backbone = build_backbone(dynunet_spec(1, 4, [4, 8, 16, 16, 16]))
    return SegWithU(backbone, TAPS, torch.zeros(1, 1, 32, 32, 32), features=4)


@pytest.mark.other_machine
def test_authors_checkpoint_loads_and_gives_their_outputs(reference_head: Path) -> None:
    folder = reference_head
    network = authors_network()
    load_authors_checkpoint(network, folder / "d_checkpoint_as_the_authors_write_it.safetensors")
    expected = {k: torch.from_numpy(v) for k, v in np.load(folder / "d_checkpoint_expected.npz").items()}
    with torch.no_grad():
        logits, maps = network.eval()(expected["x"])
    torch.testing.assert_close(logits, expected["logits"], atol=CLOSE, rtol=0)
    torch.testing.assert_close(maps.calibration, expected["cal"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        maps.ranking, expected["rnk"], atol=2 * CLOSE, rtol=0
    )  # it doubles what logits differ by
    torch.testing.assert_close(maps.epistemic, expected["epi"], atol=1e-5, rtol=0)


def test_either_alias_of_a_decoder_block_is_accepted(reference_head: Path, tmp_path: Path) -> None:
    path = reference_head / "d_checkpoint_as_the_authors_write_it.safetensors"
    renamed = {}
    for name, tensor in load_file(path).items():
        depth = name.count("next_layer")
        steps = "skip_layers." + "next_layer." * depth + "upsample."
        renamed[name.replace(steps, f"upsamples.{3 - depth}.") if "upsample." in name else name] = tensor
    assert any("upsamples.0." in name for name in renamed)
    save_file(renamed, tmp_path / "other_names.safetensors")
    first, second = authors_network(), authors_network()
    load_authors_checkpoint(first, path)
    load_authors_checkpoint(second, tmp_path / "other_names.safetensors")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_one_error_names_all_wrong_shapes_and_missing_keys(reference_head: Path, tmp_path: Path) -> None:
    tensors = load_file(reference_head / "d_checkpoint_as_the_authors_write_it.safetensors")
    tensors.pop("unc_head.alpha")
    tensors.pop("backbone.input_block.norm1.weight")
    tensors["fusion.fusion_block.1.weight"] = torch.zeros(7)
    tensors["backbone.extra"] = torch.zeros(1)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(InputError) as caught:
        load_authors_checkpoint(authors_network(), tmp_path / "bad.safetensors")
    message = str(caught.value)
    assert "missing head.scale" in message
    assert "missing backbone.input_block.norm1.weight" in message
    assert "fusion.mixing.1.weight has shape [7], expected [4]" in message
    assert "unexpected backbone.extra" in message
