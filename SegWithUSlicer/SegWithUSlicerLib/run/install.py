"""Install what the engine needs, on the first click and only with consent.

The worker decides by a trial import what is there and, afterwards, whether it works; Slicer's own process never
imports an engine to find out, and needs no restart. A model with compiled graphs needs OpenVINO and some small
packages, at most 100 MB. Only where torch is chosen, or a model cannot do without, the PyTorch extension installs it;
one thing cannot be avoided then: its `installTorch` also installs torchvision, and ends with an import of torch into
Slicer's own process.

OpenVINO is installed without what it names as needed: it would replace Slicer's NumPy (2025.4 wants one below 2.4)
and bring a package that reports home.

Nothing is ever installed for a Python that the user chose under "Advanced": pip would change Slicer's own.
"""

import importlib.metadata
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..guarded import details_of, reason_of, show_in_console
from ..i18n import _
from .install_plan import (
    MONAI,
    NEEDS,
    NNUNETS_NETWORKS,
    OPENVINO,
    TORCH,
    TORCH_REQUIREMENT,
    InstallOutcome,
    InstallPlan,
    InstallResult,
    PlatformFacts,
    again,
    make_plan,
    other_python_lacks,
    platform_facts,
    platform_problem,
    question,
    still_lacking,
)

if TYPE_CHECKING:
    from .worker import WorkerProcess

REQUESTER = "SegWithU"
KEPT = ("numpy", "SimpleITK", "vtk", "requests", "pydicom", "scipy", TORCH)
"""Packages that pip must leave as they are, where they are installed."""


def installed_version(name: str) -> str | None:
    """Return the version of a package by its metadata, None if it has none; imports nothing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class InstallTools:
    """Slicer's tools for installing packages.

    Attributes:
        confirm: ask the user a question; True is consent.
        pip_install: slicer.util.pip_install with a list of arguments, so that paths may hold spaces.
        packaging: the module slicer.packaging (5.12 and newer), None in 5.10.
        torch_logic: gives PyTorchUtilsLogic, None if the PyTorch extension is not installed.
        version_of: version of an installed package, or None.
    """

    confirm: Callable[[str], bool]
    pip_install: Callable[[list[str]], object]
    packaging: Any | None
    torch_logic: Callable[[], Any]
    version_of: Callable[[str], str | None] = installed_version


def slicer_tools() -> InstallTools:
    """Return the tools of the running Slicer."""
    import slicer.util

    try:
        import slicer.packaging as packaging
    except ImportError:
        packaging = None

    def torch_logic() -> Any:
        try:
            import PyTorchUtils  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return None
        return PyTorchUtils.PyTorchUtilsLogic()

    def confirm(text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle="SegWithU"))

    return InstallTools(confirm, slicer.util.pip_install, packaging, torch_logic)


class Installer:
    """Check, ask, install, check again.

    Args:
        worker: the worker process; it is restarted after installing.
        tools: what Slicer offers.
        requirements: the file Resources/requirements.txt.
        wheels: install from this folder of wheels, without a network.
        facts: of this computer.
        other_python: the worker runs in a Python that the user chose; it is checked, never changed.
        need: model, head, device and engine of the run, as fields of the request "check"; without, any engine will do.
    """

    def __init__(
        self,
        worker: "WorkerProcess",
        tools: InstallTools,
        requirements: Path,
        wheels: Path | None = None,
        facts: PlatformFacts | None = None,
        other_python: bool = False,
        need: Mapping[str, Any] | None = None,
    ) -> None:
        self._worker = worker
        self._tools = tools
        self._requirements = requirements
        self._wheels = wheels
        self._facts = facts or platform_facts()
        self._other_python = other_python
        self._check = {"request": "check", **(need or {})}

    def begin(self, on_result: Callable[[InstallResult], None]) -> None:
        """Bring the engine into a working state; `on_result` is called once, on the main thread."""
        problem = platform_problem(self._facts)
        if problem is not None and not self._other_python:
            on_result(InstallResult(InstallOutcome.FAILED, problem))
            return

        def checked(event: Mapping[str, Any]) -> None:
            try:
                result = self._after_check(event)
            except Exception as error:  # noqa: BLE001 - whoever waits for the result must get one
                show_in_console(error)
                result = _unexpected(error)
            if result is not None:
                on_result(result)
                return
            self._worker.restart()
            self._worker.submit(self._check, rechecked)

        def rechecked(event: Mapping[str, Any]) -> None:
            if event.get("event") != "progress":
                on_result(judge(event))

        self._worker.submit(self._check, lambda e: None if e.get("event") == "progress" else checked(e))

    def _after_check(self, event: Mapping[str, Any]) -> InstallResult | None:
        """Return the result if there is nothing (more) to do; None after an installation that has to be checked."""
        if event.get("event") != "checked" or event["usable"]:
            return judge(event)
        if self._other_python:
            return InstallResult(InstallOutcome.FAILED, other_python_lacks(event))
        plan = make_plan(event, self._facts)
        return install(plan, self._tools, self._requirements, self._wheels, self._facts.system)


def judge(event: Mapping[str, Any]) -> InstallResult:
    """Return ready or failed, from the worker's final answer to "check"."""
    if event.get("event") == "cancelled":
        return InstallResult(
            InstallOutcome.DECLINED, _("The check of the packages was cancelled: {again}.").format(again=again())
        )
    if event.get("event") != "checked":
        return InstallResult(InstallOutcome.FAILED, str(event.get("text", "")), str(event.get("details") or ""))
    if event["usable"]:
        remark = str(event.get("remark") or "")
        return InstallResult(InstallOutcome.READY, _("The engine is ready."), remark=remark)
    return InstallResult(InstallOutcome.FAILED, make_plan(event).impossible or still_lacking(event))


