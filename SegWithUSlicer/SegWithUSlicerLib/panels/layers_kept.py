"""Slice layers that stay as the user has them while a widget of Slicer's is set up."""

from collections.abc import Iterator
from contextlib import contextmanager

import slicer


@contextmanager
def layers_kept() -> Iterator[None]:
    """Put back what was in the layers of all slice views: Segment Editor empties the label layer when it takes up a
    segmentation."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    views = [scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode") for index in range(count)]
    before = [(v.GetBackgroundVolumeID(), v.GetForegroundVolumeID(), v.GetLabelVolumeID()) for v in views]
    try:
        yield
    finally:
        for view, (background, foreground, label) in zip(views, before, strict=True):
            if (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetLabelVolumeID()) != (
                background,
                foreground,
                label,
            ):
                was_modifying = view.StartModify()
                view.SetBackgroundVolumeID(background)
                view.SetForegroundVolumeID(foreground)
                view.SetLabelVolumeID(label)
                view.EndModify(was_modifying)
