"""Installing on the first click: what is decided, what is asked, and which tool of Slicer is called how."""

import subprocess
from pathlib import Path

import pytest
from install_fakes import SHIPPED, FakeSlicer, checked, run

from SegWithUSlicerLib.run.install import InstallOutcome, judge, question, write_constraints


def test_nothing_is_asked_where_everything_is_there() -> None:
    slicer = FakeSlicer()
    result, worker = run(slicer, checked())
    assert result.outcome is InstallOutcome.READY
    assert worker.log == ["check"]
    assert slicer.untouched
    assert not slicer.asked


def test_first_click_installs_openvino_and_small_packages_after_one_question() -> None:
    slicer = FakeSlicer(torch_extension=False)
    need = {"model": "/models/hippocampus", "head": "", "device": "auto", "engine": "auto"}
    result, worker = run(slicer, checked(openvino="missing", safetensors="missing"), checked(), need=need)
    assert result.outcome is InstallOutcome.READY
    assert worker.requests == [{"request": "check", **need}] * 2
    assert len(slicer.asked) == 1
    assert "safetensors, openvino" in slicer.asked[0] or "openvino, safetensors" in slicer.asked[0]
    assert "torch" not in slicer.asked[0]
    assert "at most 100 MB" in slicer.asked[0]
    assert [call[:-2] for call in slicer.pip] == [["safetensors>=0.4"], ["--no-deps", "openvino>=2025.2"]]


def test_openvino_never_brings_another_numpy_nor_its_telemetry() -> None:
    slicer = FakeSlicer()
    run(slicer, checked(openvino="missing"), checked())
    assert [call[:2] for call in slicer.pip] == [["--no-deps", "openvino>=2025.2"]]
    assert f"numpy=={SHIPPED['numpy']}" in slicer.constraints


def test_openvino_that_does_not_import_is_tried_again_once_and_then_one_sentence() -> None:
    slicer = FakeSlicer()
    result, worker = run(slicer, checked(openvino="broken"), checked(openvino="broken"))
    assert slicer.pip[0][:3] == ["--force-reinstall", "--no-deps", "openvino>=2025.2"]
    assert worker.log == ["check", "restart", "check"]
    assert result.outcome is InstallOutcome.FAILED
    assert "it is broken" in result.message and "engine torch" in result.message


def test_torch_that_stands_in_for_a_broken_openvino_is_told_and_nothing_is_asked() -> None:
    slicer = FakeSlicer()
    result, _worker = run(slicer, {**checked(monai="ok"), "usable": True, "remark": "openvino cannot be used."})
    assert (result.outcome, result.remark) == (InstallOutcome.READY, "openvino cannot be used.")
    assert slicer.untouched
    assert not slicer.asked


def test_torch_is_installed_with_monai_after_one_question() -> None:
    slicer = FakeSlicer()
    result, worker = run(slicer, checked(torch="missing", monai="missing", safetensors="missing"), checked())
    assert result.outcome is InstallOutcome.READY
    assert worker.log == ["check", "restart", "check"]
    assert len(slicer.asked) == 1
    assert all(name in slicer.asked[0] for name in ("torch", "safetensors", "monai"))
    assert slicer.order == ["torch", "pip_install"]
    assert slicer.pip[0][:3] == ["safetensors>=0.4", "monai>=1.6,<1.7", "-c"]
    assert slicer.torch == [{"askConfirmation": False, "torchVersionRequirement": ">=2.8"}]


def test_adopting_in_a_light_slicer_installs_torch_and_nnunets_networks_after_one_question() -> None:
    slicer = FakeSlicer()
    lacking = {"torch": "missing", "monai": "missing", "dynamic-network-architectures": "missing"}
    result, _ = run(slicer, checked(**lacking), checked())
    assert result.outcome is InstallOutcome.READY
    assert len(slicer.asked) == 1 and "dynamic-network-architectures" in slicer.asked[0]
    assert "0.2 GB" in slicer.asked[0] and "3 GB" in slicer.asked[0]
    assert slicer.order == ["torch", "pip_install", "pip_install"]
    assert slicer.pip[-1][:2] == ["--no-deps", "dynamic-network-architectures>=0.4,<0.5"], "no other torchvision"
    result, _ = run(FakeSlicer(consent=False), checked(**lacking))
    assert result.outcome is InstallOutcome.DECLINED and "pip" not in result.message


def test_constraints_keep_what_slicer_ships_and_the_new_torch() -> None:
    slicer = FakeSlicer()
    run(slicer, checked(torch="missing", monai="missing"), checked())
    pins = slicer.constraints.split()
    assert set(pins) == {*(f"{name}=={version}" for name, version in SHIPPED.items()), "torch==2.9.0+cu128"}


def test_constraints_of_this_python_name_what_is_installed(tmp_path: Path) -> None:
    import numpy as np

    assert f"numpy=={np.__version__}" in write_constraints(tmp_path).read_text(encoding="utf-8").split()


def test_torch_that_is_there_is_left_to_itself() -> None:
    slicer = FakeSlicer()
    result, _worker = run(slicer, checked(monai="too_old"), checked())
    assert result.outcome is InstallOutcome.READY
    assert slicer.order == ["pip_install"]
    assert slicer.pip[0][:2] == ["monai>=1.6,<1.7", "-c"]


def test_without_consent_nothing_is_installed() -> None:
    slicer = FakeSlicer(consent=False)
    result, worker = run(slicer, checked(torch="missing", monai="missing"))
    assert result.outcome is InstallOutcome.DECLINED
    assert slicer.untouched
    assert worker.log == ["check"]


