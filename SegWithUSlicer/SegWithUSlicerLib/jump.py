"""Bringing a point into view: every slice view and the crosshair, never zoom or layout."""

from collections.abc import Sequence

import slicer


def jump_to(point_ras: Sequence[float], scene: "slicer.vtkMRMLScene | None" = None, centred: bool = True) -> None:
    """Move all slice views, and the crosshair, to a point.

    Args:
        point_ras: R, A, S in world millimetres (parent transforms applied).
        scene: the scene of the views; by default Slicer's.
        centred: put the point in the middle of each view; otherwise only the slice offsets change.

    The field of view of each slice keeps its size and the crosshair stays shown or hidden as the user has it.
    """
    scene = scene or slicer.mrmlScene
    r, a, s = (float(part) for part in point_ras)
    mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice if centred else slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, r, a, s, mode)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(r, a, s)
