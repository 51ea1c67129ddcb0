"""The section "Inputs": model and head, one volume per channel, region of interest, device."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from SegWithUCore.models.bundle import LEAST_HEAD_MM
from SegWithUCore.util.paths import user_models_folder

from ..cases.case_switch import IMAGE_ATTRIBUTE
from ..guarded import guarded
from ..i18n import _
from ..parameters import Parameters
from ..run.model_store import ModelInfo
from ..run.session import WHEELS_SETTING, Debounce, set_setting, setting
from ..scene.case_nodes import is_ours
from ..scene.slice_views import crosshair, shown_volumes
from ..scene.volume_export import propose_roi, size_ras
from .mask_table import MaskTable
from .widgets import GuiConnections

_SELECTOR_PX = 80
_CHANNELS_ROW = 3
"""Of the form: below the text of the model."""
ADDED_MS = 300
_LARGER = 1.15
"""Beyond this multiple of the largest training image a region is asked for; as in the engine's own check."""
_PLACED = 1.5
"""Beyond this multiple boxes are placed; as in the engine."""


class InputPanel:
    """The section "Inputs".

    Args:
        ui: the widgets of the .ui file.
        models: those that can be chosen.
        on_change: called after each choice of the user.
    """

    def __init__(self, ui: Any, models: Sequence[ModelInfo], on_change: Callable[[], None]) -> None:
        self.ui = ui
        self.models = list(models)
        self._on_change = on_change
        self._parameters: Parameters | None = None
        self._roi: Any = None
        self._selectors: list[Any] = []
        self._gui = GuiConnections()
        self.mask_table = MaskTable(ui.maskTable, on_change)
        # A volume that is being loaded has no image yet, and one of a case no sign of it.
        self.added_later = Debounce(ADDED_MS, self._volume_added)
        ui.modelBox.addItems([model.name for model in self.models])
        # The default allows files and folders, and then Browse asks for a file.
        ui.wheelsEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.wheelsEdit.currentPath = setting(WHEELS_SETTING)
        self._gui.connect(ui.modelBox, self._model_chosen)
        self._gui.connect(ui.headBox, self._head_chosen)
        self._gui.connect(ui.handlesBox, self.show_handles, self._has_handles)
        ui.proposeButton.connect("clicked(bool)", guarded(self.propose))
        ui.maskSelector.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", guarded(self._mask_removed))
        for signal in ("currentPathChanged(QString)", "validInputChanged(bool)"):  # only the second if it is emptied
            ui.wheelsEdit.connect(signal, guarded(lambda _: set_setting(WHEELS_SETTING, ui.wheelsEdit.currentPath)))

    @property
    def model(self) -> ModelInfo | None:
        """The chosen model."""
        index = self.ui.modelBox.currentIndex
        return self.models[index] if 0 <= index < len(self.models) else None

    @property
    def head(self) -> str:
        """The chosen uncertainty head; empty for the model's default."""
        index = self.ui.headBox.currentIndex
        return self.model.heads[index] if self.model is not None and index > 0 else ""

    @property
    def volumes(self) -> list["slicer.vtkMRMLScalarVolumeNode | None"]:
        """The chosen volume of each channel; one that is just being removed from the scene is none any more."""
        nodes = [selector.currentNode() for selector in self._selectors]
        return [node if node is not None and node.GetScene() is not None else None for node in nodes]

    @property
    def is_complete(self) -> bool:
        """Whether a run could be started."""
        return self.model is not None and bool(self._selectors) and None not in self.volumes

    def bind(self, parameters: Parameters | None) -> None:
        """Show the choices of a parameter node; None between two scenes."""
        self._parameters = parameters
        if parameters is None:
            return
        names = [model.name for model in self.models]
        with self._gui.updating():
            if names:
                self.ui.modelBox.currentIndex = names.index(parameters.model) if parameters.model in names else 0
            chosen = list(parameters.channels)
            self._fill_heads(parameters.head)
            self._make_selectors()
            for selector, volume in zip(self._selectors, chosen, strict=False):
                selector.setCurrentNode(volume)
        self._show_model()

    def choose(
        self, volume: "slicer.vtkMRMLScalarVolumeNode", roi: "slicer.vtkMRMLMarkupsROINode | None", model: str = ""
    ) -> None:
        """Choose inputs in place of the user."""
        if self._parameters is None:
            return
        names = [one.name for one in self.models]
        if model in names:
            self.ui.modelBox.currentIndex = names.index(model)
        self._parameters.roi = roi
        self.show_handles(True)
        if self._selectors:
            self._selectors[0].setCurrentNode(volume)
        self._changed()

    def show_models(self, models: Sequence[ModelInfo]) -> None:
        """Offer other models; the chosen one stays if it is still there."""
        before, self.models = self.model, list(models)
        with self._gui.updating():
            self.ui.modelBox.clear()
            self.ui.modelBox.addItems([model.name for model in self.models])
        self.bind(self._parameters)
        if self.model != before:
            self._on_change()

    def choose_shown(self) -> None:
        """Choose the image that the views show, or the only one there is, if the user has chosen none yet."""
        if self._parameters is None or len(self._selectors) != 1 or self.volumes != [None]:
            return
        # The image of a case that is being looked at is none to be segmented.
        offered = [node for node in self.offered() if not node.GetAttribute(IMAGE_ATTRIBUTE)]
        shown = [node for node in offered if node.GetID() in shown_volumes()[0]]
        if len(shown or offered) == 1:
            self._selectors[0].setCurrentNode((shown or offered)[0])

    def offered(self) -> list["slicer.vtkMRMLScalarVolumeNode"]:
        """List the volumes that can be chosen for the first channel."""
        first = self._selectors[0]
        offered = [first.nodeFromIndex(index) for index in range(first.nodeCount())]
        return [node for node in offered if node is not None]

    def show_mask(self) -> None:
        """Show what the segments of the chosen mask stand for in the chosen model."""
        names = self.model.structures if self.model is not None else ()
        if self.model is not None and self.model.sides and self.is_complete and self._is_larger(_PLACED):
            names = tuple(f"{side} {name}" for side in self.model.sides for name in names)
        self.mask_table.show(self._parameters, names)

    def _volume_added(self) -> None:
        if self.ui.modelBox.visible and self.ui.modelBox.enabled:
            self.hide_own_maps()
            self.choose_shown()

    def hide_own_maps(self) -> None:
        """Leave our own maps out of the selectors: to be called when such nodes were added."""
        hidden = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_ours(node)]
        for selector in self._selectors:
            selector.sortFilterProxyModel().hiddenNodeIDs = hidden

    def propose(self) -> None:
        """Add a region of the model's field of view around the crosshair, or in the middle of the volume."""
        model, volume = self.model, next(iter(self.volumes), None)
        if self._parameters is None or model is None or volume is None or model.field_of_view_mm is None:
            return
        self._parameters.roi = propose_roi(volume, crosshair(), model.field_of_view_mm)
        self.show_handles(True)
        self._changed()

    def show_handles(self, visible: bool) -> None:
        """Show the box of the region with handles to move it, or hide it."""
        roi = self._parameters.roi if self._parameters is not None else None
        if roi is not None and roi.GetDisplayNode() is not None:
            roi.GetDisplayNode().SetVisibility(visible)
            roi.GetDisplayNode().SetHandlesInteractive(visible)
        self.draw_handles()

    def draw_handles(self) -> None:
        """Show whether the chosen region has handles; the region before is hidden once the whole image is chosen."""
        roi = self._parameters.roi if self._parameters is not None else None
        display = self._roi.GetDisplayNode() if self._roi is not None and roi is None else None
        if display is not None and self._parameters is not None:
            display.SetVisibility(False)
        self._roi = roi
        self.ui.handlesBox.enabled = roi is not None
        self._gui.refresh()

    def _has_handles(self) -> bool:
        roi = self._parameters.roi if self._parameters is not None else None
        display = roi.GetDisplayNode() if roi is not None else None
        return display is not None and bool(display.GetVisibility() and display.GetHandlesInteractive())

    def hint(self) -> str:
        """Return a message that names the next click."""
        if not self.models:
            text = _("There is no model: put a model folder into {folder} and open the module again.")
            return text.format(folder=user_models_folder())
        if not self.is_complete:
            model = self.model
            missing = [c for c, v in zip(model.channels if model else (), self.volumes, strict=False) if v is None]
            return _("Press Try it, or choose the {channel} volume.").format(channel=", ".join(missing))
        if self._is_larger():
            if self.model is not None and self.model.places_boxes and min(size_ras(self.volumes[0])) >= LEAST_HEAD_MM:
                return _("Press Apply: the structures are found in the whole image.")
            text = _("The model '{model}' was trained on images of about {size} mm: press Propose for such a region.")
            assert self.model is not None and self.model.field_of_view_mm is not None
            size = " x ".join(f"{length:.0f}" for length in self.model.field_of_view_mm)
            return text.format(model=self.model.name, size=size)
        mask = self.ui.maskSelector.currentNode()
        if mask is not None:
            return _("Press Apply: the model judges {mask}.").format(mask=mask.GetName())
        return _("Press Apply.")

    def set_enabled(self, enabled: bool) -> None:
        """Check whether inputs can be changed: not during a run."""
        names = "tryItButton modelBox maskSelector maskTable roiSelector headBox deviceBox engineBox wheelsEdit"
        for widget in [*(getattr(self.ui, name) for name in names.split()), *self._selectors]:
            widget.enabled = enabled
        self._enable_propose(enabled)

    def _fill_heads(self, chosen: str = "") -> None:
        """Offer the heads of the model, where there is a choice."""
        heads = self.model.heads if self.model else ()
        box = self.ui.headBox
        box.clear()
        for number, head in enumerate(heads):
            box.addItem(head if number else _("{head} (default)").format(head=head))
        box.currentIndex = heads.index(chosen) if chosen in heads else 0
        box.visible = self.ui.headLabel.visible = len(heads) > 1

    def _make_selectors(self) -> None:
        """Make one selector per channel, named as the model names it."""
        channels = self.model.channels if self.model else ()
        if [selector.toolTip for selector in self._selectors] == [_tool_tip(channel) for channel in channels]:
            return
        layout = self.ui.inputsButton.layout()
        for _selector in self._selectors:
            layout.removeRow(_CHANNELS_ROW)
        self._selectors = [self._selector(channel) for channel in channels]
        for row, channel in enumerate(channels, _CHANNELS_ROW):
            layout.insertRow(row, _("{channel} volume:").format(channel=channel), self._selectors[row - _CHANNELS_ROW])
        self.hide_own_maps()

    def _selector(self, channel: str) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False  # label maps, vectors and diffusion volumes derive from scalar volumes
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.noneDisplay = _("Choose a volume")
        selector.setToolTip(_tool_tip(channel))
        # A long name must not widen the panel.
        selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        selector.setMinimumWidth(_SELECTOR_PX)
        selector.setMRMLScene(slicer.mrmlScene)
        self._gui.connect_signal(selector, "nodeAdded(vtkMRMLNode*)", lambda _volume: self.added_later.trigger())
        self._gui.connect_signal(selector, "currentNodeChanged(vtkMRMLNode*)", self._channel_chosen)
        return selector

    def _mask_removed(self, node: Any) -> None:
        """Choose no mask in place of one that is deleted: the selector would take another one."""
        if node is self.ui.maskSelector.currentNode():
            self.ui.maskSelector.setCurrentNode(None)

    def _channel_chosen(self, _volume: Any) -> None:
        if self._parameters is not None:
            self._parameters.channels = self.volumes
            self._changed()

    def _model_chosen(self, _index: int) -> None:
        if self._parameters is None or self.model is None:
            return
        kept = self.volumes
        self._parameters.model = self.model.name
        with self._gui.updating():
            self._fill_heads()
        self._parameters.head = ""
        self._make_selectors()
        for selector, volume in zip(self._selectors, kept, strict=False):
            selector.setCurrentNode(volume)
        self._changed()

    def _head_chosen(self, _index: int) -> None:
        if self._parameters is not None:
            self._parameters.head = self.head
            self._changed()

    def _changed(self) -> None:
        self._show_model()
        self._on_change()

    def _show_model(self) -> None:
        model = self.model
        if model is None:
            self.ui.modelLabel.text = ""
            return
        note = "" if model.calibrated else " " + _("Not calibrated: the model has no error probability.")
        self.ui.modelLabel.text = "\n".join([*model.warnings, model.task + note])
        self._enable_propose(True)

    def _enable_propose(self, enabled: bool) -> None:
        knows_size = self.model is not None and self.model.field_of_view_mm is not None
        has_volume = bool(self._selectors) and self.volumes[0] is not None
        self.ui.proposeButton.enabled = enabled and knows_size and has_volume

    def _is_larger(self, factor: float = _LARGER) -> bool:
        """Return whether the volume is larger than training cases, and no region is chosen."""
        model, volume = self.model, self.volumes[0]
        if model is None or model.field_of_view_mm is None or self.ui.roiSelector.currentNode() is not None:
            return False
        size = size_ras(volume)
        return any(own > factor * seen for own, seen in zip(size, model.field_of_view_mm, strict=True))


def wheels_problem() -> str:
    """Return why the chosen folder of wheels cannot be used, empty if it can or if none is chosen."""
    wheels = setting(WHEELS_SETTING)
    if wheels and not Path(wheels).is_dir():
        return _("There is no folder {path}: open Advanced and choose another one.").format(path=wheels)
    return ""


def _tool_tip(channel: str) -> str:
    return _("The {channel} image. Label maps and our own results are not offered.").format(channel=channel)
