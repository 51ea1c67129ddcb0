"""Plan what has to be installed, or why nothing can be, without touching anything."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from SegWithUCore.worker.check import PACKAGES

from ..i18n import _

MINIMUM_PYTHON = (3, 11)
TORCH = "torch"
TORCH_REQUIREMENT = next(package.needs for package in PACKAGES if package.name == TORCH)
SHIPPED = frozenset({"numpy", "scipy", "SimpleITK"})
"""Slicer's own: they are never installed or changed by us."""


class InstallOutcome(Enum):
    """How an installation ended."""

    READY = "ready"
    DECLINED = "declined"
    FAILED = "failed"


@dataclass(frozen=True)
class InstallResult:
    """The outcome, one sentence that names the next click, and details for the log."""

    outcome: InstallOutcome
    sentence: str
    details: str = ""


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
        packages: names of others that are missing or of an unsuitable version.
        repair: names of others that are there but broken.
        impossible: why nothing can be done here, in one sentence with the next click; None if it can.
    """

    torch: bool = False
    packages: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()
    impossible: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that would be installed, for the question to the user."""
        return ((TORCH,) if self.torch else ()) + self.packages + self.repair


def platform_facts() -> PlatformFacts:
    """Return those of this Slicer. An Intel build under Rosetta reports x86_64 too, as it should here."""
    return PlatformFacts(platform.system(), platform.machine(), sys.version_info[:2])


def platform_problem(facts: PlatformFacts) -> str | None:
    """Return why the engine cannot run here at all, None if it can. Asked before anything is downloaded."""
    if facts.python < MINIMUM_PYTHON:
        text = _("This Slicer has Python {found}, SegWithU needs {wanted} or newer: install Slicer 5.10 or newer.")
        return text.format(found=_version(facts.python), wanted=_version(MINIMUM_PYTHON))
    if facts.system == "Darwin" and facts.machine == "x86_64":
        return _(
            "PyTorch for Intel macOS ended with version 2.2, SegWithU needs 2.8: on a Mac with Apple silicon install "
            "the arm64 build of Slicer (this one runs under Rosetta), on an Intel Mac use another computer."
        )
    return None


def make_plan(checked: Mapping[str, Any]) -> InstallPlan:
    """Decide from the worker's answer to "check"."""
    faulty = [entry for entry in checked["packages"] if entry["state"] != "ok"]
    for entry in faulty:
        problem = _impossible(entry)
        if problem is not None:
            return InstallPlan(impossible=problem)
    names = [entry["name"] for entry in faulty if entry["state"] != "broken" and entry["name"] != TORCH]
    repair = [entry["name"] for entry in faulty if entry["state"] == "broken"]
    return InstallPlan(any(entry["name"] == TORCH for entry in faulty), tuple(names), tuple(repair))


def _impossible(entry: Mapping[str, Any]) -> str | None:
    name = entry["name"]
    if name in SHIPPED:
        text = _("{name}, which Slicer ships, cannot be used ({problem}): install a current Slicer (5.10 or newer).")
        return text.format(name=name, problem=entry["problem"])
    if name == TORCH and entry["state"] != "missing":
        text = _(
            "torch is installed but cannot be used ({problem}): uninstall it in the module of the PyTorch extension, "
            "restart Slicer, then press Apply again; on Windows a Slicer in a short folder such as C:\\Slicer "
            "avoids half-installed packages."
        )
        return text.format(problem=entry["problem"])
    return None


def other_python_lacks(checked: Mapping[str, Any]) -> str:
    """Return what a Python that the user chose lacks: we do not install into it, and Slicer's own would not help."""
    faulty = [entry for entry in checked["packages"] if entry["state"] != "ok"]
    needs = " ".join(f'"{entry["name"]}{entry["needs"]}"' for entry in faulty)
    text = _(
        "The Python chosen under Advanced ({version}) cannot be used ({problems}): install {needs} there with pip, or "
        "clear the choice to use Slicer's own Python; then press Apply again."
    )
    return text.format(version=checked.get("python") or "?", problems=problems(checked), needs=needs)


def problems(checked: Mapping[str, Any]) -> str:
    """List what is still wrong: "monai: it is not installed; torch: ..."."""
    faulty = (entry for entry in checked["packages"] if entry["state"] != "ok")
    return "; ".join(f"{entry['name']}: {entry['problem']}" for entry in faulty)


def _version(numbers: tuple[int, int]) -> str:
    return ".".join(str(number) for number in numbers)
