"""A case folder becomes nodes: what they are, where they lie, and that failures leave the scene as it was."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from loaded_case import LoadedCase, exported_labels, load_volume, loaded_case, paint
from mrml_headless import HeadlessScene
from written_case import HIPPOCAMPUS, change_case, make_case

from SegWithUCore.case.case_file import read_description
from SegWithUCore.case.segmentation_file import read_reviewed, write_drawn_nrrd
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.models.input_spec import Code, Label, terminology_tag
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.review.edits import EditWatch, grid_of, read_labels
from SegWithUSlicerLib.review.store import load_reviewed, save_reviewed
from SegWithUSlicerLib.scene.case_nodes import is_ours
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.review_nodes import region_labels
from SegWithUSlicerLib.scene.slice_views import centre_of_structure, show_in_3d, show_structure

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _matrix(node: "slicer.vtkMRMLVolumeNode") -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_results_lie_on_the_inputs_grid_under_its_parent_transform(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    assert len(case.nodes.results) == 4
    for node in case.nodes.results:
        assert node.GetTransformNodeID() == case.volume.GetTransformNodeID()
    for volume in case.nodes.maps.values():
        assert np.array_equal(_matrix(volume), _matrix(case.volume))
    shown = slicer.util.arrayFromVolume(case.nodes.maps["error_probability"])
    assert shown.dtype == np.float32
    assert np.array_equal(shown, case.disk.error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_segments_exported_by_slicer_are_the_labels_that_the_engine_wrote(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    assert np.array_equal(exported_labels(case), case.disk.labels)


@pytest.mark.parametrize("oblique", [False, True])
def test_a_left_handed_case_opens_on_its_image_turned_round_and_edits_return_to_its_grid(
    tmp_path, data_folder, oblique
):
    disk = make_case(data_folder, tmp_path, left_handed=True, oblique=oblique, regions=True)
    change_case(disk.folder, placement={"boxes": [{"side": "left", "index_ijk": [3, 4, 2], "size_ijk": [1, 1, 1]}]})
    image = sitk.ReadImage(str(disk.image))
    boxed = image.TransformIndexToPhysicalPoint((3, 4, 2))
    sitk.WriteImage(sitk.Flip(image, (False, False, True)), str(tmp_path / "turned.nrrd"))  # as Slicer 5.13 loads it
    headless = HeadlessScene(tmp_path / "slicer")
    volume = load_volume(headless.scene, tmp_path / "turned.nrrd", "Turned")
    image.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, 1)))
    sitk.WriteImage(sitk.Flip(image, (False, False, True)), str(tmp_path / "moved.nrrd"))
    with pytest.raises(InputError) as refused:
        load_case(disk.folder, load_volume(headless.scene, tmp_path / "moved.nrrd", "Moved"))
    assert refused.value.code == "other-grid"
    nodes = load_case(disk.folder, volume)
    error = nodes.maps["error_probability"]
    assert np.array_equal(_matrix(error), _matrix(volume))
    assert np.array_equal(slicer.util.arrayFromVolume(error), disk.error[::-1])
    assert np.array_equal(read_labels(nodes), disk.labels[::-1])
    assert np.array_equal(region_labels(nodes, *grid_of(nodes)), disk.region_labels[::-1])
    assert np.allclose(nodes.boxes[0].GetCenterWorld(), np.multiply(boxed, (-1, -1, 1)), atol=1e-4)
    voxel = tuple(int(part) for part in np.argwhere((disk.region_labels[::-1] > 0) & (disk.labels[::-1] == 0))[0])
    watch = EditWatch(nodes, lambda: None)
    paint(LoadedCase(headless, None, disk, volume, nodes), 2, voxel)
    event = watch.edited(watch.check(), None)
    assert (event.voxels_inside, event.voxels_outside) == (1, 0)
    expected = disk.labels[::-1].copy()
    expected[voxel] = 2
    path = save_reviewed(nodes, disk.folder, "review.ana.jsonl")
    grid, case = VoxelGrid.of(sitk.ReadImage(str(disk.image))), nodes.case.raw
    assert np.array_equal(read_reviewed(path, grid, case)[0], expected[::-1])
    alone = load_case(disk.folder, None, scene=HeadlessScene(tmp_path / "alone").scene)
    structures = [{**case["structures"][0], "name": "background", "value": 0}, *case["structures"]]
    # As segwithu correct does, on the case's own grid.
    write_drawn_nrrd(path, grid.image(expected[::-1]), {**case, "structures": structures})
    assert load_reviewed(alone, disk.folder, "review.ana.jsonl")
    assert np.array_equal(read_labels(alone), expected)


def test_reference_geometry_is_the_input_as_dicom_seg_export_needs(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    segmentation = case.nodes.segmentation
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReference(role) is case.volume
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    geometry = slicer.vtkOrientedImageData()
    text = segmentation.GetSegmentation().GetConversionParameter(name)
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
    matrix = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(matrix)
    # In the segmentation's own frame: it lies under the same transform as the input.
    assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix), _matrix(case.volume), atol=1e-6)
    assert geometry.GetDimensions() == case.volume.GetImageData().GetDimensions()


def test_segments_have_names_colours_and_codes_in_label_order(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, empty_structure=True)
    segmentation = case.nodes.segmentation.GetSegmentation()
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    assert [segment.GetName() for segment in segments] == [
        "anterior hippocampus",
        "posterior hippocampus",
        "empty structure 3",
    ]
    assert np.allclose(np.array(segments[0].GetColor()) * 255, [216, 101, 79])
    assert f"SCT^{HIPPOCAMPUS['value']}^Hippocampus" in segments[0].GetTerminology()


def test_codes_are_written_as_slicers_own_serialiser_writes_them(tmp_path, data_folder):
    disk = make_case(data_folder, tmp_path)
    label = Label.from_json(dataclasses.asdict(read_description(disk.folder).structures[0]))
    anterior, left = Code("SCT", "255549009", "Anterior"), Code("SCT", "7771000", "Left")
    ours = terminology_tag(dataclasses.replace(label, modifier=anterior, laterality=left))
    theirs = slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(
        "Segmentation category and type - 3D Slicer General Anatomy list",
        *("123037004", "SCT", "Anatomical Structure"),
        *("102290005", "SCT", "Hippocampus"),
        *("7771000", "SCT", "Left"),
        "Anatomic codes - DICOM master list",
        *("102290005", "SCT", "Hippocampus"),
        *("255549009", "SCT", "Anterior"),
    )
    assert ours == theirs


def test_maps_carry_the_mark_as_results(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    ranking = case.nodes.maps["ranking"]
    assert ranking.GetAttribute("SegWithU.Map") == "ranking"
    assert not is_ours(case.volume)


def test_nodes_do_not_point_at_files_of_the_case_folder(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    for node in case.nodes.results:
        assert node.GetStorageNode() is None


def test_results_share_one_folder_beside_the_input(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    volume = load_volume(headless.scene, disk.image, "Hippocampus")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(headless.scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, volume)
    nodes = load_case(disk.folder, volume)
    load_case(disk.folder, volume)
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes.results}
    assert len(parents) == 1
    folder = parents.pop()
    assert hierarchy.GetItemParent(folder) == study
    assert hierarchy.GetItemName(folder) == "Hippocampus with uncertainty"
    assert hierarchy.GetNumberOfItemChildren(folder) == 4


def test_showing_a_structure_centres_every_view_on_it_and_keeps_the_zoom(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    zoom = case.view.node.GetFieldOfView()
    assert show_structure(case.nodes.segmentation, 2)
    where = np.argwhere(case.disk.labels == 2).mean(axis=0)
    centre = centre_of_structure(case.nodes.segmentation, 2)
    assert np.allclose(centre, case.world_of(tuple(where)), atol=1e-4)
    assert np.allclose(case.view.pixel_of(centre), (160, 160), atol=1)
    assert case.view.node.GetFieldOfView() == zoom
    crosshair = case.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    assert np.allclose(crosshair.GetCrosshairRAS(), centre)
    assert crosshair.GetCrosshairMode() == slicer.vtkMRMLCrosshairNode.NoCrosshair


def test_showing_an_empty_structure_moves_nothing(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, empty_structure=True)
    before = slicer.util.arrayFromVTKMatrix(case.view.node.GetSliceToRAS()).copy()
    assert not show_structure(case.nodes.segmentation, 3)
    assert np.array_equal(slicer.util.arrayFromVTKMatrix(case.view.node.GetSliceToRAS()), before)


def test_structures_in_3d_have_a_surface_around_their_centre(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    node, parts = case.nodes.segmentation, []
    segments = [node.GetSegmentation().GetNthSegment(place) for place in range(2)]

    def look(*_event):
        parts.append({segment.GetRepresentation("Closed surface") is None for segment in segments})

    node.AddObserver("AnyEvent", look)
    show_in_3d(node)
    assert parts and all(len(found) == 1 for found in parts), "views would make the rest at once"
    surface = vtk.vtkPolyData()
    case.nodes.segmentation.GetClosedSurfaceRepresentation("SegWithU_1", surface)
    low, high = np.array(surface.GetBounds()).reshape(3, 2).T
    centre = centre_of_structure(case.nodes.segmentation, 1)
    assert surface.GetNumberOfCells() > 100
    assert np.all(low < centre)
    assert np.all(centre < high)
    assert case.nodes.segmentation.GetDisplayNode().GetVisibility3D()


def test_case_without_its_image_loads_on_its_own_grid(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, oblique=True)
    nodes = load_case(disk.folder, None, scene=headless.scene)
    volume = load_volume(headless.scene, disk.image, "later")
    assert np.allclose(_matrix(nodes.maps["ranking"]), _matrix(volume), atol=1e-4)
    assert nodes.inputs == []
    assert np.allclose(
        centre_of_structure(nodes.segmentation, 1),
        np.argwhere(disk.labels == 1).mean(axis=0)[::-1] @ _matrix(volume)[:3, :3].T + _matrix(volume)[:3, 3],
        atol=1e-3,
    )


def test_case_without_optional_blocks_loads(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    change_case(disk.folder, flags=None, ood_reference=None, model=None, roi=None)
    nodes = load_case(disk.folder, load_volume(headless.scene, disk.image, "x"))
    assert list(nodes.maps) == ["error_probability", "ranking", "calibration"]


def test_a_case_whose_ranking_was_deleted_is_loaded_without_it(tmp_path: Path, data_folder: Path):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    (disk.folder / "ranking.nii.gz").unlink()
    nodes = load_case(disk.folder, load_volume(headless.scene, disk.image, "x"))
    assert list(nodes.maps) == ["error_probability", "calibration"]


def _all_nodes(scene: "slicer.vtkMRMLScene") -> list[str]:
    return [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]


def _cut(disk):
    (disk.folder / "ranking.nii.gz").write_bytes((disk.folder / "ranking.nii.gz").read_bytes()[:400])


def _other_labels(disk):
    case = json.loads((disk.folder / "case.json").read_text(encoding="utf-8"))
    change_case(disk.folder, structures=case["structures"][:1])


DAMAGES = {
    "missing-file": lambda disk: (disk.folder / "segmentation.nii.gz").unlink(),
    "error_probability.nii.gz": lambda disk: (disk.folder / "error_probability.nii.gz").unlink(),
    "damaged-file": _cut,
    "not valid JSON": lambda disk: (disk.folder / "case.json").write_text("{"),
    "format version 2": lambda disk: change_case(disk.folder, format_version=2),
    "is damaged": lambda disk: change_case(disk.folder, structures=[{"value": 1}]),
    "unknown-label": _other_labels,
}


@pytest.mark.parametrize("part", DAMAGES)
def test_damaged_case_is_one_clear_error_and_leaves_the_scene_as_it_was(tmp_path, data_folder, part):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    volume = load_volume(headless.scene, disk.image, "x")
    before = _all_nodes(headless.scene)
    DAMAGES[part](disk)
    with pytest.raises(InputError, match=part):
        load_case(disk.folder, volume)
    assert _all_nodes(headless.scene) == before


def test_case_of_another_grid_is_refused(tmp_path: Path, data_folder: Path):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path)
    volume = load_volume(headless.scene, disk.image, "shifted")
    volume.SetOrigin(3, 0, 0)
    with pytest.raises(InputError, match="other-grid"):
        load_case(disk.folder, volume)
