"""An nnU-Net adopted in the panel: asked before packages are installed, cancelled, cut off by quitting, and ended."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nnunet_trainings import names, write_training
from opened_module import MODULE, Opened, alive
from SlicerHost.host import SlicerHost

pytestmark = pytest.mark.slow

TORCHS = ("torch", "monai", "dynamic_network_architectures")


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Opened, Path]]:
    """The module in a Slicer without torch, until the folder that hides it is removed; jobs train for two epochs."""
    hiding = tmp_path / "hiding"
    for name in TORCHS:
        (hiding / name).mkdir(parents=True)
        text = "raise ModuleNotFoundError(f\"No module named '{__name__}'\", name=__name__)\n"
        (hiding / name / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "models"))
    with SlicerHost(MODULE) as host:
        from SegWithUSlicerLib.models import tasks
        from SegWithUSlicerLib.run import session
        from SegWithUSlicerLib.run.launch import worker_start

        def start() -> Any:
            real = worker_start()
            paths = f"{hiding}:{real.environment['PYTHONPATH']}"
            return replace(real, environment={**real.environment, "PYTHONPATH": paths})

        monkeypatch.setattr(session.session().worker, "_start", start)
        adopt = tasks.adopt
        monkeypatch.setattr(tasks, "adopt", lambda *places: adopt(*places).with_flag("--epochs").with_flag("2"))
        yield Opened(host), hiding


def test_adopting_asks_for_torch_and_goes_on_after_cancel_and_quitting(
    light: tuple[Opened, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, hiding = light
    panel, ui, popups = opened.panel.models, opened.ui, opened.host.popups
    result, raw = write_training(tmp_path, [(names(3), names(8, 4))])
    (tmp_path / "nnUNet_preprocessed").rename(tmp_path / "elsewhere")  # who has seen what: the validation predictions
    pages = _opened_pages(monkeypatch)

    def click(button: str, *answers: Any) -> list[str]:
        popups.answer(*answers)
        getattr(ui, button).click()
        opened.wait(lambda: not panel.is_busy and not panel.listing.is_busy)
        return str(ui.modelsMessageLabel.text).splitlines()

    said = click("adoptModelButton", str(result), str(raw), "OK")
    assert "needs torch (0.2 GB for the processor" in popups.shown[-1].text
    assert said == [
        "The PyTorch extension is missing: install 'PyTorch' in the Extensions Manager, restart Slicer, then press Go "
        "on; without a network choose a folder of wheels under Advanced."
    ]
    assert ui.goOnModelButton.visible and ui.goOnModelButton.text == "Go on: Adopt blobs"

    installed: list[str] = []
    monkeypatch.setitem(sys.modules, "PyTorchUtils", _extension(installed, hiding))
    assert click("goOnModelButton", "Cancel") == [
        "Nothing was done because the packages are not installed: press Go on to install them."
    ]
    assert "torch is large: about 0.2 GB" in popups.shown[-1].text and not installed
    popups.answer("OK")
    ui.goOnModelButton.click()
    opened.wait(lambda: "training the head" in ui.modelsStageLabel.text)
    assert installed == [">=2.8"] and "pip" not in popups.shown[-1].text
    pids = [panel.process.pid]
    assert click("cancelModelButton") == ["Adopt blobs was cancelled: what was finished is kept, Go on continues."]

    ui.goOnModelButton.click()
    opened.wait(lambda: "predicting" in ui.modelsStageLabel.text or "calibrating" in ui.modelsStageLabel.text)
    pids.append(panel.process.pid)
    panel._stop()  # as when Slicer quits
    assert [pid for pid in pids if pid is None or alive(pid)] == []
    work = tmp_path / "models" / ".adoptions" / "blobs-1.0.0"
    assert (work / "fold_0" / "head_best.safetensors").is_file() and not (tmp_path / "models" / "blobs-1.0.0").exists()

    said = click("goOnModelButton")
    assert said[0].split(":")[0] in ("Yes", "With care", "No", "Not known"), said
    assert pages == [said[1]] and Path(said[1]).is_file()
    assert {row.key: row.state for row in panel.table.rows}["blobs@1.0.0"] == "installed"
    assert not ui.goOnModelButton.visible and not work.exists()
    popups.answer(str(result), str(raw), "Cancel")
    ui.adoptModelButton.click()
    assert "is replaced when the new one is finished" in popups.shown[-1].text


def _opened_pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    import qt

    pages: list[str] = []
    monkeypatch.setattr(qt, "QDesktopServices", SimpleNamespace(openUrl=lambda url: pages.append(url.toLocalFile())))
    return pages


def _extension(installed: list[str], hiding: Path) -> Any:
    """Slicer's PyTorch extension: installing makes torch appear."""

    def install(*, askConfirmation: bool, torchVersionRequirement: str) -> object:  # noqa: N803
        assert not askConfirmation, "consent was given already"
        installed.append(torchVersionRequirement)
        shutil.rmtree(hiding)
        return object()

    return SimpleNamespace(PyTorchUtilsLogic=lambda: SimpleNamespace(installTorch=install))


def test_what_a_refused_adoption_needs_to_know_is_asked(light: tuple[Opened, Path], tmp_path: Path) -> None:
    from SegWithUSlicerLib.models import tasks
    from SegWithUSlicerLib.run.command import CommandEnd

    panel, popups, begun = light[0].panel.models, light[0].host.popups, []
    panel._begin = begun.append
    task = tasks.adopt(tmp_path / "result", tmp_path / "raw")
    refusal = CommandEnd(errors=["Nobody knows which cases the network of fold_0 has seen: give --splits or --unseen."])
    popups.answer("Cancel")
    panel._ended(task, refusal)
    assert "Was it trained with none of the cases" in popups.shown[-1].text and begun == []
    assert light[0].ui.modelsMessageLabel.text.startswith("Nobody knows")
    popups.answer("OK")
    panel._ended(task, refusal)
    assert begun[0].arguments[-1] == "--unseen"
