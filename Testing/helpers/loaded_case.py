"""One real case in one headless scene with one slice view: where most tests of this folder start."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from mrml_headless import HeadlessScene, SliceView, load_volume
from written_case import CaseOnDisk, make_case

from SegWithUSlicerLib.scene.case_nodes import CaseNodes
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.slice_views import jump_to


@dataclass
class LoadedCase:
    """A case on disk, its input volume in the background of `view`, and its nodes."""

    headless: HeadlessScene
    view: SliceView
    disk: CaseOnDisk
    volume: "slicer.vtkMRMLScalarVolumeNode"
    nodes: CaseNodes

    @property
    def scene(self) -> "slicer.vtkMRMLScene":
        """The scene."""
        return self.headless.scene

    def world_of(self, kji: tuple[int, int, int]) -> tuple[float, float, float]:
        """World RAS of a voxel of the input, through its parent transforms."""
        matrix, world = vtk.vtkMatrix4x4(), [0.0] * 3
        self.volume.GetIJKToRASMatrix(matrix)
        self.volume.TransformPointToWorld(matrix.MultiplyPoint([*kji[::-1], 1.0])[:3], world)
        return tuple(world)

    def focus_on(self, kji: tuple[int, int, int]) -> tuple[int, int]:
        """Bring a voxel into view and return the row and column of its pixel."""
        jump_to(self.world_of(kji), self.scene)
        return self.view.pixel_of(self.world_of(kji))

    def voxel(self, value: int = 1) -> tuple[int, int, int]:
        """The k, j, i of the most error-prone voxel of a structure, all of whose neighbours are as prone."""
        prone = np.where(self.disk.labels == value, self.disk.error, -1)
        return tuple(int(part) for part in np.unravel_index(prone.argmax(), prone.shape))


def loaded_case(folder: Path, data: Path, *, transformed: bool = False, **kind: bool) -> LoadedCase:
    """Make a case of a `kind` (see `make_case`), load its input and the case, show the input.

    Args:
        transformed: the input lies under a turning and shifting linear transform.
    """
    headless = HeadlessScene(folder / "slicer")
    view = SliceView(headless)
    disk = make_case(data, folder, **kind)
    volume = load_volume(headless.scene, disk.image, "Hippocampus")
    if transformed:
        volume.SetAndObserveTransformNodeID(add_transform(headless.scene).GetID())
    nodes = load_case(disk.folder, volume)
    view.composite.SetBackgroundVolumeID(volume.GetID())
    view.fit()
    return LoadedCase(headless, view, disk, volume, nodes)


def add_pet(case: LoadedCase) -> "slicer.vtkMRMLScalarVolumeNode":
    """A volume of the user's own, half transparent in the foreground of the view."""
    pet = load_volume(case.scene, case.disk.image, "PET")
    pet.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    case.view.composite.SetForegroundVolumeID(pet.GetID())
    case.view.composite.SetForegroundOpacity(0.35)
    return pet


def add_transform(scene: "slicer.vtkMRMLScene") -> "slicer.vtkMRMLLinearTransformNode":
    """A turn by 25 degrees about S and a shift."""
    turn = vtk.vtkTransform()
    turn.Translate(30, -12, 45)
    turn.RotateZ(25)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    node.SetMatrixTransformToParent(turn.GetMatrix())
    return node


def paint(case: LoadedCase, value: int, kji: tuple[int, int, int]) -> None:
    """Add one voxel to a structure on the path that Segment Editor's effects take."""
    segmentation = case.nodes.segmentation
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    stroke = slicer.vtkOrientedImageData()
    k, j, i = kji
    stroke.SetExtent(i, i, j, j, k, k)
    stroke.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    stroke.GetPointData().GetScalars().Fill(1)
    stroke.SetImageToWorldMatrix(matrix)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(stroke, segmentation, f"SegWithU_{value}", logic.MODE_MERGE_MASK)


def exported_labels(case: LoadedCase, ids: list[str] | None = None) -> np.ndarray:
    """The segmentation on the input's grid, by Slicer's own export: values 1, 2, ... in the order of the list."""
    target = case.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    target.SetAndObserveTransformNodeID(case.volume.GetTransformNodeID())
    wanted = vtk.vtkStringArray()
    for identifier in ids or ["SegWithU_1", "SegWithU_2"]:
        wanted.InsertNextValue(identifier)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(case.nodes.segmentation, wanted, target, case.volume)
    return slicer.util.arrayFromVolume(target).copy()
