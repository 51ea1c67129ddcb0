"""Segmentation networks by name, so that a bundle can say which one it holds.

Weights and code stay apart: a bundle names a kind and its arguments, never code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import nn

from ...errors import InputError
from ...strict_json import check_schema, schema
from ..weights import checked_tensors
from .meshnet import MeshNet
from .nnunet import build_nnunet
from .user_network import build_own_network, is_own

EXAMPLE_VOXELS = 32
"""Edge of the input that an untrained network is tried on."""
MAXIMUM_PARAMETERS = 2_000_000_000
"""Of a backbone (8 GB): nnU-Net's largest preset has a twentieth; more is a slip or an attack."""
REASON_LETTERS = 300
_ARGUMENT_FAULTS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError, AssertionError)
"""What factories raise for arguments that no schema describes, or that do not go together."""
MISFIT_LETTERS = 140
MISFITS_NAMED = 4
"""Of tensors that do not fit: another network misses hundreds."""


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as a bundle describes it.

    Attributes:
        kind: a name in `BACKBONES`, or "python:FACTORY" for a user's own network.
        arguments: keyword arguments of that kind, JSON values only.
        size_divisor: sizes of the input must be multiples of this, along every axis or one number each (z, y, x).
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size_divisor: int | Sequence[int] = 1

    @property
    def size_divisors(self) -> tuple[int, int, int]:
        """`size_divisor` along (z, y, x)."""
        if isinstance(self.size_divisor, int):
            return (self.size_divisor,) * 3
        z, y, x = self.size_divisor
        return z, y, x


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


BACKBONES: dict[str, Callable[..., nn.Module]] = {"dynunet": build_dynunet, "meshnet": MeshNet, "nnunet": build_nnunet}


def build_backbone(spec: BackboneSpec, most_parameters: int = MAXIMUM_PARAMETERS) -> nn.Module:
    """Build the untrained backbone that `spec` describes.

    Args:
        most_parameters: as many as the weights that are to be loaded can be; nothing larger is ever in memory.

    Raises:
        InputError: the kind is unknown, its arguments do not fit or make a network of more than `most_parameters`;
            nobody said where a user's own network is.
    """
    if is_own(spec.kind):
        return _built(build_own_network, spec)
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
        raise InputError(
            f"The arguments of backbone '{spec.kind}' make a network of {parameters} parameters, more than the "
            f"{most_parameters} that there can be weights for: correct them."
        )
    return _built(BACKBONES[spec.kind], spec, named=False)


def _built(make: Callable[..., nn.Module], spec: BackboneSpec, named: bool = True) -> nn.Module:
    """Call a factory with the arguments of `spec`, and with its kind where it makes several."""
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
    if is_own(spec.kind):
        return torch.zeros(1, channels, *window)
    enough = [-(-EXAMPLE_VOXELS // divisor) * divisor for divisor in spec.size_divisors]
    return torch.zeros(1, channels, *(min(sizes) for sizes in zip(window, enough, strict=True)))


def dynunet_spec(
    in_channels: int, num_classes: int, filters: Sequence[int], spatial_dims: int = 3, flat_levels: int = 0
) -> BackboneSpec:
    """The spec of a DynUNet without deep supervision heads; see `build_dynunet`."""
    arguments = {
        "in_channels": in_channels,
        "num_classes": num_classes,
        "filters": list(filters),
        "spatial_dims": spatial_dims,
    }
    divisor = 2 ** (len(filters) - 1)
    if flat_levels:
        arguments["flat_levels"] = flat_levels
        return BackboneSpec("dynunet", arguments, size_divisor=[1, divisor, divisor])
    return BackboneSpec("dynunet", arguments, size_divisor=divisor)


def unique_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with every tensor once, under the alphabetically first of its names.

    DynUNet registers each decoder block twice (`upsamples.*` and `skip_layers.*`), which safetensors refuses.
    """
    kept: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name in sorted(state):
        kept.setdefault(id(state[name]), name)
    return {name: state[name].detach() for name in sorted(kept.values())}


def aliases(module: nn.Module) -> dict[str, frozenset[str]]:
    """For each name in the state dict, all names of the same tensor (itself included)."""
    names: dict[int, set[str]] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        names.setdefault(id(tensor), set()).add(name)
    return {name: frozenset(names[id(tensor)]) for name, tensor in state.items()}


def load_state(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy `tensors` into `module`, accepting any alias of each name.

    Args:
        source: the file they come from, for the message.

    Raises:
        InputError: names the missing keys, unexpected keys, wrong shapes and kinds of numbers; or the first tensor
            with NaN or infinite values, also those that are too large for the network's precision.
    """
    own = module.state_dict(keep_vars=True)
    same = aliases(module)
    remaining = dict(tensors)
    problems: list[str] = []
    found: dict[str, torch.Tensor] = {}
    for first, names in sorted({min(names): names for names in same.values()}.items()):
        given = [remaining.pop(name) for name in sorted(names) if name in remaining]
        problem = _misfit(first, given, own[first])
        if problem:
            problems.append(problem)
        else:
            found[first] = given[0].to(own[first].dtype)
    unknown = [f"unexpected {name}" for name in sorted(remaining)]
    if problems or unknown:
        listed = "; ".join([*_first(problems), *_first(unknown)])
        raise InputError(f"The weights in {source} do not fit this network: {listed}.")
    checked_tensors(found, source)
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)


def _first(problems: Sequence[str]) -> list[str]:
    more = len(problems) - MISFITS_NAMED
    shortened = [text if len(text) <= MISFIT_LETTERS else f"{text[:MISFIT_LETTERS]}..." for text in problems]
    return [*shortened[:MISFITS_NAMED], *([f"and {more} more such"] if more > 0 else [])]


def _misfit(name: str, given: Sequence[torch.Tensor], own: torch.Tensor) -> str | None:
    """Why tensors do not fit the network's own of that name; None where they do."""
    if not given:
        return f"missing {name}"
    tensor = given[0]
    if tensor.shape != own.shape:
        return f"{name} has shape {list(tensor.shape)}, expected {list(own.shape)}"
    if tensor.is_complex() or tensor.is_floating_point() != own.is_floating_point():
        return f"{name} holds {tensor.dtype} numbers, expected {own.dtype}"
    return None


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(math.prod(p.shape) for p in {id(p): p for p in module.parameters()}.values())
