"""Edits of the segmentation: read on the input's grid, noticed, and told from what the model made."""

import numpy as np
import pytest
import slicer
import vtk
from counting import counted
from loaded_case import add_transform, exported_labels, loaded_case, paint
from mrml_headless import HeadlessScene, coloured, observers_on

from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.review.edits import EditWatch, read_labels
from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.load_case import follow_parent_transform, load_case

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_labels_are_read_on_the_inputs_grid_whole_and_in_a_box(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    labels = read_labels(case.nodes)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, case.disk.labels)
    box = (slice(8, 16), slice(10, 40), slice(5, 25))
    assert case.disk.labels[box].any()
    assert np.array_equal(read_labels(case.nodes, box), case.disk.labels[box])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_edits_beyond_what_was_labelled_are_read_as_slicer_exports_them(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    corner = tuple(size - 1 for size in case.disk.labels.shape)
    paint(case, 2, (0, 0, 0))
    paint(case, 1, corner)
    expected = case.disk.labels.copy()
    expected[0, 0, 0], expected[corner] = 2, 1
    assert np.array_equal(read_labels(case.nodes), expected)
    assert np.array_equal(exported_labels(case), expected)
    assert read_labels(case.nodes, tuple(slice(part, part + 1) for part in corner)).item() == 1


def test_edits_outside_the_input_are_not_read(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    paint(case, 1, (-3, 5, 60))
    assert np.array_equal(read_labels(case.nodes), case.disk.labels)


def test_the_later_of_overlapping_segments_wins_as_in_slicer(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    segmentation = case.nodes.segmentation.GetSegmentation()
    segmentation.SeparateSegmentLabelmap("SegWithU_2")
    voxel = tuple(int(part) for part in np.argwhere(case.disk.labels == 2)[40])
    paint(case, 1, voxel)
    assert np.array_equal(read_labels(case.nodes), exported_labels(case))
    assert read_labels(case.nodes)[voxel] == 2
    segmentation.ReorderSegments(["SegWithU_2", "SegWithU_1"])
    swapped = exported_labels(case, ["SegWithU_2", "SegWithU_1"])
    assert np.array_equal(read_labels(case.nodes), np.choose(swapped, [0, 2, 1]))
    assert read_labels(case.nodes)[voxel] == 1


def test_segments_that_the_reviewer_added_are_not_read(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    segmentation = case.nodes.segmentation.GetSegmentation()
    copy = slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetSegment("SegWithU_1"))
    copy.SetName("lesion")
    segmentation.AddSegment(copy, "lesion")
    assert np.array_equal(read_labels(case.nodes), case.disk.labels)
    segmentation.RemoveSegment("SegWithU_1")
    assert np.array_equal(read_labels(case.nodes), np.where(case.disk.labels == 2, 2, 0))
    case.scene.RemoveNode(case.nodes.segmentation)
    assert not read_labels(case.nodes).any()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_a_finer_grid_of_the_segmentation_is_read_on_the_inputs(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    reference, fine = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segment = case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1")
    coarse = segment.GetRepresentation("Binary labelmap")
    matrix = vtk.vtkMatrix4x4()
    coarse.GetImageToWorldMatrix(matrix)
    # Three fine voxels a voxel, so that every third has a voxel's centre as its own.
    for column in range(3):
        for row in range(3):
            matrix.SetElement(row, column, matrix.GetElement(row, column) / 3)
    extent = coarse.GetExtent()
    reference.SetExtent(*(3 * edge + (-1, 1)[index % 2] for index, edge in enumerate(extent)))
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    reference.SetImageToWorldMatrix(matrix)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(coarse, reference, fine)
    for identifier in ("SegWithU_1", "SegWithU_2"):
        part = case.nodes.segmentation.GetSegmentation().GetSegment(identifier)
        part.AddRepresentation("Binary labelmap", fine)
    assert fine.GetNumberOfPoints() > 20 * case.disk.labels.any() * 27
    assert np.array_equal(read_labels(case.nodes), case.disk.labels)
    box = (slice(8, 16), slice(10, 40), slice(5, 25))
    assert np.array_equal(read_labels(case.nodes, box), case.disk.labels[box])


def test_without_input_and_maps_there_is_no_grid_to_read_on(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.scene.RemoveNode(case.volume)
    assert np.array_equal(read_labels(case.nodes), case.disk.labels)
    for node in case.nodes.maps.values():
        case.scene.RemoveNode(node)
    with pytest.raises(InputError, match="load the case again"):
        read_labels(case.nodes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_each_look_tells_what_has_changed_since_the_last(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    told = []
    watch = EditWatch(case.nodes, lambda: told.append(1))
    assert not watch.check()
    first = tuple(int(part) for part in np.argwhere(case.disk.labels == 1)[100])
    paint(case, 2, first)
    paint(case, 1, (0, 0, 0))
    assert told
    assert watch.check() == {1, 2}
    assert watch.box[0].start == watch.box[1].start == watch.box[2].start == 0
    assert not watch.check()
    paint(case, 2, (1, 2, 3))
    assert watch.check() == {2}
    watch.release()


def test_renaming_moving_or_judging_is_no_edit(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    told = []
    watch = EditWatch(case.nodes, lambda: told.append(1))
    case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1").SetName("other")
    case.volume.SetAndObserveTransformNodeID(add_transform(case.scene).GetID())
    follow_parent_transform(case.nodes)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1"), logic.Completed)
    assert not watch.check()


def test_undo_removal_and_exchange_of_segments_are_noticed(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    told = []
    watch = EditWatch(case.nodes, lambda: told.append(1))
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(case.nodes.segmentation.GetSegmentation())
    history.SaveState()
    paint(case, 1, (0, 0, 0))
    assert watch.check() == {1}
    told.clear()
    assert history.RestorePreviousState()
    assert told
    assert watch.check() == {1}
    told.clear()
    case.nodes.segmentation.GetSegmentation().RemoveSegment("SegWithU_2")
    assert told
    assert watch.check() == {2}
    told.clear()
    case.nodes.segmentation.SetAndObserveSegmentation(slicer.vtkSegmentation())
    assert told
    assert watch.check() == {1}
    case.scene.RemoveNode(case.nodes.segmentation)
    assert not watch.check()


def test_a_released_watch_leaves_no_observer(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    before = observers_on(case.nodes.segmentation)
    watch = EditWatch(case.nodes, lambda: None)
    assert len(watch._observations) > 0
    watch.release()
    assert len(watch._observations) == 0
    assert observers_on(case.nodes.segmentation) == before


def test_a_look_at_an_edit_reads_the_labelled_part_once(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    watch = EditWatch(case.nodes, lambda: None)
    for step in range(10):
        paint(case, 1, (step, 0, 0))
        calls, changed = counted(watch.check)
        assert changed == {1}
        assert calls < 20_000  # far fewer than voxels


def test_the_models_own_segmentation_is_kept_hidden(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    case.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    case.focus_on(case.voxel())
    original = case.nodes.original
    assert original.GetName() == "Hippocampus segmentation (model's own)"
    assert original.GetHideFromEditors()
    assert original not in case.nodes.results
    assert not coloured(case.view.pixels()).any()
    paint(case, 2, (0, 0, 0))
    assert np.array_equal(read_labels(case.nodes, original=True), case.disk.labels)


def test_a_rerun_renews_the_models_own_and_an_edit_is_never_taken_for_it(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    first = case.nodes.original
    nodes = load_case(case.disk.folder, case.volume)
    assert nodes.original is first
    assert np.array_equal(read_labels(nodes, original=True), case.disk.labels)
    case.scene.RemoveNode(first)
    paint(case, 1, (0, 0, 0))
    assert nodes.original is None
    assert not read_labels(nodes, original=True).any()
    # The run after the edit has nodes of its own, and leaves the edited ones alone.
    again = load_case(case.disk.folder, case.volume)
    assert again != nodes
    assert np.array_equal(read_labels(again, original=True), case.disk.labels)


def test_the_models_own_comes_back_from_a_bundle(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    paint(case, 1, (0, 0, 0))
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert nodes.original.GetHideFromEditors()
    assert np.array_equal(read_labels(nodes, original=True), case.disk.labels)
    edited = case.disk.labels.copy()
    edited[0, 0, 0] = 1
    assert np.array_equal(read_labels(nodes), edited)
    assert nodes.original.GetDisplayNode().GetVisibility() == 0
    assert nodes.original.GetTransformNodeID() == nodes.inputs[0].GetTransformNodeID()
