"""Weights from files: safetensors, `torch.save` and the authors' checkpoints, and their way into a network.

Nothing in a file is ever run. PyTorch's restricted reader decides what is read; what it refuses is looked at as a list
of instructions, which are never carried out, so that the user learns whether a file is cut or holds more than weights.
"""

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..util.errors import InputError
from ..util.input_files import regular_file

MAXIMUM_GROWTH = 8
"""Times its size that a file may grow when unpacked: torch stores without compression, so a true one does not grow."""
MAXIMUM_INSTRUCTIONS_BYTES = 64 << 20
"""Of what describes the tensors; nnU-Net's own have less than 1 MB, their numbers lie beside."""
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First pickle of a file that PyTorch before 1.6 wrote."""
_PICKLES_OF_OLD_FILES = 5
"""Magic number, version, system, content, names of the storages."""
_PLAIN = re.compile(
    r"torch\.(_utils\._rebuild_\w+|\w*Storage|storage\.\w+|Size|device|dtype|b?float\d+|u?int\d+|nn\.parameter\.\w+)"
    r"|collections\.\w+|_codecs\.encode|numpy\.(core|_core)\.multiarray\.scalar|numpy\.dtype|numpy\.dtypes\.\w+"
)
"""Names that tensors and plain values need."""


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
        unpacked = _unpacked_bytes(path)
        if unpacked > MAXIMUM_GROWTH * size + (1 << 20):
            raise InputError(f"{path} unpacks from {size} to {unpacked} bytes, as no checkpoint does: {remedy}.")
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old protocols and kinds of archives, which the refusal is about
            return torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # torch raises half a dozen kinds for damaged and unsafe files
        raise InputError(_refusal(path, remedy, type(error).__name__ == "UnpicklingError")) from error


def _unpacked_bytes(path: Path) -> int:
    """Sum the sizes that the entries of an archive claim. Returns 0 for other files."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


@dataclass
class _Instructions:
    """What pickles would do: names they call for, in order, and whether all are read to their ends."""

    pickles: int = 0
    names: dict[str, None] = field(default_factory=dict)
    whole: bool = False
    script: bool = False


def _refusal(path: Path, remedy: str, unsafe: bool) -> str:
    """Word the sentence about a file that was not read.

    Args:
        unsafe: PyTorch's reader met something that it does not let in; else it did not get on, as in cut files.
    """
    with path.open("rb") as file:
        start = file.read(len(_OLD_MAGIC))
    found = _instructions(path, start)
    if found.script:
        return f"{path} is a TorchScript program, not weights, and programs of others are never loaded: {remedy}."
    foreign = [name for name in found.names if not _PLAIN.fullmatch(name)]
    if not foreign and not (found.whole and unsafe):
        if start[:1] != b"\x80" and start[:2] not in (b"PK", b""):
            return f"{path} is no file of PyTorch (it begins with {start[:4]!r}): check the path."
        if zipfile.is_zipfile(path) and not found.pickles:
            return f"{path} is an archive, but none of PyTorch (it has no data.pkl): check the path."
        return f"{path} is not a whole PyTorch checkpoint: copy it again from its source."
    named = f" ({', '.join(name[:80] for name in foreign[:3])})" if foreign else ""
    return (
        f"{path} holds objects that are no weights{named}, which are never loaded because they can run any code: "
        f"{remedy}."
    )


