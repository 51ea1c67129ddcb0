"""Slicer's segment editor inside the panel, set to the structure of the current region."""

from typing import Any

import qt
import slicer

from SegWithUCore.regions.region import UNCERTAIN

from ..guarded import guarded
from ..scene.case_nodes import CaseNodes
from ..scene.observers import Observations
from ..scene.segmentation import segment_id

EDITOR_TAG = "SegWithU"
EFFECTS = ("Paint", "Draw", "Erase", "Scissors", "Islands", "Smoothing", "Margin")
"""What corrects a region; the rest works on whole structures, and is in Slicer's own module."""
_BRUSH = {"SegWithU.Brush": "1", "BrushSphere": "1", "BrushDiameterIsRelative": "0", "BrushAbsoluteDiameter": "8"}
"""Of Paint and Erase at first: a sphere of 4 mm radius."""
_UNDO_STATES = 10
_ROW_PX, _MOST_ROWS = 24, 3
"""Of the list of structures: the review chooses one, the others scroll."""


class EditPanel:
    """The section "Edit here". The editor is made when it is used first.

    Args:
        ui: the widgets of the .ui file.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.editor: Any = None
        self._nodes: CaseNodes | None = None
        self._structure = ""
        self._may_run = False
        self._closing = Observations()
        ui.editButton.connect("contentsCollapsed(bool)", guarded(self._collapsed))
        ui.unsureLimitBox.value = round(100 * UNCERTAIN)
        ui.unsureBox.connect("toggled(bool)", guarded(lambda _checked: self._mask()))
        ui.unsureLimitBox.connect("valueChanged(int)", guarded(lambda _percent: self._mask()))

    def show(self, nodes: CaseNodes | None) -> None:
        """Edit the segmentation of this run from now on, or none."""
        if nodes is None:
            self.pause()
            self.ui.editButton.collapsed = True
            self._detach()
        self._nodes, self._structure = nodes, ""

    def choose(self, structure: str) -> None:
        """Select a structure by its name."""
        self._structure = structure
        if self._is_running:
            self._select()

    def resume(self) -> None:
        """Resume editing when the panel becomes visible."""
        self._may_run = True
        if self._is_running:
            self._take_up()

    def pause(self) -> None:
        """Release views and shortcuts when the panel is hidden or the scene is closed."""
        self._may_run = False
        self._let_go()

    def toggle(self) -> None:
        """Open the section, or close it."""
        self.ui.editButton.collapsed = not self.ui.editButton.collapsed

    @property
    def _is_running(self) -> bool:
        return self._may_run and not self.ui.editButton.collapsed

    def _collapsed(self, collapsed: bool) -> None:
        if collapsed:
            self._let_go()
        elif self._may_run:
            self._take_up()

    def _take_up(self) -> None:
        if not self._attach():
            return
        try:
            self._mask()
            self._select()
            self.editor.installKeyboardShortcuts()
        except Exception:
            self._let_go()
            raise

    def _attach(self) -> bool:
        """Set the editor to segmentation and image; False if there is nothing to edit."""
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if segmentation is None:
            return False
        if self.editor is None:
            self.editor = self._make()
        rows = 1 + min(segmentation.GetSegmentation().GetNumberOfSegments(), _MOST_ROWS)
        for table in slicer.util.findChildren(self.editor, className="qMRMLSegmentsTableView"):
            table.setFixedHeight(_ROW_PX * rows)
        self._connect_scene()
        if self.editor.segmentationNode() is not segmentation:
            self.editor.setSegmentationNode(segmentation)
        self._take_off()
        return True

    def _connect_scene(self) -> None:
        """Let the editor listen to the scene, with a node that is in it: clearing a scene may have removed it."""
        self._closing.clear()
        editor = self.editor
        node = editor.mrmlSegmentEditorNode()
        if node is None or node.GetScene() is not slicer.mrmlScene:
            # Before the scene: otherwise the editor works on the first segmentation that it finds.
            editor.setMRMLSegmentEditorNode(_editor_node())
        if editor.mrmlScene() is not slicer.mrmlScene:
            editor.setMRMLScene(slicer.mrmlScene)

    def _detach(self, *_event: object) -> None:
        """Let the editor listen to nothing: on its own it would take the next segmentation of the scene."""
        self._closing.clear()
        if self.editor is None or self.editor.mrmlScene() is None:
            return
        if self.editor.mrmlSegmentEditorNode() is not None:
            self.editor.setSegmentationNode(None)
        if slicer.mrmlScene.IsClosing():
            # It reads its node again only when the scene is closed, and forgets what it shows.
            self._closing.add(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._detach)
            return
        self.editor.setMRMLSegmentEditorNode(None)
        self.editor.setMRMLScene(None)

    def _mask(self) -> None:
        """Restrict the brush to uncertain voxels, or free it, as the user has ticked."""
        error_map = self._nodes.maps.get("error_probability") if self._nodes is not None else None
        self.ui.unsureBox.enabled = error_map is not None
        self.ui.unsureLimitBox.enabled = error_map is not None and self.ui.unsureBox.checked
        node = self.editor.mrmlSegmentEditorNode() if self.editor is not None else None
        if node is None:
            return
        if self._is_running and self.ui.unsureBox.checked and error_map is not None:
            node.SetAndObserveSourceVolumeNode(error_map)
            node.SetSourceVolumeIntensityMaskRange(self.ui.unsureLimitBox.value / 100, 1.0)
            node.SetSourceVolumeIntensityMask(True)
            if node.GetAttribute("SegWithU.Brush") is None:  # closing a scene resets the node
                for name, value in _BRUSH.items():
                    node.SetAttribute(name, value)
        else:
            self._take_off()

    def _take_off(self) -> None:
        """Free the brush, and let the tools use the image again."""
        node = self.editor.mrmlSegmentEditorNode() if self.editor is not None else None
        if node is not None:
            node.SetSourceVolumeIntensityMask(False)
            inputs = self._nodes.inputs if self._nodes is not None else []
            node.SetAndObserveSourceVolumeNode(inputs[0] if inputs else None)

    def _select(self) -> None:
        """Select the structure's segment, unless the user has deleted it."""
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if self.editor is None or segmentation is None or self._nodes is None:
            return
        values = [each.value for each in self._nodes.case.structures if each.name == self._structure]
        for identifier in map(segment_id, values):
            is_there = segmentation.GetSegmentation().GetSegment(identifier) is not None
            if is_there and self.editor.currentSegmentID() != identifier:
                self.editor.setCurrentSegmentID(identifier)

    def _let_go(self) -> None:
        if self.editor is None:
            return
        try:
            self.editor.setActiveEffect(None)
            self.editor.removeViewObservations()
            self.editor.uninstallKeyboardShortcuts()
        finally:
            self._take_off()

    def _make(self) -> Any:
        editor = slicer.qMRMLSegmentEditorWidget()
        # The image is shown already; the editor would take the foreground (a PET, the overlay) away.
        editor.autoShowSourceVolumeNode = False
        editor.setSegmentationNodeSelectorVisible(False)
        editor.setSourceVolumeNodeSelectorVisible(False)
        editor.setSwitchToSegmentationsButtonVisible(False)
        editor.setAddRemoveSegmentButtonsVisible(False)
        editor.setEffectNameOrder(list(EFFECTS))
        editor.unorderedEffectsVisible = False
        editor.setMaximumNumberOfUndoStates(_UNDO_STATES)
        _arrange(editor)
        self.ui.editButton.layout().addWidget(editor)
        return editor


