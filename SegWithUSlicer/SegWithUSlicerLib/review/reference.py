"""What a run is compared with: a segmentation or label map of the scene that the user trusts."""

from collections.abc import Mapping

import numpy as np
import slicer
import vtk

from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_images import array_of
from ..scene.case_nodes import CaseNodes
from .edits import grid_of, labels_on_grid, whole_box


def error_probability(nodes: CaseNodes) -> np.ndarray:
    """Return the error probability of each voxel of a calibrated run, negative where it was not assessed; k, j, i."""
    error: np.ndarray = array_of(nodes.maps["error_probability"].GetImageData())
    return error


def time_of(reference: "slicer.vtkMRMLNode") -> int:
    """Return a number that grows with every change of the reference's voxels."""
    if reference.IsA("vtkMRMLSegmentationNode"):
        return int(reference.GetSegmentation().GetMTime())
    return int(reference.GetImageData().GetMTime())


def reference_labels(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> np.ndarray:
    """Read the reference at the voxels of the run's input; axes k, j, i.

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
    _check_position(nodes, reference)
    return labels_on_grid(segmentation, table, whole_box(shape), ijk_to_ras)


def _matched(segmentation: "slicer.vtkSegmentation", values: Mapping[str, int]) -> dict[str, int]:
    names = {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}
    return {identifier: values[name.casefold()] for identifier, name in names.items() if name.casefold() in values}


def _as_segmentation(volume: "slicer.vtkMRMLLabelMapVolumeNode", values: set[int]) -> "slicer.vtkSegmentation":
    """Convert a label map to a segmentation outside any scene, with a segment for each structure that occurs."""
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


def _check_position(nodes: CaseNodes, reference: "slicer.vtkMRMLNode") -> None:
    own = nodes.reference.GetTransformNodeID() if nodes.reference is not None else None
    if reference.GetTransformNodeID() != own:
        text = _("{reference} lies under another transform than the image: put both under the same one.")
        raise InputError(text.format(reference=reference.GetName()))


def names_without_reference(nodes: CaseNodes, labels: np.ndarray, truth: np.ndarray) -> list[str]:
    """List the structures that were found and that the reference holds nowhere: all of them counts as wrong."""
    # Only among the wrong voxels, which are few: of a whole CT it takes half a second.
    suspects = set(np.unique(labels[labels != truth]).tolist()) - {0}
    absent = suspects - set(np.unique(truth).tolist()) if suspects else suspects
    return [structure.name for structure in nodes.case.structures if structure.value in absent]