def install(
    plan: InstallPlan, tools: InstallTools, requirements: Path, wheels: Path | None = None, system: str = "Linux"
) -> InstallResult | None:
    """Carry out the plan, after consent. Returns None if all steps went well and the worker should check again.

    Args:
        system: of this computer, as `platform` says; it decides how much is downloaded.
    """
    problem = plan.impossible or _missing_tool(plan, tools, wheels)
    if problem is not None:
        return InstallResult(InstallOutcome.FAILED, problem)
    if not tools.confirm(question(plan, wheels, system)):
        return _declined()
    try:
        with tempfile.TemporaryDirectory(prefix="segwithu-constraints-") as folder:
            if wheels is not None:
                return _from_wheels(plan, tools, requirements, wheels, Path(folder))
            return _from_network(plan, tools, requirements, Path(folder))
    except Exception as error:  # noqa: BLE001 - pip, light-the-torch and Slicer raise whatever they like
        text = _(
            "Installing failed ({reason}): check the network and the free disk space, or choose a folder of wheels, "
            "then {again}."
        )
        sentence = text.format(reason=_reason(error), again=again())
        return InstallResult(InstallOutcome.FAILED, sentence, traceback.format_exc())


def write_constraints(folder: Path, version_of: Callable[[str], str | None] = installed_version) -> Path:
    """Write a pip constraints file that keeps the packages which Slicer has imported or may import."""
    pins = [f"{name}=={version}" for name in KEPT if (version := version_of(name)) is not None]
    path = folder / "constraints.txt"
    path.write_text("\n".join(pins) + "\n", encoding="utf-8")
    return path


def _missing_tool(plan: InstallPlan, tools: InstallTools, wheels: Path | None) -> str | None:
    if wheels is not None:
        if any(wheels.glob("*.whl")):
            return None
        text = _("There are no wheels (*.whl) in {folder}: choose the folder that holds them.")
        return text.format(folder=wheels)
    if plan.torch and tools.torch_logic() is None:
        text = _(
            "The PyTorch extension is missing: install 'PyTorch' in the Extensions Manager, restart Slicer, then "
            "{again}; without a network choose a folder of wheels under Advanced."
        )
        return text.format(again=again())
    return None


def _from_network(plan: InstallPlan, tools: InstallTools, requirements: Path, folder: Path) -> InstallResult | None:
    if plan.torch:
        logic = tools.torch_logic()
        assert logic is not None  # see _missing_tool
        # Consent was given for all packages at once.
        if logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH_REQUIREMENT) is None:
            return _declined()
    constraints = write_constraints(folder, tools.version_of)  # now it holds the new torch too
    if plan.small:
        try:
            _ensure(tools, requirements, constraints)
        except RuntimeError as error:
            if "declin" in str(error).lower():
                return _declined()
            raise
    if MONAI in plan.packages:
        tools.pip_install([f"{MONAI}{NEEDS[MONAI]}", "-c", str(constraints)])
    _alone(plan, tools, requirements, ["-c", str(constraints)])
    return None


def _ensure(tools: InstallTools, requirements: Path, constraints: Path) -> None:
    if tools.packaging is None:
        tools.pip_install(["-r", str(requirements), "-c", str(constraints)])
        return
    tools.packaging.pip_ensure(
        tools.packaging.load_requirements(str(requirements)),
        constraints=str(constraints),
        requester=REQUESTER,
        prompt_install=False,  # consent was given for all packages at once
        prompt_restart=False,  # they are imported by the worker only
    )


def _from_wheels(
    plan: InstallPlan, tools: InstallTools, requirements: Path, wheels: Path, folder: Path
) -> InstallResult | None:
    constraints = write_constraints(folder, tools.version_of)
    offline = ["--no-index", "--find-links", str(wheels), "-c", str(constraints)]
    wanted = [f"{TORCH}{TORCH_REQUIREMENT}"] if plan.torch else []
    wanted += [f"{MONAI}{NEEDS[MONAI]}"] if MONAI in plan.packages else []
    wanted += ["-r", str(requirements)] if plan.small else []
    if wanted:
        tools.pip_install([*wanted, *offline])
    _alone(plan, tools, requirements, offline)
    return None


def _alone(plan: InstallPlan, tools: InstallTools, requirements: Path, options: list[str]) -> None:
    """Install what must come without the packages that it names: OpenVINO, nnU-Net's networks, and what is broken.

    nnU-Net's networks would bring another torchvision, which they do not use.

    Broken packages are forced upon pip, which takes them for installed.
    """
    if plan.openvino:
        tools.pip_install(["--no-deps", f"{OPENVINO}{NEEDS[OPENVINO]}", *options])
    if NNUNETS_NETWORKS in plan.packages:
        tools.pip_install(["--no-deps", f"{NNUNETS_NETWORKS}{NEEDS[NNUNETS_NETWORKS]}", *options])
    if plan.repair:
        lines = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
        lines += [f"{name}{NEEDS[name]}" for name in (MONAI, OPENVINO, NNUNETS_NETWORKS)]
        wanted = [line for line in lines if line.startswith(plan.repair)]
        tools.pip_install(["--force-reinstall", "--no-deps", *wanted, *options])


def _unexpected(error: Exception) -> InstallResult:
    text = _("The packages could not be checked ({reason}): copy the diagnostics, then {again}.")
    return InstallResult(InstallOutcome.FAILED, text.format(reason=reason_of(error), again=again()), details_of(error))


def _declined() -> InstallResult:
    text = _("Nothing was done because the packages are not installed: {again} to install them.")
    return InstallResult(InstallOutcome.DECLINED, text.format(again=again()))


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return _("pip ended with exit code {code}").format(code=error.returncode)
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
