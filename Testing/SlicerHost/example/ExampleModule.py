"""A small scripted module: the host's own tests open it, click it, save it and take its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import ctk
import numpy as np
import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class ExampleModule(ScriptedLoadableModule):
    """Registration."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("Example")
        self.parent.categories = ["Testing"]
        self.parent.contributors = ["SegWithUSlicer"]
        self.parent.helpText = _("Doubles a volume.")


def make_ramp():
    """A volume whose values rise from voxel to voxel."""
    values = np.arange(20 * 30 * 40, dtype=np.int16).reshape(20, 30, 40)
    return slicer.util.addVolumeFromArray(values, name="Ramp")


@parameterNodeWrapper
class ExampleParameters:
    """What the panel shows."""

    inputVolume: vtkMRMLScalarVolumeNode
    extraVolumes: list[vtkMRMLScalarVolumeNode]
    opacity: Annotated[float, WithinRange(0, 1)] = 0.5
    count: Annotated[int, WithinRange(1, 9)] = 3
    quiet: bool = False
    note: str = ""
    side: Annotated[str, Choice(["LEFT", "RIGHT"])] = "LEFT"
    device: Annotated[str, Choice(["auto", "cpu"])] = "auto"


class ExampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []
        self.parameters = None
        self.guiTag = None

    def setup(self):
        """Load the .ui file and connect."""
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/ExampleModule.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ExampleModuleLogic()
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.shortcut = qt.QShortcut(qt.QKeySequence("n"), panel)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.footer = ctk.ctkCollapsibleButton()
        self.footer.text = "Log"
        self.footer.collapsed = True
        self.layout.addWidget(self.footer)
        self.initialize()

    def initialize(self):
        """Connect the parameter node."""
        self.parameters = ExampleParameters(self.logic.getParameterNode())
        self.guiTag = self.parameters.connectGui(self.ui)
        self.addObserver(self.parameters, "ModifiedEvent", self.refresh)
        self.refresh()

    def refresh(self, caller=None, event=None):
        """Enable what can be clicked."""
        self.ui.applyButton.enabled = self.parameters.inputVolume is not None
        self.ui.statusLabel.text = "ready" if self.parameters.inputVolume else "choose a volume"

    def forget(self):
        """Let go of the parameter node."""
        if self.parameters is not None:
            self.removeObserver(self.parameters, "ModifiedEvent", self.refresh)
            self.parameters.disconnectGui(self.guiTag)
        self.parameters = None

    def enter(self):
        """The module is shown."""
        self.calls.append("enter")

    def exit(self):
        """The module is hidden."""
        self.calls.append("exit")

    def cleanup(self):
        """The module is unloaded."""
        self.calls.append("cleanup")
        self.forget()
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        """The scene goes away."""
        self.calls.append("start close")
        self.forget()

    def onSceneEndClose(self, caller, event):
        """The scene is empty."""
        self.calls.append("end close")
        self.initialize()

    def onSceneEndImport(self, caller, event):
        """A scene was loaded: references are valid only now, so the parameter node is read anew."""
        self.forget()
        self.initialize()

    def onApply(self):
        """The button."""
        with slicer.util.tryWithErrorDisplay(_("Failed."), waitCursor=True):
            self.logic.process(self.parameters.inputVolume, self.parameters.count)


class ExampleModuleLogic(ScriptedLoadableModuleLogic):
    """The work."""

    def process(self, volume, factor):
        """A new volume: the old one times the factor."""
        if volume is None:
            raise ValueError("no volume")
        values = slicer.util.arrayFromVolume(volume)
        return slicer.util.addVolumeFromArray(values * factor, name=f"{volume.GetName()} times {factor}")


class ExampleModuleTest(ScriptedLoadableModuleTest):
    """The self test."""

    def runTest(self):
        """Run it all."""
        slicer.mrmlScene.Clear()
        volume = make_ramp()
        made = ExampleModuleLogic().process(volume, 2)
        self.assertEqual(Path(made.GetName()).name, "Ramp times 2")
        self.delayDisplay("Test passed")
