"""oneDNN for the small feature maps of a network, which torch leaves to a slow kernel on the CPU.

For a single float32 image torch asks oneDNN only if channels times the first two axes exceed 20,480; the deep levels of
small networks do not (`docs/developer/performance.md`).
"""

import functools
from types import MethodType

import torch
from torch import nn


def use_onednn(network: nn.Module) -> None:
    """Let the 3-D convolutions of a network ask oneDNN themselves while they run in inference mode.

    Elsewhere (gradients, tracing, graphics cards, bfloat16), and where this torch has no oneDNN, nothing changes.
    """
    if not onednn_works():
        return
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module._conv_forward = MethodType(_convolved, module)  # type: ignore[method-assign]


@functools.cache
def onednn_works() -> bool:
    """Whether this torch has oneDNN and gets right results of it, tried on a small convolution."""
    if not torch.backends.mkldnn.is_available():
        return False
    trial = nn.Conv3d(3, 4, 3, padding=1)
    image = torch.linspace(-1, 1, 3 * 4 * 5 * 6).reshape(1, 3, 4, 5, 6)
    try:
        with torch.inference_mode():
            return torch.allclose(_convolved(trial, image, trial.weight, trial.bias), trial(image), atol=1e-5)
    except (RuntimeError, AttributeError):
        return False


def _convolved(module: nn.Conv3d, image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Take the place of `Conv3d._conv_forward`."""
    is_ours = image.device.type == "cpu" and image.dtype == weight.dtype == torch.float32
    if not is_ours or not torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu"):
        return nn.Conv3d._conv_forward(module, image, weight, bias)
    sizes = [int(length) for length in module.padding]
    return torch.mkldnn_convolution(image, weight, bias, sizes, module.stride, module.dilation, module.groups)
