"""Running again: the same nodes, unless somebody has worked on the segmentation."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from loaded_case import LoadedCase, add_transform, load_volume, loaded_case, paint
from mrml_headless import HeadlessScene, observers_on
from written_case import change_case, make_case

from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.segmentation import mark_judged, segment_array, was_touched
from SegWithUSlicerLib.scene.slice_views import show_in_3d


def _ids(case: LoadedCase) -> list[str]:
    return [node.GetID() for node in [case.nodes.hub, *case.nodes.results]]


def _shrink_labels(case: LoadedCase) -> np.ndarray:
    """The next run's segmentation: the lower half of structure 1, and nothing of structure 2."""
    path = case.disk.folder / "segmentation.nii.gz"
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    array[int(np.median(np.argwhere(array == 1)[:, 0])) + 1 :] = 0
    array[array == 2] = 0
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))
    return array


def _voxels(case: LoadedCase, value: int) -> int:
    mask, _image = segment_array(case.nodes.segmentation.GetSegmentation().GetSegment(f"SegWithU_{value}"))
    return int(mask.sum())


def test_rerun_updates_the_same_nodes(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    before, count = _ids(case), case.scene.GetNumberOfNodes()
    labels = _shrink_labels(case)
    again = load_case(case.disk.folder, case.volume)
    assert again == case.nodes
    assert _ids(case) == before
    assert case.scene.GetNumberOfNodes() == count
    assert _voxels(case, 1) == int((labels == 1).sum())
    assert _voxels(case, 2) == 0


def test_rerun_keeps_the_users_colours_threshold_and_hidden_segments(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    display = case.nodes.maps["ranking"].GetDisplayNode()
    display.SetLowerThreshold(-3.5)
    case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1").SetColor(0, 1, 0)
    case.nodes.segmentation.GetDisplayNode().SetSegmentVisibility("SegWithU_2", False)
    load_case(case.disk.folder, case.volume)
    assert display.GetLowerThreshold() == -3.5
    assert case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_1").GetColor() == (0, 1, 0)
    assert not case.nodes.segmentation.GetDisplayNode().GetSegmentVisibility("SegWithU_2")


def test_rerun_renews_a_surface_that_was_shown(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    show_in_3d(case.nodes.segmentation)
    cells = []
    for _run in range(2):
        surface = vtk.vtkPolyData()
        case.nodes.segmentation.GetClosedSurfaceRepresentation("SegWithU_1", surface)
        cells.append(surface.GetNumberOfCells())
        _shrink_labels(case)
        load_case(case.disk.folder, case.volume)
    assert 0 < cells[1] < cells[0]


def _edit(case: LoadedCase) -> None:
    paint(case, 1, (0, 0, 0))


def _edit_within_the_same_extent(case: LoadedCase) -> None:
    inside = case.disk.labels == 1
    places = np.argwhere(inside)
    box = tuple(slice(low, high + 1) for low, high in zip(places.min(axis=0), places.max(axis=0), strict=True))
    gap = np.argwhere(case.disk.labels[box] == 0)[0]
    paint(case, 1, tuple(int(part) + side.start for part, side in zip(gap, box, strict=True)))


def _flag(case: LoadedCase) -> None:
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_2"), logic.Flagged)


def _rename(case: LoadedCase) -> None:
    case.nodes.segmentation.GetSegmentation().GetSegment("SegWithU_2").SetName("tail")


def _add(case: LoadedCase) -> None:
    case.nodes.segmentation.GetSegmentation().AddEmptySegment("mine")


def _judge(case: LoadedCase) -> None:
    mark_judged(case.nodes.segmentation)


@pytest.mark.parametrize("work", [_edit, _edit_within_the_same_extent, _flag, _rename, _add, _judge])
def test_rerun_after_work_makes_a_new_set(tmp_path, data_folder, work):
    case = loaded_case(tmp_path, data_folder)
    work(case)
    kept = _voxels(case, 1)
    _shrink_labels(case)
    change_case(case.disk.folder, created="2026-11-25T10:11:12")
    again = load_case(case.disk.folder, case.volume)
    assert again != case.nodes
    assert not {node.GetID() for node in again.results} & set(_ids(case))
    assert again.segmentation.GetName() == "Hippocampus 2026-11-25 10:11:12 segmentation"
    assert _voxels(case, 1) == kept, "the segmentation that was worked on is as it was"
    assert _voxels(case, 2) > 0
    assert load_case(case.disk.folder, case.volume) == again, "the new set is updated by the next run"
    assert len(find_cases(case.scene, case.volume)) == 2


def test_a_judgement_replaces_that_of_the_same_mask_alone(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    found = [case.nodes]
    for sha256 in ("a" * 64, "b" * 64):
        change_case(case.disk.folder, judged={"file": "mask", "sha256": sha256})
        found += [load_case(case.disk.folder, case.volume) for _time in range(2)]
    assert found[1] == found[2] and found[3] == found[4]
    assert len({nodes.hub for nodes in found}) == 3


def test_a_reader_has_a_result_of_its_own_whatever_it_holds_meanwhile(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    masks = [case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Reader") for _ in range(2)]
    found = []
    for sha256, mask in (("a", masks[0]), ("a", masks[1]), ("b", masks[0])):
        change_case(case.disk.folder, judged={"file": "Reader", "sha256": sha256 * 64, "labels": {}})
        found.append(load_case(case.disk.folder, case.volume, mask=mask))
    assert found[2] == found[0] != found[1] != case.nodes
    assert found[0].segmentation.GetName() == found[0].label == "Hippocampus judged: Reader"
    assert len({nodes.label for nodes in (*found, case.nodes)}) == 3
    case.scene.RemoveNode(masks[1])
    load_case(case.disk.folder, case.volume, mask=masks[0])
    assert found[1].segmentation is not None and len(find_cases(case.scene)) == 3


def test_moving_or_hiding_things_is_not_work_on_the_segmentation(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    show_in_3d(case.nodes.segmentation)
    case.nodes.segmentation.GetDisplayNode().SetSegmentVisibility("SegWithU_1", False)
    case.nodes.segmentation.GetSegmentation().SeparateSegmentLabelmap("SegWithU_1")
    assert not was_touched(case.nodes.segmentation)
    paint(case, 1, (0, 0, 0))
    assert was_touched(case.nodes.segmentation)


def test_rerun_follows_the_input_to_another_parent_transform(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    transform = add_transform(case.scene)
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    load_case(case.disk.folder, case.volume)
    assert {node.GetParentTransformNode() for node in case.nodes.results} == {transform}


def test_a_map_that_the_new_run_lacks_is_removed(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    content = json.loads((case.disk.folder / "case.json").read_text(encoding="utf-8"))
    change_case(case.disk.folder, maps={name: content["maps"][name] for name in ("ranking", "calibration")})
    load_case(case.disk.folder, case.volume)
    assert list(case.nodes.maps) == ["ranking", "calibration"]
    assert case.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3


def test_deleted_results_come_back_in_the_same_set(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.scene.RemoveNode(case.nodes.segmentation)
    case.scene.RemoveNode(case.nodes.maps["ranking"])
    assert case.nodes.segmentation is None
    again = load_case(case.disk.folder, case.volume)
    assert again == case.nodes
    assert again.segmentation.GetSegmentation().GetNumberOfSegments() == 2
    assert "ranking" in again.maps


def test_another_place_has_a_set_of_its_own_and_one_nearby_does_not(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    places = ([0, 0, 0], [5, 0, 0], [40, 0, 0])
    sets = []
    for place in places:
        change_case(case.disk.folder, roi={"centre_ras_mm": place, "size_mm": [30, 30, 30]})
        sets.append(load_case(case.disk.folder, case.volume))
    assert sets[0] != case.nodes, "the whole image is another place"
    assert sets[1] == sets[0]
    assert sets[2] not in (case.nodes, sets[0])


def test_another_input_and_another_model_have_sets_of_their_own(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    first, second = (load_volume(headless.scene, disk.image, name) for name in ("A", "B"))
    sets = [load_case(disk.folder, first), load_case(disk.folder, second)]
    case = json.loads((disk.folder / "case.json").read_text(encoding="utf-8"))
    change_case(disk.folder, model={**case["model"], "name": "another"})
    sets.append(load_case(disk.folder, first))
    assert len({nodes.hub.GetID() for nodes in sets}) == 3
    assert [nodes.inputs for nodes in sets] == [[first], [second], [first]]
    assert find_cases(headless.scene, first) == [sets[0], sets[2]]


@pytest.mark.slow
def test_many_reruns_leave_no_nodes_and_no_observers(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    load_case(case.disk.folder, case.volume)
    watched = [case.volume, case.view.composite, *case.nodes.results]
    watched += [node.GetDisplayNode() for node in case.nodes.results]
    before, count = [observers_on(node) for node in watched], case.scene.GetNumberOfNodes()
    for _run in range(100):
        load_case(case.disk.folder, case.volume)
    assert [observers_on(node) for node in watched] == before
    assert case.scene.GetNumberOfNodes() == count
