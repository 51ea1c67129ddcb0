"""Reading the authors' own checkpoint files (`docs/reference/method.md` section 7).

They are safetensors files whose keys carry the prefixes `backbone.`, `fusion.` and `unc_head.`;
`tap.backbone.*` repeats the backbone. Decoder blocks of DynUNet appear under either of two names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..util.errors import InputError
from ..util.input_files import regular_file
from .segwithu import SegWithU
from .weights import checked_tensors, load_plain, load_state

_HEAD_NAMES = {
    "unc_head.alpha": "head.scale",
    "unc_head.err_a": "head.gain",
    "unc_head.err_b": "head.offset",
    "unc_head.err_c": "head.ambiguity_weight",
    "unc_head.probe_conv.weight": "head.probe_weight",
    "unc_head.probe_to_class.weight": "head.to_logits",
    "unc_head.calibration_head.weight": "head.calibration.weight",
    "unc_head.calibration_head.bias": "head.calibration.bias",
    "unc_head.ale_head.weight": "head.aleatoric.weight",
    "unc_head.ale_head.bias": "head.aleatoric.bias",
}
WEIGHTS_ALONE = "ask its source for the state_dict() alone, in safetensors or written by torch.save"
"""What to do about a file with more than weights: whoever trained the network can write it without."""
_IGNORED = ("tap.backbone.", "backbone.deep_supervision_heads.")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file, all of them finite.

    Raises:
        InputError: missing, no whole safetensors file (nothing is ever unpickled), or see `checked_tensors`.
    """
    regular_file(path, "give a safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from error
    except (ValueError, KeyError, TypeError) as error:  # a kind of numbers that this torch does not have
        raise InputError(f"{path} holds numbers of a kind that this version does not read: {error}.") from error
    return checked_tensors(tensors, str(path))


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that someone saved, as safetensors or with `torch.save`; all tensors are finite.

    Raises:
        InputError: missing, or anything else than a dict of usable tensors (no code in a file is ever run).
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    data = load_plain(path, WEIGHTS_ALONE)
    if not isinstance(data, dict) or not all(isinstance(value, torch.Tensor) for value in data.values()):
        raise InputError(f"{path} holds more than the tensors of a network: {WEIGHTS_ALONE}.")
    return checked_tensors(data, str(path))


def authors_sizes(path: Path) -> tuple[list[int], dict[str, Any]]:
    """Read the sizes of the network off the tensors of an authors' checkpoint.

    Returns:
        Filters of the DynUNet from full resolution down, and `feature_channels`, `probes` and `aleatoric` of the head.

    Raises:
        InputError: unreadable, or no checkpoint of theirs.
    """
    tensors = read_safetensors(path)
    blocks = ["input_block", *[f"downsamples.{i}" for i in range(len(tensors))], "bottleneck"]
    names = [f"backbone.{block}.conv1.conv.weight" for block in blocks]
    try:
        head = {
            "feature_channels": tensors["fusion.projections.0.weight"].shape[0],
            "probes": tensors["unc_head.alpha"].shape[0],
            "aleatoric": "unc_head.ale_head.weight" in tensors,
        }
        return [tensors[name].shape[0] for name in names if name in tensors], head
    except KeyError as error:
        raise InputError(f"{path} is no checkpoint of the authors' network: it lacks {error}.") from error


def rename_keys(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the authors' keys to ours and drop the axes of length one of their 1-wide convolutions."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_IGNORED) or ".super_head." in name:
            continue
        if name in _HEAD_NAMES:
            renamed[_HEAD_NAMES[name]] = tensor.flatten(1) if tensor.ndim > 2 else tensor
        else:
            renamed[name.replace("fusion.fusion_block.", "fusion.mixing.")] = tensor
    return renamed


def load_authors_checkpoint(network: SegWithU, path: Path) -> None:
    """Fill `network` with the weights of an authors' checkpoint.

    Raises:
        InputError: unreadable file; or one sentence naming every missing or unexpected key and wrong shape.
    """
    load_state(network, rename_keys(read_safetensors(path)), str(path))
