"""Reading the authors' own checkpoint files (METHOD.md section 7).

They are safetensors files whose keys carry the prefixes `backbone.`, `fusion.` and `unc_head.`;
`tap.backbone.*` repeats the backbone. Decoder blocks of DynUNet appear under either of two names.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import InputError
from .backbones import load_state
from .segwithu import SegWithU

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
_IGNORED = ("tap.backbone.", "backbone.deep_supervision_heads.")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: missing, or not a whole safetensors file (nothing is ever unpickled).
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path.")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from error


def own_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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
    load_state(network, own_names(read_safetensors(path)), str(path))
