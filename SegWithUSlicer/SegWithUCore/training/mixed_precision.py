"""Mixed precision on the CPU, with gradients of 3D convolutions that are right on every processor.

On processors with AMX the gradients that oneDNN gives the weights of 3D convolutions in bfloat16 are not a number, or
memory is overwritten ("double free"), for shapes that nobody can guess: 48 channels fail in windows 112 to 144 voxels
wide, 96 in such of 64 and 160 (torch 2.13, `brgconv_bwd_w:avx10_1_512_amx`; 18 of 64 shapes tried). Outputs, gradients
of inputs and everything in two dimensions were right in all of them. So here those of weights are summed over pairs of
slices, in two dimensions. Without AMX all would be right, but take 2.6 times as long.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

BFLOAT16 = "bfloat16"


@contextlib.contextmanager
def autocast(precision: str) -> Iterator[None]:
    """Compute what is fit for it in bfloat16 on the CPU if `precision` is "bfloat16"; else change nothing."""
    if precision != BFLOAT16:
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), SliceWiseGradients():
        yield


class SliceWiseGradients(TorchFunctionMode):
    """Have gradients of the weights of 3D convolutions computed slice by slice, whatever network calls them.

    Affects convolutions on the CPU in bfloat16, plain and transposed, whose weights are trained.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute `func`; PyTorch calls this for each of its functions."""
        named = kwargs or {}
        if func is torch.conv3d:
            return _convolution(func, False, *args, **named)
        if func is torch.conv_transpose3d:
            return _convolution(func, True, *args, **named)
        return func(*args, **named)


class Geometry(NamedTuple):
    """How a convolution moves over its input; three numbers each, z first."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int


def _convolution(
    plain: Callable[..., torch.Tensor],
    transposed: bool,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    *rest: Any,
    **named: Any,
) -> torch.Tensor:
    """Compute `plain`, with the names and the order of arguments of `torch.conv3d` or `torch.conv_transpose3d`."""
    if not _concerned(input, weight):
        return plain(input, weight, bias, stride, padding, *rest, **named)
    if input.ndim == 4:
        return _convolution(plain, transposed, input[None], weight, bias, stride, padding, *rest, **named)[0]
    order = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
    options = {"output_padding": 0, "groups": 1, "dilation": 1, **dict(zip(order, rest, strict=False)), **named}
    dilation = _triple(options["dilation"])
    if isinstance(padding, str):
        if padding == "same":
            input = functional.pad(input, _margins(weight.shape[2:], dilation))
        padding = 0
    geometry = Geometry(
        _triple(stride), _triple(padding), dilation, transposed, _triple(options["output_padding"]), options["groups"]
    )
    low = [None if tensor is None else tensor.to(torch.bfloat16) for tensor in (input, weight, bias)]
    with torch.autocast("cpu", enabled=False), torch._C.DisableTorchFunction():
        output: torch.Tensor = _SliceWise.apply(*low, geometry)  # type: ignore[no-untyped-call]
    return output


def _concerned(input: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the weight's gradient would be computed in bfloat16 on the CPU."""
    if not (torch.is_grad_enabled() and weight.requires_grad and input.device.type == "cpu"):
        return False
    mixed = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return mixed or (input.dtype == weight.dtype == torch.bfloat16)


def _triple(value: int | Sequence[int]) -> tuple[int, int, int]:
    if isinstance(value, int):
        return value, value, value
    z, y, x = value if len(value) == 3 else (value[0],) * 3
    return z, y, x


def _margins(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Return what padding "same" adds, as `functional.pad` takes it: x first, the odd voxel behind."""
    margins: list[int] = []
    for size, step in zip(reversed(kernel), reversed(dilation), strict=True):
        both = step * (size - 1)
        margins += [both // 2, both - both // 2]
    return margins


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
            near, far = (gradient, input) if geometry.transposed else (input, gradient)
            of_weight = weight_gradient(near, far, weight, geometry)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3, 4), dtype=torch.float32).to(gradient.dtype)
        return of_input, of_weight, of_bias, None


def weight_gradient(near: torch.Tensor, far: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Compute the gradient of a 3D convolution's weight from convolutions in two dimensions.

    Args:
        near: what the kernel moves over, (batch, channels, z, y, x): the input, or the output's gradient where the
            convolution is transposed.
        far: where the kernel stands, (batch, channels, z, y, x): the output's gradient, or the input.
        weight: (channels of far, channels of near / groups, z, y, x).
        geometry: of the convolution.

    Returns:
        As `weight`.
    """
    (step, *steps), (margin, *margins), (spread, *spreads) = geometry.stride, geometry.padding, geometry.dilation
    if margin:
        near = functional.pad(near, (0, 0, 0, 0, margin, margin))
    flat, last = _slices(far), step * (far.shape[2] - 1) + 1
    kernel = weight[:, :, 0]
    parts = []
    for place in range(0, weight.shape[2] * spread, spread):
        met = _slices(near[:, :, place : place + last : step])
        fixed = (steps, margins, spreads, False, [0, 0], geometry.groups, [False, True, False])
        parts.append(torch.ops.aten.convolution_backward(flat, met, kernel, None, *fixed)[1])
    return torch.stack(parts, 2)


def _slices(volumes: torch.Tensor) -> torch.Tensor:
    """Reshape (batch, channels, z, y, x) to (batch * z, channels, y, x)."""
    return volumes.transpose(1, 2).flatten(0, 1)