def _arrange(editor: Any) -> None:
    """Put the tools in one row, over structures and options: side by side, as Slicer has them, they need 750 px."""
    editor.setShow3DButtonVisible(False)
    editor.effectButtonStyle = qt.Qt.ToolButtonIconOnly
    editor.effectColumnCount = len(EFFECTS) + 1
    for name in ("UndoButton", "RedoButton"):
        for button in slicer.util.findChildren(editor, name=name):
            button.setToolButtonStyle(qt.Qt.ToolButtonIconOnly)
    for browser in slicer.util.findChildren(editor, name="EffectHelpBrowser"):
        browser.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
    for masking in slicer.util.findChildren(editor, name="MaskingGroupBox"):
        masking.collapsed = True  # the tick over the tools sets it
    layout = editor.layout()
    for place in range(layout.count() if layout is not None else 0):
        columns = layout.itemAt(place).layout()
        first = columns.itemAt(0) if columns is not None else None
        if first is not None and first.layout() is not None:  # tools in the first column, the rest in the second
            columns.setDirection(qt.QBoxLayout.TopToBottom)
            first.layout().setDirection(qt.QBoxLayout.LeftToRight)


def _editor_node() -> "slicer.vtkMRMLSegmentEditorNode":
    """Return an editor node of our own, so that Slicer's module keeps its settings; made where the scene has none."""
    found = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
    if found is not None:
        return found
    node = slicer.vtkMRMLSegmentEditorNode()
    node.SetSingletonTag(EDITOR_TAG)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)
