"""Which engine runs a model: what the user asked for, or what suits this computer.

It is decided without importing torch or OpenVINO.
"""

import importlib.util
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...case.case_file import read_case
from ...models.bundle import Bundle
from ...models.graphs import COMPILE, graphs_lacking, only_graphs
from ...network.specs import MASK_ALONE, ONNX
from ...util.errors import EngineMissingError, InputError, UsageError
from . import AUTO, ENGINES, MASK, OPENVINO, TORCH
from .openvino_import import GraphRunError, OpenVINOImportError

if TYPE_CHECKING:
    from .base import Engine

DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What Linux has where a driver of NVIDIA or AMD is loaded, or Windows lends its card."""
TORCH_PACKAGES = (TORCH, "monai")
"""What the engine torch needs."""


def engine_order(bundle: Bundle, engine: str = AUTO, device: str = AUTO) -> tuple[str, ...]:
    """Return the engines that may run a model, the best first; none where what was asked for cannot be.

    "auto" takes torch where it has a graphics card (CUDA, Apple's MPS), else OpenVINO where the model has graphs, else
    torch.

    Args:
        bundle: with the head that is asked for as its default.
        engine: one of `ENGINES`.
        device: "auto", "cpu", "cuda" or "mps"; of these, OpenVINO runs on the CPU.
    """
    if bundle.backbone.kind == MASK_ALONE:
        return (MASK,)
    on_cpu = device in (AUTO, "cpu")
    has_graphs = graphs_lacking(bundle) is None
    if engine == OPENVINO:
        return (OPENVINO,) if on_cpu and has_graphs else ()
    if bundle.backbone.kind == ONNX:
        return (OPENVINO,) if on_cpu and engine != TORCH else ()
    if engine == TORCH or not on_cpu or not has_graphs:
        return (TORCH,)
    on_card = device == AUTO and all(map(is_installed, TORCH_PACKAGES)) and graphics_card()
    return (TORCH, OPENVINO) if on_card else (OPENVINO, TORCH)


def is_installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    return importlib.util.find_spec(package) is not None


def graphics_card() -> bool:
    """Whether the installed torch is one for graphics cards, and this computer seems to have one.

    Read from the text of torch's own files and from what drivers leave: importing torch takes seconds.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    spec = importlib.util.find_spec(TORCH)
    if spec is None or spec.origin is None or os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    try:
        facts = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # an unusual torch: it is asked itself
    if not re.search(r"^(cuda|hip)\b[^=]*=\s*['\"]\d", facts, re.MULTILINE):
        return False
    if platform.system() == "Windows":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(driver).exists() for driver in DRIVERS)


INSTALL = {OPENVINO: "pip install 'openvino>=2025.2'", TORCH: 'pip install ".[torch]" in the checkout'}


def open_engine(bundle: Bundle, engine: str = AUTO, device: str = AUTO) -> "tuple[Engine, str]":
    """Load a bundle's network into the engine that a user asked for, or that suits best (`engine_order`).

    Args:
        engine: one of `ENGINES`.
        device: "auto", "cpu", "cuda" or "mps"; of these, OpenVINO runs on the CPU.

    Returns:
        The engine, and why it is this one, as a clause.

    Raises:
        UsageError: the engine or device is unknown or not there.
        InputError: the bundle is damaged, or its network is too large for this computer.
    """
    if engine not in ENGINES:
        raise UsageError(f"There is no engine '{engine}': choose one of {', '.join(ENGINES)}.")
    if bundle.backbone.kind == MASK_ALONE:
        from .mask_engine import MaskEngine

        return MaskEngine(bundle), "it has no network"
    if bundle.backbone.kind == ONNX:
        if not engine_order(bundle, engine, device):
            problem = f"{only_graphs(bundle)}: the engine openvino runs it, on the CPU."
            raise UsageError(problem, "contradicting-options")
        return _openvino_asked(bundle, device), "it was an ONNX file"
    return _chosen(bundle, engine, device)


def _chosen(bundle: Bundle, engine: str, device: str) -> "tuple[Engine, str]":
    """Load the network of a bundle that has one; as `open_engine`."""
    if engine != AUTO:
        asked = _openvino_asked(bundle, device) if engine == OPENVINO else _torch(bundle, device, "it is not installed")
        return asked, "as asked for"
    if device not in (AUTO, "cpu"):
        return _torch(bundle, device, f"it is not installed, and only it runs on '{device}'"), f"{device} was asked for"
    lacking = graphs_lacking(bundle)
    if device == AUTO and engine_order(bundle)[0] == TORCH and is_installed(TORCH) and graphics_card():
        found = None
        try:
            found = choose_device(AUTO)
        except Exception:  # a broken torch raises anything while it is imported
            if lacking is not None:
                raise
        if found not in (None, "cpu"):
            return _torch(bundle, str(found), ""), "it can use the graphics card"
    if lacking is None:
        from .openvino_engine import OpenVINOEngine

        try:
            return OpenVINOEngine(bundle), "the model has compiled graphs, and no graphics card is used"
        except (OpenVINOImportError, GraphRunError) as error:
            lacking = str(error).removesuffix(".")
    return _torch(bundle, "cpu", f"it is not installed, and {lacking}"), lacking


def _openvino_asked(bundle: Bundle, device: str) -> "Engine":
    if device not in (AUTO, "cpu"):
        raise UsageError(f"The engine openvino runs on the CPU, not on '{device}': choose the CPU or the engine torch.")
    lacking = graphs_lacking(bundle)
    if lacking is not None:
        raise UsageError(f"The engine openvino cannot be used, for {lacking}: {COMPILE}, or choose torch.")
    from .openvino_engine import OpenVINOEngine

    try:
        return OpenVINOEngine(bundle)
    except OpenVINOImportError as error:
        problem = f"The engine openvino is not here, for {error}"
        raise EngineMissingError(problem, f"{INSTALL[OPENVINO]}, or choose torch") from error


def _torch(bundle: Bundle, device: str, otherwise: str) -> "Engine":
    """Load the network into torch.

    Args:
        otherwise: what the sentence says where torch is missing.
    """
    if not is_installed(TORCH):
        raise EngineMissingError(f"The engine torch is needed for '{bundle.name}', but {otherwise}", INSTALL[TORCH])
    from ...models.bundle_network import load_network
    from .torch_engine import TorchEngine

    return TorchEngine(load_network(bundle), choose_device(device), bundle.input.precision)


def choose_device(wanted: str) -> str:
    """Return the device of torch's that a user asked for; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    if wanted == "cpu":
        return wanted
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == AUTO:
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(wanted.partition(":")[0], False):
        names = ", ".join(name for name, is_there in available.items() if is_there)
        raise UsageError(f"The device '{wanted}' is not available here: choose one of {names}.")
    return wanted


def engine_of_cases(targets: Sequence[Path]) -> str | None:
    """Return the engine that made the first of these case folders that exists; None if none does."""
    for target in targets:
        try:
            if target.is_dir():
                return str(read_case(target)["engine"]["name"])
        except (InputError, LookupError, TypeError):
            continue
    return None
