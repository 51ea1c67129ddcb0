"""Which engines could run a model on this computer, in the order of preference; nothing is imported to find out.

`choice` opens the first of them that works, and the check of packages behind Slicer says what it lacks.
"""

import importlib.util
import os
import platform
import re
from pathlib import Path

from ...models.bundle import Bundle
from ...models.graph_files import graphs_lacking
from . import AUTO, OPENVINO, TORCH

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
    on_cpu = device in (AUTO, "cpu")
    has_graphs = graphs_lacking(bundle) is None
    if engine == OPENVINO:
        return (OPENVINO,) if on_cpu and has_graphs else ()
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
