"""Which packages are checked for a run: those that every run needs, and those of the engine that will run."""

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from worker_parent import request_of

from SegWithUCore.inference.engines import choice
from SegWithUCore.models import bundle as bundles
from SegWithUCore.models.bundle import read_unchecked
from SegWithUCore.network.specs import BackboneSpec
from SegWithUCore.util.errors import EngineMissingError
from SegWithUCore.worker import check as checks
from SegWithUCore.worker.__main__ import failure
from SegWithUCore.worker.protocol import Request

MODEL = str(ROOT / "Resources" / "Models" / "hippocampus")
BASE = [package.name for package in checks.PACKAGES if package.engine is None]
NNUNETS = BackboneSpec("nnunet", {})
LIGHT, HEAVY = [*BASE, "openvino"], [*BASE, "torch", "monai"]


def asked(fields: dict[str, str]) -> dict[str, Any]:
    """What the worker answers to "check"."""
    return checks.check(Request.of(request_of("check", **fields)))


class Packages:
    """Packages that are there but for those named; nothing is imported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, str] = {}
        self.tried: list[str] = []
        monkeypatch.setattr(checks, "_tried", self._tried)
        monkeypatch.setattr(checks, "devices", lambda with_torch: ["cpu", *(["cuda"] if with_torch else [])])
        monkeypatch.setattr(choice, "is_installed", lambda name: self.states.get(name) != checks.MISSING)
        monkeypatch.setattr(choice, "graphics_card", lambda: False)

    def _tried(self, package: checks.Package) -> dict[str, Any]:
        self.tried.append(package.name)
        state = self.states.get(package.name, checks.OK)
        return {"name": package.name, "state": state, "problem": None if state == checks.OK else f"it is {state}"}

    def names(self, **fields: str) -> tuple[bool, list[str]]:
        answer = asked(fields)
        return answer["usable"], [entry["name"] for entry in answer["packages"]]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Packages:
    return Packages(monkeypatch)


def test_a_model_with_graphs_needs_openvino_and_torch_is_not_tried(packages: Packages) -> None:
    assert packages.names(model=MODEL, head=None, device="auto", engine="auto") == (True, LIGHT)
    assert packages.names() == (True, LIGHT)
    assert not {"torch", "monai"} & set(packages.tried)
    packages.states = {"openvino": "missing", "torch": "missing", "monai": "missing"}
    assert packages.names(model=MODEL) == (False, LIGHT)


@pytest.mark.parametrize("fields", [{"engine": "torch"}, {"device": "cuda"}, {"device": "mps"}, {"head": "paper"}])
def test_torch_is_needed_where_it_is_chosen_or_the_head_has_no_graphs(
    packages: Packages, fields: dict[str, str]
) -> None:
    packages.states = {"torch": "missing"}
    assert packages.names(model=MODEL, **fields) == (False, HEAVY)
    assert "openvino" not in packages.tried


def test_networks_of_nnunet_need_a_package_of_their_own_beside_torch(
    packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = "dynamic-network-architectures"
    assert packages.names(networks="nnunet", model=MODEL, engine="torch") == (True, [*HEAVY, networks])
    found = replace(read_unchecked(Path(MODEL)), backbone=NNUNETS)
    monkeypatch.setattr(bundles, "read_unchecked", lambda _: found)
    assert packages.names(model=MODEL, device="cuda") == (True, [*HEAVY, networks])
    assert packages.names(model=MODEL) == (True, LIGHT), "its graphs need neither"
    packages.states = {networks: "missing"}
    assert packages.names(model=MODEL, engine="torch")[0] is False
    packages.states, packages.tried = {"torch": "missing"}, []
    assert packages.names(model=MODEL, engine="torch")[0] is False
    assert networks not in packages.tried, "it imports torch, so it cannot be tried without"


def test_torch_that_is_there_stands_in_for_openvino(packages: Packages) -> None:
    packages.states = {"openvino": "missing"}
    assert packages.names(model=MODEL) == (True, HEAVY)
    assert asked({"model": MODEL})["remark"] is None
    packages.states = {"openvino": "broken"}
    assert asked({"model": MODEL})["remark"] == (
        "openvino cannot be used (openvino: it is broken), so torch runs the model."
    )
    assert asked({"model": MODEL})["devices"] == ["cpu", "cuda"]
    assert packages.names(model=MODEL, engine="openvino") == (False, LIGHT)


def test_a_broken_torch_for_the_card_leaves_the_model_to_openvino(
    packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "graphics_card", lambda: True)
    assert packages.names(model=MODEL) == (True, HEAVY)
    packages.states = {"torch": "broken", "openvino": "missing"}
    assert packages.names(model=MODEL) == (False, LIGHT)
    packages.states = {"torch": "broken"}
    assert packages.names(model=MODEL) == (True, LIGHT)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "/no/such/model"},
        {"model": MODEL, "engine": "openvino", "device": "cuda"},
        {"model": MODEL, "head": "x"},
    ],
)
def test_where_the_run_will_say_what_is_wrong_no_engine_is_asked_for(
    packages: Packages, fields: dict[str, str]
) -> None:
    assert packages.names(**fields) == (True, BASE)


def test_a_lacking_package_of_every_run_is_told_with_the_engine(packages: Packages) -> None:
    packages.states = {"safetensors": "missing", "openvino": "missing", "torch": "missing", "monai": "missing"}
    assert packages.names(model=MODEL) == (False, LIGHT)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, LIGHT),
        ({"engine": "torch"}, HEAVY),
        ({"device": "cuda"}, HEAVY),
        ({"engine": "openvino", "device": "cuda"}, BASE),
    ],
)
def test_an_engine_is_named_although_no_model_can_be_read_without_numpy(
    packages: Packages, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], names: list[str]
) -> None:
    """Else whoever installs what is named is told of the engine only then."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "inference.engines.choice":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    packages.states = {"numpy": "missing", "openvino": "missing", "torch": "missing", "monai": "missing"}
    assert packages.names(model=MODEL, **fields) == (False, names)


def test_the_engine_is_known_before_jsonschema_is_there(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else OpenVINO would be asked for in a second question."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.partition(".")[0] in ("jsonschema", "safetensors", "jinja2", "PIL", "pydicom"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert Path(MODEL).is_dir()
    assert packages.names(model=MODEL) == (True, LIGHT)


def test_an_engine_that_is_missing_after_all_is_told_with_the_next_click() -> None:
    told = failure(EngineMissingError("The engine torch is needed for 'x', but it is not installed", "pip install y"))
    assert told["kind"] == "missing"
    assert told["text"].startswith("The engine torch is needed for 'x', but it is not installed: press Apply")
    assert "pip" not in told["text"]
