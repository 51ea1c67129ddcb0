"""The whole review through the panel by keyboard alone: verdicts, jumps, marks, and views that stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from opened_module import Opened, segment_crop
from repository import TESTING
from reviewing import Reviewing
from written_case import make_case, write_some_regions


def test_a_review_needs_a_name_which_is_remembered(reviewing: Reviewing) -> None:
    ui = reviewing.ui
    reviewing.name("")
    assert (ui.startReviewButton.enabled, ui.reviewNoteLabel.text) == (False, "Enter your name to begin.")
    assert not ui.reviewFrame.visible
    reviewing.start("Zoë")
    assert ui.reviewFrame.visible
    assert slicer.app.settings().value("SegWithU/Reviewer") == "Zoë"


def test_eight_regions_by_keyboard_alone_with_every_view_as_it_was(reviewing: Reviewing) -> None:
    image = TESTING / "data" / "hippocampus" / "images" / "hippocampus_319.nii.gz"
    reviewing.app.close_scene()
    segment_crop(reviewing.opened, slicer.util.loadVolume(str(image)))
    reviewing.show_pet()
    reviewing.ui.orderBox.currentIndex = 1
    reviewing.start()
    assert len(reviewing.ids) >= 9
    before = reviewing.appearance()
    visited = []
    for number in range(8):
        region = reviewing.session.current
        visited.append(region.id)
        voxel = min(reviewing.nodes.inputs[0].GetSpacing())
        assert max(reviewing.off_peak_mm()) < voxel, region
        assert reviewing.row() == number
        reviewing.judge(["accepted", "corrected", "rejected", "second"][number % 4])
    assert reviewing.appearance() == before
    lines = reviewing.told("verdict")
    assert [line["region"] for line in lines] == visited == reviewing.ids[:8]
    assert [line["verdict"] for line in lines[:4]] == ["accepted", "corrected", "rejected", "needs second reader"]
    assert reviewing.cell(visited[2]) == "✗ rejected"
    assert f"; 8 of {len(reviewing.ids)} regions, " in reviewing.ui.reviewProgressLabel.text


def test_the_mark_of_a_region_goes_with_module_and_review(
    reviewing: Reviewing,
) -> None:
    reviewing.ui.mapBox.currentIndex = reviewing.ui.mapBox.count - 1
    reviewing.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    reviewing.start()
    coloured = reviewing.opened.coloured
    assert coloured() > 10
    first = reviewing.app.render_slice("Red")
    reviewing.press("N")
    assert np.abs(reviewing.app.render_slice("Red").astype(int) - first).sum() > 0
    reviewing.app.leave_module()
    assert coloured() == 0
    reviewing.app.enter_module()
    assert coloured() > 10
    reviewing.ui.endReviewButton.click()
    assert coloured() == 0
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")].count("Region") == 0


def test_the_mark_is_seen_in_3d(reviewing: Reviewing) -> None:
    reviewing.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode").SetBoxVisible(False)

    def marked() -> int:
        red, green, _blue = np.moveaxis(reviewing.app.render_threed().astype(int), 2, 0)
        return int((red - green > 40).sum())

    assert marked() == 0
    reviewing.start()
    assert marked() > 10


def test_keys_do_nothing_while_somebody_types(reviewing: Reviewing) -> None:
    reviewing.start()
    edit, at = reviewing.ui.commentEdit, reviewing.session.current.id
    reviewing.press("Ctrl+Alt+C")
    for key in ("n", "Shift+N", "Ctrl+Alt+1", "Ctrl+Alt+Z"):
        reviewing.press(key)
    typed = edit.text  # with Ctrl+Alt a letter is written too, as with AltGr on some keyboards
    assert (typed[:2], reviewing.session.current.id, reviewing.told("verdict")) == ("nN", at, [])
    reviewing.press("Return")
    assert reviewing.told("comment")[0]["comment"] == typed
    reviewing.judge()
    assert (reviewing.cell(at), edit.text) == ("✓ accepted", "")
    reviewing.press("Shift+N")
    assert (reviewing.session.current.id, edit.text) == (at, typed)


def test_keys_do_nothing_in_a_number_field(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.ui.editButton.collapsed = False
    at = reviewing.session.current.id
    for key in ("N", "Ctrl+Alt+3"):
        reviewing.press(key, reviewing.ui.unsureLimitBox)
    assert (reviewing.session.current.id, reviewing.told("verdict")) == (at, [])
    reviewing.press("N", reviewing.ui.regionsTable)
    assert reviewing.session.current.id != at


def test_keys_are_there_only_while_a_review_is_in_sight(reviewing: Reviewing) -> None:
    reviewing.press("N")
    reviewing.start()
    at = reviewing.session.current.id
    reviewing.app.leave_module()
    reviewing.press("Ctrl+Alt+1")
    reviewing.app.enter_module()
    reviewing.ui.reviewButton.collapsed = True
    reviewing.press("N")
    assert (reviewing.session.current.id, reviewing.told("verdict")) == (at, [])
    reviewing.ui.reviewButton.collapsed = False
    reviewing.press("N", reviewing.ui.regionsTable)
    assert reviewing.session.current.id == reviewing.ids[1]
    reviewing.ui.endReviewButton.click()
    assert not reviewing.panel.keys.is_installed


def test_undo_takes_back_and_goes_where_it_was_said(reviewing: Reviewing) -> None:
    reviewing.start()
    first, second = reviewing.ids[:2]
    reviewing.judge("rejected")
    reviewing.judge("corrected")
    reviewing.press("Ctrl+Alt+Z")
    assert (reviewing.session.current.id, reviewing.cell(second), reviewing.row()) == (second, "-", 1)
    reviewing.press("Ctrl+Alt+Z")
    assert (reviewing.session.current.id, reviewing.cell(first)) == (first, "-")
    assert not reviewing.ui.undoButton.enabled
    events = [line["event"] for line in reviewing.log() if line["event"] != "looked"]
    assert events == ["opened", "verdict", "verdict", "undo", "undo"]


def test_click_and_arrow_keys_choose_a_region(reviewing: Reviewing) -> None:
    reviewing.start()
    table = reviewing.ui.regionsTable
    table.setCurrentCell(4, 1)
    assert reviewing.session.current.id == reviewing.ids[4]
    reviewing.press("Down", table)
    assert reviewing.session.current.id == reviewing.ids[5]
    assert max(reviewing.off_peak_mm()) < min(reviewing.nodes.inputs[0].GetSpacing())


def test_without_going_on_the_region_stays(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.ui.goOnBox.checked = False
    reviewing.judge()
    assert reviewing.session.current.id == reviewing.ids[0]
    reviewing.press("N")
    assert reviewing.session.current.id == reviewing.ids[1]


def test_another_order_keeps_region_and_verdicts(reviewing: Reviewing) -> None:
    reviewing.start()
    judged = reviewing.ids[0]
    reviewing.judge("rejected")
    at, ranks = reviewing.session.current.id, {i: reviewing.cell(i, 0) for i in reviewing.ids}
    reviewing.ui.orderBox.currentIndex = 3
    heights = [region.peak_ras_mm[2] for region in reviewing.session.regions]
    assert heights == sorted(heights, reverse=True)
    assert (reviewing.session.current.id, reviewing.ids[reviewing.row()]) == (at, at)
    assert reviewing.cell(judged) == "✗ rejected"
    assert {i: reviewing.cell(i, 0) for i in reviewing.ids} == ranks


def test_a_structure_is_flagged_as_a_whole(reviewing: Reviewing) -> None:
    reviewing.start()
    name = reviewing.session.current.structure
    reviewing.ui.secondReaderStructureButton.click()
    assert reviewing.ui.structureVerdictLabel.text.startswith(f"{name}: ? second reader")
    reviewing.press("Ctrl+Alt+Z")
    assert f"{name}: no verdict yet" in reviewing.ui.structureVerdictLabel.text
    reviewing.ui.endReviewButton.click()
    assert [line["event"] for line in reviewing.log()].count("structure") == 1


def test_the_rest_is_accepted_only_after_saying_what_is_taken_and_undone_at_once(reviewing: Reviewing) -> None:
    reviewing.start()
    ui, ids = reviewing.ui, reviewing.ids
    reviewing.judge()
    reviewing.judge("rejected")
    reviewing.app.dialogs.answer(False)
    ui.acceptRestButton.click()
    assert reviewing.told("rest") == []
    reviewing.app.dialogs.answer(True)
    ui.acceptRestButton.click()
    (line,) = reviewing.told("rest")
    from SegWithUSlicerLib.scene.readout import volume_text

    left = reviewing.state.expected_mm3_of(ids[2:])
    assert (line["regions"], line["expected_wrong_mm3"]) == (sorted(ids[2:]), round(left, 3))
    question = reviewing.app.dialogs.asked[-1]
    assert f"regions without a verdict ({len(ids) - 2})" in question
    assert f"They hold {volume_text(left)} of expected error" in question
    assert {reviewing.cell(region) for region in ids[2:]} == {"○ not looked at"}
    assert f"2 of {len(ids)} regions, {len(ids) - 2} not looked at" in ui.reviewProgressLabel.text
    assert (ui.acceptRestButton.enabled, ui.nextButton.enabled) == (False, False)
    reviewing.press("Ctrl+Alt+Z")
    assert {reviewing.cell(region) for region in ids[2:]} == {"-"}
    assert (ui.acceptRestButton.enabled, ui.nextButton.enabled) == (True, True)
    assert [line["format"] for line in reviewing.told("opened")] == [2]


def _load(opened: Opened, folder: Path, image: Path) -> Any:
    from SegWithUSlicerLib.scene.load_case import load_case

    volume = slicer.util.loadVolume(str(image))
    opened.panel.show_run(load_case(folder, volume))
    return Reviewing(opened)


def test_without_uncertain_voxels_there_is_nothing_to_review(
    opened: Opened,
    data_folder: Path,
    tmp_path: Path,
) -> None:
    disk = make_case(data_folder, tmp_path, regions=True)
    nothing = np.zeros(disk.labels.shape, np.uint16)
    write_some_regions(disk.folder, disk.labels, disk.error, sitk.ReadImage(str(disk.image)), nothing)
    reviewing = _load(opened, disk.folder, disk.image)
    reviewing.name("Ana")
    assert reviewing.ui.reviewNoteLabel.text
    assert not reviewing.ui.startReviewButton.enabled


def test_a_run_without_calibration_or_regions_says_why(opened: Opened, data_folder: Path, tmp_path: Path) -> None:
    bare = make_case(data_folder, tmp_path / "bare")
    assert "no regions" in _load(opened, bare.folder, bare.image).ui.reviewNoteLabel.text
    raw = make_case(data_folder, tmp_path / "raw", calibrated=False)
    assert "not calibrated" in _load(opened, raw.folder, raw.image).ui.reviewNoteLabel.text
    assert not opened.ui.startReviewButton.enabled
