"""Check the packages that a run needs by importing them, which only the worker may do.

A failed installation can leave a package that pip lists and Python cannot use; only an import shows that. Which engine
is needed depends on model, head, device and engine of the run: torch is not even tried where OpenVINO will do.
"""

import importlib
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference.engines import AUTO, OPENVINO, TORCH
from ..inference.engines.openvino_import import keep_openvino_quiet, release_numbers
from ..util.errors import InputError, UsageError
from ..util.paths import BUNDLE_FILE
from .protocol import Request

OK, MISSING, BROKEN, TOO_OLD, TOO_NEW = "ok", "missing", "broken", "too_old", "too_new"
# Networks of nnU-Net on torch: the kind of their backbones, and what they need of `PACKAGES` besides torch.
NNUNET = "nnunet"


@dataclass(frozen=True)
class Package:
    """A package: its name on PyPI and as a module, the versions that work, and what alone needs it.

    That is an engine, or `NNUNET`.
    """

    name: str
    module: str
    at_least: str
    below: str | None = None
    engine: str | None = None

    @property
    def needs(self) -> str:
        """The versions as pip writes them, such as ">=1.6,<1.7"."""
        return f">={self.at_least}" + (f",<{self.below}" if self.below else "")


# In the order of the checks: monai and nnU-Net's networks import torch.
PACKAGES = (
    Package("numpy", "numpy", "1.26"),
    Package("scipy", "scipy", "1.12"),
    Package("SimpleITK", "SimpleITK", "2.3"),
    Package("jsonschema", "jsonschema", "4.18"),
    Package("jinja2", "jinja2", "3.1"),
    Package("pillow", "PIL", "10"),
    Package("packaging", "packaging", "23"),
    Package("pydicom", "pydicom", "3"),
    Package("safetensors", "safetensors", "0.4"),
    Package("zlib-ng", "zlib_ng", "0.5"),
    Package("openvino", "openvino", "2025.2", engine=OPENVINO),
    Package("torch", "torch", "2.8", engine=TORCH),
    Package("monai", "monai", "1.6", "1.7", engine=TORCH),
    Package(
        "dynamic-network-architectures", "dynamic_network_architectures.architectures.unet", "0.4", "0.5", engine=NNUNET
    ),
)


def installed_versions() -> dict[str, str | None]:
    """Return the installed versions by their metadata, without importing anything."""
    return {package.name: installed_version(package.name) for package in PACKAGES}


def check(request: Request) -> dict[str, Any]:
    """Answer the request "check".

    Args:
        request: `model`, `head`, `device` and `engine` of the run; without a model any engine will do.

    Returns:
        `usable`: whether a run can begin; `packages`: entries (name, state, version, problem as a part of a sentence or
        None, needs) of what every run needs, then those of the engine that will run, or that is lacking; `remark`: why
        a better engine is passed over, or None; `devices`, `python`, `platform`.
    """
    engines, is_nnunet = _wanted(request)
    base, (entries, remark) = _checked(None), _engine_entries(engines)
    has_torch = any(entry["name"] == TORCH for entry in entries)
    if has_torch and is_nnunet:
        works = all(entry["state"] == OK for entry in entries)
        entries = entries + [_tried(one) if works else _untried(one) for one in PACKAGES if one.engine == NNUNET]
    usable = all(entry["state"] == OK for entry in base + entries)
    return {
        "usable": usable,
        "packages": base + entries,
        "remark": remark if usable else None,
        "devices": devices(has_torch) if usable else [],
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }


def _wanted(request: Request) -> tuple[tuple[str, ...], bool]:
    """Return the engines that may run a model, the best first, and whether its network is one of nnU-Net.

    No engine where the run itself will say why.
    """
    engine, device = request.settings.engine, request.settings.device
    unread = (OPENVINO, TORCH) if engine == AUTO else (engine,)
    if not request.model:
        return unread, request.networks == NNUNET
    try:
        # Here, for they need NumPy, and without it the check must still speak.
        from ..inference.engines.choice import engine_order
        from ..models.bundle import read_unchecked, with_head
        from ..models.installed import resolve_model

        folder = Path(request.model)  # as Slicer's window names it: read without jsonschema
        bundle = read_unchecked(folder) if (folder / BUNDLE_FILE).is_file() else resolve_model(request.model)
        order = engine_order(with_head(bundle, request.settings.head), engine, device)
        return order, NNUNET in (request.networks, bundle.backbone.kind)
    except ImportError:  # an engine is named with what else is lacking, not only when that is there
        return unread if device in (AUTO, "cpu") else () if engine == OPENVINO else (TORCH,), False
    except (InputError, UsageError):
        return (), False


