"""Reading the inner feature maps of a frozen backbone while it runs.

A tap is the *input* of a named module (its first positional argument), as in the reference code.
Hooks exist only during a forward pass, so that a backbone can be deep-copied, shared between
heads and used from several threads.
"""

import contextlib
import difflib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError


@contextlib.contextmanager
def recorded_taps(backbone: nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Record the inputs of the named modules during the block.

    Only passes made by this thread are recorded: another thread may run the same backbone meanwhile.

    Yields:
        A dict that holds, after a forward pass, one tensor (batch, channels, *spatial) per name.

    Raises:
        InputError: a name is not a module of the backbone.
    """
    modules = [find_module(backbone, name) for name in names]
    recorded: dict[str, Any] = {}
    owner = threading.get_ident()

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if threading.get_ident() == owner:
                recorded[name] = inputs[0] if inputs else None  # called by keyword only: no feature map

        return hook

    handles = [module.register_forward_pre_hook(hook_for(name)) for name, module in zip(names, modules, strict=True)]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def find_module(backbone: nn.Module, name: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        InputError: there is none; the message suggests near names and lists all modules.
    """
    try:
        return backbone.get_submodule(name)
    except AttributeError:
        known = [path for path, _ in backbone.named_modules() if path]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}; " if near else ""
        raise InputError(f"The backbone has no module '{name}': {hint}its modules are {', '.join(known)}.") from None


def checked_taps(taps: dict[str, torch.Tensor], names: Sequence[str], ndim: int) -> list[torch.Tensor]:
    """The recorded taps in the order of `names`.

    Raises:
        InputError: a tapped module did not run, or was fed something else than a feature map.
    """
    for name in names:
        if name not in taps:
            raise InputError(f"The module '{name}' does not run in a forward pass: choose another tap.")
        if not isinstance(taps[name], torch.Tensor) or taps[name].ndim != ndim:
            raise InputError(f"The module '{name}' is not fed a feature map of {ndim} axes: choose another tap.")
    return [taps[name] for name in names]
