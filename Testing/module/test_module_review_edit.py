"""Editing inside the panel: Slicer's editor on the right structure, re-scoring, status, and views that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from reviewing import Reviewing


def _editor(reviewing: Reviewing) -> Any:
    """Open "Edit here"."""
    reviewing.press("Ctrl+Alt+E")
    editor = reviewing.panel.edit.editor
    assert editor is not None and not reviewing.ui.editButton.collapsed
    return editor


def _voxels(reviewing: Reviewing) -> np.ndarray:
    """The current region's voxels on the input's grid, (z, y, x)."""
    found = reviewing.session.mask(reviewing.session.current)
    whole = np.zeros(slicer.util.arrayFromVolume(reviewing.nodes.inputs[0]).shape, bool)
    box = tuple(slice(at, at + size) for at, size in zip(found.offset_ijk[::-1], found.mask.shape, strict=True))
    whole[box] = found.mask
    return whole


def _correct(reviewing: Reviewing, erase: bool = False) -> Any:
    """Paint the current region's voxels into its structure, and wait until that is noticed."""
    editor = reviewing.panel.edit.editor or _editor(reviewing)
    editor.setActiveEffectByName("Paint")
    before = len(reviewing.state.edits)
    reviewing.host.paint(editor, _voxels(reviewing), erase)
    reviewing.host.wait(lambda: len(reviewing.state.edits) > before)
    return editor


def _status(reviewing: Reviewing, value: int) -> str:
    from SegWithUSlicerLib.review.structure_status import structure_status

    return str(structure_status(reviewing.nodes, value))


def test_the_editor_is_made_when_it_is_opened_first_on_structure_and_image(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.scene.segmentation import segment_id

    reviewing.start()
    assert reviewing.panel.edit.editor is None or reviewing.ui.editButton.collapsed
    editor = _editor(reviewing)
    assert editor.segmentationNode() is reviewing.nodes.segmentation
    assert editor.sourceVolumeNode() is reviewing.nodes.inputs[0]
    for _region in range(3):
        assert editor.currentSegmentID() == segment_id(reviewing.session.current.structure_value)
        reviewing.press("N", reviewing.ui.regionsTable)
    assert editor.mrmlSegmentEditorNode().GetSingletonTag() == "SegWithU"


def test_opening_the_editor_leaves_all_layers_alone(reviewing: Reviewing) -> None:
    reviewing.show_pet()
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Mine")
    slicer.util.updateVolumeFromArray(label, np.ones((4, 4, 4), np.uint8))
    for view in reviewing.host.slice_views.values():
        view.composite.SetLabelVolumeID(label.GetID())
    reviewing.start()
    before = reviewing.appearance()
    _correct(reviewing)
    reviewing.judge("corrected")
    assert reviewing.appearance() == before


def test_an_edit_is_scored_logged_and_kept(reviewing: Reviewing) -> None:
    reviewing.start()
    region, wanted = reviewing.session.current, _voxels(reviewing)
    _correct(reviewing)
    score = reviewing.session.rescore
    assert 0 < score.inside[region.id] <= wanted.sum()
    assert score.outside == 0
    # The whole region was painted, but only what changed is known to be right now.
    assert score.remaining_mm3 < reviewing.session.total_mm3
    text = reviewing.ui.reviewProgressLabel.text
    assert f"{score.inside_voxels} voxels changed in regions, 0 outside." in text
    left = score.remaining_mm3
    reviewing.judge("corrected")
    assert reviewing.session.rescore.remaining_mm3 < left
    line = reviewing.told("edited")[-1]
    assert (line["region"], line["structure"]) == (region.id, line["structure"])
    assert region.structure in line["structure"]
    (kept,) = reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")
    assert kept.stat().st_size > 100


def test_an_edit_without_a_verdict_reaches_the_disk_too(reviewing: Reviewing) -> None:
    reviewing.start()
    _correct(reviewing)
    reviewing.host.wait(lambda: any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")))


def test_undo_of_an_edit_keeps_the_status_that_was_given(reviewing: Reviewing) -> None:
    reviewing.start()
    value, name = reviewing.session.current.structure_value, reviewing.session.current.structure
    editor = _correct(reviewing)
    reviewing.ui.acceptStructureButton.click()
    other = next(r.id for r in reviewing.session.regions if r.structure != name)
    reviewing.panel.go_to(other)
    assert _status(reviewing, value) == "completed"
    editor.undo()
    assert _status(reviewing, value) == "notstarted", "undo takes the status along"
    reviewing.host.wait(lambda: len(reviewing.state.edits) == 2)
    reviewing.ui.endReviewButton.click()
    # What was accepted has changed since, so it is to be looked at again; not as if nobody ever had.
    assert _status(reviewing, value) == "inprogress"


def test_the_models_own_contour_is_shown_on_demand(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.host.leave_module()  # without the mark, so that only the contour differs
    reviewing.host.enter_module()
    before = reviewing.host.render_slice("Red").astype(int)
    reviewing.ui.originalBox.checked = True
    assert np.abs(reviewing.host.render_slice("Red").astype(int) - before).sum() > 0
    reviewing.ui.endReviewButton.click()
    assert not reviewing.nodes.original.GetDisplayNode().GetVisibility()


def test_leaving_the_module_or_closing_the_section_gives_views_and_keys_back(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = _editor(reviewing)
    editor.setActiveEffectByName("Paint")
    reviewing.host.leave_module()
    assert editor.activeEffect() is None
    reviewing.host.enter_module()
    editor.setActiveEffectByName("Paint")
    reviewing.press("Ctrl+Alt+E", reviewing.ui.regionsTable)
    assert (editor.activeEffect(), reviewing.ui.editButton.collapsed) == (None, True)


def test_review_keys_work_beside_those_of_the_editor(reviewing: Reviewing) -> None:
    reviewing.start()
    editor = _editor(reviewing)
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
    editor = _editor(reviewing)
    editor.setActiveEffectByName("Paint")
    reviewing.host.paint(editor, _voxels(reviewing))
    reviewing.host.close_scene()
    assert (reviewing.session, editor.activeEffect()) == (None, None)
    assert [line["event"] for line in reviewing.log() if line["event"] != "looked"] == [
        "opened",
        "verdict",
        "edited",
        "closed",
    ]
    assert any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd"))
    assert reviewing.ui.reviewButton.visible is False
