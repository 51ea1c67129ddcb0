"""A chosen output segmentation: its content is replaced as a whole, and what a person made is never replaced."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import LoadedCase, load_volume, loaded_case, paint
from written_case import change_case

from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.scene.case_images import array_of
from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.load_case import load_case, run_of, why_kept
from SegWithUSlicerLib.scene.segmentation import content_hash, mark_judged, segment_array


def _another_image(case: LoadedCase) -> "slicer.vtkMRMLScalarVolumeNode":
    return load_volume(case.scene, case.disk.image, "Other")


def _another_result(case: LoadedCase) -> np.ndarray:
    """What the next run gives: another model, one structure of the two."""
    path = case.disk.folder / "segmentation.nii.gz"
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    array[array == 2] = 0
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))
    raw = json.loads((case.disk.folder / "case.json").read_text(encoding="utf-8"))
    first = next(entry for entry in raw["structures"] if entry["value"] == 1)
    change_case(
        case.disk.folder,
        model={**raw["model"], "name": "another"},
        structures=[{**first, "name": "ventricle", "color_rgb": [1, 2, 3], "color": [1, 2, 3]}],
    )
    return array == 1


def test_a_new_segmentation_is_new_also_beside_one_that_nobody_touched(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    before = content_hash(case.nodes.segmentation)
    other = load_case(case.disk.folder, case.volume, new=True)
    assert not {node.GetID() for node in other.results} & {node.GetID() for node in case.nodes.results}
    assert other.segmentation.GetName() != case.nodes.segmentation.GetName()
    assert content_hash(case.nodes.segmentation) == before
    again = load_case(case.disk.folder, case.volume, output=case.nodes.segmentation)
    assert again == case.nodes, "the chosen one, although the other is newer"
    assert len(find_cases(case.scene)) == 2


def test_a_result_of_another_image_and_model_is_taken_over_with_its_name(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chosen, volume = case.nodes.segmentation, _another_image(case)
    chosen.SetName("For the surgeon")
    chosen.GetDisplayNode().SetVisibility2DFill(True)
    parts = [case.nodes.hub, case.nodes.table, case.nodes.original, *case.nodes.maps.values()]
    parts += [case.nodes.regions, case.nodes.regions_text]
    expected, alone = _another_result(case), _without_owner(case)
    nodes = load_case(case.disk.folder, volume, output=chosen)
    assert nodes.segmentation is chosen
    assert (chosen.GetName(), chosen.GetDisplayNode().GetVisibility2DFill()) == ("For the surgeon", True)
    segmentation = chosen.GetSegmentation()
    assert [segmentation.GetNthSegment(0).GetName(), segmentation.GetNumberOfSegments()] == ["ventricle", 1]
    mask, _image = segment_array(segmentation.GetNthSegment(0))
    assert int(mask.sum()) == int(expected.sum())
    colour = nodes.case.structures[0].color
    assert np.allclose(np.array(segmentation.GetNthSegment(0).GetColor()) * 255, colour, atol=1), "not the old one's"
    assert all(part is None or part.GetScene() is None for part in parts), "they told of what is not there any more"
    assert case.volume.GetScene() is case.scene
    assert [run.inputs for run in find_cases(case.scene)] == [[volume]]
    assert next(iter(nodes.maps.values())).GetName().startswith("Other ")
    assert _without_owner(case) == alone, "their display nodes went with them"


def _without_owner(case: LoadedCase) -> int:
    """How many display nodes show nothing."""
    count = case.scene.GetNumberOfNodesByClass("vtkMRMLDisplayNode")
    displays = [case.scene.GetNthNodeByClass(index, "vtkMRMLDisplayNode") for index in range(count)]
    return sum(display.GetDisplayableNode() is None for display in displays)


def _edit(case: LoadedCase) -> str:
    paint(case, 1, (0, 0, 0))
    return "edited"


def _rename_a_segment(case: LoadedCase) -> str:
    case.nodes.segmentation.GetSegmentation().GetNthSegment(1).SetName("mine")
    return "edited"


def _add_a_segment(case: LoadedCase) -> str:
    case.nodes.segmentation.GetSegmentation().AddEmptySegment("mine")
    return "edited"


def _judge(case: LoadedCase) -> str:
    mark_judged(case.nodes.segmentation)
    return "reviewed"


@pytest.mark.parametrize("same_image", [True, False])
@pytest.mark.parametrize("work", [_edit, _rename_a_segment, _add_a_segment, _judge])
def test_what_somebody_worked_on_stays_although_it_was_chosen(tmp_path, data_folder, work, same_image):
    case = loaded_case(tmp_path, data_folder)
    chosen = case.nodes.segmentation
    said, before = work(case), content_hash(chosen)
    maps = {name: array_of(node.GetImageData()).copy() for name, node in case.nodes.maps.items()}
    volume = case.volume if same_image else _another_image(case)
    _another_result(case)
    assert said in why_kept(chosen) and "'Hippocampus segmentation'" in why_kept(chosen)
    nodes = load_case(case.disk.folder, volume, output=chosen)
    assert nodes.segmentation is not chosen
    assert content_hash(chosen) == before
    assert run_of(chosen) == case.nodes
    for name, node in case.nodes.maps.items():
        assert np.array_equal(array_of(node.GetImageData()), maps[name]), "the maps that it was reviewed with"
    assert not {node.GetID() for node in nodes.results} & {node.GetID() for node in case.nodes.results}


def test_segments_of_other_modules_stay_and_an_empty_segmentation_is_filled(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    foreign = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "By hand")
    foreign.GetSegmentation().AddEmptySegment("tumour")
    assert "has not made" in why_kept(foreign)
    nodes = load_case(case.disk.folder, case.volume, output=foreign)
    assert nodes.segmentation is not foreign
    assert list(foreign.GetSegmentation().GetSegmentIDs()) == ["tumour"]
    empty = case.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    assert why_kept(empty) == ""
    filled = load_case(case.disk.folder, case.volume, output=empty)
    assert filled.segmentation is empty
    assert (empty.GetName(), empty.GetSegmentation().GetNumberOfSegments()) == ("Mine", 2)
    assert not empty.GetDisplayNode().GetVisibility2DFill(), "outlines, as in a new one"
    assert why_kept(empty) == ""


def test_a_chosen_segmentation_that_was_deleted_meanwhile_is_a_new_one(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chosen = case.nodes.segmentation
    case.scene.RemoveNode(chosen)
    nodes = load_case(case.disk.folder, case.volume, output=chosen)
    assert nodes.segmentation is not chosen
    assert nodes.segmentation.GetScene() is case.scene


def test_a_damaged_case_leaves_the_chosen_segmentation_as_it_was(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chosen, volume, before = case.nodes.segmentation, _another_image(case), content_hash(case.nodes.segmentation)
    (case.disk.folder / "segmentation.nii.gz").write_bytes(b"no image")
    count = case.scene.GetNumberOfNodes()
    with pytest.raises(InputError):
        load_case(case.disk.folder, volume, output=chosen)
    assert content_hash(chosen) == before
    assert run_of(chosen) == case.nodes
    assert case.scene.GetNumberOfNodes() == count


def test_content_is_replaced_in_one_step(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    chosen, volume = case.nodes.segmentation, _another_image(case)
    seen: list[tuple[int, bool]] = []

    def look(_node: object, _event: str) -> None:
        is_of = all(chosen.GetSegmentation().GetSegment(f"SegWithU_{value}") is not None for value in (1, 2))
        seen.append((chosen.GetSegmentation().GetNumberOfSegments(), is_of))

    events = ("ModifiedEvent", slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved)
    tags = [chosen.AddObserver(event, look) for event in events]
    load_case(case.disk.folder, volume, output=chosen)
    for tag in tags:
        chosen.RemoveObserver(tag)
    assert seen
    assert set(seen) == {(2, True)}, "nobody sees half of it"
