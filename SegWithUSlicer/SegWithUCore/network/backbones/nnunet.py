"""nnU-Net's networks, built from what its plans say (nnU-Net version 2, github.com/MIC-DKFZ/nnUNet).

The classes come from the package dynamic-network-architectures. Class names in a file are looked up in the tables
below and never imported: a file cannot make this program run other code.
"""

import importlib
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...util.errors import NEEDS_PACKAGE, InputError, UsageError
from ...util.strict_json import check_schema, schema

NETWORKS_PREFIX = "dynamic_network_architectures.architectures."
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv_op": (nn.Conv3d,),
    "norm_op": (nn.InstanceNorm3d, nn.BatchNorm3d),
    "dropout_op": (nn.Dropout3d,),
    "nonlin": (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Mish),
}
"""Layers that plans may name, by the argument they are named in."""
BLOCKS = ("BasicBlockD", "BottleneckD")
TAPPED_STAGES = 3
"""Decoder stages, from the last one back, of which the taps are chosen; see `default_taps`."""


class MeanOfFolds(nn.Module):
    """The mean of the logits of several networks, such as nnU-Net's folds; a head reads features of the first."""

    def __init__(self, folds: Iterable[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the mean; (batch, channels, z, y, x) to logits on the same grid."""
        return reduce(add, (network(image) for network in self.folds)) / len(self.folds)


def build_nnunet(
    network: str, in_channels: int, num_classes: int, architecture: Mapping[str, Any], folds: int = 1
) -> nn.Module:
    """Build a network of nnU-Net without deep supervision; (batch, channels, z, y, x) to logits on the same grid.

    Args:
        network: a name in `NETWORKS`.
        architecture: `arch_kwargs` of the plans: JSON values, layers as dotted names ("torch.nn.LeakyReLU").
        folds: as many such networks, of which it gives the mean.

    Raises:
        InputError: a class is none of those known.
        UsageError: the package is missing.
        ValueError, TypeError: the arguments do not fit the class.
    """
    if network not in NETWORKS:
        raise InputError(f"Unknown nnU-Net network '{network[:80]}': this version knows {', '.join(NETWORKS)}.")
    build = getattr(package("architectures.unet"), network)
    arguments = {name: _resolved(name, value) for name, value in architecture.items() if name != "deep_supervision"}
    arguments |= {"input_channels": in_channels, "num_classes": num_classes, "deep_supervision": False}
    try:
        made = [build(**arguments) for _ in range(folds)]
    except (AssertionError, IndexError) as error:  # lists of unequal lengths
        raise ValueError(str(error) or "lists of unequal lengths") from error
    return MeanOfFolds(made) if folds > 1 else made[0]


def check_architecture(architecture: Mapping[str, Any], source: str, remedy: str, within: str) -> None:
    """Hold `arch_kwargs` of plans against the kinds and sizes of arguments that the classes take.

    Args:
        source, remedy, within: as `check_schema` takes them.

    Raises:
        InputError: names the entry and its value.
    """
    schemas = schema(Path(__file__).with_name("backbones.schema.json"))
    wanted = {"$defs": schemas["$defs"], **schemas["nnunet"]["properties"]["architecture"]}
    check_schema(dict(architecture), wanted, source, remedy, "what nnU-Net writes", within)


def network_name(dotted: str) -> str:
    """Return the name in `NETWORKS` of a class that plans name with its path.

    Raises:
        InputError: it is none of them.
    """
    name = dotted.rpartition(".")[2]
    if not dotted.startswith(NETWORKS_PREFIX) or name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise InputError(f"The network {dotted} is none that this version knows ({NETWORKS_PREFIX[:-1]}: {known}).")
    return name


def default_taps(architecture: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the head reads, as in the paper: the decoder's conv blocks at about 1/4 and 1/2, and the output layer.

    The last conv block, at full resolution, is left out as in the paper: its output is what the output layer is fed.
    """
    stages = int(architecture["n_stages"]) - 1
    blocks = range(max(0, stages - TAPPED_STAGES), stages - 1)
    return (*(f"decoder.stages.{stage}" for stage in blocks), f"decoder.seg_layers.{stages - 1}")


def _resolved(name: str, value: Any) -> Any:
    """Replace the names of layers in a value of the plans by classes."""
    if name == "block" and isinstance(value, str):
        if value.rpartition(".")[2] not in BLOCKS:
            raise InputError(f"The block {value[:80]} is none that this version knows ({', '.join(BLOCKS)}).")
        return getattr(package("building_blocks.residual"), value.rpartition(".")[2])
    if name not in LAYERS or value is None:
        return value
    for layer in LAYERS[name]:
        if value in (f"{layer.__module__}.{layer.__name__}", f"torch.nn.{layer.__name__}"):
            return layer
    known = ", ".join(layer.__name__ for layer in LAYERS[name])
    raise InputError(f"The layer {str(value)[:80]} ({name}) is none that this version knows (torch.nn: {known}).")


def package(module: str) -> Any:
    """Import a module of dynamic-network-architectures.

    Raises:
        UsageError: it is missing.
    """
    try:
        return importlib.import_module(f"dynamic_network_architectures.{module}")
    except ImportError as error:
        what = "nnU-Net models need the package dynamic-network-architectures"
        raise UsageError(f'{what}: pip install ".[nnunet]" in the checkout.', NEEDS_PACKAGE) from error
