"""Install what the engine needs, on the first click and only with consent.

The worker decides by a trial import what is there and, afterwards, whether it works; Slicer's own process never
imports an engine to find out, and needs no restart. A model with compiled graphs needs OpenVINO and some small
packages, at most 100 MB. Only where torch is chosen, or a model cannot do without, the PyTorch extension installs it;
one thing cannot be avoided then: its `installTorch` also installs torchvision, and ends with an import of torch into
Slicer's own process.

OpenVINO is installed without what it names as needed: it would replace Slicer's NumPy (2025.4 wants one below 2.4)
and bring a package that reports home.
"""

import platform
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.worker.check import PACKAGES, installed_version

from ..guarded import details_of, reason_of, show_in_console
from ..i18n import _

if TYPE_CHECKING:
    from .worker import WorkerProcess

TORCH, OPENVINO, NNUNETS_NETWORKS = "torch", "openvino", "dynamic-network-architectures"
ALONE = (OPENVINO, NNUNETS_NETWORKS)
"""Installed without what they name as needed: nnU-Net's networks would bring a torchvision that they do not use."""
NEEDS = {package.name: package.needs for package in PACKAGES}
SHIPPED = frozenset({"numpy", "scipy", "SimpleITK"})
"""Slicer's own: they are never installed or changed by us."""
KEPT = ("numpy", "SimpleITK", "vtk", "requests", "pydicom", "scipy", TORCH)
"""Packages that pip must leave as they are, where they are installed."""


class InstallOutcome(Enum):
    """How an installation ended."""

    READY = "ready"
    DECLINED = "declined"
    FAILED = "failed"


@dataclass(frozen=True)
class InstallResult:
    """The outcome, a message that names the next click, details for the log, and why a better engine is not used."""

    outcome: InstallOutcome
    message: str = ""
    details: str = ""
    remark: str = ""


@dataclass(frozen=True)
class InstallTools:
    """Slicer's tools for installing packages.

    Attributes:
        confirm: ask the user a question; True is consent.
        pip_install: Slicer's, with a list of arguments, so that paths may hold spaces.
        torch_logic: gives PyTorchUtilsLogic, None if the PyTorch extension is not installed.
        version_of: version of an installed package, or None.
    """

    confirm: Callable[[str], bool]
    pip_install: Callable[[list[str]], object]
    torch_logic: Callable[[], Any]
    version_of: Callable[[str], str | None] = installed_version


def slicer_tools() -> InstallTools:
    """Return the tools of the running Slicer."""
    import slicer.util

    def torch_logic() -> Any:
        try:
            import PyTorchUtils  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return None
        return PyTorchUtils.PyTorchUtilsLogic()

    def confirm(text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle="SegWithU"))

    def pip_install(arguments: list[str]) -> object:
        try:
            from slicer.packaging import pip_install as with_progress  # Slicer 5.11 and newer
        except ImportError:
            return slicer.util.pip_install(arguments)
        return with_progress(arguments, requester="SegWithU")

    return InstallTools(confirm, pip_install, torch_logic)


class Installer:
    """Check, ask, install, check again.

    Args:
        worker: the worker process; it is restarted after installing.
        tools: what Slicer offers.
        wheels: install from this folder of wheels, without a network.
        need: model and settings of the run, as in the request "check"; without, any engine will do.
    """

    def __init__(
        self,
        worker: "WorkerProcess",
        tools: InstallTools,
        wheels: Path | None = None,
        need: Mapping[str, Any] | None = None,
    ) -> None:
        self._worker = worker
        self._tools = tools
        self._wheels = wheels
        self._check = {"request": "check", **(need or {})}

    def begin(self, on_result: Callable[[InstallResult], None]) -> None:
        """Bring the engine into a working state; `on_result` is called once, on the main thread."""

        def checked(event: Mapping[str, Any]) -> None:
            try:
                is_over = event.get("event") != "checked" or event["usable"]
                result = judge(event) if is_over else install(_faulty(event), self._tools, self._wheels)
            except Exception as error:  # noqa: BLE001 - the caller waits for a result
                show_in_console(error)
                text = _("The packages could not be checked ({reason}): copy the diagnostics, then press Apply again.")
                result = InstallResult(InstallOutcome.FAILED, text.format(reason=reason_of(error)), details_of(error))
            if result is not None:
                on_result(result)
                return
            self._worker.restart()
            self._worker.submit(self._check, lambda e: None if e.get("event") == "progress" else on_result(judge(e)))

        self._worker.submit(self._check, lambda e: None if e.get("event") == "progress" else checked(e))


def judge(event: Mapping[str, Any]) -> InstallResult:
    """Return ready or failed, from the worker's final answer to "check"."""
    if event.get("event") == "cancelled":
        return InstallResult(InstallOutcome.DECLINED, _("The check of the packages was cancelled: press Apply again."))
    if event.get("event") != "checked":
        return InstallResult(InstallOutcome.FAILED, str(event.get("text", "")), str(event.get("details") or ""))
    if event["usable"]:
        return InstallResult(InstallOutcome.READY, _("The engine is ready."), remark=str(event.get("remark") or ""))
    faulty = _faulty(event)
    text = _("The engine still lacks something ({problems}): copy the diagnostics, then press Apply again.")
    if any(entry["name"] == OPENVINO for entry in faulty):
        text = _("openvino does not work here ({problems}): choose the engine torch under Advanced, and press Apply.")
    problems = "; ".join(f"{entry['name']}: {entry['problem']}" for entry in faulty)
    return InstallResult(InstallOutcome.FAILED, impossible(faulty) or text.format(problems=problems))


