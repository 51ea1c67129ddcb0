"""Weights from files: safetensors, `torch.save` and the authors' checkpoints, and their way into a network.

Nothing in a file is ever run: PyTorch's restricted reader decides what is read, and all else is refused.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..util.errors import InputError
from ..util.input_files import regular_file

MAXIMUM_GROWTH = 8
"""Times its size that a file may grow when unpacked: torch stores without compression, so a true one does not grow."""


def load_plain(path: Path, remedy: str, allowed: Sequence[Any] = ()) -> Any:
    """Read the tensors and plain values of a file that `torch.save` wrote.

    Args:
        remedy: whom to ask for what, where the file holds anything else; the end of the sentence.
        allowed: further classes that are let in, as `torch.serialization.safe_globals` takes them.

    Raises:
        InputError: it is missing, cut or of another format, or holds objects that could run code.
    """
    size = regular_file(path, "give a checkpoint file").st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAXIMUM_GROWTH * size + (1 << 20):
                raise ValueError(f"it unpacks from {size} to {unpacked} bytes")
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old protocols and kinds of archives, which the refusal is about
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises half a dozen kinds for damaged and unsafe files
        # Its own text is not shown whole: it tells how to run what is in the file.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it names {named[1]}" if named else str(error)[:100] if type(error) is ValueError else type(error).__name__
        )
        what = f"{path} is damaged or holds more than weights ({reason}), which could run any code"
        raise InputError(f"{what}: {remedy}.", "unusable-weights") from error


def checked_tensors(tensors: Mapping[Any, Any], source: str) -> dict[str, torch.Tensor]:
    """Check the tensors of a file: each is a plain one of real numbers that are finite.

    One pass over the numbers and no copy: 100 MB take about as long as reading them from memory.

    Args:
        source: names the file in the message.

    Raises:
        InputError: names the first entry that is no tensor, sparse, quantised or complex, or holds NaN or infinite
            values.
    """
    for name, tensor in tensors.items():
        problem = "has no text for its name" if not isinstance(name, str) else _problem(tensor)
        if problem:
            raise InputError(f"{source} has no usable weights: '{str(name)[:120]}' {problem}.", "unusable-weights")
    return dict(tensors)


def _problem(tensor: Any) -> str | None:
    """Say what is wrong with an entry, as the rest of a sentence. Returns None for a usable tensor."""
    if not isinstance(tensor, torch.Tensor):
        return f"is no tensor but {type(tensor).__name__}"
    plain = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_complex())
    if not plain:
        return f"is not a dense real-valued tensor ({tensor.dtype}, {tensor.layout})"
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return None
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        tensor = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())  # few numbers in a huge shape
    return None if all_finite(tensor) else "holds NaN or infinite values"


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether a floating tensor holds finite numbers alone; NaN and infinity survive minimum and maximum."""
    if tensor.element_size() == 1:  # 8-bit floats have no minimum
        tensor = tensor.float()
    if bool(torch.isfinite(tensor.sum())):  # they survive a sum too, which is faster but may overflow
        return True
    smallest, largest = torch.aminmax(tensor)
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


MISFITS_NAMED = 4
"""Tensors that do not fit: another network misses hundreds."""


def unique_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict with every tensor once, under the alphabetically first of its names.

    DynUNet registers each decoder block twice (`upsamples.*` and `skip_layers.*`), which safetensors refuses.
    """
    state = module.state_dict(keep_vars=True)
    return {names[0]: state[names[0]].detach() for names in _aliases(state)}


def _aliases(state: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """List the names of each tensor, all in alphabetical order."""
    same: dict[int, list[str]] = {}
    for name in sorted(state):
        same.setdefault(id(state[name]), []).append(name)
    return list(same.values())


def load_state(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy `tensors` into `module`, accepting any alias of each name.

    Args:
        source: the file they come from, for the message.

    Raises:
        InputError: names the missing keys, unexpected keys, wrong shapes and kinds of numbers; or the first tensor
            with NaN or infinite values, also those that are too large for the network's precision.
    """
    own = module.state_dict(keep_vars=True)
    remaining = dict(tensors)
    problems: list[str] = []
    found: dict[str, torch.Tensor] = {}
    for names in _aliases(own):
        first, given = names[0], [remaining.pop(name) for name in names if name in remaining]
        if not given:
            problems.append(f"missing {first}")
        elif given[0].shape != own[first].shape:
            problems.append(f"{first} has shape {list(given[0].shape)[:8]}, expected {list(own[first].shape)}")
        elif given[0].is_complex() or given[0].is_floating_point() != own[first].is_floating_point():
            problems.append(f"{first} holds {given[0].dtype} numbers, expected {own[first].dtype}")
        else:
            found[first] = given[0].to(own[first].dtype)
    problems += [f"unexpected {name[:100]}" for name in sorted(remaining)]
    if problems:
        more = f"; and {len(problems) - MISFITS_NAMED} more" if len(problems) > MISFITS_NAMED else ""
        what = f"{'; '.join(problems[:MISFITS_NAMED])}{more}"
        raise InputError(f"The weights in {source} do not fit this network: {what}.", "unusable-weights")
    checked_tensors(found, source)
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)


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
"""What to do about a file with more than weights: its author can write it without."""


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file, all of them finite.

    Raises:
        InputError: missing, no whole safetensors file (nothing is ever unpickled), or see `checked_tensors`.
    """
    regular_file(path, "give a safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:  # also of numbers that torch lacks
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from error
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


def rename_keys(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the authors' keys to ours and drop the axes of length one of their 1-wide convolutions."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("tap.backbone.", "backbone.deep_supervision_heads.")) or ".super_head." in name:
            continue
        if name in _HEAD_NAMES:
            renamed[_HEAD_NAMES[name]] = tensor.flatten(1) if tensor.ndim > 2 else tensor
        else:
            renamed[name.replace("fusion.fusion_block.", "fusion.mixing.")] = tensor
    return renamed


def load_authors_checkpoint(network: nn.Module, path: Path) -> None:
    """Fill `network` with the weights of an authors' checkpoint.

    Raises:
        InputError: unreadable file; or one sentence naming every missing or unexpected key and wrong shape.
    """
    load_state(network, rename_keys(read_safetensors(path)), str(path))
