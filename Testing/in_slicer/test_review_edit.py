"""Editing inside the panel: Slicer's editor on the right structure, log, status, and views that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from reviewing import Reviewing


def _correct(reviewing: Reviewing, erase: bool = False) -> Any:
    """Paint the current region's voxels into its structure, and wait until that is noticed."""
    before = len(reviewing.state.edits)
    editor = reviewing.paint_region(erase)
    reviewing.app.wait(lambda: len(reviewing.state.edits) > before)
    return editor


def test_the_editor_is_made_when_it_is_opened_first_on_structure_and_image(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.scene.segmentation import segment_id

    reviewing.start()
    assert reviewing.panel.edit.editor is None or reviewing.ui.editButton.collapsed
    editor = reviewing.editor()
    assert editor.segmentationNode() is reviewing.nodes.segmentation
    assert editor.sourceVolumeNode() is reviewing.nodes.maps["error_probability"]
    reviewing.ui.unsureBox.checked = False
    assert editor.sourceVolumeNode() is reviewing.nodes.inputs[0]
    for _region in range(3):
        assert editor.currentSegmentID() == segment_id(reviewing.session.current.structure_value)
        reviewing.press("N", reviewing.ui.regionsTable)
    assert editor.mrmlSegmentEditorNode().GetSingletonTag() == "SegWithU"
    reviewing.ui.unsureBox.checked = True


def test_opening_the_editor_leaves_image_and_foreground_alone(reviewing: Reviewing) -> None:
    reviewing.show_pet()
    reviewing.start()
    before = reviewing.appearance()
    _correct(reviewing)
    reviewing.judge("corrected")
    assert reviewing.appearance() == before


def test_an_edit_is_logged_and_kept(reviewing: Reviewing) -> None:
    reviewing.start()
    region, wanted = reviewing.session.current, reviewing.voxels()
    _correct(reviewing)
    reviewing.judge("corrected")
    line = reviewing.told("edited")[-1]
    assert line["region"] == region.id and region.structure in line["structure"]
    assert 0 < line["voxels_inside"] <= wanted.sum() and line["voxels_outside"] == 0
    (kept,) = reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")
    assert kept.stat().st_size > 100


def test_an_edit_without_a_verdict_reaches_the_disk_too(reviewing: Reviewing) -> None:
    reviewing.start()
    _correct(reviewing)
    reviewing.app.wait(lambda: any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")))


def test_the_mask_of_another_editor_becomes_the_edit(reviewing: Reviewing, tmp_path: Path) -> None:
    """Its axes run in other directions, as some editors save them; a mask that does not fit changes nothing."""
    import SimpleITK as sitk

    from SegWithUCore.io.grid import VoxelGrid
    from SegWithUSlicerLib.review.edits import read_labels
    from SegWithUSlicerLib.scene.segmentation import content_hash
    from SegWithUSlicerLib.scene.volume_export import grid_of

    reviewing.start()
    labels = read_labels(reviewing.nodes)
    value = int(labels[labels > 0].min())
    drawn = labels.copy()
    drawn[: drawn.shape[0] // 2][drawn[: drawn.shape[0] // 2] == value] = 0
    name = next(each.name for each in reviewing.nodes.case.structures if each.value == value)
    image = VoxelGrid.of_facts(grid_of(reviewing.nodes.inputs[0])).image(drawn)
    sitk.WriteImage(sitk.Flip(image, (True, False, True)), str(tmp_path / "mask.nii.gz"))
    image.SetOrigin([part + 3.3 for part in image.GetOrigin()])
    sitk.WriteImage(image, str(tmp_path / "elsewhere.nii.gz"))
    reviewing.session.core.finish(name)
    before = content_hash(reviewing.nodes.segmentation)
    for file in ("elsewhere.nii.gz", "mask.nii.gz"):
        assert content_hash(reviewing.nodes.segmentation) == before
        assert not any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd"))
        reviewing.app.dialogs.answer(str(tmp_path / file))
        reviewing.ui.takeMaskButton.click()
        assert file in reviewing.ui.reviewNoteLabel.text
    np.testing.assert_array_equal(read_labels(reviewing.nodes), drawn)
    assert [line["structure"] for line in reviewing.told("edited")] == [name]
    assert name not in reviewing.state.finished
    (kept,) = reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")
    assert kept.stat().st_size > 100
    reviewing.app.dialogs.answer(str(tmp_path / "mask.nii.gz"), False)
    reviewing.ui.takeMaskButton.click()
    assert len(reviewing.told("edited")) == 1


def test_leaving_the_module_or_closing_the_section_gives_views_and_keys_back(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = reviewing.editor()
    editor.setActiveEffectByName("Paint")
    reviewing.app.leave_module()
    assert editor.activeEffect() is None
    reviewing.app.enter_module()
    editor.setActiveEffectByName("Paint")
    reviewing.press("Ctrl+Alt+E", reviewing.ui.regionsTable)
    assert (editor.activeEffect(), reviewing.ui.editButton.collapsed) == (None, True)


def test_review_keys_work_beside_those_of_the_editor(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = reviewing.editor()
    at = reviewing.session.current.id
    reviewing.press("1", reviewing.ui.regionsTable)
    assert editor.activeEffect() is not None
    reviewing.press("N")
    assert reviewing.session.current.id != at
    reviewing.judge("rejected")
    assert reviewing.cell(reviewing.ids[1]) == "✗ rejected"


def test_closing_the_scene_while_painting_loses_nothing(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.judge()
    editor = reviewing.editor()
    editor.setActiveEffectByName("Paint")
    reviewing.app.paint(editor, np.ones_like(reviewing.voxels()))
    reviewing.app.close_scene()
    assert (reviewing.session, editor.activeEffect()) == (None, None)
    assert [line["event"] for line in reviewing.log() if line["event"] != "looked"] == [
        "opened",
        "verdict",
        "edited",
        "closed",
    ]
    assert any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd"))
    assert reviewing.ui.reviewButton.visible is False


def _put_label_in_views(reviewing: Reviewing) -> Any:
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Mine")
    slicer.util.updateVolumeFromArray(label, np.ones((4, 4, 4), np.uint8))
    for view in reviewing.app.slice_views.values():
        view.composite.SetLabelVolumeID(label.GetID())
    return label


def test_after_a_review_the_editor_takes_no_other_segmentation(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = reviewing.editor()
    reviewing.ui.endReviewButton.click()
    label = _put_label_in_views(reviewing)
    slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Another")
    slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "And another")
    assert editor.segmentationNode() is None
    for view in reviewing.app.slice_views.values():
        assert view.composite.GetLabelVolumeID() == label.GetID()
    # Nor after the scene was closed in a review.
    reviewing.start()
    reviewing.editor()
    reviewing.app.close_scene()
    assert (editor.mrmlScene(), editor.segmentationNode()) == (None, None)


def test_the_editor_is_taken_up_again_after_a_review(reviewing: Reviewing) -> None:
    reviewing.start()
    _correct(reviewing)
    reviewing.ui.endReviewButton.click()
    reviewing.start()
    editor = _correct(reviewing, erase=True)
    assert editor.segmentationNode() is reviewing.nodes.segmentation
    assert editor.currentSegmentID()


def test_the_editor_gets_another_node_when_the_scene_has_lost_its_own(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = reviewing.editor()
    reviewing.ui.endReviewButton.click()
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetSingletonNode("SegWithU", "vtkMRMLSegmentEditorNode"))
    reviewing.start()
    assert reviewing.editor() is editor
    node = editor.mrmlSegmentEditorNode()
    assert node.GetScene() is slicer.mrmlScene
    assert slicer.mrmlScene.GetSingletonNode("SegWithU", "vtkMRMLSegmentEditorNode") is node
    _correct(reviewing)


# -- paint only where the model is unsure --


def _mask_of(editor: Any) -> tuple[bool, float]:
    node = editor.mrmlSegmentEditorNode()
    return bool(node.GetSourceVolumeIntensityMask()), round(node.GetSourceVolumeIntensityMaskRange()[0], 6)


def test_painting_changes_only_what_the_model_is_unsure_about(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.review.edits import read_labels

    reviewing.start()
    ui, editor = reviewing.ui, reviewing.editor()
    assert (ui.unsureBox.checked, ui.unsureLimitBox.value) == (True, 25)
    assert _mask_of(editor) == (True, 0.25)
    paint = editor.effectByName("Paint")
    assert (paint.integerParameter("BrushSphere"), paint.doubleParameter("BrushAbsoluteDiameter")) == (1, 8)
    assert paint.integerParameter("BrushDiameterIsRelative") == 0
    value = reviewing.session.current.structure_value
    before = read_labels(reviewing.nodes)
    error = slicer.util.arrayFromVolume(reviewing.nodes.maps["error_probability"])
    everywhere = np.ones(error.shape, bool)
    for percent in (60, 25):
        ui.unsureLimitBox.value = percent
        assert _mask_of(editor) == (True, percent / 100)
        editor.setActiveEffectByName("Paint")
        reviewing.app.paint(editor, everywhere)
        unsure = error >= percent / 100
        assert np.array_equal(read_labels(reviewing.nodes), np.where(unsure, value, before))
    ui.unsureBox.checked = False
    assert not ui.unsureLimitBox.enabled
    reviewing.app.paint(editor, everywhere)
    assert (read_labels(reviewing.nodes) == value).all()
    ui.unsureBox.checked = True


def _ways_out(reviewing: Reviewing) -> dict[str, Any]:
    ui, app = reviewing.ui, reviewing.app
    return {
        "untick": lambda: setattr(ui.unsureBox, "checked", False),
        "fold the section": lambda: setattr(ui.editButton, "collapsed", True),
        "fold the review": lambda: setattr(ui.reviewButton, "collapsed", True),
        "leave the module": app.leave_module,
        "end the review": ui.endReviewButton.click,
        "close the panel": lambda: reviewing.panel.edit.show(None),
        "delete the map": lambda: slicer.mrmlScene.RemoveNode(reviewing.nodes.maps["error_probability"]),
    }


@pytest.mark.parametrize(
    "way",
    [
        "untick",
        "fold the section",
        "fold the review",
        "leave the module",
        "end the review",
        "close the panel",
        "delete the map",
    ],
)
def test_the_mask_goes_on_every_way_out_and_the_brush_stays(reviewing: Reviewing, way: str) -> None:
    reviewing.start()
    ui, editor = reviewing.ui, reviewing.editor()
    ui.unsureBox.checked = False
    node = editor.mrmlSegmentEditorNode()
    editor.effectByName("Paint").setCommonParameter("BrushAbsoluteDiameter", "7")
    ui.unsureBox.checked = True
    assert _mask_of(editor) == (True, 0.25)
    try:
        _ways_out(reviewing)[way]()
        assert not node.GetSourceVolumeIntensityMask()
        assert node.GetAttribute("BrushAbsoluteDiameter") == "7"
    finally:
        ui.unsureBox.checked, ui.reviewButton.collapsed = True, False


def test_closing_the_scene_leaves_no_mask_to_the_next_one(reviewing: Reviewing) -> None:
    reviewing.start()
    node = reviewing.editor().mrmlSegmentEditorNode()
    masks: list[bool] = []

    def note(*_: Any) -> None:
        masks.append(bool(node.GetSourceVolumeIntensityMask()))

    # After the panel's own observer, before Slicer resets the node.
    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartCloseEvent, note, -1.0)
    reviewing.app.close_scene()
    slicer.mrmlScene.RemoveObserver(tag)
    assert masks == [False]
    assert not node.GetSourceVolumeIntensityMask()


@pytest.mark.parametrize("broken", ["_select", "_let_go"])
def test_the_mask_goes_also_when_something_fails(
    reviewing: Reviewing, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    reviewing.start()
    edit = reviewing.panel.edit
    editor = reviewing.editor()
    if broken == "_select":
        edit.pause()
        monkeypatch.setattr(edit, "_select", fail)
        with pytest.raises(RuntimeError, match="broken"):
            edit.resume()
    else:
        monkeypatch.setattr(type(editor), "removeViewObservations", fail)
        with pytest.raises(RuntimeError, match="broken"):
            edit.pause()
    assert not _mask_of(editor)[0]
    monkeypatch.undo()
    edit.pause()


def test_a_contour_is_scrolled_taken_and_taken_back(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.review.edits import read_labels

    reviewing.start()
    contours, ui, model = reviewing.panel.contour, reviewing.ui, read_labels(reviewing.nodes)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    reviewing.press("Ctrl+Alt+W", ui.regionsTable)
    assert contours.contour.region == reviewing.session.current.id
    ui.keepContourButton.click()
    ui.scrollStructureButton.click()
    contour = contours.contour
    assert contour.region is None and ui.contourSlider.value == contour.start
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    offset = red.GetSliceOffset()
    for _turn in range(5):
        view.interactor().InvokeEvent("MouseWheelForwardEvent")
    assert contour.position == ui.contourSlider.value == contour.start + 5
    assert red.GetSliceOffset() == offset
    before, now = contour.volume_mm3
    assert now > before
    assert (read_labels(reviewing.nodes) == model).all(), "the old contour, until it is taken"
    said, others = ui.contourLabel.text, contour.neighbours_mm3
    assert len(said.splitlines()) == 1 + len(others)
    ui.takeContourButton.click()
    drawn = read_labels(reviewing.nodes)
    assert (drawn != model).any()
    for each in reviewing.nodes.case.structures:
        if each.value and each.name != contour.structure:
            gained = int((drawn == each.value).sum()) - int((model == each.value).sum())
            assert others.get(each.name, 0.0) == pytest.approx(gained * reviewing.nodes.case.voxel_mm3)
    (line,) = reviewing.told("edited")
    assert line["gesture"] == "scroll" and line["runs"]
    (kept,) = reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")
    assert kept.stat().st_size > 100
    assert contours.contour is None and slicer.mrmlScene.GetNumberOfNodes() <= nodes + 1, (
        "a log that is kept in the scene"
    )
    view.interactor().InvokeEvent("MouseWheelForwardEvent")
    ui.undoButton.click()
    assert (read_labels(reviewing.nodes) == model).all()
    assert reviewing.state.edits == []
    reviewing.session.core.finish(contour.structure)
    ui.scrollStructureButton.click()
    assert contours.contour is None and "reopen it first" in reviewing.panel.message


def test_a_hand_drawn_voxel_is_not_scrolled(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.review.edits import read_labels

    reviewing.start()
    _correct(reviewing, erase=True)
    drawn, model = read_labels(reviewing.nodes), read_labels(reviewing.nodes, original=True)
    by_hand = drawn != model
    assert by_hand.any()
    reviewing.ui.scrollStructureButton.click()
    for position in range(reviewing.panel.contour.contour.positions):
        reviewing.ui.contourSlider.value = position
        reviewing.ui.contourSlider.value = position
    reviewing.ui.takeContourButton.click()
    after = read_labels(reviewing.nodes)
    assert (after != drawn).any() and (after[by_hand] == drawn[by_hand]).all()
