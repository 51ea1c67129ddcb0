"""The small case of tests and workflows: the left hippocampus of the sample head, segmented in a few seconds."""

from __future__ import annotations

from typing import Any

CENTRE_RAS_MM, SIZE_MM = [-28, -22, -14], [36, 50, 36]
NAME = "left hippocampus"
VIEW_MM = 120.0


def choose_left_hippocampus(panel: Any) -> None:
    """Press Try it, then choose the hippocampus model and a region around the left one, and look at it closely."""
    import slicer

    from SegWithUSlicerLib.scene.slice_views import jump_to
    from SegWithUSlicerLib.scene.volume_export import propose_roi

    panel.ui.tryItButton.click()
    volume = panel.inputs.volumes[0]
    roi = slicer.mrmlScene.GetFirstNodeByName(NAME)
    if roi is None:
        roi = propose_roi(volume, CENTRE_RAS_MM, SIZE_MM)
        roi.SetName(NAME)
    panel.inputs.choose(volume, roi, "hippocampus")
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        width_px, height_px, _depth = view.GetDimensions()
        if height_px > 0:
            view.SetFieldOfView(VIEW_MM * width_px / height_px, VIEW_MM, view.GetFieldOfView()[2])
    jump_to(CENTRE_RAS_MM)
    slicer.app.processEvents()
