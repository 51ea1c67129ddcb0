"""Plan what has to be installed, or why nothing can be, without touching anything."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from SegWithUCore.worker.check import PACKAGES

from ..i18n import _

MINIMUM_PYTHON = (3, 11)
TORCH, MONAI, OPENVINO, NNUNETS_NETWORKS = "torch", "monai", "openvino", "dynamic-network-architectures"
NEEDS = {package.name: package.needs for package in PACKAGES}
TORCH_REQUIREMENT = NEEDS[TORCH]
SHIPPED = frozenset({"numpy", "scipy", "SimpleITK"})
"""Slicer's own: they are never installed or changed by us."""
OPENVINO_MB = {"Linux": (59, 184), "Windows": (85, 256), "Darwin": (38, 154)}
"""Download and size on disk by system, measured on the wheels of 2026.4.1 (Intel Macs: 2025.4.1, the larger one)."""
SMALL_MB = {
    "pydicom": (2.4, 15), "pillow": (7.2, 22), "jsonschema": (0.7, 4), "jinja2": (0.2, 1.5), "packaging": (0.2, 1.2),
    "safetensors": (0.6, 1.4), "monai": (1.5, 16), NNUNETS_NETWORKS: (0.1, 0.5),
}  # fmt: skip
"""The same of the other packages, with what they bring along."""


def again() -> str:
    """Name the click that tries again, as every sentence of an `InstallResult` does that asks for one."""
    return _("press Apply again")


class InstallOutcome(Enum):
    """How an installation ended."""

    READY = "ready"
    DECLINED = "declined"
    FAILED = "failed"


@dataclass(frozen=True)
class InstallResult:
    """The outcome, one sentence that names the next click, details for the log, and why a better engine is not used."""

    outcome: InstallOutcome
    sentence: str
    details: str = ""
    remark: str = ""


@dataclass(frozen=True)
class PlatformFacts:
    """Facts that decide whether current torch exists for this computer, from `platform` and `sys`."""

    system: str
    machine: str
    python: tuple[int, int]


