"""Installing on the first click: asked, declined, done; the worker's own trial decides."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opened_module import Opened

pytestmark = pytest.mark.slow

NOT_THERE = "raise ModuleNotFoundError(f\"No module named '{__name__}'\", name=__name__)\n"


@pytest.fixture
def lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[Opened, Path]]:
    """The module with a worker that does not find some packages, until the folder that hides them is removed."""
    hiding = tmp_path / "hiding"
    for name in request.param:
        (hiding / name).mkdir(parents=True)
        (hiding / name / "__init__.py").write_text(NOT_THERE, encoding="utf-8")
    with Host(MODULE) as app:
        from SegWithUSlicerLib.run import session
        from SegWithUSlicerLib.run.launch import worker_start

        def start():  # type: ignore[no-untyped-def]
            real = worker_start()
            paths = f"{hiding}:{real.environment['PYTHONPATH']}"
            return replace(real, environment={**real.environment, "PYTHONPATH": paths})

        monkeypatch.setattr(session.session().worker, "_start", start)
        yield Opened(app), hiding


@pytest.mark.parametrize("lacking", [("safetensors",)], indirect=True)
def test_nothing_is_installed_without_consent_and_then_it_is(lacking: tuple[Opened, Path]) -> None:
    opened, hiding = lacking
    app, ui = opened.app, opened.ui
    assert app.packaging.installations == []
    opened.choose_sample()
    opened.panel._preview_later.stop()
    app.dialogs.answer(False)
    ui.runButton.click()
    said = opened.finish()
    assert "safetensors" in app.dialogs.asked[-1]
    assert said.endswith("press Apply again to install them.")
    assert app.packaging.installations == []
    assert opened.private_folders() == []

    app.packaging.after_install = lambda wanted: shutil.rmtree(hiding)
    app.dialogs.answer(True)
    ui.runButton.click()
    assert opened.finish().startswith("Done")
    assert [one.requirements[:2] for one in app.packaging.installations] == [["safetensors>=0.4", "-c"]]
    assert app.app.__dict__.get("_restart_asked") is None


@pytest.mark.parametrize("lacking", [("openvino", "torch", "monai")], indirect=True)
def test_the_first_click_installs_openvino_alone_and_says_how_large_it_is(lacking: tuple[Opened, Path]) -> None:
    opened, hiding = lacking
    app, ui = opened.app, opened.ui
    opened.choose_sample()
    opened.panel._preview_later.stop()
    app.packaging.after_install = lambda wanted: shutil.rmtree(hiding)
    app.dialogs.answer(True)
    ui.runButton.click()
    said = opened.finish()
    asked = app.dialogs.asked[-1]
    assert "openvino" in asked
    assert "torch" not in asked
    assert "Download: at most 100 MB" in asked and "size on disk" in asked
    assert said.startswith("Done")
    assert "(openvino)" in said
    assert [one.requirements[:2] for one in app.packaging.installations] == [["--no-deps", "openvino>=2025.2"]]
    questions = len(app.dialogs.asked)
    ui.runButton.click()
    assert opened.finish().startswith("Done")
    assert len(app.dialogs.asked) == questions, "asked once"
