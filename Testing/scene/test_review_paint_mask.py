"""Painting held to uncertain voxels: on Slicer's own editor logic, put on and taken off without a trace."""

import json

import numpy as np
import pytest
import slicer
from loaded_case import LoadedCase, loaded_case

from SegWithUCore.regions.region import UNCERTAIN
from SegWithUSlicerLib.review.corrections import is_on, put_on, take_off
from SegWithUSlicerLib.review.edits import read_labels

BRUSH = {
    "BrushSphere": "0",
    "BrushDiameterIsRelative": "1",
    "BrushAbsoluteDiameter": "5",
    "BrushPixelMode": "1",
}


def _node(case: LoadedCase, **brush: str) -> "slicer.vtkMRMLSegmentEditorNode":
    node = case.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetAndObserveSegmentationNode(case.nodes.segmentation)
    node.SetAndObserveSourceVolumeNode(case.volume)
    for name, value in brush.items():
        node.SetAttribute(name, value)
    return node


def _state(node: "slicer.vtkMRMLSegmentEditorNode") -> str:
    """All that a user has set, as text."""
    names = [name for name in node.GetAttributeNames() if not name.startswith("SegWithU.")]
    return json.dumps(
        [
            node.GetSourceVolumeNode().GetID(),
            node.GetSourceVolumeIntensityMask(),
            node.GetSourceVolumeIntensityMaskRange(),
            node.GetMaskMode(),
            node.GetOverwriteMode(),
            {name: node.GetAttribute(name) for name in sorted(names)},
        ]
    )


@pytest.mark.parametrize("kind", [{}, {"oblique": True, "transformed": True}], ids=["plain", "turned"])
def test_a_stroke_changes_uncertain_voxels_only(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    reference = case.nodes.segmentation.GetReferenceImageGeometryReferenceRole()
    case.nodes.segmentation.SetNodeReferenceID(reference, case.volume.GetID())
    node = _node(case)
    put_on(node, case.nodes.maps["error_probability"], UNCERTAIN)
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(case.scene)
    logic.SetSegmentEditorNode(node)
    node.SetSelectedSegmentID("SegWithU_1")
    before = read_labels(case.nodes)
    logic.UpdateReferenceGeometryImage()
    logic.UpdateAlignedSourceVolume()
    assert logic.ResetModifierLabelmapToDefault()
    stroke = logic.GetModifierLabelmap()
    stroke.GetPointData().GetScalars().Fill(1)
    logic.ModifySegmentByLabelmap(case.nodes.segmentation, "SegWithU_1", stroke, logic.ModificationModeAdd, True, False)
    after = read_labels(case.nodes)
    unsure = case.disk.error >= UNCERTAIN
    assert np.array_equal(after, np.where(unsure, 1, before))
    assert (after != before).sum() > 0


@pytest.mark.parametrize("brush", [{}, BRUSH], ids=["no brush yet", "the user's brush"])
def test_the_users_settings_come_back(tmp_path, data_folder, brush):
    case = loaded_case(tmp_path, data_folder)
    node = _node(case, **brush)
    node.SetSourceVolumeIntensityMask(True)
    node.SetSourceVolumeIntensityMaskRange(12, 345)
    before = _state(node)
    for limit in (0.25, 0.4):
        put_on(node, case.nodes.maps["error_probability"], limit)
    assert is_on(node)
    assert node.GetSourceVolumeIntensityMaskRange()[0] == 0.4
    assert [node.GetAttribute(name) for name in BRUSH] == ["1", "0", "8", "0"]
    take_off(node)
    assert not is_on(node)
    assert _state(node) == before
    take_off(node)
    assert _state(node) == before


def test_a_brush_chosen_under_the_mask_is_there_the_next_time_under_the_mask(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    node = _node(case, **BRUSH)
    error_map = case.nodes.maps["error_probability"]
    put_on(node, error_map, 0.25)
    node.SetAttribute("BrushAbsoluteDiameter", "3")
    take_off(node)
    assert node.GetAttribute("BrushAbsoluteDiameter") == "5"
    put_on(node, error_map, 0.25)
    assert node.GetAttribute("BrushAbsoluteDiameter") == "3"


def test_a_map_or_an_image_that_was_deleted_does_not_keep_the_mask_on(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    node = _node(case, **BRUSH)
    put_on(node, case.nodes.maps["error_probability"], 0.25)
    case.scene.RemoveNode(case.nodes.maps["error_probability"])
    case.scene.RemoveNode(case.volume)
    take_off(node)
    assert not is_on(node)
    assert not node.GetSourceVolumeIntensityMask()
    assert node.GetSourceVolumeNode() is None


def test_effects_hear_of_another_brush(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    node, heard = _node(case, **BRUSH), []
    node.AddObserver(node.EffectParameterModified, lambda *_: heard.append(1))
    put_on(node, case.nodes.maps["error_probability"], 0.25)
    assert heard
    del heard[:]
    take_off(node)
    assert heard


@pytest.mark.parametrize("kept", ["{", "[1]", "null", '{"range": NaN}'])
def test_damaged_settings_of_a_foreign_scene_take_the_mask_off_all_the_same(tmp_path, data_folder, kept):
    case = loaded_case(tmp_path, data_folder)
    node = _node(case, **BRUSH)
    put_on(node, case.nodes.maps["error_probability"], 0.25)
    node.SetAttribute("SegWithU.BeforeMask", kept)
    take_off(node)
    assert not is_on(node)
    assert not node.GetSourceVolumeIntensityMask()
