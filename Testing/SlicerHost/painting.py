"""What a user does with the mouse while a segment editor effect is active."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def _why_not(editor: Any) -> str:
    """Why a stroke would change nothing, or an empty string."""
    node = editor.mrmlSegmentEditorNode()
    if node is None or editor._logic.GetSegmentation() is None:
        return "the segment editor has no segmentation"
    if editor.activeEffect() is None:
        return "no effect is active"
    if not editor._views.observed:
        return "the editor does not observe the views"
    if editor.readOnly:
        return "the editor is read-only"
    if node.GetSourceVolumeNode() is None:
        return "the segment editor has no source volume"
    if not editor._logic.IsSegmentIdValid(node.GetSelectedSegmentID() or ""):
        return "no segment is selected"
    return ""


def _filled_stroke(editor: Any, mask: NDArray[Any]) -> Any:
    """The editor's own modifier label map with the mask in it."""
    volume = editor.mrmlSegmentEditorNode().GetSourceVolumeNode()
    size = tuple(reversed(volume.GetImageData().GetDimensions()))
    if mask.shape != size:
        raise AssertionError(f"the mask has {mask.shape} voxels, the source volume {size}")
    if not editor._logic.ResetModifierLabelmapToDefault():
        raise AssertionError("the segmentation has no reference geometry")
    stroke = editor._logic.GetModifierLabelmap()
    to_world, of_volume = vtkMatrix4x4(), vtkMatrix4x4()
    stroke.GetImageToWorldMatrix(to_world)
    volume.GetIJKToRASMatrix(of_volume)
    as_array = slicer.util.arrayFromVTKMatrix
    if not np.allclose(as_array(to_world), as_array(of_volume), atol=1e-4):
        raise AssertionError("the segmentation's reference geometry is not that of the source volume")
    low_i, high_i, low_j, high_j, low_k, high_k = stroke.GetExtent()
    shape = (high_k - low_k + 1, high_j - low_j + 1, high_i - low_i + 1)
    voxels = vtk_to_numpy(stroke.GetPointData().GetScalars()).reshape(shape)
    places = np.argwhere(mask) - (low_k, low_j, low_i)
    voxels[tuple(places.T)] = 1
    stroke.Modified()
    return stroke


def paint(editor: Any, mask: NDArray[Any], erase: bool = False) -> None:
    """One stroke: the state is saved for undo, then the logic of slicer-core changes the segment, as effects do.

    Masking and overwriting of the editor node apply, all MRML events are Slicer's own, and a segment that was not
    started is in progress afterwards.

    Args:
        editor: a qMRMLSegmentEditorWidget.
        mask: voxels to change, (z, y, x) on the grid of the source volume.
        erase: take the voxels away instead.

    Raises:
        AssertionError: a user could not have painted now, or the mask does not fit the source volume.
    """
    reason = _why_not(editor)
    if reason:
        raise AssertionError(f"nothing can be painted: {reason}")
    logic = editor._logic
    stroke = _filled_stroke(editor, np.asarray(mask))
    editor.saveStateForUndo()
    mode = logic.ModificationModeRemove if erase else logic.ModificationModeAdd
    segment_id = logic.GetCurrentSegmentID()
    logic.ModifySegmentByLabelmap(logic.GetSegmentationNode(), segment_id, stroke, mode, True, False)
