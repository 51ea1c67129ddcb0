"""The structures of a case: as a table node, centred in the slice views, and in 3D."""

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import CaseDescription, Structure

from ..i18n import _
from .readout import dice_text, expected_text, volume_text
from .segmentation import segment_array, segment_id
from .slice_views import jump_to


def fill_table(node: "slicer.vtkMRMLTableNode", case: CaseDescription) -> None:
    """Write one row a structure, in the case's order.

    The columns are text, because "not assessed" must be able to stand in them; the first is the label value.
    """
    was_modifying = node.StartModify()
    try:
        node.RemoveAllColumns()
        table = node.GetTable()
        values = vtk.vtkIntArray()
        values.SetName(_("Label"))
        for structure in case.structures:
            values.InsertNextValue(structure.value)
        table.AddColumn(values)
        for title, texts in _text_columns(case).items():
            column = vtk.vtkStringArray()
            column.SetName(title)
            for text in texts:
                column.InsertNextValue(text)
            table.AddColumn(column)
        node.SetUseColumnTitleAsColumnHeader(True)
    finally:
        node.EndModify(was_modifying)
    node.Modified()


def centre_of_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> tuple[float, float, float] | None:
    """Return the centroid of a structure in world RAS mm, through all parent transforms; None if it is empty."""
    segment = node.GetSegmentation().GetSegment(segment_id(value))
    if segment is None:
        return None
    mask, image = segment_array(segment)
    if image is None or not mask.any():
        return None
    matrix, world = vtk.vtkMatrix4x4(), [0.0] * 3
    image.GetImageToWorldMatrix(matrix)
    k, j, i = (
        np.average(np.arange(size), weights=mask.sum(axis=tuple(other for other in range(3) if other != axis)))
        for axis, size in enumerate(mask.shape)
    )
    i0, _i1, j0, _j1, k0, _k1 = image.GetExtent()
    node.TransformPointToWorld(matrix.MultiplyPoint([i + i0, j + j0, k + k0, 1.0])[:3], world)
    r, a, s = world
    return r, a, s


def show_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> bool:
    """Make a structure visible and centre all slice views on its centroid; False, and nothing moves, if it is empty."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(True)
    node.GetDisplayNode().SetSegmentVisibility(segment_id(value), True)
    centre = centre_of_structure(node, value)
    if centre is None:
        return False
    jump_to(centre, node.GetScene())
    return True


def show_in_3d(node: "slicer.vtkMRMLSegmentationNode", visible: bool = True) -> None:
    """Show the closed surfaces of all structures in the 3D views, or hide them; they are made at the first call."""
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    if visible and not node.GetSegmentation().ContainsRepresentation(surface):
        node.CreateClosedSurfaceRepresentation()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(surface)
    node.GetDisplayNode().SetVisibility3D(visible)
    if visible:
        _look_at(node)


def _look_at(node: "slicer.vtkMRMLSegmentationNode") -> None:
    """Turn to a segmentation in all 3D views, from where they look now, so that it fills them."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    radius = float(np.linalg.norm(high - low)) / 2
    if radius <= 0:  # all structures are empty
        return
    scene = node.GetScene()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLCameraNode")):
        camera = scene.GetNthNodeByClass(index, "vtkMRMLCameraNode")
        forward = np.array(camera.GetFocalPoint()) - np.array(camera.GetPosition())
        forward = forward / (np.linalg.norm(forward) or 1.0)
        camera.SetFocalPoint(*(low + high) / 2)
        camera.SetPosition(*((low + high) / 2 - forward * radius / np.sin(np.radians(camera.GetViewAngle() / 2))))
        camera.SetParallelScale(radius)
        camera.ResetClippingRange()


def _text_columns(case: CaseDescription) -> dict[str, list[str]]:
    return {
        _("Structure"): [structure.name for structure in case.structures],
        _("Volume"): [volume_text(structure.volume_mm3) for structure in case.structures],
        _("Expected volume"): [expected_text(structure) for structure in case.structures],
        _("Predicted Dice"): [dice_text(structure) for structure in case.structures],
        _("Expected wrong"): [volume_text(structure.expected_wrong_mm3) for structure in case.structures],
        _("Uncertain share"): [_share_text(structure) for structure in case.structures],
        _("Uncertain"): [volume_text(structure.uncertain_mm3) for structure in case.structures],
        _("Flag"): ["; ".join(structure.flags) for structure in case.structures],
    }


def _share_text(structure: Structure) -> str:
    if structure.uncertain_share is None:
        return _("not assessed")
    return f"{100 * structure.uncertain_share:.1f} %"
