"""slicer.ScriptedLoadableModule and slicer.i18n."""

from __future__ import annotations

import types
import unittest
from pathlib import Path
from typing import Any

import slicer

from .qt_module import QT
from .widgets.stand_in import SLICER_CLASSES


class ScriptedLoadableModule:
    """Base of the class that describes a module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = "", [], []
        parent.contributors, parent.helpText, parent.acknowledgementText = [], "", ""
        icons = Path(parent.path).parent / "Resources" / "Icons"
        for suffix in (".svg", ".png"):
            icon = icons / f"{self.moduleName}{suffix}"
            if icon.is_file():
                parent.icon = QT.QIcon(str(icon))
                break
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        """Path beside the module's file."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        """Run the class <Module>Test."""
        import sys

        name = f"{self.moduleName}Test"
        test_class = getattr(sys.modules[type(self).__module__], name, None)
        if test_class is None:
            raise AssertionError(f"Test case class not found: {name}")
        case = test_class()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Base of the panel of a module."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent:
            self.parent = parent
        else:
            self.parent = SLICER_CLASSES["qMRMLWidget"]()
            self.parent.setLayout(QT.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if not parent:
            self.setup()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """Path beside the module's file."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Make the panel; a module calls this first."""
        self.setupDeveloperSection()

    def setupDeveloperSection(self) -> None:
        """Reload button, in developer mode only."""
        if self.developerMode:
            self.reloadButton = QT.QPushButton("Reload")
            self.reloadButton.connect("clicked()", self.onReload)
            self.layout.addWidget(self.reloadButton)

    def cleanup(self) -> None:
        """Called before the module is unloaded or reloaded."""

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def onReload(self) -> None:
        """Load the module's file again and make a new panel."""
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """Base of the logic of a module."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """The module's parameter node, made when there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node:
                node.SetAttribute("ModuleName", self.moduleName)
                return node
        else:
            existing = self.getAllParameterNodes()
            if existing:
                return existing[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        """All parameter nodes of the module."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        """A new node, not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of the self test of a module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.messageDelay = 100
        self.messages: list[str] = []

    def runTest(self) -> None:
        """To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no runTest")

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Keep the message; the real one shows it for a moment."""
        self.messages.append(message)


def build_module() -> types.ModuleType:
    """The module `slicer.ScriptedLoadableModule`; star-import gives Slicer's four classes."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in classes:
        setattr(module, cls.__name__, cls)
    module.__all__ = [cls.__name__ for cls in classes]  # type: ignore[attr-defined]
    return module


def build_i18n(translations: dict[str, str] | None = None) -> types.ModuleType:
    """The module `slicer.i18n`: texts as they are, or through a given table."""
    table = translations or {}
    module = types.ModuleType("slicer.i18n")
    module.tr = lambda text: table.get(text, text)  # type: ignore[attr-defined]
    module.translate = lambda context, text: table.get(text, text)  # type: ignore[attr-defined]
    return module
