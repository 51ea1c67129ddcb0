"""nnU-Net result folders with random weights, written as nnU-Net's trainer writes them.

`nnunet_result/` holds plans and data set description that nnU-Net 2.8.1 made for eight hippocampi, and images that it
prepared (`prepared.json`). The network is built here as nnU-Net builds it, by importing the classes that plans name.
"""

import json
import pydoc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from repository import TESTING
from torch import nn

FOLDER = TESTING / "data" / "nnunet_result"
CONFIGURATION = "3d_fullres"


def plans() -> dict[str, Any]:
    """nnU-Net's plans, with an eighth of the features so that tests are fast."""
    data: dict[str, Any] = json.loads((FOLDER / "plans.json").read_text(encoding="utf-8"))
    kwargs = settings(data)["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [features // 8 for features in kwargs["features_per_stage"]]
    return data


def settings(data: dict[str, Any]) -> dict[str, Any]:
    """The 3D configuration within plans."""
    found: dict[str, Any] = data["configurations"][CONFIGURATION]
    return found


def dataset() -> dict[str, Any]:
    """The data set description."""
    data: dict[str, Any] = json.loads((FOLDER / "dataset.json").read_text(encoding="utf-8"))
    return data


def residual_encoder(data: dict[str, Any]) -> dict[str, Any]:
    """The plans with nnU-Net's other network."""
    architecture = settings(data)["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    kwargs = architecture["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage")
    kwargs["n_conv_per_stage_decoder"] = [1, 1, 1]
    return data


def of_slices(data: dict[str, Any]) -> dict[str, Any]:
    """The plans with a network of slices, as nnU-Net's configuration 2d has it."""
    found = settings(data)
    kwargs = found["architecture"]["arch_kwargs"]
    found |= {"patch_size": [24, 32], "spacing": [1.0, 1.2]}
    kwargs |= {name: [step[1:] for step in kwargs[name]] for name in ("kernel_sizes", "strides")}
    kwargs |= {name: kwargs[name].replace("3d", "2d") for name in ("conv_op", "norm_op")}
    return data


def nnunets_network(data: dict[str, Any], channels: int = 1, classes: int = 3, seed: int = 0) -> nn.Module:
    """The network as nnU-Net's `get_network_from_plans` builds it for training, with deep supervision."""
    architecture = settings(data)["architecture"]
    kwargs = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        kwargs[name] = None if kwargs[name] is None else pydoc.locate(kwargs[name])
    build: Any = pydoc.locate(architecture["network_class_name"])
    torch.manual_seed(seed)
    network: nn.Module = build(input_channels=channels, num_classes=classes, deep_supervision=True, **kwargs)
    with torch.no_grad():  # norms that differ between channels, logits with contrast
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def checkpoint(network: nn.Module, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What `nnUNetTrainer.save_checkpoint` stores, numpy scalars and device included."""
    optimiser = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    initial = {"plans": data, "configuration": CONFIGURATION, "fold": 0, "dataset_json": dataset()}
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.6)], "lrs": [0.01], "epoch_start_timestamps": [1.0]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 2,
        "init_args": {**initial, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def write_result_folder(
    folder: Path, data: dict[str, Any] | None = None, network: nn.Module | None = None, **changes: Any
) -> Path:
    """Write a result folder with fold 0; `changes` are merged into the checkpoint."""
    data = data or plans()
    place = folder / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    (place / "fold_0").mkdir(parents=True)
    (place / "plans.json").write_text(json.dumps(data), encoding="utf-8")
    (place / "dataset.json").write_text(json.dumps(dataset()), encoding="utf-8")
    content = checkpoint(network or nnunets_network(data), data, **changes)
    torch.save(content, place / "fold_0" / "checkpoint_final.pth")
    return place
