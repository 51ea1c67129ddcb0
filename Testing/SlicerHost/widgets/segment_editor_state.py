"""The segment editor behind its slots: follows the real segment editor node in the order in which Slicer does."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets

from ..popups import POPUPS, Shown
from ..strict import record
from .mrml_widgets import qMRMLWidget
from .observing import Observers
from .segment_editor_parts import NULL_EFFECT, EditorParts
from .segment_editor_views import EditorViews
from .segment_effects import EFFECT_ORDER, qSlicerSegmentEditorAbstractEffect

_CLOSED_SURFACE, _LABEL_MAP = "Closed surface", "Binary labelmap"
EDITORS: weakref.WeakSet[Any] = weakref.WeakSet()


def wrong_use(what: str) -> None:
    """A finding about the editor."""
    record("segment editor", "qMRMLSegmentEditorWidget", what)


class SegmentEditorState(qMRMLWidget):
    """Node, logic, parts and the way from MRML to the widget."""

    currentSegmentIDChanged = QtCore.Signal(str)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    masterVolumeNodeChanged = QtCore.Signal(object)
    segmentationNodeChanged = QtCore.Signal(object)
    _signals: ClassVar[dict[str, str]] = {
        "currentSegmentIDChanged(QString)": "currentSegmentIDChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
        "masterVolumeNodeChanged(vtkMRMLVolumeNode*)": "masterVolumeNodeChanged",
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._node: Any = None
        self._segmentation: Any = None
        self._source: Any = None
        self._interaction: Any = None
        self._active: Any = None
        self._last_active: Any = None
        self._locked, self._updating = False, False
        self._shortcuts: list[Any] = []
        self._observers = Observers(self)
        self._views = EditorViews(self, self._logic)
        self._parts = EditorParts(self)
        self._make_effects()
        self._connect_parts()
        self._show_enabled()
        EDITORS.add(self)

    def _make_effects(self) -> None:
        self._effects = {name: qSlicerSegmentEditorAbstractEffect(name, self) for name in sorted(EFFECT_ORDER)}
        self._order, self._columns = list(EFFECT_ORDER), 2
        self._parts.add_effect_button(NULL_EFFECT, "None", lambda: self.setActiveEffect(None))
        for name, effect in self._effects.items():
            self._parts.add_effect_button(name, name, lambda effect=effect: self.setActiveEffect(effect))
        self.updateEffectList()

    def _connect_parts(self) -> None:
        parts = self._parts
        parts.segmentation.currentNodeChanged.connect(self._segmentation_chosen)
        parts.source.currentNodeChanged.connect(self._source_chosen)
        parts.table.selectionChanged.connect(self._segment_chosen)
        parts.add.clicked.connect(lambda: self._logic.AddEmptySegment("", 0))
        parts.remove.clicked.connect(lambda: self._logic.RemoveSelectedSegment())
        parts.show_3d.clicked.connect(lambda on: self._logic.ToggleSegmentationSurfaceRepresentation(on))
        parts.segmentations.clicked.connect(lambda: slicer.util.selectModule("Segmentations"))
        parts.undo.clicked.connect(lambda: self.undo())
        parts.redo.clicked.connect(lambda: self.redo())

    def updateEffectList(self) -> None:
        """Arrange the effect buttons in the wanted order."""
        ordered = [name for name in self._order if name in self._effects]
        more = [name for name in self._effects if name not in ordered] if self.unorderedEffectsVisible else []
        self._parts.arrange_effects([*ordered, *more], self._columns)

    def setMRMLScene(self, scene: Any) -> None:
        """Take the scene; None lets go of everything."""
        if scene is self._scene:
            return
        silent = self._parts.without_signals()
        for part in (self._parts.segmentation, self._parts.source, self._parts.table):
            part.setMRMLScene(scene)
        super().setMRMLScene(scene)
        del silent
        self._observe_scene(scene)
        if scene is None:
            self.uninstallKeyboardShortcuts()
            self._views.stop()
            self._parts.table.setSegmentationNode(None)
            self._logic.SetSegmentEditorNode(None)
        self._logic.SetMRMLScene(scene)
        self.updateWidgetFromMRML()

    def _observe_scene(self, scene: Any) -> None:
        if scene is None:
            self._observers.stop()
            return
        self._interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        after_closing = {
            scene.EndCloseEvent: lambda editor: editor._initialize_node(),
            scene.EndBatchProcessEvent: lambda editor: editor._after_batch(),
        }
        self._observers.replace("scene", scene, after_closing)
        # below every module's own observer: what a module has not let go of by now it never will
        self._observers.replace("close", scene, {scene.StartCloseEvent: report_at_close}, -1000.0)

    def _initialize_node(self) -> None:
        if self._node is not None:
            was = self._node.StartModify()
            for effect in self._effects.values():
                effect._set_defaults()
            self._node.EndModify(was)
            self.updateWidgetFromMRML()

    def _after_batch(self) -> None:
        """After loading or closing: the selectors may have changed silently."""
        if self._node is not None:
            if self._node.GetSegmentationNode() is not self._parts.segmentation.currentNode():
                self.setSegmentationNode(self._parts.segmentation.currentNode())
            if self._node.GetSourceVolumeNode() is not self._parts.source.currentNode():
                self.setSourceVolumeNode(self._parts.source.currentNode())
        self.updateWidgetFromMRML()

    def _busy(self) -> bool:
        return self._scene is None or bool(self._scene.IsClosing() or self._scene.IsBatchProcessing())

    def _segmentation_chosen(self, node: Any) -> None:
        if not self._busy():
            self.setSegmentationNode(node)

    def _source_chosen(self, node: Any) -> None:
        if not self._busy():
            self.setSourceVolumeNode(node)

    def _segment_chosen(self, *_: Any) -> None:
        """A click in the table; a selection made by setCurrentSegmentID() is not announced, as in Slicer."""
        chosen = (*self._parts.table.selectedSegmentIDs(), "")[0]
        if self._node is None or (self._node.GetSelectedSegmentID() or "") == chosen:
            return
        self._node.SetSelectedSegmentID(chosen or None)
        if not chosen and self._active is not None and self._active.perSegment:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()
        self.currentSegmentIDChanged.emit(chosen)

    def updateWidgetFromMRML(self) -> None:
        """Read the segment editor node; nothing happens while the scene is closed, loaded or absent."""
        if self._busy() or self._updating:
            return
        self._updating = True
        was = self._node.StartModify() if self._node is not None else 0
        try:
            if self._node is not None:
                self._read_segmentation()
                self._read_source()
                self._read_segment()
                self._read_effect()
        finally:
            self._updating = False
            if self._node is not None:
                self._node.EndModify(was)
        self._show_enabled()

    def _read_segmentation(self) -> None:
        node, parts = self._node.GetSegmentationNode(), self._parts
        if parts.segmentation.currentNode() is not node:
            silent = parts.without_signals()
            parts.segmentation._become(node)
            del silent
        if node is self._segmentation:
            return
        self._segmentation = node
        self._observe_segmentation(node)
        silent = QtCore.QSignalBlocker(parts.table)
        parts.table.setSegmentationNode(node)
        del silent
        if node is not None:
            self._prepare_segmentation(node)
        self.segmentationNodeChanged.emit(node)

    def _observe_segmentation(self, node: Any) -> None:
        events = slicer.vtkSegmentation
        names = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "ContainedRepresentationNamesModified")
        reactions: dict[Any, Any] = {getattr(events, name): lambda editor: editor._show_enabled() for name in names}
        reactions["ModifiedEvent"] = lambda editor: editor.updateWidgetFromMRML()
        self._observers.replace("segmentation", node, reactions)

    def _prepare_segmentation(self, node: Any) -> None:
        """Slicer selects the reference volume and the first segment, and empties the label layer."""
        reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if self._parts.source.currentNode() is not reference:
            self._node.SetAndObserveSourceVolumeNode(reference)
        node.CreateDefaultDisplayNodes()
        display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
        if segmentation.ContainsRepresentation(_CLOSED_SURFACE):
            display.SetPreferredDisplayRepresentationName3D(_CLOSED_SURFACE)
        if segmentation.ContainsRepresentation(_LABEL_MAP):
            display.SetPreferredDisplayRepresentationName2D(_LABEL_MAP)
        if segmentation.GetNumberOfSegments() > 0:
            first = segmentation.GetNthSegmentID(0)
            if self._node.GetSelectedSegmentID() != first:
                self._node.SetSelectedSegmentID(first)
                self.currentSegmentIDChanged.emit(first)
        self._views.hide_labels()

    def _read_source(self) -> None:
        node = self._node.GetSourceVolumeNode()
        if self._segmentation is None or node is self._source:
            return
        self._source = node
        silent = self._parts.without_signals()
        self._parts.source.setCurrentNode(node)
        del silent
        if node is not None and self.autoShowSourceVolumeNode:
            self._views.show_source(node, False, False)
        self.sourceVolumeNodeChanged.emit(node)
        self.masterVolumeNodeChanged.emit(node)

    def _read_segment(self) -> None:
        selected = self._node.GetSelectedSegmentID() or ""
        known = self._logic.IsSegmentIdValid(selected)
        if selected and self._segmentation is not None and not known:
            wrong_use(f"the segmentation has no segment {selected}")
        self._parts.table.setSelectedSegmentIDs([selected] if known else [])

    def _read_effect(self) -> None:
        wanted = self._effects.get(self._node.GetActiveEffectName() or "")
        if wanted is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        if wanted is not None and not self._made_editable():
            wanted = None
        self._last_active, self._active = self._active, wanted
        if wanted is not None:
            self._views.observe()
            if self._interaction is not None:
                self._interaction.SetCurrentInteractionMode(self._interaction.ViewTransform)
            wanted.activate()
        else:
            self._views.stop()
        name = wanted.name if wanted is not None else ""
        self._parts.options.setVisible(wanted is not None)
        self._parts.options.setTitle(name)
        self._parts.masking.setVisible(wanted is not None and self.maskingSectionVisible)
        self._parts.check_effect(name)

    def _made_editable(self) -> bool:
        """Editing needs label maps; Slicer asks before it converts."""
        if self._segmentation is None:
            return False
        if self._logic.TrivialSetSourceRepresentationToBinaryLabelmap():
            return True
        title = "Change source representation to binary labelmap?"
        answer = POPUPS.ask(Shown("QMessageBox.question", title, "Editing requires binary labelmap"), "No")
        yes = answer in ("Yes", QtWidgets.QMessageBox.StandardButton.Yes)
        return yes and bool(self._logic.SetSourceRepresentationToBinaryLabelMap())

    def _show_enabled(self, *_: Any) -> None:
        """Which buttons a user can press."""
        parts, has = self._parts, self._segmentation is not None
        free = has and not self._locked
        selected = has and self._logic.IsSegmentIdValid(self._logic.GetCurrentSegmentID())
        parts.segmentation.setEnabled(self._node is not None)
        parts.source.setEnabled(has)
        parts.segmentations.setEnabled(has)
        parts.add.setEnabled(free and self._logic.CanAddSegments())
        parts.remove.setEnabled(free and selected)
        parts.show_3d.setEnabled(free)
        parts.show_3d.setChecked(has and self._logic.ContainsClosedSurfaceRepresentation())
        parts.effects.setEnabled(free and self._source is not None)
        for name, effect in self._effects.items():
            parts.effect_buttons[name].setEnabled(selected or not effect.perSegment)
        parts.undo.setEnabled(free and self._logic.CanUndo())
        parts.redo.setEnabled(free and self._logic.CanRedo())
        parts.table.readOnly = self._locked


def report_at_close(editor: Any) -> None:
    """An effect that is still active when the scene closes works on nodes that are being removed."""
    if editor._active is not None:
        wrong_use(f"the effect {editor._active.name} is still active while the scene closes")
    if editor._views.observed:
        wrong_use("the views are still observed while the scene closes")
