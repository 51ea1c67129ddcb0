"""Tensors of others, before they become weights: plain, real, of the right kind, and finite."""

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError


def checked_tensors(tensors: Mapping[Any, Any], source: str) -> dict[str, torch.Tensor]:
    """The tensors of a file, each known to be a plain one of real numbers that are finite.

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
    """What is wrong with an entry, as the rest of a sentence; None for a usable tensor."""
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
    smallest, largest = torch.aminmax(tensor)
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


def _first_bad(tensor: torch.Tensor) -> str:
    values = tensor.float() if tensor.element_size() < 4 else tensor
    bad = ~torch.isfinite(values)
    first = float(values[bad][0])
    return f"{'NaN' if first != first else 'an infinite value'} ({int(bad.sum())} of {values.numel()} values)"
