"""Whether a bundle's network fits into memory, found out without allocating any of it."""

import math
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..memory import check_memory, in_words
from ..network.backbones.user_network import is_own

if TYPE_CHECKING:
    from .bundle import Bundle, HeadSpec

LOADING_COPIES = 2
"""Of the weights while a network is loaded: its own, and those read from the file."""


def check_network_fits(bundle: "Bundle", head: "HeadSpec") -> None:
    """Refuse a network whose weights, or the activations of one window, need more memory than is free.

    The network is built on torch's "meta" device, where tensors have sizes and no content. Windows are looked at where
    they run in the computer's own memory. Not looked at: networks whose code is the user's own.

    Raises:
        InputError: no computer can hold the weights.
        NotEnoughMemoryError: this one cannot.
    """
    from .bundle import empty_network

    if is_own(bundle.backbone.kind):
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
