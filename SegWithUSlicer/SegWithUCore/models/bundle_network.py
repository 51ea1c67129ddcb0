"""The network of a bundle: built, held against the memory that is free, filled with its weights; written again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..network.backbones import MAXIMUM_PARAMETERS, build_backbone, count_parameters, example_input
from ..network.backbones.user_network import register_networks_of
from ..network.segwithu import SegWithU
from ..network.specs import HEAD_TEXT, WITHOUT_TORCH, is_user_network
from ..network.weights import checked_tensors, load_state, read_safetensors
from ..util import plugins
from ..util.errors import NEEDS_PACKAGE, InputError, UsageError, naming
from ..util.memory import check_memory, size_text
from ..util.paths import BUNDLE_FILE, user_networks_file
from .bundle import RESTORE, WEIGHTS_FILE, Bundle, HeadSpec, as_further, file_sha256, named_head
from .bundle_files import verify_weights, weights_path
from .graphs import only_graphs

LOADING_COPIES = 2
"""Of the weights while a network is loaded: its own, and those read from the file."""
FEWEST_BYTES_A_NUMBER = 2
"""In a weights file: 4, or 2 where numbers are stored as float16."""


def _check_fits(bundle: Bundle, head: HeadSpec, most_parameters: int) -> None:
    """Refuse a network whose weights need more memory than is free, or of more than its file can hold.

    The network is built on torch's "meta" device, where tensors have sizes and no content. Not checked: networks
    whose code is the user's own. Windows are checked with the image (`inference/memory_prediction.py`).

    Raises:
        InputError, NotEnoughMemoryError.
    """
    if is_user_network(bundle.backbone.kind):
        return
    with torch.device("meta"):
        network = empty_network(bundle, head, most_parameters)
    parts = [*network.parameters(), *network.buffers()]
    if count_parameters(network) > most_parameters:
        raise InputError(f"{bundle.folder} does not fit {WEIGHTS_FILE}: {RESTORE}.", "damaged-bundle")
    weights = sum(part.numel() * part.element_size() for part in parts)
    what = f"The network of {bundle.folder} ({size_text(weights)} of weights)"
    check_memory(what, LOADING_COPIES * weights, ["take a smaller model"])


def empty_network(bundle: Bundle, head: HeadSpec | None = None, most_parameters: int = MAXIMUM_PARAMETERS) -> SegWithU:
    """Build the untrained network that a bundle describes, in eval mode.

    Args:
        head: None for the default one.
        most_parameters: see `build_backbone`.

    Raises:
        InputError: names the bundle file, or the bundle where it has none yet, and what does not fit.
        UsageError: the head comes from a package that is not installed, or is damaged.
    """
    head = head or bundle.default_head
    source = f"The bundle {bundle.name}" if bundle.folder is None else str(bundle.folder / BUNDLE_FILE)
    if is_user_network(bundle.backbone.kind):
        register_networks_of(user_networks_file())
    _check_plugin(head, source)
    with naming(source):
        backbone = build_backbone(bundle.backbone, most_parameters)
        example = example_input(bundle.backbone, len(bundle.input.channels), bundle.input.window_zyx)
        settings = (head.variant, head.feature_channels, head.probes, head.aleatoric)
        try:
            network = SegWithU(backbone, head.taps, example, *settings).eval()
        except (RuntimeError, ValueError) as error:  # torch's own words about shapes run over several lines
            what = f"{', '.join(bundle.input.channels)}; window {list(bundle.input.window)}"
            raise InputError(f"The backbone does not take its input ({what}): correct {BUNDLE_FILE}.") from error
        if network.num_classes != len(bundle.labels):
            raise InputError(f"The backbone has {network.num_classes} classes for {len(bundle.labels)} labels.")
    return network


def _check_plugin(head: HeadSpec, source: str) -> None:
    """Refuse a head of a package that is not here: another one may bring another head of the same name.

    Raises:
        UsageError: names the package.
    """
    wanted, found = head.plugin, plugins.plugin_package(plugins.HEADS, head.variant, HEAD_TEXT)
    if wanted is not None and (found is None or found.name != wanted.name):
        origin = f"{source}: the head '{head.variant}' comes from the package {wanted.name} {wanted.version}"
        lacking = "which is not installed" if found is None else f"and not from {found}"
        raise UsageError(f"{origin}, {lacking}: if you trust it, pip install '{wanted.name}'.", NEEDS_PACKAGE)


def load_network(bundle: Bundle, head_name: str | None = None) -> SegWithU:
    """Load the network of a bundle with its weights, verified against their hash.

    Args:
        head_name: a head other than the default.

    Raises:
        InputError: unknown head, damaged weights, weights that do not fit, or a network too large for this computer.
    """
    if bundle.backbone.kind in WITHOUT_TORCH:
        raise UsageError(f"{only_graphs(bundle)}: it has no head that can be trained or compiled.", "no-torch-network")
    verify_weights(bundle)
    path, head = weights_path(bundle), named_head(bundle, head_name)
    most_parameters = path.stat().st_size // FEWEST_BYTES_A_NUMBER
    _check_fits(bundle, head, most_parameters)
    network = empty_network(bundle, head, most_parameters)
    tensors = read_safetensors(path)
    backbone = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    load_state(network, {**backbone, **_within(tensors, f"heads.{head.name}.")}, str(path))
    return network


def write_weights(folder: Path, backbone: Mapping[str, torch.Tensor], heads: Mapping[str, Mapping[str, Any]]) -> str:
    """Write `weights.safetensors` and return its hash: float32, a backbone that was rounded to float16 as such.

    Args:
        backbone: each tensor once, names without prefix.
        heads: for each head its `fusion.*` and `head.*` tensors.
    """
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    for head, state in heads.items():
        tensors |= {f"heads.{head}.{name}": tensor for name, tensor in state.items()}
    path = folder / WEIGHTS_FILE
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    rounded = {name: plain[name].half() for name in plain if name.startswith("backbone.")}
    if all(torch.equal(half.float(), plain[name]) for name, half in rounded.items()):
        plain |= rounded
    save_file(checked_tensors(plain, "The model that is to be written"), path)
    path.chmod(0o644)  # safetensors makes it private, but a model is shared
    return file_sha256(path)


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
    its = _within(tensors, "backbone.")
    if its.keys() != backbone.keys() or not all(torch.equal(its[name].float(), backbone[name].float()) for name in its):
        raise InputError(f"The model {bundle.name} has another backbone: its heads cannot go into this bundle.")
    heads = [as_further(bundle) if head.default else head for head in bundle.heads if head.name != taken]
    if not heads:
        raise InputError(f"The model {bundle.name} has no head besides '{taken}', which this bundle has itself.")
    return tuple(heads), {head.name: _within(tensors, f"heads.{head.name}.") for head in heads}


def _within(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
