"""Running a network several times on one input when only what follows certain modules differs."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import nn

from ..network.taps import find_module


class KeptPrefix:
    """Within the block, what innermost modules gave before the first of the named modules ran is given again.

    They are computed in the first pass alone; every pass must run on the same input, and is announced by `begin`. What
    is kept are copies, since networks change tensors in place.

    Args:
        names: dotted paths of the modules from which on everything is computed anew.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self._network, self._names = network, names
        self._kept: list[torch.Tensor | None] = []
        self._passes = self._place = 0
        self._before = False
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Take over the innermost modules."""
        for name in self._names:
            handle = find_module(self._network, name).register_forward_pre_hook(self._reached)
            self._undo.callback(handle.remove)
        for module in self._network.modules():
            if not any(module.children()):
                self._undo.callback(delattr, module, "forward")
                module.forward = self._instead_of(module.forward)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        self._undo.close()

    def begin(self) -> None:
        """The next pass follows."""
        self._passes, self._place, self._before = self._passes + 1, 0, True

    def _reached(self, *_: object) -> None:
        self._before = False

    def _instead_of(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def kept_or_computed(*inputs: Any, **options: Any) -> Any:
            if not self._before:
                return forward(*inputs, **options)
            if self._passes == 1:
                output = forward(*inputs, **options)
                self._kept.append(output.clone() if isinstance(output, torch.Tensor) else None)
                return output
            kept = self._kept[self._place]
            self._place += 1
            return forward(*inputs, **options) if kept is None else kept.clone()

        return kept_or_computed
