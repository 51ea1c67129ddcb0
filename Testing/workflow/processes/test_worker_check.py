"""The trial imports: what is missing, broken or too old is named with its reason."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT
from worker_parent import Parent, module, segment_request, state_of

from SegWithUCore.worker.check import PACKAGES


def test_bare_python_says_what_is_missing_and_what_is_half_installed(
    start: Callable[..., Parent], tmp_path: Path
) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    parent = start(tmp_path, bare=True)
    assert parent.event()["versions"]["torch"] is None
    torch = state_of(parent, "torch")
    assert torch["state"] == "broken"
    assert "half-installed" in torch["problem"]
    assert str(tmp_path / "torch") in torch["problem"]
    assert torch["needs"] == ">=2.8"
    assert state_of(parent, "monai")["state"] == "missing"
    answer = parent.ask(segment_request(tmp_path / "case"))
    assert (answer["event"], answer["kind"]) == ("error", "missing")


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("raise ImportError('libcudnn.so.9: cannot open shared object file')", "broken", "libcudnn.so.9"),
        ("import surely_not_installed", "broken", "surely_not_installed"),
        ("raise OSError('[WinError 126] a DLL')", "broken", "WinError 126"),
        ("__version__ = '2.2.0+cpu'\ndef ones(n):\n    import array\n    return A()\nclass A:\n    def sum(self):\n"
         "        return 3.0\n", "too_old", "2.2.0"),
        ("__version__ = '2.9'\ndef ones(n):\n    raise RuntimeError('no kernel image')\n", "broken", "no kernel image"),
    ],
)  # fmt: skip
def test_unusable_torch_is_named_with_its_reason(
    start: Callable[..., Parent], tmp_path: Path, text: str, state: str, words: str
) -> None:
    module(tmp_path, "torch", text)
    parent = start(tmp_path, bare=True)
    parent.event()
    torch = state_of(parent, "torch")
    assert torch["state"] == state
    assert words in torch["problem"]


def test_an_openvino_that_does_not_load_is_named_with_its_reason(start: Callable[..., Parent], tmp_path: Path) -> None:
    module(tmp_path, "openvino", "raise ImportError('libtbb.so.12: cannot open shared object file')")
    parent = start(tmp_path, bare=True)
    assert parent.event()["versions"]["openvino"] is None
    openvino = state_of(parent, "openvino")
    assert (openvino["state"], openvino["needs"]) == ("broken", ">=2025.2")
    assert "libtbb.so.12" in openvino["problem"]


def test_versions_are_those_of_the_project_file_and_of_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {line.partition(";")[0].strip() for line in project["dependencies"]}
    table = {f"{package.name}{package.needs}" for package in PACKAGES}
    further = project["optional-dependencies"]
    assert table <= brought | set(further["torch"]) | set(further["nnunet"])
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    names = {re.split("[<>=]", line)[0] for line in wanted}
    assert wanted <= table | {line for line in brought if line.startswith("requests")}
    assert names.isdisjoint({"openvino", "torch", "monai", "numpy", "SimpleITK", "scipy", "requests"})
