"""Installing on the first click: asked, declined, done; the worker's own trial decides. Pip itself installs nothing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import slicer
from opened_module import Opened

NOT_THERE = "raise ModuleNotFoundError(f\"No module named '{__name__}'\", name=__name__)\n"


@dataclass
class Lacking:
    """The module with a worker that does not find some packages, until pip is asked to install."""

    opened: Opened
    hiding: Path
    installed: list[list[str]] = field(default_factory=list)

    def pip_install(self, arguments: list[str], requester: str = "") -> None:
        """Note what is asked for; the packages can be found from now on."""
        self.installed.append(list(arguments))
        shutil.rmtree(self.hiding)


@pytest.fixture
def lacking(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Lacking]:
    """Without the packages that the test names."""
    from SegWithUSlicerLib.run import session
    from SegWithUSlicerLib.run.launch import WorkerStart, worker_start

    found = Lacking(opened, tmp_path / "hiding")
    for name in request.param:
        (found.hiding / name).mkdir(parents=True)
        (found.hiding / name / "__init__.py").write_text(NOT_THERE, encoding="utf-8")

    def start() -> WorkerStart:
        real = worker_start()
        paths = f"{found.hiding}:{real.environment['PYTHONPATH']}"
        return replace(real, environment={**real.environment, "PYTHONPATH": paths})

    opened.worker.stop()
    session.session()._ready.clear()
    monkeypatch.setattr(opened.worker, "_start", start)
    monkeypatch.setattr(slicer.util, "pip_install", found.pip_install)
    if importlib.util.find_spec("slicer.packaging") is not None:
        monkeypatch.setattr("slicer.packaging.pip_install", found.pip_install)
    yield found
    opened.worker.stop()
    session.session()._ready.clear()


@pytest.mark.parametrize("lacking", [("safetensors",)], indirect=True)
def test_nothing_is_installed_without_consent_and_then_it_is(lacking: Lacking) -> None:
    opened, dialogs = lacking.opened, lacking.opened.app.dialogs
    opened.choose_sample()
    dialogs.answer(False)
    opened.ui.runButton.click()
    said = opened.finish()
    assert "safetensors" in dialogs.asked[-1]
    assert said.endswith("press Apply again to install them.")
    assert (lacking.installed, opened.private_folders()) == ([], [])
    dialogs.answer(True)
    opened.ui.runButton.click()
    assert opened.finish().startswith("Done")
    assert [one[:2] for one in lacking.installed] == [["safetensors>=0.4", "-c"]]


def test_a_licence_that_binds_is_shown_before_the_first_use_and_once(opened: Opened) -> None:
    settings, dialogs = slicer.app.settings(), opened.app.dialogs
    accepted = settings.value("SegWithU/Licences")
    settings.remove("SegWithU/Licences")
    try:
        opened.choose_sample()
        dialogs.answer(False)
        opened.ui.runButton.click()
        assert not opened.controller.is_busy and "CC-BY-SA" in dialogs.asked[-1]
        dialogs.answer(True)
        for _time in range(2):
            opened.ui.runButton.click()
            assert opened.finish().startswith("Done")
        assert len(dialogs.asked) == 2
    finally:
        settings.setValue("SegWithU/Licences", accepted)


@pytest.mark.parametrize("lacking", [("openvino", "torch", "monai")], indirect=True)
def test_the_first_click_installs_openvino_alone_and_says_how_large_it_is(lacking: Lacking) -> None:
    opened, dialogs = lacking.opened, lacking.opened.app.dialogs
    opened.choose_sample()
    dialogs.answer(True)
    opened.ui.runButton.click()
    said = opened.finish()
    (asked,) = dialogs.asked
    assert "openvino" in asked and "torch" not in asked
    assert "Download: at most 100 MB" in asked and "size on disk" in asked
    assert said.startswith("Done") and "(openvino)" in said
    assert [one[:2] for one in lacking.installed] == [["--no-deps", "openvino>=2025.2"]]
    opened.ui.runButton.click()
    assert opened.finish().startswith("Done")
    assert len(dialogs.asked) == 1, "asked once"
