"""Segmentation networks by name, so that a bundle can say which one it holds.

Weights and code stay apart: a bundle names a kind and its arguments, never code.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from monai.networks.nets import DynUNet
from torch import nn

from ...util.errors import InputError
from ...util.strict_json import check_schema, schema
from ..specs import BackboneSpec, is_user_network
from .meshnet import MeshNet
from .nnunet import build_nnunet
from .unet import UNet
from .user_network import build_user_network

EXAMPLE_VOXELS = 32
"""Edge of the input that an untrained network is tried on."""
MAXIMUM_PARAMETERS = 2_000_000_000
"""Of a backbone (8 GB): nnU-Net's largest preset has a twentieth; more is a slip or an attack."""
REASON_LETTERS = 300
_ARGUMENT_FAULTS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError, AssertionError)
"""What factories raise for arguments that no schema describes, or that do not go together."""


def build_dynunet(
    in_channels: int,
    num_classes: int,
    filters: Sequence[int],
    spatial_dims: int = 3,
    deep_supervision_heads: int = 0,
    flat_levels: int = 0,
) -> nn.Module:
    """MONAI's DynUNet as the paper uses it: residual blocks, kernels of 3, strides of 2, affine InstanceNorm.

    Args:
        filters: channels a level, from full resolution down (the paper: 32, 64, 128, 256, 320).
        deep_supervision_heads: extra outputs during training; a bundle needs none.
        flat_levels: for thick slices: so many of the first levels look within slices only, and none halves their number
            (3-D only). 0 treats all axes alike.
    """
    levels = len(filters)
    stride = (1, 2, 2) if flat_levels else 2
    return DynUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=num_classes,
        kernel_size=[(1, 3, 3)] * flat_levels + [3] * (levels - flat_levels),
        strides=[1] + [stride] * (levels - 1),
        upsample_kernel_size=[stride] * (levels - 1),
        filters=list(filters),
        norm_name=("INSTANCE", {"affine": True}),
        res_block=True,
        deep_supervision=deep_supervision_heads > 0,
        deep_supr_num=max(1, deep_supervision_heads),
    )


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "dynunet": build_dynunet,
    "meshnet": MeshNet,
    "nnunet": build_nnunet,
    "unet": UNet,
}


def build_backbone(spec: BackboneSpec, most_parameters: int = MAXIMUM_PARAMETERS) -> nn.Module:
    """Build the untrained backbone that `spec` describes.

    Args:
        most_parameters: as many as the weights that are to be loaded can be; nothing larger is ever in memory.

    Raises:
        InputError: the kind is unknown, its arguments do not fit or make a network of more than `most_parameters`;
            the file of a user's own network is unknown.
    """
    if is_user_network(spec.kind):
        return _built(build_user_network, spec)
    if spec.kind not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise InputError(f"Unknown backbone kind '{spec.kind[:60]}': this version knows {known}.")
    schemas = schema(Path(__file__).with_name("backbones.schema.json"))
    if spec.kind in schemas:
        wanted = {"$defs": schemas["$defs"], **schemas[spec.kind]}
        named = f"The block of the backbone '{spec.kind}'"
        check_schema(dict(spec.arguments), wanted, named, "correct the arguments", "its arguments")
    with torch.device("meta"):  # takes no memory, whatever the arguments say
        parameters = count_parameters(_built(BACKBONES[spec.kind], spec, named=False))
    if parameters > most_parameters:
        size = f"{parameters} parameters, more than {most_parameters}"
        raise InputError(f"The arguments of backbone '{spec.kind}' give {size}: correct them.", "damaged-bundle")
    return _built(BACKBONES[spec.kind], spec, named=False)


def _built(make: Callable[..., nn.Module], spec: BackboneSpec, named: bool = True) -> nn.Module:
    """Call a factory with the arguments of `spec`, and with its kind if it makes several."""
    try:
        return make(spec.kind, **spec.arguments) if named else make(**spec.arguments)
    except _ARGUMENT_FAULTS as error:
        reason = " ".join(str(error).split()).removesuffix(".")[:REASON_LETTERS]
        raise InputError(f"The arguments of backbone '{spec.kind}' do not fit: {reason}.") from error


def example_input(spec: BackboneSpec, channels: int, window: Sequence[int]) -> torch.Tensor:
    """Zeros to run an untrained backbone on once, (1, channels, z, y, x): no larger than needed, for it takes time.

    A user's own network may take windows of one size only; those that this program brings take any.

    Args:
        window: (z, y, x).
    """
    if is_user_network(spec.kind):
        return torch.zeros(1, channels, *window)
    enough = [-(-EXAMPLE_VOXELS // divisor) * divisor for divisor in spec.size_divisors]
    return torch.zeros(1, channels, *(min(sizes) for sizes in zip(window, enough, strict=True)))


def count_parameters(module: nn.Module) -> int:
    """Count the parameters, shared ones once."""
    return sum(math.prod(p.shape) for p in {id(p): p for p in module.parameters()}.values())
