"""Choosing one of a bundle's heads, and putting further heads into a bundle."""

from dataclasses import replace
from typing import Any

import torch

from ..errors import InputError
from ..network.checkpoints import read_safetensors
from .bundle import Bundle, HeadSpec, named_head, verify_weights, weights_path


def with_head(bundle: Bundle, name: str | None) -> Bundle:
    """The bundle as if its head `name` were the default: with that head's own calibration, display and figures.

    Raises:
        InputError: there is no such head.
    """
    chosen, default = named_head(bundle, name), bundle.default_head
    if chosen is default:
        return bundle
    blocks = {block: getattr(chosen, block) for block in ("calibration", "display", "figures")}
    changed = {chosen.name: replace(chosen, default=True, calibration=None, display=None, figures=None)}
    changed[default.name] = as_further(bundle)
    return replace(bundle, heads=tuple(changed.get(head.name, head) for head in bundle.heads), **blocks)


def as_further(bundle: Bundle) -> HeadSpec:
    """The default head of a bundle as one that is not: it takes its blocks along."""
    return replace(
        bundle.default_head,
        default=False,
        calibration=bundle.calibration,
        display=bundle.display,
        figures=bundle.figures,
    )


def further_heads(
    bundle: Bundle, backbone: dict[str, torch.Tensor], taken: str
) -> tuple[tuple[HeadSpec, ...], dict[str, dict[str, torch.Tensor]]]:
    """All heads of a model of the same backbone but the one called `taken`, as further heads, and their tensors.

    Args:
        backbone: weights that the model's must equal, bit for bit.

    Raises:
        InputError: another backbone, or no head but one of that name.
    """
    verify_weights(bundle)
    tensors = read_safetensors(weights_path(bundle))
    its = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    if its.keys() != backbone.keys() or not all(torch.equal(its[name], backbone[name].float()) for name in its):
        raise InputError(f"The model {bundle.name} has another backbone: its heads cannot go into this bundle.")
    heads = [as_further(bundle) if head.default else head for head in bundle.heads if head.name != taken]
    if not heads:
        raise InputError(f"The model {bundle.name} has no head besides '{taken}', which this bundle has itself.")
    return tuple(heads), {head.name: _tensors_of(tensors, head.name) for head in heads}


def _tensors_of(tensors: dict[str, Any], head: str) -> dict[str, torch.Tensor]:
    prefix = f"heads.{head}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
