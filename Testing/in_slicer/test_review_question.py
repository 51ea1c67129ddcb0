"""Ticked structures are the question of a review: they are listed, finished one by one, and sampled at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
import vtk
from opened_module import segment_crop
from reviewing import Reviewing

from SegWithUCore.regions.region import Kind

ANTERIOR, POSTERIOR = "anterior hippocampus", "posterior hippocampus"


def _tick(reviewing: Reviewing, row: int, ticked: bool) -> None:
    """Set the tick of a structure, as a click on it does."""
    state = qt.Qt.Checked if ticked else qt.Qt.Unchecked
    reviewing.ui.structuresTable.item(row, 0).setCheckState(state)


def _click(reviewing: Reviewing, row: int, from_left: int | None = None) -> None:
    """Click into the cell of a structure's name: on its tick, so far from the left, or on its end."""
    table = reviewing.ui.structuresTable
    reviewing.opened.unfold("overlayButton", "reviewButton")
    reviewing.app.process_events()
    cell = table.visualItemRect(table.item(row, 0))
    x = cell.right() - 4 if from_left is None else cell.left() + from_left
    reviewing.app.click(table.viewport(), x, cell.center().y())


def _about(reviewing: Reviewing) -> set[str]:
    return {reviewing.session.subject(region) for region in reviewing.session.regions}


def _judge_all(reviewing: Reviewing) -> None:
    """Accept regions until the panel goes to no other one."""
    at = None
    while reviewing.session.current is not None and reviewing.session.current.id != at:
        at = reviewing.session.current.id
        reviewing.judge()


def test_ticks_before_and_in_a_review_are_its_question_and_that_of_the_next_run(reviewing: Reviewing) -> None:
    assert [reviewing.ui.structuresTable.item(row, 0).checkState() for row in (0, 1)] == [qt.Qt.Checked] * 2
    _tick(reviewing, 1, False)
    reviewing.start()
    assert _about(reviewing) == {ANTERIOR}
    few = len(reviewing.ids)
    assert [line["structures"] for line in reviewing.told("asked")] == [[ANTERIOR]]
    assert "0 of 1 structures finished" in reviewing.ui.reviewProgressLabel.text
    _tick(reviewing, 1, True)
    assert len(reviewing.ids) > few and _about(reviewing) == {ANTERIOR, POSTERIOR}
    reviewing.ui.structuresTable.horizontalHeader().sectionClicked(0)
    assert reviewing.state.asked == (ANTERIOR, POSTERIOR), "a review without a question"
    assert "Tick the structures" in reviewing.ui.reviewNoteLabel.text
    _tick(reviewing, 1, True)
    assert _about(reviewing) == {POSTERIOR}
    reviewing.ui.endReviewButton.click()
    _tick(reviewing, 0, True)
    reviewing.start()
    assert [len(line["structures"]) for line in reviewing.told("asked")] == [1, 2, 1, 2]
    _tick(reviewing, 0, False)
    first = reviewing.nodes
    segment_crop(reviewing.opened, first.inputs[0])
    assert reviewing.nodes.hub is not first.hub
    assert reviewing.nodes.case.raw["asked"] == [POSTERIOR]
    ticks = [reviewing.ui.structuresTable.item(row, 0).checkState() for row in (0, 1)]
    assert ticks == [qt.Qt.Unchecked, qt.Qt.Checked]