def test_declining_torch_is_no_failure() -> None:
    slicer = FakeSlicer()
    slicer.torch_result = None
    assert run(slicer, checked(torch="missing", monai="missing"))[0].outcome is InstallOutcome.DECLINED
    assert slicer.order == ["torch"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (subprocess.CalledProcessError(1, "pip"), "pip ended with exit code 1"),
        (RuntimeError("no matching distribution"), "no matching distribution"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_failed_installation_says_why_and_what_to_do(error: Exception, words: str) -> None:
    slicer = FakeSlicer()
    slicer.fail = error
    result, worker = run(slicer, checked(monai="missing"))
    assert result.outcome is InstallOutcome.FAILED
    assert words in result.message
    assert "press Apply again" in result.message
    assert "Traceback" in result.details
    assert worker.log == ["check"]


def test_trial_import_decides_whether_it_worked() -> None:
    slicer = FakeSlicer()
    result, worker = run(slicer, checked(monai="missing"), checked(monai="broken"))
    assert result.outcome is InstallOutcome.FAILED
    assert "monai: it is broken" in result.message
    assert worker.log == ["check", "restart", "check"]


def test_missing_pytorch_extension_is_told_before_anything_is_asked() -> None:
    slicer = FakeSlicer(torch_extension=False)
    result, _worker = run(slicer, checked(torch="missing"))
    assert result.outcome is InstallOutcome.FAILED
    assert "Extensions Manager" in result.message
    assert not slicer.asked


@pytest.mark.parametrize("state", ["broken", "too_old"])
def test_unusable_torch_is_not_installed_over(state: str) -> None:
    slicer = FakeSlicer()
    result, _worker = run(slicer, checked(torch=state, monai="missing"))
    assert result.outcome is InstallOutcome.FAILED
    assert f"it is {state}" in result.message
    assert "PyTorch extension" in result.message
    assert slicer.untouched
    assert not slicer.asked


def test_package_of_slicer_is_never_replaced() -> None:
    slicer = FakeSlicer()
    result, _worker = run(slicer, checked(numpy="too_old", monai="missing"))
    assert result.outcome is InstallOutcome.FAILED
    assert "numpy" in result.message
    assert slicer.untouched


def test_broken_package_is_installed_again() -> None:
    slicer = FakeSlicer()
    result, _worker = run(slicer, checked(monai="broken"), checked())
    assert result.outcome is InstallOutcome.READY
    assert slicer.pip[0][:3] == ["--force-reinstall", "--no-deps", "monai>=1.6,<1.7"]


def test_offline_everything_comes_from_the_folder_of_wheels(tmp_path: Path) -> None:
    wheels = tmp_path / "Räder von heute"
    wheels.mkdir()
    slicer = FakeSlicer(torch_extension=False)
    result, _worker = run(slicer, checked(torch="missing", monai="missing"), wheels=wheels)
    assert result.outcome is InstallOutcome.FAILED
    assert str(wheels) in result.message
    (wheels / "torch-2.9.0-cp312-none-any.whl").touch()
    result, _worker = run(slicer, checked(torch="missing", monai="missing"), checked(), wheels=wheels)
    assert result.outcome is InstallOutcome.READY
    assert str(wheels) in slicer.asked[0]
    assert slicer.order == ["pip_install"], "no PyTorch extension is needed"
    assert slicer.pip[0][:3] == ["torch>=2.8", "monai>=1.6,<1.7", "-c"]
    assert slicer.pip[0][4:] == ["--no-index", "--find-links", str(wheels)]


def test_offline_openvino_comes_from_the_folder_of_wheels(tmp_path: Path) -> None:
    (tmp_path / "openvino-2026.4.1-cp312-none-any.whl").touch()
    slicer = FakeSlicer(torch_extension=False)
    result, _worker = run(slicer, checked(openvino="missing", pydicom="missing"), checked(), wheels=tmp_path)
    assert result.outcome is InstallOutcome.READY
    assert [call[:-5] for call in slicer.pip] == [["pydicom>=3"], ["--no-deps", "openvino>=2025.2"]]
    assert all(call[-3:] == ["--no-index", "--find-links", str(tmp_path)] for call in slicer.pip)


def test_intel_mac_runs_models_with_graphs_and_refuses_where_torch_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    slicer = FakeSlicer(torch_extension=False)
    assert run(slicer, checked(openvino="missing"), checked())[0].outcome is InstallOutcome.READY
    for state in ("missing", "too_old"):
        slicer = FakeSlicer()
        result, worker = run(slicer, checked(torch=state, monai="missing"))
        assert result.outcome is InstallOutcome.FAILED
        assert "Intel macOS" in result.message
        assert worker.log == ["check"]
        assert slicer.untouched
        assert not slicer.asked


def test_crash_of_the_check_is_a_failure_with_its_reason() -> None:
    slicer = FakeSlicer()
    crash = {"event": "error", "kind": "crashed", "text": "The process ended (signal SIGSEGV).", "details": "cuda"}
    result, _worker = run(slicer, crash)
    assert (result.outcome, result.message, result.details) == (InstallOutcome.FAILED, crash["text"], "cuda")
    assert slicer.untouched
    assert judge({"event": "cancelled"}).outcome is InstallOutcome.DECLINED


def test_exception_between_check_and_installation_gives_a_result() -> None:
    """Whoever waits for it would wait for ever."""
    slicer = FakeSlicer()
    object.__setattr__(slicer.tools, "confirm", None)
    result, worker = run(slicer, checked(monai="missing"))
    assert result.outcome is InstallOutcome.FAILED
    assert "TypeError" in result.message
    assert worker.log == ["check"]


def test_the_question_names_each_package_and_its_size() -> None:
    assert "torch, monai, jsonschema" in question(["torch", "monai", "jsonschema"])
    assert "3 GB" in question(["torch", "monai"])
    assert "3 GB" not in question(["monai"])
