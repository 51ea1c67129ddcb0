"""Results of large images in the panel: loaded a while at a time, further maps when they are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import slicer
from opened_module import Opened, sample_crop, segment_crop


@pytest.fixture
def all_are_large(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Treat every image as large, and let each step be a turn of the event loop."""
    from SegWithUSlicerLib.panels import map_loader
    from SegWithUSlicerLib.run import controller
    from SegWithUSlicerLib.scene import read_case

    monkeypatch.setattr(read_case, "LATER_ABOVE_VOXELS", 1000)
    for module in (controller, map_loader):
        monkeypatch.setattr(module, "FIRST_S", 0.0)
        monkeypatch.setattr(module, "SLICE_S", 0.0)
    return opened


def _choose(opened: Opened, word: str) -> None:
    box = opened.ui.mapBox
    texts = [box.itemText(index) for index in range(box.count)]
    box.currentIndex = next(index for index, text in enumerate(texts) if word in text)


def _files(opened: Opened) -> list[str]:
    return sorted(path.name for folder in opened.private_folders() for path in folder.rglob("*") if path.is_file())


def _idle(opened: Opened) -> Callable[[], bool]:
    return lambda: not opened.panel.overlay.loader.is_busy


def test_maps_are_loaded_when_chosen_and_their_files_go_with_the_scene(all_are_large: Opened) -> None:
    opened, ui = all_are_large, all_are_large.ui
    nodes = segment_crop(opened)
    assert (list(nodes.maps), opened.overlay.map_name) == (["error_probability"], "error_probability")
    assert _files(opened) == ["calibration.nii.gz", "case.json", "ranking.nii.gz"]
    texts = [ui.mapBox.itemText(index) for index in range(ui.mapBox.count)]
    assert texts == [
        "Error probability",
        "Uncertainty, unscaled (ranking map): not loaded",
        "Softened probabilities (calibration map): not loaded",
        "None",
    ]
    assert "not saved with the scene: Ranking map, Calibration map" in ui.mapLoadLabel.text
    assert ui.mapLoadButton.text == "Load all"
    opened.panel.structures._clicked(0, 0)
    assert opened.coloured() > 200

    _choose(opened, "ranking")
    assert ui.mapLoadLabel.text.startswith("Loading Ranking map: ")
    assert (ui.mapLoadButton.text, opened.overlay.map_name) == ("Cancel", "error_probability")
    assert "ranking" in ui.mapBox.currentText
    ui.mapLoadButton.click()
    assert (list(nodes.maps), ui.mapBox.currentText) == (["error_probability"], "Error probability")

    _choose(opened, "ranking")
    _choose(opened, "calibration")  # another choice in the middle
    opened.wait(_idle(opened), 30)
    assert (list(nodes.maps), opened.overlay.map_name) == (["error_probability", "calibration"], "calibration")
    ui.thresholdSlider.value = ui.thresholdSlider.minimum
    assert opened.coloured() > 200

    ui.mapLoadButton.click()
    opened.wait(_idle(opened), 30)
    assert (list(nodes.maps), ui.mapLoadButton.visible) == (["error_probability", "ranking", "calibration"], False)
    assert opened.overlay.map_name == "calibration"
    opened.host.close_scene()
    assert opened.private_folders() == []


def test_review_and_plots_work_before_other_maps_are_loaded(all_are_large: Opened) -> None:
    opened, ui = all_are_large, all_are_large.ui
    nodes = segment_crop(opened)
    ui.reviewerEdit.text = "A. Reader"
    opened.panel.review.start()
    assert opened.panel.review.session is not None
    opened.panel.review.end()
    assert list(nodes.maps) == ["error_probability"]


def test_cancel_and_closed_scene_in_the_middle_of_loading_leave_nothing(all_are_large: Opened) -> None:
    opened, ui = all_are_large, all_are_large.ui
    volume = sample_crop()
    for act, said in (
        (ui.runButton.click, "Cancelled: press Apply"),
        (lambda: slicer.mrmlScene.RemoveNode(volume), "its image was removed"),
    ):
        opened.panel.inputs.choose(volume, None)
        ui.runButton.click()
        opened.wait(lambda: opened.controller.status.stage == "loading the result")
        assert ui.runButton.text == "Cancel"
        act()
        assert not opened.controller.is_busy
        assert said in opened.controller.status.sentence
        assert (opened.nodes, opened.private_folders()) == (None, [])
    segment_crop(opened)
    _choose(opened, "ranking")
    assert opened.panel.overlay.loader.is_busy
    opened.host.close_scene()
    assert not opened.panel.overlay.loader.is_busy
    assert opened.private_folders() == []


def test_quitting_leaves_no_file(all_are_large: Opened) -> None:
    opened = all_are_large
    segment_crop(opened)
    assert len(opened.private_folders()) == 1
    from SegWithUSlicerLib.scene.later_maps import release_gone

    release_gone(None)  # as the session does at its end
    assert opened.private_folders() == []


def test_small_results_are_loaded_whole_and_at_once(opened: Opened) -> None:
    nodes = segment_crop(opened)
    assert list(nodes.maps) == ["error_probability", "ranking", "calibration"]
    assert (opened.ui.mapLoadFrame.visible, opened.private_folders()) == (False, [])