def _engine_entries(engines: tuple[str, ...]) -> tuple[list[dict[str, Any]], str | None]:
    """Try engines until one works: its entries, or those of the best one; and why a better one is passed over.

    An engine that is just not installed gets no message.
    """
    tried: dict[str, list[dict[str, Any]]] = {}
    remark: str | None = None
    for engine in engines:
        tried[engine] = _checked(engine)
        faulty = next((entry for entry in tried[engine] if entry["state"] != OK), None)
        if faulty is None:
            return tried[engine], remark
        remark = None
        if faulty["state"] != MISSING:
            remark = (
                f"{engine} cannot be used ({faulty['name']}: {faulty['problem']}), so {engines[-1]} runs the model."
            )
    # A broken torch cannot be repaired from here, and OpenVINO is small: where either will do, that is asked for.
    return tried.get(OPENVINO) or next(iter(tried.values()), []), None


def _checked(engine: str | None) -> list[dict[str, Any]]:
    """Try the packages that only this engine needs; with None those that every run needs."""
    entries: list[dict[str, Any]] = []
    torch_works = True
    for package in PACKAGES:
        if package.engine == engine:
            entry = _tried(package) if torch_works or package.name != "monai" else _untried(package)
            torch_works = torch_works and not (package.name == TORCH and entry["state"] in (MISSING, BROKEN))
            entries.append(entry)
    return entries


def devices(with_torch: bool) -> list[dict[str, Any]]:
    """List the devices that the network can run on, the CPU first.

    Args:
        with_torch: torch works and was loaded; without it there is the CPU alone.
    """
    found: list[dict[str, Any]] = [{"name": "cpu", "title": f"CPU, {os.cpu_count()} cores", "memory_mb": None}]
    if not with_torch:
        return found
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        found.append({"name": "cuda", "title": facts.name, "memory_mb": round(facts.total_memory / 1e6)})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "title": "Apple GPU", "memory_mb": None})
    return found


def _tried(package: Package) -> dict[str, Any]:
    version = installed_version(package.name)
    try:
        if package.name == OPENVINO:
            keep_openvino_quiet()
        module = importlib.import_module(package.module)
        problem = None
        if getattr(module, "__file__", None) is None:
            folder = next(iter(getattr(module, "__path__", [])), "its folder")
            problem = f"it is half-installed: {folder} holds no whole package"
        elif package.name == OPENVINO and "CPU" not in module.Core().available_devices:
            problem = "its part for the CPU does not load"
        elif package.name == TORCH and (total := float(module.ones(3).sum())) != 3.0:
            problem = f"it computes 1 + 1 + 1 = {total}"
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything while it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == package.module.partition(".")[0]:
            return _entry(package, MISSING, None, "it is not installed")
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
        return _entry(package, BROKEN, version, f"importing it fails: {reason}")
    version = version or getattr(module, "__version__", None)
    return _entry(package, BROKEN, version, problem) if problem else _judged(package, version)


def _untried(package: Package) -> dict[str, Any]:
    version = installed_version(package.name)
    return _entry(package, MISSING, None, "it is not installed") if version is None else _judged(package, version)


def _judged(package: Package, version: object) -> dict[str, Any]:
    version = None if version is None else str(version)
    if version is not None and release_numbers(version) < release_numbers(package.at_least):
        return _entry(package, TOO_OLD, version, f"version {version} is too old")
    if version is not None and package.below is not None and release_numbers(version) >= release_numbers(package.below):
        return _entry(package, TOO_NEW, version, f"version {version} is too new")
    return _entry(package, OK, version, None)


def _entry(package: Package, state: str, version: str | None, problem: str | None) -> dict[str, Any]:
    return {"name": package.name, "state": state, "version": version, "problem": problem, "needs": package.needs}


def installed_version(name: str) -> str | None:
    """Return the version of a package by its metadata, None if it has none; imports nothing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
