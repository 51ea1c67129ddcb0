"""Check the packages that the engine needs by importing them, which only the worker may do.

A failed installation can leave a package that pip lists and Python cannot use; only an import shows that.
"""

import importlib
import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

OK, MISSING, BROKEN, TOO_OLD, TOO_NEW = "ok", "missing", "broken", "too_old", "too_new"


@dataclass(frozen=True)
class Package:
    """A package that the engine needs: its name on PyPI and as a module, and the versions it works with."""

    name: str
    module: str
    at_least: str
    below: str | None = None

    @property
    def needs(self) -> str:
        """The versions as pip writes them, such as ">=1.6,<1.7"."""
        return f">={self.at_least}" + (f",<{self.below}" if self.below else "")


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
    Package("deflate", "deflate", "0.7"),
    Package("torch", "torch", "2.8"),
    Package("monai", "monai", "1.6", "1.7"),
)
"""In the order in which they are tried: monai imports torch."""


def installed_versions() -> dict[str, str | None]:
    """Return the installed versions by their metadata, without importing anything."""
    return {package.name: _metadata_version(package.name) for package in PACKAGES}


def check_packages() -> list[dict[str, Any]]:
    """Try every package; entries hold name, state, version, problem (a sentence part or None) and needs."""
    entries: list[dict[str, Any]] = []
    torch_works = True
    for package in PACKAGES:
        entry = _tried(package) if torch_works or package.name != "monai" else _untried(package)
        torch_works = torch_works and not (package.name == "torch" and entry["state"] in (MISSING, BROKEN))
        entries.append(entry)
    return entries


def check() -> dict[str, Any]:
    """Answer the request "check"."""
    packages = check_packages()
    usable = all(entry["state"] == OK for entry in packages)
    return {
        "usable": usable,
        "packages": packages,
        "devices": devices() if usable else [],
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }


def devices() -> list[dict[str, Any]]:
    """List the devices that the network can run on, the CPU first; needs a working torch."""
    import torch

    found: list[dict[str, Any]] = [{"name": "cpu", "title": f"CPU, {os.cpu_count()} cores", "memory_mb": None}]
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        found.append({"name": "cuda", "title": facts.name, "memory_mb": round(facts.total_memory / 1e6)})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "title": "Apple GPU", "memory_mb": None})
    return found


def _tried(package: Package) -> dict[str, Any]:
    try:
        module = importlib.import_module(package.module)
        problem = _half_installed(module) or _cannot_compute(module)
    except ModuleNotFoundError as error:
        if error.name == package.module:
            return _entry(package, MISSING, None, "it is not installed")
        return _entry(package, BROKEN, _metadata_version(package.name), f"importing it fails: {error}")
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything while it is imported
        return _entry(package, BROKEN, _metadata_version(package.name), f"importing it fails: {_one_line(error)}")
    version = _metadata_version(package.name) or getattr(module, "__version__", None)
    if problem:
        return _entry(package, BROKEN, version, problem)
    return _judged(package, None if version is None else str(version))


def _untried(package: Package) -> dict[str, Any]:
    version = _metadata_version(package.name)
    return _entry(package, MISSING, None, "it is not installed") if version is None else _judged(package, version)


def _half_installed(module: ModuleType) -> str | None:
    if getattr(module, "__file__", None) is not None:
        return None
    folder = next(iter(getattr(module, "__path__", [])), "its folder")
    return f"it is half-installed: {folder} holds no whole package"


def _cannot_compute(module: ModuleType) -> str | None:
    if module.__name__ != "torch":
        return None
    total = float(module.ones(3).sum())
    return None if total == 3.0 else f"it computes 1 + 1 + 1 = {total}"


def _judged(package: Package, version: str | None) -> dict[str, Any]:
    if version is None:
        return _entry(package, OK, None, None)
    if _numbers(version) < _numbers(package.at_least):
        return _entry(package, TOO_OLD, version, f"version {version} is too old")
    if package.below is not None and _numbers(version) >= _numbers(package.below):
        return _entry(package, TOO_NEW, version, f"version {version} is too new")
    return _entry(package, OK, version, None)


def _entry(package: Package, state: str, version: str | None, problem: str | None) -> dict[str, Any]:
    return {"name": package.name, "state": state, "version": version, "problem": problem, "needs": package.needs}


def _metadata_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version: "2.10.0rc1+cu126" gives (2, 10, 0).

    Not by `packaging`: a torch that is too old must be named also where nothing is installed yet.
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
