"""From the scene to the engine: the file, the orientation, the region of interest, the masked copies' distance."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from loaded_case import add_transform, loaded_case

from SegWithUCore.util.errors import InputError, OutputError
from SegWithUSlicerLib.scene.volume_export import export_volume, is_unchanged, propose_roi, read_roi


def _bend(case) -> "slicer.vtkMRMLTransformNode":
    """A non-linear transform, as Slicer puts above irregular DICOM series."""
    bend = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (30, 0, 0), (0, 30, 0), (0, 0, 30), (30, 30, 30)):
        source.InsertNextPoint(point)
        target.InsertNextPoint(point[0], point[1], point[2] + 0.1 * point[0] * (point[0] == point[1]))
    bend.SetSourceLandmarks(source)
    bend.SetTargetLandmarks(target)
    bend.SetBasisToR()
    node = case.scene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    node.SetAndObserveTransformToParent(bend)
    return node


@pytest.mark.parametrize("kind", [{}, {"oblique": True}, {"oblique": True, "transformed": True}], ids=str)
def test_exported_file_has_the_volumes_own_voxels_and_grid_uncompressed(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    path = tmp_path / "Überprüfung mit Leerzeichen" / "input.nrrd"
    path.parent.mkdir()
    export_volume(case.volume, path)
    written, original = sitk.ReadImage(str(path)), sitk.ReadImage(str(case.disk.image))
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(original))
    assert np.allclose(written.GetDirection(), original.GetDirection(), atol=1e-9)
    assert np.allclose(written.GetOrigin(), original.GetOrigin(), atol=1e-6)
    assert np.allclose(written.GetSpacing(), original.GetSpacing(), atol=1e-9)
    assert b"encoding: raw" in path.read_bytes()[:2000]


def test_exported_file_holds_no_names_and_no_dicom_identifiers(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.volume.SetName("Doe^Jane")
    case.volume.SetAttribute("DICOM.instanceUIDs", "1.2.840.99999")
    export_volume(case.volume, tmp_path / "input.nrrd")
    contents = (tmp_path / "input.nrrd").read_bytes()
    assert b"Jane" not in contents
    assert b"1.2.840" not in contents


def test_linear_parent_transforms_are_told_concatenated_and_never_hardened(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, transformed=True)
    outer = add_transform(case.scene)
    case.volume.GetParentTransformNode().SetAndObserveTransformNodeID(outer.GetID())
    exported = export_volume(case.volume, tmp_path / "input.nrrd")
    one = slicer.util.arrayFromTransformMatrix(outer)
    assert np.allclose(exported.own_to_world_ras, one @ one)
    assert exported.parent_is_linear
    assert case.volume.GetParentTransformNode().GetParentTransformNode() is outer


def test_under_a_non_linear_transform_the_own_grid_is_used_and_said_so(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.volume.SetAndObserveTransformNodeID(_bend(case).GetID())
    exported = export_volume(case.volume, tmp_path / "input.nrrd")
    assert not exported.parent_is_linear
    assert np.array_equal(exported.own_to_world_ras, np.eye(4))


def test_a_changed_moved_or_deleted_input_is_noticed(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    exported = export_volume(case.volume, tmp_path / "input.nrrd")
    assert is_unchanged(exported, case.scene)
    case.volume.SetAndObserveTransformNodeID(add_transform(case.scene).GetID())
    assert not is_unchanged(exported, case.scene)
    case.volume.SetAndObserveTransformNodeID(None)
    assert is_unchanged(exported, case.scene)
    slicer.util.arrayFromVolume(case.volume)[0] += 1
    slicer.util.arrayFromVolumeModified(case.volume)
    assert not is_unchanged(exported, case.scene)
    exported = export_volume(case.volume, tmp_path / "input.nrrd")
    case.scene.RemoveNode(case.volume)
    assert not is_unchanged(exported, case.scene)


def test_empty_and_colour_volumes_are_refused_and_a_full_disk_is_named(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    with pytest.raises(InputError, match="holds no image"):
        export_volume(case.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), tmp_path / "x.nrrd")
    colour = case.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colour.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="3 values a voxel"):
        export_volume(colour, tmp_path / "x.nrrd")
    with pytest.raises(OutputError, match="cannot be written"):
        export_volume(case.volume, tmp_path / "no such folder" / "x.nrrd")


def test_proposed_region_is_read_back_in_the_volumes_own_frame(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    kji = tuple(side // 2 for side in case.disk.labels.shape)
    roi = propose_roi(case.volume, case.world_of(kji), (20, 16, 12))
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    own = matrix.MultiplyPoint([*kji[::-1], 1.0])[:3]
    assert np.allclose(read_roi(roi, case.volume), (*own, 20, 16, 12), atol=1e-4)
    exported = export_volume(case.volume, tmp_path / "input.nrrd", roi)
    assert np.allclose(exported.roi_ras, (*own, 20, 16, 12), atol=1e-4)


def test_proposed_region_stays_inside_the_volume(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    k, j, i = case.disk.labels.shape
    whole = read_roi(propose_roi(case.volume, None, (500, 500, 500)), case.volume)
    assert np.allclose(whole[3:], (i, j, k)), "voxels are 1 mm"
    cornered = read_roi(propose_roi(case.volume, case.world_of((0, 0, 0)), (10, 10, 10)), case.volume)
    low = np.array(cornered[:3]) - 5
    assert np.allclose(low, np.array(case.world_of((0, 0, 0))) - 0.5)


def test_turned_region_gives_the_upright_box_around_it(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    roi = propose_roi(case.volume, None, (10, 10, 10))
    turn = case.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    about_centre = vtk.vtkTransform()
    centre = roi.GetCenterWorld()
    about_centre.Translate(*centre)
    about_centre.RotateZ(45)
    about_centre.Translate(*(-part for part in centre))
    turn.SetMatrixTransformToParent(about_centre.GetMatrix())
    roi.SetAndObserveTransformNodeID(turn.GetID())
    assert np.allclose(read_roi(roi, case.volume)[3:], (10 * 2**0.5, 10 * 2**0.5, 10), atol=1e-6)


def test_region_beside_the_volume_is_refused(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    roi = propose_roi(case.volume, None, (10, 10, 10))
    roi.SetCenter(500, 0, 0)
    with pytest.raises(InputError, match="lies outside"):
        export_volume(case.volume, tmp_path / "input.nrrd", roi)


def test_a_frame_of_a_sequence_is_refused(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(case.scene)
    sequence = case.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    sequence.SetDataNodeAtValue(case.volume, "1")
    browser = case.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(case.volume, sequence, False)
    with pytest.raises(InputError, match="frame of a sequence"):
        export_volume(case.volume, tmp_path / "a.nrrd")
