"""Mixed precision on the CPU, with gradients of 3D convolutions that are right on every processor.

On processors with AMX the gradients that oneDNN gives the weights of 3D convolutions in bfloat16 are not a number, or
memory is overwritten ("double free"). Which shapes fail cannot be foreseen: with 48 channels windows that are 112 to
144 voxels wide, with 96 channels those of 64 and of 160 (torch 2.13, `brgconv_bwd_w:avx10_1_512_amx`; 18 of 64 shapes
tried). Outputs, gradients of inputs and everything in two dimensions were right in all of them. So here those of
weights are summed over pairs of slices, in two dimensions. `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`, which does without
AMX, makes all right, too, but training takes 2.6 times as long.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from SegWithUCore.util.errors import InputError

BFLOAT16 = "bfloat16"
_IN_FLOAT32 = "set 'precision' to \"float32\" under 'backbone_training'"
_CAST = (torch.float32, torch.bfloat16, torch.float16)
"""What autocast casts; it leaves float64 as it is."""


@contextlib.contextmanager
def autocast(precision: str) -> Iterator[None]:
    """Compute what is fit for it in bfloat16 on the CPU if `precision` is "bfloat16"; else all as it comes."""
    if precision != BFLOAT16:
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), SliceWiseGradients():
        yield


def check_gradients(network: nn.Module, precision: str) -> None:
    """Check that `SliceWiseGradients` sees the convolutions of a network that is to be trained.

    Raises:
        InputError: parts of it are TorchScript, and it is to be trained in bfloat16.
    """
    scripted = [
        name or "the network" for name, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule)
    ]
    if scripted and precision == BFLOAT16:
        problem = f"{scripted[0]} is TorchScript, whose gradients would be wrong in bfloat16 on some processors"
        raise InputError(f"The recipe's {problem}: {_IN_FLOAT32}.")


class SliceWiseGradients(TorchFunctionMode):
    """Have gradients of the weights of 3D convolutions computed slice by slice.

    Affects convolutions on the CPU in bfloat16, plain and transposed, whose weights are trained, wherever a network
    calls `torch.conv3d` or `torch.conv_transpose3d`, as PyTorch's layers do; of TorchScript see `check_gradients`.
    Unusual ones (`_geometry`) are computed in float32.

    Raises:
        InputError: a convolution whose weights are trained is computed without gradients: they would come later, when
            nothing is seen any more.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute `func`; PyTorch calls this for each of its functions."""
        named = kwargs or {}
        if func not in (torch.conv3d, torch.conv_transpose3d):
            return func(*args, **named)
        transposed = func is torch.conv_transpose3d
        further = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
        given = {**dict(zip(("input", "weight", "bias", "stride", "padding", *further), args, strict=False)), **named}
        tensors = [given.get(name) for name in ("input", "weight", "bias")]
        if not _concerned(given["input"], given["weight"]):
            return func(*args, **named)
        geometry = _geometry(given, transposed)
        with torch.autocast("cpu", enabled=False), torch._C.DisableTorchFunction():
            if geometry is None:
                floats = {name: each.float() if torch.is_tensor(each) else each for name, each in given.items()}
                return func(**floats).to(torch.bfloat16)
            low = [None if tensor is None else tensor.to(torch.bfloat16) for tensor in tensors]
            return _SliceWise.apply(*low, geometry)  # type: ignore[no-untyped-call]


class Geometry(NamedTuple):
    """How a convolution moves over its input; three numbers each, z first."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int


def _geometry(given: Mapping[str, Any], transposed: bool) -> Geometry | None:
    """Read the arguments of a convolution; None for padding by name, no batch axis, or an unusual output padding."""
    if given["input"].ndim != 5 or isinstance(given.get("padding", 0), str):
        return None
    stride, dilation = _triple(given.get("stride", 1)), _triple(given.get("dilation", 1))
    padding, extra = _triple(given.get("padding", 0)), _triple(given.get("output_padding", 0))
    if any(more >= step for more, step in zip(extra, stride, strict=True)):
        return None
    return Geometry(stride, padding, dilation, transposed, extra, given.get("groups", 1))


def _concerned(input: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the weight's gradient would be computed in bfloat16 on the CPU."""
    if not weight.requires_grad or input.device.type != "cpu":
        return False
    mixed = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    low = input.dtype in _CAST and weight.dtype in _CAST if mixed else input.dtype == weight.dtype == torch.bfloat16
    if low and not torch.is_grad_enabled():
        problem = "The network computes convolutions without gradients in training, and theirs in bfloat16 may be wrong"
        raise InputError(f"{problem}: give torch.utils.checkpoint use_reentrant=False, or {_IN_FLOAT32}.")
    return low


def _triple(value: Any) -> tuple[int, int, int]:
    """Read a number, one number for all axes, or three."""
    numbers = [operator.index(part) for part in value] if isinstance(value, Sequence) else [operator.index(value)]
    z, y, x = numbers if len(numbers) == 3 else numbers * 3
    return z, y, x


class _SliceWise(torch.autograd.Function):
    """A 3D convolution, plain or transposed, whose weight gets its gradient slice by slice."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry
    ) -> torch.Tensor:
        """Compute the convolution as PyTorch does."""
        ctx.save_for_backward(input, weight)
        ctx.geometry = geometry
        return torch.ops.aten.convolution(input, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients of input, weight and bias."""
        (gradient,), (input, weight), geometry = gradients, ctx.saved_tensors, ctx.geometry
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            wanted = [True, False, False]
            of_input = torch.ops.aten.convolution_backward(gradient, input, weight, None, *geometry, wanted)[0]
        if ctx.needs_input_grad[1]:
            pair = (gradient, input) if geometry.transposed else (input, gradient)
            of_weight = weight_gradient(pair[0], pair[1], weight, geometry)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3, 4), dtype=torch.float32).to(gradient.dtype)
        return of_input, of_weight, of_bias, None


def weight_gradient(
    input: torch.Tensor, grad_output: torch.Tensor, weight: torch.Tensor, geometry: Geometry
) -> torch.Tensor:
    """Compute the gradient of a 3D convolution's weight from convolutions in two dimensions.

    Args:
        input: of the convolution, (batch, channels, z, y, x); the gradient of its output if it is transposed.
        grad_output: gradient of its output, (batch, channels, z, y, x); its input if it is transposed.
        weight: (channels of `grad_output`, channels of `input` / groups, z, y, x).
        geometry: of the convolution.

    Returns:
        As `weight`.
    """
    (stride, *strides), (padding, *paddings), (dilation, *dilations) = geometry[:3]
    if padding:
        input = functional.pad(input, [0, 0, 0, 0, padding, padding])
    flat, last = _slices(grad_output), stride * (grad_output.shape[2] - 1) + 1
    kernel = weight[:, :, 0]
    parts = []
    for offset in range(0, weight.shape[2] * dilation, dilation):
        slices = _slices(input[:, :, offset : offset + last : stride])
        fixed = (strides, paddings, dilations, False, [0, 0], geometry.groups, [False, True, False])
        parts.append(torch.ops.aten.convolution_backward(flat, slices, kernel, None, *fixed)[1])
    return torch.stack(parts, 2)


def _slices(volumes: torch.Tensor) -> torch.Tensor:
    """Reshape (batch, channels, z, y, x) to (batch * z, channels, y, x)."""
    return volumes.transpose(1, 2).flatten(0, 1)
