"""Fakes of the worker and of Slicer's tools for the tests of installing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from SegWithUCore.inference.engines import OPENVINO, TORCH
from SegWithUCore.worker.check import NNUNET, PACKAGES
from SegWithUSlicerLib.run.install import Installer, InstallResult, InstallTools

SHIPPED = {"numpy": "2.4.6", "SimpleITK": "2.5.0", "scipy": "1.16.0", "requests": "2.32.0"}


def checked(**states: str) -> dict[str, Any]:
    """The worker's answer: packages are fine but for those named; of the engine torch if one of its own is named."""
    engine = TORCH if {TORCH, "monai"} & set(states) else OPENVINO
    parts = (None, engine, *([NNUNET] if "dynamic-network-architectures" in states else []))
    packages = [
        {
            "name": package.name,
            "state": states.get(package.name, "ok"),
            "version": "1",
            "problem": None if states.get(package.name, "ok") == "ok" else f"it is {states[package.name]}",
            "needs": package.needs,
        }
        for package in PACKAGES
        if package.engine in parts
    ]
    return {"event": "checked", "usable": not states, "packages": packages, "remark": None}


class FakeWorker:
    """Answers checks from a list, one after the other, with some progress before."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self.answers = list(answers)
        self.log: list[str] = []
        self.requests: list[Mapping[str, Any]] = []

    def submit(self, request: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None]) -> int:
        self.log.append(request["request"])
        self.requests.append(request)
        on_event({"event": "progress", "stage": "checking", "fraction": 0.0})
        on_event(self.answers.pop(0))
        return len(self.log)

    def restart(self) -> None:
        self.log.append("restart")


class FakeSlicer:
    """Slicer's tools, with a record of their use."""

    def __init__(self, consent: bool = True, torch_extension: bool = True) -> None:
        self.consent = consent
        self.asked: list[str] = []
        self.pip: list[list[str]] = []
        self.torch: list[dict[str, Any]] = []
        self.constraints = ""
        self.versions = dict(SHIPPED)
        self.torch_result: Any = object()
        self.fail: Exception | None = None
        self.order: list[str] = []
        logic = SimpleNamespace(installTorch=self._install_torch) if torch_extension else None
        self.tools = InstallTools(self._confirm, self._pip, lambda: logic, self.versions.get)

    def _confirm(self, text: str) -> bool:
        self.asked.append(text)
        return self.consent

    def _install_torch(self, **options: Any) -> Any:
        self.order.append("torch")
        self.torch.append(options)
        if self.torch_result is not None:
            self.versions["torch"] = "2.9.0+cu128"
        return self.torch_result

    def _pip(self, arguments: list[str]) -> None:
        self.order.append("pip_install")
        self.pip.append(arguments)
        self._read(arguments[arguments.index("-c") + 1])

    def _read(self, constraints: str) -> None:
        self.constraints = Path(constraints).read_text(encoding="utf-8")
        if self.fail is not None:
            raise self.fail

    @property
    def untouched(self) -> bool:
        return not self.order


def run(
    slicer: FakeSlicer,
    *answers: Mapping[str, Any],
    wheels: Path | None = None,
    need: Mapping[str, Any] | None = None,
) -> tuple[InstallResult, FakeWorker]:
    worker = FakeWorker(*answers)
    results: list[InstallResult] = []
    Installer(worker, slicer.tools, wheels, need).begin(results.append)
    assert len(results) == 1, "one result, always"
    assert results[0].message
    return results[0], worker
