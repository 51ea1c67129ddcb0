"""A reference segmentation of the user's, read as label values of the case: for the true curve beside the expected."""

from collections.abc import Mapping

import numpy as np
import slicer
import vtk

from SegWithUCore.errors import InputError

from .i18n import _
from .review.edits import grid_of, labels_on_grid
from .scene.case_images import array_of
from .scene.case_nodes import CaseNodes


def reference_labels(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> np.ndarray:
    """The reference at the voxels of the run's input; axes k, j, i.

    A segmentation's segments are matched with the structures by name, whatever their case; a label map's values are
    taken as they are. Where the reference does not reach, there is background.

    Raises:
        InputError: no segment has the name of a structure, or no voxel a structure's value.
    """
    values = {structure.name.casefold(): structure.value for structure in nodes.case.structures}
    if reference.IsA("vtkMRMLSegmentationNode"):
        segmentation = reference.GetSegmentation()
        table = _matched(segmentation, values)
    else:
        segmentation = _as_segmentation(reference, set(values.values()))
        table = {identifier: int(identifier) for identifier in segmentation.GetSegmentIDs()}
    if not table:
        wanted = ", ".join(structure.name for structure in nodes.case.structures)
        text = _("{reference} holds none of these structures: {wanted}. Name its segments so, or choose another one.")
        raise InputError(text.format(reference=reference.GetName(), wanted=wanted))
    shape, ijk_to_ras = grid_of(nodes)
    _check_place(nodes, reference)
    return labels_on_grid(segmentation, table, tuple(slice(0, size) for size in shape), ijk_to_ras)


def _matched(segmentation: "slicer.vtkSegmentation", values: Mapping[str, int]) -> dict[str, int]:
    names = {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}
    return {identifier: values[name.casefold()] for identifier, name in names.items() if name.casefold() in values}


def _as_segmentation(volume: "slicer.vtkMRMLLabelMapVolumeNode", values: set[int]) -> "slicer.vtkSegmentation":
    """A label map as a segmentation outside any scene, with a segment for each structure's value that occurs."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    image.ShallowCopy(volume.GetImageData())
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    segmentation = slicer.vtkSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation.SetSourceRepresentationName(name)
    for value in sorted(values & set(np.unique(array_of(volume.GetImageData())).tolist())):
        segment = slicer.vtkSegment()
        segment.SetName(str(value))
        segment.SetLabelValue(value)
        segment.AddRepresentation(name, image)
        segmentation.AddSegment(segment, str(value))
    return segmentation


def _check_place(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> None:
    own = nodes.reference.GetTransformNodeID() if nodes.reference is not None else None
    if reference.GetTransformNodeID() != own:
        text = _("{reference} lies under another transform than the image: put both under the same one.")
        raise InputError(text.format(reference=reference.GetName()))