def install(faulty: list[Mapping[str, Any]], tools: InstallTools, wheels: Path | None = None) -> InstallResult | None:
    """Install what is missing or broken, after consent. Returns None if the worker should check again.

    Args:
        faulty: entries of the worker's answer to "check".
    """
    names = [entry["name"] for entry in faulty]
    problem = impossible(faulty) or _missing_tool(names, tools, wheels)
    if problem is not None:
        return InstallResult(InstallOutcome.FAILED, problem)
    if not tools.confirm(question(names, wheels)):
        return _declined()
    try:
        with tempfile.TemporaryDirectory(prefix="segwithu-constraints-") as folder:
            return _install(faulty, tools, wheels, Path(folder))
    except Exception as error:  # noqa: BLE001 - pip, light-the-torch and Slicer raise whatever they like
        text = _(
            "Installing failed ({reason}): check the network and the free disk space, or choose a folder of wheels, "
            "then press Apply again."
        )
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, subprocess.CalledProcessError):
            reason = _("pip ended with exit code {code}").format(code=error.returncode)
        message = text.format(reason=" ".join(reason.split())[:300])
        return InstallResult(InstallOutcome.FAILED, message, traceback.format_exc())


def _install(
    faulty: list[Mapping[str, Any]], tools: InstallTools, wheels: Path | None, folder: Path
) -> InstallResult | None:
    wanted = {entry["name"]: f"{entry['name']}{NEEDS[entry['name']]}" for entry in faulty}
    if TORCH in wanted and wheels is None:
        # Consent was given for all packages at once.
        if tools.torch_logic().installTorch(askConfirmation=False, torchVersionRequirement=NEEDS[TORCH]) is None:
            return _declined()
        del wanted[TORCH]
    options = ["-c", str(write_constraints(folder, tools.version_of))]  # now it holds the new torch too
    options += ["--no-index", "--find-links", str(wheels)] if wheels is not None else []
    broken = {entry["name"] for entry in faulty if entry["state"] == "broken"}
    usual = [need for name, need in wanted.items() if name not in (*broken, *ALONE)]
    alone = [need for name, need in wanted.items() if name in ALONE and name not in broken]
    repaired = [need for name, need in wanted.items() if name in broken]  # for pip they are installed
    for packages, how in ((usual, []), (alone, ["--no-deps"]), (repaired, ["--force-reinstall", "--no-deps"])):
        if packages:
            tools.pip_install([*how, *packages, *options])
    return None


def write_constraints(folder: Path, version_of: Callable[[str], str | None] = installed_version) -> Path:
    """Write a pip constraints file that keeps the packages which Slicer has imported or may import."""
    pins = [f"{name}=={version}" for name in KEPT if (version := version_of(name)) is not None]
    path = folder / "constraints.txt"
    path.write_text("\n".join(pins) + "\n", encoding="utf-8")
    return path


def _missing_tool(names: list[str], tools: InstallTools, wheels: Path | None) -> str | None:
    if wheels is not None and not any(wheels.glob("*.whl")):
        text = _("There are no wheels (*.whl) in {folder}: choose the folder that holds them.")
        return text.format(folder=wheels)
    if wheels is None and TORCH in names and tools.torch_logic() is None:
        return _(
            "The PyTorch extension is missing: install 'PyTorch' in the Extensions Manager, restart Slicer, then "
            "press Apply again; without a network choose a folder of wheels under Advanced."
        )
    return None


def _declined() -> InstallResult:
    text = _("Nothing was done because the packages are not installed: press Apply again to install them.")
    return InstallResult(InstallOutcome.DECLINED, text)


def question(names: list[str], wheels: Path | None = None) -> str:
    """Return the question to the user before anything is downloaded or installed: what, from where, how large."""
    source = _("from the folder {folder}").format(folder=wheels) if wheels else _("from the internet (PyPI)")
    size = _("Download: a few MB.")
    if TORCH in names:
        size = _("torch is large: about 0.2 GB for the processor (0.7 GB on disk), about 3 GB for an NVIDIA card.")
    elif OPENVINO in names:
        size = _("Download: at most 100 MB; size on disk: at most 300 MB.")
    text = _(
        "SegWithU needs these Python packages: {names}.\n\nThey are installed {source} into this Slicer; the packages "
        "that Slicer ships stay as they are.\n\n{size}\n\nInstall them now?"
    )
    return text.format(names=", ".join(names), source=source, size=size)


def impossible(faulty: list[Mapping[str, Any]]) -> str | None:
    """Return why nothing can be installed here, with the next click; None if something can."""
    for entry in faulty:
        name, problem = entry["name"], entry["problem"]
        if name in SHIPPED:
            text = _(
                "{name}, which Slicer ships, cannot be used ({problem}): install a current Slicer (5.10 or newer)."
            )
            return text.format(name=name, problem=problem)
        if name == TORCH and (platform.system(), platform.machine()) == ("Darwin", "x86_64"):
            return _(
                "This needs PyTorch, of which there is none for Intel macOS any more: choose a model with compiled "
                "graphs, its default head and the engine auto; on a Mac with Apple silicon install the arm64 Slicer."
            )
        if name == TORCH and entry["state"] != "missing":
            text = _(
                "torch is installed but cannot be used ({problem}): uninstall it in the module of the PyTorch "
                "extension, restart Slicer, then press Apply again; on Windows a Slicer in a short folder such as "
                "C:\\Slicer avoids half-installed packages."
            )
            return text.format(problem=problem)
    return None


def _faulty(checked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in checked["packages"] if entry["state"] != "ok"]