@dataclass(frozen=True)
class InstallPlan:
    """Packages to install or repair, or why nothing can be done.

    Attributes:
        torch: install torch.
        openvino: install OpenVINO.
        packages: names of others that are missing or of an unsuitable version.
        repair: names of others that are there but broken.
        impossible: why nothing can be done here, in one sentence with the next click; None if it can.
    """

    torch: bool = False
    openvino: bool = False
    packages: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()
    impossible: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that would be installed, for the question to the user."""
        engines = ((TORCH,) if self.torch else ()) + ((OPENVINO,) if self.openvino else ())
        return engines + self.packages + self.repair

    @property
    def small(self) -> tuple[str, ...]:
        """Those of `packages` that are in Resources/requirements.txt."""
        return tuple(name for name in self.packages if name not in (MONAI, NNUNETS_NETWORKS))

    def megabytes(self, system: str) -> tuple[int, int]:
        """Return the download and the size on disk, torch left aside, for a system as `platform` calls it."""
        sizes = [SMALL_MB.get(name, (0, 0)) for name in self.packages + self.repair if name != OPENVINO]
        if OPENVINO in self.names:
            sizes.append(OPENVINO_MB.get(system, OPENVINO_MB["Windows"]))
        download, disk = (sum(column) for column in zip((0.0, 0.0), *sizes, strict=True))
        return max(1, round(download)), max(1, round(disk))


def platform_facts() -> PlatformFacts:
    """Return those of this Slicer. An Intel build under Rosetta reports x86_64 too, as it should here."""
    return PlatformFacts(platform.system(), platform.machine(), sys.version_info[:2])


def platform_problem(facts: PlatformFacts) -> str | None:
    """Return why nothing can run here at all, None if it can. Asked before anything is downloaded."""
    if facts.python < MINIMUM_PYTHON:
        text = _("This Slicer has Python {found}, SegWithU needs {wanted} or newer: install Slicer 5.10 or newer.")
        return text.format(found=_version(facts.python), wanted=_version(MINIMUM_PYTHON))
    return None


def torch_problem(facts: PlatformFacts) -> str | None:
    """Return why there is no torch for this computer, None if there is."""
    if facts.system == "Darwin" and facts.machine == "x86_64":
        return _(
            "This needs PyTorch, which for Intel macOS ended with version 2.2, and SegWithU needs 2.8: choose a model "
            "with compiled graphs, its default head and the engine auto; or on a Mac with Apple silicon install the "
            "arm64 build of Slicer (this one runs under Rosetta), on an Intel Mac use another computer."
        )
    return None


def make_plan(checked: Mapping[str, Any], facts: PlatformFacts | None = None) -> InstallPlan:
    """Decide from the worker's answer to "check".

    Args:
        facts: of the computer that would get the packages; None does not ask whether there is a torch for it.
    """
    faulty = [entry for entry in checked["packages"] if entry["state"] != "ok"]
    lacks_torch = any(entry["name"] == TORCH for entry in faulty)
    no_torch = torch_problem(facts) if facts is not None and lacks_torch else None
    for problem in (no_torch, *(_impossible(entry) for entry in faulty)):
        if problem is not None:
            return InstallPlan(impossible=problem)
    engines = (TORCH, OPENVINO)
    names = [entry["name"] for entry in faulty if entry["state"] != "broken" and entry["name"] not in engines]
    repair = [entry["name"] for entry in faulty if entry["state"] == "broken"]
    openvino = any(entry["name"] == OPENVINO for entry in faulty) and OPENVINO not in repair
    return InstallPlan(lacks_torch, openvino, tuple(names), tuple(repair))


def question(plan: InstallPlan, wheels: Path | None = None, system: str = "Linux") -> str:
    """Return the question to the user before anything is downloaded or installed: what, from where, how large."""
    source = _("from the folder {folder}").format(folder=wheels) if wheels else _("from the internet (PyPI)")
    lines = [
        _("SegWithU needs these Python packages: {names}.").format(names=", ".join(plan.names)),
        _("They are installed {source} into this Slicer; the packages that Slicer ships stay as they are.").format(
            source=source
        ),
    ]
    download, disk = plan.megabytes(system)
    if plan.torch:
        text = _("torch is large: about 0.2 GB for the processor (0.7 GB on disk), about 3 GB for an NVIDIA card.")
    elif wheels:
        text = _("Size on disk: about {disk} MB.")
    else:
        text = _("Download: about {download} MB; size on disk: about {disk} MB.")
    lines.append(text.format(download=download, disk=disk))
    return "\n\n".join([*lines, _("Install them now?")])


def _impossible(entry: Mapping[str, Any]) -> str | None:
    name = entry["name"]
    if name in SHIPPED:
        text = _("{name}, which Slicer ships, cannot be used ({problem}): install a current Slicer (5.10 or newer).")
        return text.format(name=name, problem=entry["problem"])
    if name == TORCH and entry["state"] != "missing":
        text = _(
            "torch is installed but cannot be used ({problem}): uninstall it in the module of the PyTorch extension, "
            "restart Slicer, then {again}; on Windows a Slicer in a short folder such as C:\\Slicer "
            "avoids half-installed packages."
        )
        return text.format(problem=entry["problem"], again=again())
    return None


def still_lacking(checked: Mapping[str, Any]) -> str:
    """Return what is wrong after an installation that raised nothing, with the next click."""
    faulty = (entry for entry in checked["packages"] if entry["state"] != "ok")
    broken = next((entry for entry in faulty if entry["name"] == OPENVINO), None)
    if broken is not None:
        text = _("openvino does not work here ({problem}): choose the engine torch under Advanced, then press Apply.")
        return text.format(problem=broken["problem"])
    text = _("The engine still lacks something ({problems}): copy the diagnostics, then {again}.")
    return text.format(problems=problems(checked), again=again())


def other_python_lacks(checked: Mapping[str, Any]) -> str:
    """Return what a Python that the user chose lacks: we do not install into it, and Slicer's own would not help."""
    faulty = [entry for entry in checked["packages"] if entry["state"] != "ok"]
    needs = " ".join(f'"{entry["name"]}{entry["needs"]}"' for entry in faulty)
    text = _(
        "The Python chosen under Advanced ({version}) cannot be used ({problems}): install {needs} there with pip, or "
        "clear the choice to use Slicer's own Python; then {again}."
    )
    version = checked.get("python") or "?"
    return text.format(version=version, problems=problems(checked), needs=needs, again=again())


def problems(checked: Mapping[str, Any]) -> str:
    """List what is still wrong: "monai: it is not installed; torch: ..."."""
    faulty = (entry for entry in checked["packages"] if entry["state"] != "ok")
    return "; ".join(f"{entry['name']}: {entry['problem']}" for entry in faulty)


def _version(numbers: tuple[int, int]) -> str:
    return ".".join(str(number) for number in numbers)
