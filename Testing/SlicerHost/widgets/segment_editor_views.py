"""What the segment editor does with slice and 3D views: it observes them and shows the source volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer

from .observing import Observers

_MOUSE_AND_KEYS = (
    "LeftButtonPressEvent",
    "LeftButtonReleaseEvent",
    "RightButtonPressEvent",
    "MiddleButtonPressEvent",
    "MouseMoveEvent",
    "KeyPressEvent",
)


class EditorViews:
    """View observations of one editor, and its changes of slice layers."""

    def __init__(self, owner: Any, logic: Any) -> None:
        self._logic = logic
        self._observers = Observers(owner)
        self.observed = False

    def _logics(self) -> Iterator[Any]:
        """Slice logics of the views in which the segmentation may be shown."""
        for slice_logic in list(slicer.app.layoutManager().mrmlSliceLogics()):
            if self._logic.IsSegmentationDisplayableInView(slice_logic.GetSliceNode()):
                yield slice_logic

    def observe(self) -> None:
        """Take the mouse and the keys of all views that show the segmentation; effects themselves are not here."""
        self.stop()
        layout = slicer.app.layoutManager()
        views = [(layout.sliceWidget(name).mrmlSliceNode(), layout.sliceWidget(name).sliceView()) for name in
                 layout.sliceViewNames()]  # fmt: skip
        threed = layout.threeDWidget(0)
        views.append((threed.mrmlViewNode(), threed.threeDView()))
        for node, view in views:
            if self._logic.IsSegmentationDisplayableInView(node):
                reactions = dict.fromkeys(_MOUSE_AND_KEYS, _leave_to_the_effect)
                self._observers.add("views", view.interactor(), reactions, 1.0)
        self.observed = True

    def stop(self) -> None:
        """Remove every observer from the views."""
        self._observers.drop("views")
        self.observed = False

    def show_source(self, volume: Any, force: bool, fit: bool) -> None:
        """Make the source volume the background unless a slice view shows it already."""
        for slice_logic in self._logics():
            composite = slice_logic.GetSliceCompositeNode()
            shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
            if force or volume.GetID() not in shown:
                composite.SetBackgroundVolumeID(volume.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
            if fit:
                slice_logic.FitSliceToBackground(True)

    def hide_labels(self) -> None:
        """Empty the label layer."""
        for slice_logic in self._logics():
            slice_logic.GetSliceCompositeNode().SetLabelVolumeID(None)

    def single_slices(self) -> bool:
        """Turn light boxes off; whether there was one."""
        boxes = [
            node
            for node in (slice_logic.GetSliceNode() for slice_logic in self._logics())
            if (node.GetLayoutGridRows(), node.GetLayoutGridColumns()) != (1, 1)
        ]
        for node in boxes:
            node.SetLayoutGrid(1, 1)
        return bool(boxes)

    def rotate_to(self, ijk_to_ras: Any) -> None:
        """Align the slice views with the segmentation."""
        for slice_logic in self._logics():
            slice_logic.GetSliceNode().RotateToAxes(ijk_to_ras)


def _leave_to_the_effect(editor: Any) -> None:
    """Strokes come through host.paint(); what is observed here only shows that the views were taken."""