def _instructions(path: Path, start: bytes) -> _Instructions:
    """List what the pickles in a file would do, as far as they can be read."""
    found = _Instructions()
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                found.script = any(name.endswith(("constants.pkl", ".py")) for name in names)
                for name in [name for name in names if name.endswith("data.pkl")]:
                    with archive.open(name) as packed:
                        _note(io.BytesIO(packed.read(MAXIMUM_INSTRUCTIONS_BYTES)), found)
        else:
            with path.open("rb") as file:
                content = io.BytesIO(file.read(MAXIMUM_INSTRUCTIONS_BYTES))
            for _ in range(_PICKLES_OF_OLD_FILES if start == _OLD_MAGIC else 1):
                found.whole = False
                _note(content, found)
    except (ValueError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        found.whole = False
    return found


def _note(pickle: BinaryIO, found: _Instructions) -> None:
    """Add the names that a pickle calls for.

    Raises:
        ValueError: it ends too early, or is none.
    """
    texts: list[str] = []
    found.pickles += 1
    for code, argument in _codes(pickle):
        if code in ("GLOBAL", "INST"):
            found.names[str(argument).replace(" ", ".", 1)] = None
        elif code == "STACK_GLOBAL":
            found.names[".".join(texts[-2:])] = None
        elif code in ("EXT1", "EXT2", "EXT4"):
            found.names[f"extension {argument}"] = None
        elif isinstance(argument, str):
            texts.append(argument)
    found.whole = True


def _codes(pickle: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Instructions with their arguments; a text that is fetched from the memo comes again."""
    memo: dict[int, str] = {}
    last = ""
    for code, argument, _ in pickletools.genops(pickle):
        if code.name == "MEMOIZE":
            memo[len(memo)] = last
        elif code.name.endswith("PUT") and isinstance(argument, int):
            memo[argument] = last
        if code.name.endswith("GET") and isinstance(argument, int):
            argument = memo.get(argument, "")
        last = argument if isinstance(argument, str) else ""
        yield code.name, argument


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
            raise InputError(
                f"{source} holds no usable weights: '{str(name)[:120]}' {problem}; get the file again from its source."
            )
    return dict(tensors)


def _problem(tensor: Any) -> str | None:
    """Say what is wrong with an entry, as the rest of a sentence. Returns None for a usable tensor."""
    if not isinstance(tensor, torch.Tensor):
        return f"is no tensor but {type(tensor).__name__}"
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return f"is no plain tensor ({tensor.dtype}, {tensor.layout})"
    if tensor.is_complex():
        return f"holds complex numbers ({tensor.dtype})"
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return None
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        tensor = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())  # few numbers in a huge shape
    return None if all_finite(tensor) else f"holds {_first_bad(tensor)}"


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether a floating tensor holds finite numbers alone; NaN and infinity survive minimum and maximum."""
    if tensor.element_size() == 1:  # 8-bit floats have no minimum
        tensor = tensor.float()
    if bool(torch.isfinite(tensor.sum())):  # they survive a sum too, which is faster but may overflow
        return True
    smallest, largest = torch.aminmax(tensor)
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


def _first_bad(tensor: torch.Tensor) -> str:
    values = tensor.float() if tensor.element_size() < 4 else tensor
    bad = ~torch.isfinite(values)
    first = float(values[bad][0])
    return f"{'NaN' if first != first else 'an infinite value'} ({int(bad.sum())} of {values.numel()} values)"


MISFIT_LETTERS = 140
MISFITS_NAMED = 4
"""Of tensors that do not fit: another network misses hundreds."""


def unique_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict with every tensor once, under the alphabetically first of its names.

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
    """Say why tensors do not fit the network's own of that name. Returns None if they do."""
    if not given:
        return f"missing {name}"
    tensor = given[0]
    if tensor.shape != own.shape:
        return f"{name} has shape {list(tensor.shape)}, expected {list(own.shape)}"
    if tensor.is_complex() or tensor.is_floating_point() != own.is_floating_point():
        return f"{name} holds {tensor.dtype} numbers, expected {own.dtype}"
    return None


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


def load_authors_checkpoint(network: nn.Module, path: Path) -> None:
    """Fill `network` with the weights of an authors' checkpoint.

    Raises:
        InputError: unreadable file; or one sentence naming every missing or unexpected key and wrong shape.
    """
    load_state(network, rename_keys(read_safetensors(path)), str(path))
