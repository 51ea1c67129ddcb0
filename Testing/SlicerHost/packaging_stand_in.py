"""slicer.packaging of Slicer 5.12: nothing is installed; every request is recorded and may be declined or fail."""

from __future__ import annotations

import subprocess
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import InvalidRequirement, Requirement

Requirements = str | Requirement | list[str | Requirement]


@dataclass
class Installation:
    """What pip would have been asked for."""

    requirements: list[str]
    options: dict[str, Any] = field(default_factory=dict)


class Packaging:
    """The switchboard of a test: what pretends to be installed, whether the user declines, whether pip fails."""

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        self.uninstalled: list[str] = []
        self.decline = False
        self.fail_with: int = 0
        self.pretend: dict[str, str | None] = {}
        self.after_install: Callable[[list[str]], None] | None = None

    def installed_version(self, name: str) -> str | None:
        """Version as the module sees it; `pretend` overrules the real environment (None: not installed)."""
        if name in self.pretend:
            return self.pretend[name]
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    def pip_check(self, req: Requirements) -> bool:
        """Whether the requirements hold."""
        for requirement in _as_requirements(req):
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            found = self.installed_version(requirement.name)
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                return False
        return True

    def pip_ensure(
        self,
        requirements: Requirements,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> list[str] | None:
        """Install what is missing, after consent; silent in testing mode; RuntimeError when declined."""
        missing = [str(r) for r in _as_requirements(requirements) if not self.pip_check(r)]
        if not missing or (skip_in_testing and slicer.app.testingEnabled()):
            return None
        if prompt_install and self.decline:
            raise RuntimeError("User declined package installation")
        return self.pip_install(
            missing,
            constraints=constraints,
            skip_packages=skip_packages,
            show_progress=show_progress,
            requester=requester,
        )

    def pip_install(
        self,
        requirements: str | list[str],
        constraints: str | Path | None = None,
        no_deps_requirements: str | list[str] | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        parent: Any = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> list[str] | None:
        """Record the request; CalledProcessError when the test says that pip fails."""
        if skip_packages is not None and (no_deps_requirements is not None or not blocking):
            raise ValueError("skip_packages excludes no_deps_requirements and needs blocking=True")
        wanted = requirements.split() if isinstance(requirements, str) else [str(r) for r in requirements]
        options = {
            "constraints": constraints,
            "no_deps_requirements": no_deps_requirements,
            "skip_packages": skip_packages,
            "blocking": blocking,
            "requester": requester,
        }
        self.installations.append(Installation(wanted, options))
        if self.fail_with == 0 and self.after_install is not None:
            self.after_install(wanted)
        if not blocking:
            if completedCallback is not None:
                completedCallback(self.fail_with)
            return None
        if self.fail_with:
            raise subprocess.CalledProcessError(self.fail_with, "pip install")
        return [] if skip_packages is not None else None

    def pip_uninstall(self, requirements: str | list[str], **_: Any) -> None:
        """Record the request."""
        self.uninstalled += requirements.split() if isinstance(requirements, str) else list(requirements)


def _as_requirements(given: Requirements) -> list[Requirement]:
    if isinstance(given, Requirement):
        return [given]
    if isinstance(given, str):
        try:
            return [Requirement(given)]
        except InvalidRequirement:
            return [Requirement(part) for part in given.split()]
    if isinstance(given, list):
        return [Requirement(part) if isinstance(part, str) else part for part in given]
    raise TypeError(f"expected str, Requirement or list, not {type(given).__name__}")


def load_requirements(path: str | Path) -> list[Requirement]:
    """Requirements of a file; comments, empty lines and pip options are skipped."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def build_module(packaging: Packaging) -> types.ModuleType:
    """The module `slicer.packaging` of 5.12, bound to a test's switchboard."""
    module = types.ModuleType("slicer.packaging")
    module.load_requirements = load_requirements  # type: ignore[attr-defined]
    module.isPipInstallInProgress = lambda: False  # type: ignore[attr-defined]
    for name in ("pip_check", "pip_ensure", "pip_install", "pip_uninstall"):
        setattr(module, name, getattr(packaging, name))
    return module