def test_finished_volumes_are_signed_until_the_next_edit(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.ui.finishButton.click()
    reviewing.opened.app.dialogs.answer(False)
    reviewing.ui.signButton.click()
    assert reviewing.told("signed") == [], "the question was answered with no"
    reviewing.opened.app.dialogs.answer(True)
    reviewing.ui.signButton.click()
    (line,) = reviewing.told("signed")
    signed = {each["structure"]: each for each in line["volumes"]}[ANTERIOR]
    drawn = reviewing.nodes.case.raw["structures"][1]
    assert (signed["basis"], signed["volume_mm3"]) == ("finished", drawn["volume_mm3"])
    assert not reviewing.ui.signButton.enabled and "Signed" in reviewing.ui.reviewProgressLabel.text
    reviewing.judge()
    assert reviewing.ui.signButton.enabled and reviewing.state.signed is None


def test_structures_are_finished_one_by_one_and_the_blind_sample_closes(reviewing: Reviewing) -> None:
    reviewing.start()
    assert (reviewing.session.structure, reviewing.ui.finishButton.text) == (ANTERIOR, f"Finish {ANTERIOR}")
    _judge_all(reviewing)
    assert reviewing.session.subject(reviewing.session.current) == ANTERIOR, "left before it was finished"
    assert "finish it" in reviewing.ui.reviewProgressLabel.text
    reviewing.press("Ctrl+Alt+F")
    assert reviewing.session.subject(reviewing.session.current) == POSTERIOR
    assert not any(region.kind is Kind.BLIND for region in reviewing.session.regions)
    before = len(reviewing.state.edits)
    reviewing.paint_region()
    reviewing.app.wait(lambda: len(reviewing.state.edits) > before)
    edited = set(reviewing.state.edits[-1].structure.split(", "))
    reviewing.ui.finishButton.click()
    lines = [(line["structure"], line["verdict"]) for line in reviewing.told("structure")]
    assert lines == [(ANTERIOR, "accepted"), (POSTERIOR, "corrected" if POSTERIOR in edited else "accepted")]
    assert POSTERIOR in edited
    assert reviewing.session.current.kind is Kind.BLIND
    assert reviewing.cell(reviewing.session.current.id, 4) == "blind sample"
    assert not reviewing.session.core.is_done
    _judge_all(reviewing)
    assert reviewing.session.core.is_done
    assert "The review is finished." in reviewing.ui.reviewProgressLabel.text


def test_a_click_on_a_structure_makes_its_next_open_region_current_and_paint_follows(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.scene.segmentation import segment_id

    reviewing.start()
    editor = reviewing.editor()
    own = [region.id for region in reviewing.session.regions if reviewing.session.subject(region) == POSTERIOR]
    _click(reviewing, 1)
    assert (reviewing.session.current.id, reviewing.ids[reviewing.row()]) == (own[0], own[0])
    assert editor.currentSegmentID() == segment_id(2)
    _click(reviewing, 0, from_left=8)
    assert (reviewing.session.current.id, reviewing.state.asked) == (own[0], (POSTERIOR,)), "a click on a tick"
    _click(reviewing, 0)
    assert (reviewing.session.current, reviewing.session.structure) == (None, ANTERIOR)
    assert editor.currentSegmentID() == segment_id(1)
    reviewing.judge("rejected")
    assert reviewing.told("verdict") == []


def _add_place(reviewing: Reviewing, voxel_kji: tuple[int, int, int]) -> np.ndarray:
    """Put the crosshair on a voxel and press the key; the voxel's place in the image's own space."""
    volume, matrix, world = reviewing.nodes.inputs[0], vtk.vtkMatrix4x4(), [0.0] * 3
    volume.GetIJKToRASMatrix(matrix)
    own = matrix.MultiplyPoint([*(float(part) for part in voxel_kji[::-1]), 1.0])[:3]
    volume.TransformPointToWorld(own, world)
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(*world)
    reviewing.press("Ctrl+Alt+A", reviewing.ui.regionsTable)
    return np.array(own)


def test_a_place_is_added_at_the_crosshair_and_undone(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.review.edits import read_labels

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = vtk.vtkMatrix4x4()
    moved.SetElement(0, 3, 30.0)
    transform.SetMatrixTransformToParent(moved)
    reviewing.nodes.inputs[0].SetAndObserveTransformNodeID(transform.GetID())
    reviewing.start()
    count = len(reviewing.ids)
    voxel: Any = tuple(int(part) for part in np.argwhere(read_labels(reviewing.nodes) == 2)[0])
    where = _add_place(reviewing, voxel)
    (line,) = reviewing.told("added")
    assert line["structure"] == POSTERIOR
    assert np.allclose(line["ras_mm"], where, atol=0.01)
    place = reviewing.session.current
    assert (place.kind, len(reviewing.ids), reviewing.cell(place.id, 4)) == (Kind.ADDED, count + 1, "added place")
    reviewing.judge("corrected")
    reviewing.press("Ctrl+Alt+Z")
    reviewing.press("Ctrl+Alt+Z")
    assert (len(reviewing.ids), reviewing.state.verdict_of(place.id)) == (count, None)
    assert reviewing.session.current is None or reviewing.session.current.kind is not Kind.ADDED
    _add_place(reviewing, (-40, 0, 0))
    assert len(reviewing.told("added")) == 1
    assert "outside" in reviewing.ui.reviewNoteLabel.text


def test_a_filter_finds_and_headers_sort_what_next_goes_through(reviewing: Reviewing) -> None:
    reviewing.start()
    ui, count = reviewing.ui, len(reviewing.ids)
    ui.commentEdit.text = "Motion here"
    reviewing.press("N", ui.regionsTable)
    first = reviewing.ids[0]
    ui.regionFilterEdit.text = "motion ANTERIOR"
    assert (reviewing.ids, ui.regionsTable.rowCount) == ([first], 1)
    reviewing.press("N", ui.regionsTable)
    assert reviewing.session.current.id == first
    ui.regionFilterEdit.text = ""
    assert len(reviewing.ids) == count
    header = ui.regionsTable.horizontalHeader()
    y = header.height // 2
    reviewing.app.click(header.viewport(), header.sectionViewportPosition(3) + 5, y)
    wrong = [region.expected_wrong_mm3 for region in reviewing.session.regions]
    assert wrong in (sorted(wrong), sorted(wrong, reverse=True))
    assert reviewing.cell(reviewing.ids[0], 3) == ui.regionsTable.item(0, 3).text()
    reviewing.app.click(header.viewport(), header.sectionViewportPosition(3) + 5, y)
    assert [region.expected_wrong_mm3 for region in reviewing.session.regions] == wrong[::-1]
    ui.orderBox.currentIndex = 3
    heights = [region.peak_ras_mm[2] for region in reviewing.session.regions]
    assert heights == sorted(heights, reverse=True)


def test_a_corrected_result_is_judged_again_and_stays(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.paint_region()
    reviewing.app.wait(lambda: bool(reviewing.state.edits))
    reviewing.ui.endReviewButton.click()
    corrected = reviewing.nodes
    reviewing.opened.panel.inputs.choose(corrected.inputs[0], None, "hippocampus")
    selector = reviewing.ui.maskSelector
    offered = [selector.nodeFromIndex(index) for index in range(selector.nodeCount())]
    assert corrected.segmentation in offered
    selector.setCurrentNode(corrected.segmentation)
    try:
        reviewing.ui.runButton.click()
        assert reviewing.opened.finish().startswith("Done")
        mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
        selector.setCurrentNode(mine)
        slicer.mrmlScene.RemoveNode(mine)
        assert selector.currentNode() is None, "another one was chosen in its place"
    finally:
        selector.setCurrentNode(None)
    assert reviewing.nodes.hub is not corrected.hub
    assert reviewing.nodes.case.raw["judged"]
    assert corrected.segmentation is not None and corrected.segmentation.GetScene() is not None


def test_figures_after_an_edit_replace_those_of_the_model(reviewing: Reviewing) -> None:
    panel, table = reviewing.opened.panel.structures, reviewing.ui.structuresTable
    before = [table.item(0, column).text() for column in range(6)]
    panel.show_figures({ANTERIOR: {"volume_mm3": 1234.0, "expected_wrong_mm3": 0.0, "read_by": "Ana"}})
    after = [table.item(0, column).text() for column in range(6)]
    assert (after[1], after[3], after[5]) == ("read by Ana", "1234 mm³", "0 mm³")
    panel.show_figures({})
    assert [table.item(0, column).text() for column in range(6)] == before
    reviewing.start()
    reviewing.paint_region()
    reviewing.app.wait(lambda: bool(reviewing.state.edits))
    rows = [[table.item(row, column).text() for column in range(6)] for row in range(3)]
    assert rows[0][3] != before[3]
    assert [row[2] for row in rows[:2] if row[4] == "-"].count("-") > 0, "a predicted Dice of what was edited"
    anterior, posterior, total = (float(row[3].split()[0]) for row in rows)
    assert abs(anterior + posterior - total) <= 1.0
    assert rows[2][4] == "-"
