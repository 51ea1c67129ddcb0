"""The section *Models*: list, download, import, delete, and what a job that is cut off leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import slicer
from model_registry import add_to_registry
from onnx_files import write_network
from opened_module import Opened, alive, sample_crop
from segwithu_command import MODEL, MODEL_VERSION


@dataclass
class Store:
    """The opened section, with a registry in a folder and a folder of models of its own."""

    opened: Opened
    home: Path

    @property
    def ui(self) -> Any:
        return self.opened.ui

    @property
    def panel(self) -> Any:
        return self.opened.panel.models

    def settle(self) -> list[str]:
        """Wait until nothing runs; what the panel says then."""
        self.opened.wait(lambda: not self.panel.is_busy)
        return str(self.ui.modelsMessageLabel.text).splitlines()

    def rows(self) -> dict[str, str]:
        return {row.key: row.state for row in self.panel.rows if row.name != "brain"}

    def offered(self) -> list[str]:
        """Names in the list of models of the section Inputs, but for the first one."""
        return [self.ui.modelBox.itemText(index) for index in range(1, self.ui.modelBox.count)]

    def click(self, button: str, *answers: Any) -> list[str]:
        self.opened.app.dialogs.answer(*answers)
        getattr(self.ui, button).click()
        return self.settle()


def named(folder: Path, name: str, version: str, **about: str) -> Path:
    """The shipped model under that name and version."""
    bundle = Path(shutil.copytree(MODEL, folder / f"{name}-{version}"))
    data = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    data["about"] |= {"name": name, "version": version, **about}
    (bundle / "bundle.json").write_text(json.dumps(data), encoding="utf-8")
    return bundle


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    add_to_registry(
        named(home, "liver", "1.2.0", task="Liver in CT.", licence_weights="CC-BY-NC-SA-4.0"), home / "models"
    )
    return home / "models"


@pytest.fixture
def store(opened: Opened, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "models"))
    found = Store(opened, tmp_path)
    found.ui.registryEdit.text = str(registry)
    found.panel.registry_entered()
    found.ui.modelsButton.collapsed = False
    assert found.click("refreshModelsButton") == ["Refresh the list: it is up to date."]
    yield found
    found.ui.registryEdit.text = ""
    found.panel.registry_entered()
    found.settle()
    found.ui.modelsButton.collapsed = True
    opened.panel.models_changed()


def test_a_model_is_downloaded_after_its_licences_were_shown_and_deleted(store: Store) -> None:
    ui, target = store.ui, store.home / "models" / "liver-1.2.0"
    assert store.rows() == {f"hippocampus@{MODEL_VERSION}": "installed", "liver@1.2.0": "available"}
    store.panel.select(f"hippocampus@{MODEL_VERSION}")
    assert "How good it is: " in ui.modelsInfoLabel.text
    assert (ui.downloadModelButton.enabled, ui.deleteModelButton.enabled) == (False, False)
    store.panel.select("liver@1.2.0")
    assert ui.modelsTable.item(ui.modelsTable.rowCount - 1, 4).text() == "CC-BY-NC-SA-4.0, non-commercial"
    store.click("downloadModelButton", False)
    asked = store.opened.app.dialogs.asked[-1]
    assert "CC-BY-NC-SA-4.0" in asked and "forbid commercial use" in asked and "MB" in asked
    assert not target.exists()
    assert store.click("downloadModelButton", True) == ["Download liver@1.2.0: it is installed."]
    assert (target / "bundle.json").is_file() and store.rows()["liver@1.2.0"] == "installed"
    assert store.offered() == ["hippocampus", "liver"]
    store.panel.select("liver@1.2.0")
    assert store.click("deleteModelButton", True) == ["Delete liver@1.2.0: it is deleted."]
    assert not target.exists() and store.offered() == ["hippocampus"]


def test_what_cannot_be_installed_is_one_sentence_and_leaves_nothing(
    store: Store, registry: Path, tmp_path: Path
) -> None:
    good = shutil.copytree(registry / "liver-1.2.0", tmp_path / "fetched" / "liver")
    said = store.click("importFolderButton", str(good))
    assert (
        said == ["Import liver: found a model; liver 1.2.0 is installed."]
        and store.rows()["liver@1.2.0"] == "installed"
    )
    said = store.click("importFolderButton", str(good))
    assert len(said) == 1 and "[exists-already]" in said[0]
    assert store.click("importFolderButton", "") == said  # nothing was chosen
    assert sorted(path.name for path in (tmp_path / "models").iterdir() if path.name[0] != ".") == ["liver-1.2.0"]


def test_zip_and_onnx_files_are_imported_and_named(store: Store, registry: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "liver"), "zip", registry / "liver-1.2.0")
    said = store.click("importFileButton", archive)
    assert said == ["Import liver.zip: found a model; liver 1.2.0 is installed."]
    file = write_network(tmp_path)
    assert store.click("importFileButton", str(file)) == [
        "Import bright.onnx: found an ONNX network; bright 1.0.0 is installed."
    ]
    assert store.rows()["bright@1.0.0"] == "installed" and "bright" in store.offered()
    store.panel.select("bright@1.0.0")
    assert "Not calibrated" in store.ui.modelsInfoLabel.text
    store.opened.panel.inputs.choose(sample_crop(), None, "bright")
    with mock.patch.object(slicer.util, "confirmOkCancelDisplay", return_value=True):
        store.ui.runButton.click()
        assert store.opened.finish().startswith("Done")
    assert set(store.opened.nodes.maps) == {"ranking"}
    assert [each.name for each in store.opened.nodes.case.structures] == ["bright"]
    file.with_suffix(".json").unlink()
    (sentence,) = store.click("importFileButton", str(file))
    assert "bright.json" in sentence and "[wrong-spec]" in sentence
    names = sorted(path.name for path in (tmp_path / "models").iterdir() if path.name[0] != ".")
    assert names == ["bright-1.0.0", "liver-1.2.0"]


def test_a_model_that_comes_during_a_run_is_offered_when_that_has_ended(
    store: Store, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUSlicerLib.run.controller import RunStatus

    panel = store.opened.panel
    panel.models_changed()  # the panel is that of the tests before
    shutil.copytree(registry / "liver-1.2.0", tmp_path / "models" / "liver-1.2.0")
    with monkeypatch.context() as patch:
        patch.setattr(type(panel), "is_busy", True)
        panel.models_changed()
        panel._status_came(RunStatus())
        assert store.offered() == ["hippocampus"]
    panel._status_came(RunStatus())
    assert store.offered() == ["hippocampus", "liver"]


def test_a_job_ends_with_slicer_and_with_a_click(store: Store, tmp_path: Path) -> None:
    store.ui.registryEdit.text = str(tmp_path / "nowhere")
    store.panel.registry_entered()
    assert store.rows() == {f"hippocampus@{MODEL_VERSION}": "installed"}  # what another registry offered is gone
    assert "[no-registry]" in store.click("refreshModelsButton")[0]
    store.panel.refresh()
    assert store.ui.cancelModelButton.visible and not store.ui.refreshModelsButton.enabled
    store.panel._stop()  # as when Slicer quits
    assert not store.panel.is_busy
    store.panel.refresh()
    pids = [store.panel.process.pid]
    store.ui.cancelModelButton.click()
    assert store.settle() == ["Refresh the list: it was cancelled, and nothing was changed."]
    assert all(pid is None or not alive(pid) for pid in pids)


def test_missing_packages_are_named_and_nothing_starts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from SegWithUSlicerLib.panels import models_panel

    monkeypatch.setattr(models_panel, "STORE_PACKAGES", ("no_such_package",))
    (message,) = store.click("refreshModelsButton")
    assert "no_such_package" in message
    assert store.panel.process.pid is None
