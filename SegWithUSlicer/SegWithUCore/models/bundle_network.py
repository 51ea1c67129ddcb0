"""The network of a bundle: built, held against the memory that is free, filled with its weights; written again."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..network.backbones import MAXIMUM_PARAMETERS, build_backbone, example_input
from ..network.backbones.user_network import register_networks_of
from ..network.segwithu import SegWithU
from ..network.specs import is_user_network
from ..network.weights import checked_tensors, load_state, read_safetensors
from ..util.errors import InputError, naming
from ..util.memory import check_memory, in_words
from ..util.paths import BUNDLE_FILE, user_networks_file
from .bundle import WEIGHTS_FILE, Bundle, HeadSpec, as_further, file_sha256, named_head
from .weights_file import verify_weights, weights_path

LOADING_COPIES = 2
"""Of the weights while a network is loaded: its own, and those read from the file."""


def check_network_fits(bundle: Bundle, head: HeadSpec) -> None:
    """Refuse a network whose weights, or the activations of one window, need more memory than is free.

    The network is built on torch's "meta" device, where tensors have sizes and no content. Windows are looked at where
    they run in the computer's own memory. Not looked at: networks whose code is the user's own.

    Raises:
        InputError: no computer can hold the weights.
        NotEnoughMemoryError: this one cannot.
    """
    if is_user_network(bundle.backbone.kind):
        return
    place = bundle.folder or bundle.name
    try:
        with torch.device("meta"):
            network = empty_network(bundle, head)
    except InputError as error:
        if "overflow" in str(error.__cause__):
            raise InputError(
                f"{place} describes a network of more weights than any computer holds ({head.feature_channels} feature "
                "channels): restore the bundle from its source."
            ) from error
        raise
    weights = sum(part.numel() * part.element_size() for part in [*network.parameters(), *network.buffers()])
    outputs = network.num_classes + network.head.response_channels
    voxels = math.prod(bundle.input.window)
    window = 0 if torch.cuda.is_available() else voxels * (network.window_bytes + 8 * outputs)
    edges = " x ".join(str(n) for n in bundle.input.window)
    what = f"The network of {place} ({in_words(weights)} of weights, windows of {edges} voxels)"
    check_memory(what, LOADING_COPIES * weights + window, ["take a model with fewer channels or a smaller window"])


FEWEST_BYTES_A_NUMBER = 2
"""In a weights file: we write 4, others may store half precision."""


def empty_network(bundle: Bundle, head: HeadSpec | None = None, most_parameters: int = MAXIMUM_PARAMETERS) -> SegWithU:
    """Build the untrained network that a bundle describes, in eval mode.

    Args:
        head: None for the default one.
        most_parameters: see `build_backbone`.

    Raises:
        InputError: names the bundle file, or the bundle where it has none yet, and what does not fit.
    """
    head = head or bundle.default_head
    source = f"The bundle {bundle.name}" if bundle.folder is None else str(bundle.folder / BUNDLE_FILE)
    if is_user_network(bundle.backbone.kind):
        register_networks_of(user_networks_file())
    with naming(source):
        backbone = build_backbone(bundle.backbone, most_parameters)
        example = example_input(bundle.backbone, len(bundle.input.channels), bundle.input.window_zyx)
        try:
            network = SegWithU(
                backbone, head.taps, example, head.variant, head.feature_channels, head.probes, head.aleatoric
            ).eval()
        except (RuntimeError, ValueError) as error:  # torch's own words about shapes run over several lines
            channels = ", ".join(bundle.input.channels)
            raise InputError(
                f"The backbone of the bundle {bundle.name} does not take its input ({channels}; window "
                f"{list(bundle.input.window)}): correct its arguments or the input in {BUNDLE_FILE}."
            ) from error
        if network.num_classes != len(bundle.labels):
            raise InputError(
                f"The bundle {bundle.name} names {len(bundle.labels)} labels but its backbone has "
                f"{network.num_classes} classes: correct bundle.json."
            )
    return network


def load_network(bundle: Bundle, head_name: str | None = None) -> SegWithU:
    """Load the network of a bundle with its weights, verified against their hash.

    Args:
        head_name: a head other than the default.

    Raises:
        InputError: unknown head, damaged weights, weights that do not fit, or a network too large for this computer.
    """
    verify_weights(bundle)
    head = named_head(bundle, head_name)
    check_network_fits(bundle, head)
    network = empty_network(bundle, head, weights_path(bundle).stat().st_size // FEWEST_BYTES_A_NUMBER)
    tensors = read_safetensors(weights_path(bundle))
    prefix = f"heads.{head.name}."
    wanted = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    wanted |= {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    load_state(network, wanted, str(weights_path(bundle)))
    return network


def write_weights(folder: Path, backbone: Mapping[str, torch.Tensor], heads: Mapping[str, Mapping[str, Any]]) -> str:
    """Write `weights.safetensors` in float32 and return its hash.

    Args:
        backbone: each tensor once, names without prefix.
        heads: for each head its `fusion.*` and `head.*` tensors.
    """
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    for head, state in heads.items():
        tensors |= {f"heads.{head}.{name}": tensor for name, tensor in state.items()}
    path = folder / WEIGHTS_FILE
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
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
