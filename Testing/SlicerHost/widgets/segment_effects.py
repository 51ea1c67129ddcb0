"""Effects of the segment editor: names, activation and parameters. What they do to voxels is done by host.paint()."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from ..qt_module import QT
from ..strict import record
from .stand_in import stand_in, stored

# the effects that come with Slicer, in the order of their buttons
EFFECT_ORDER = (
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)
_ON_ALL_SEGMENTS = ("Grow from seeds", "Fill between slices")
# common defaults of the paint brush that Paint and Erase share
_BRUSH = {
    "BrushSphere": "0",
    "BrushDiameterIsRelative": "1",
    "BrushRelativeDiameter": "3",
    "BrushAbsoluteDiameter": "5",
    "BrushPixelMode": "0",
}


@stand_in
class qSlicerSegmentEditorAbstractEffect(QT.QObject):
    """One effect; its parameters are attributes of the segment editor node, named "Effect.Parameter"."""

    def __init__(self, name: str, editor: Any) -> None:
        super().__init__(editor)
        self._effect_name, self._editor, self._active = name, editor, False
        self._frame = QT.QFrame(editor)
        self._frame.hide()

    def active(self) -> bool:
        """Whether it is the active effect."""
        return self._active

    def activate(self) -> None:
        """Show its options."""
        self._active = True
        self._frame.show()

    def deactivate(self) -> None:
        """Hide its options."""
        self._active = False
        self._frame.hide()

    def helpText(self) -> str:
        """The help shown under the options; Slicer's own texts are not here."""
        return ""

    def parameterSetNode(self) -> Any:
        """The segment editor node."""
        return self._editor.mrmlSegmentEditorNode()

    def scene(self) -> Any:
        """The scene of the segment editor node."""
        node = self.parameterSetNode()
        return node.GetScene() if node is not None else None

    def saveStateForUndo(self) -> None:
        """Remember the segmentation as it is."""
        self._editor.saveStateForUndo()

    def _attribute(self, name: str) -> str:
        """A parameter of the effect hides a common one, as in Slicer."""
        own = f"{self._effect_name}.{name}"
        node = self.parameterSetNode()
        return name if node.GetAttribute(own) is None and node.GetAttribute(name) is not None else own

    def parameterDefined(self, name: str) -> bool:
        """Whether the parameter, its own or common, has a value."""
        return self.parameterSetNode().GetAttribute(self._attribute(name)) is not None

    def commonParameterDefined(self, name: str) -> bool:
        """Whether the common parameter has a value."""
        return self.parameterSetNode().GetAttribute(name) is not None

    def parameter(self, name: str) -> str:
        """Its value; a finding and an empty string when it was never set."""
        value = self.parameterSetNode().GetAttribute(self._attribute(name))
        if value is None:
            record("segment editor", f"effect {self._effect_name}", f"no parameter {name}")
        return value or ""

    def integerParameter(self, name: str) -> int:
        """Its value as a whole number, 0 when it is none."""
        return int(self.doubleParameter(name))

    def doubleParameter(self, name: str) -> float:
        """Its value as a number, 0 when it is none."""
        text = self.parameter(name)
        try:
            return float(text)
        except ValueError:
            record("segment editor", f"effect {self._effect_name}", f"parameter {name} is {text!r}, not a number")
            return 0.0

    def setParameter(self, name: str, value: Any) -> None:
        """Set it, for this effect where it is not common."""
        self.setCommonParameter(self._attribute(name), value)

    def setCommonParameter(self, name: str, value: Any) -> None:
        """Set a parameter that effects share; the node tells it by EffectParameterModified, not by Modified."""
        node = self.parameterSetNode()
        if node.GetAttribute(name) != str(value):
            was_off = node.GetDisableModifiedEvent()
            node.SetDisableModifiedEvent(1)
            node.SetAttribute(name, str(value))
            node.SetDisableModifiedEvent(was_off)
            node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setCommonParameterDefault(self, name: str, value: Any) -> None:
        """Set a common parameter unless it has a value."""
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def _set_defaults(self) -> None:
        if self._effect_name in ("Paint", "Erase"):
            for name, value in _BRUSH.items():
                self.setCommonParameterDefault(name, value)

    name = QtCore.Property(str, lambda self: self._effect_name)
    title = QtCore.Property(str, lambda self: self._effect_name)
    perSegment = QtCore.Property(bool, lambda self: self._effect_name not in _ON_ALL_SEGMENTS)
    requireSegments = stored(bool, "requireSegments", True)
    showEffectCursorInSliceView = stored(bool, "showEffectCursorInSliceView", True)
    showEffectCursorInThreeDView = stored(bool, "showEffectCursorInThreeDView", False)
