"""Segment with uncertainty: the scripted module. Wiring only; SegWithUSlicerLib and SegWithUCore do the work."""

# ruff: noqa: N802, N803  (Slicer calls these names, and scripts know its style)

from __future__ import annotations

import sys
import time
import unittest
from collections.abc import Sequence
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from SegWithUCore.util.paths import resource_path
from SegWithUSlicerLib.guarded import guarded
from SegWithUSlicerLib.parameters import Parameters
from SegWithUSlicerLib.run.model_store import list_models

_OUR_PACKAGES = ("SegWithUCore", "SegWithUSlicerLib")
_DEPENDENCIES = ("Colors", "Markups", "SegmentEditor", "Segmentations", "SubjectHierarchy", "Volumes")
"""Modules whose nodes, logics and widgets are used: Slicer loads them before this one."""
_CONTRIBUTORS = "SegWithUSlicer contributors (github.com/SegWithUSlicer)"
_DOCUMENTATION = "https://github.com/SegWithUSlicer/SlicerSegWithU/blob/main/docs/user/slicer.md"


class SegWithUSlicer(ScriptedLoadableModule):
    """Registers the module with Slicer."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("Segment with Uncertainty")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = list(_DEPENDENCIES)
        parent.contributors = [_CONTRIBUTORS]
        parent.helpText = _(
            "Segments a volume and shows where the segmentation may be wrong. Press <b>Try it</b>, then <b>Apply</b>; "
            "colours show where to look first. No colour does not mean that the segmentation "
            "is correct. Further models are in the section <b>Models</b>. For research, not for clinical use."
        )
        link = _('For more information see the <a href="{url}">online documentation</a>.').format(url=_DOCUMENTATION)
        parent.helpText += f"<p>{link}</p>"
        parent.acknowledgementText = _(
            'The method is SegWithU: Fu et al., <a href="https://arxiv.org/abs/2604.15271">arXiv:2604.15271</a>, 2026. '
            "Please cite it if you use this module. The hippocampus model was trained on the Medical Segmentation "
            "Decathlon (Antonelli et al., Nature Communications 13, 4128, 2022), and its weights are licensed under "
            "CC-BY-SA 4.0, as the images are. The brain model was trained on images synthesised from label maps of "
            "SynthSeg (Billot et al., Medical Image Analysis 86, 102789, 2023). It and the software have the licence "
            "Apache-2.0."
        )
        parent.icon = qt.QIcon(str(resource_path("Icons/SegWithUSlicer.png")))
        slicer.app.connect("startupCompleted()", _on_startup_completed)


@guarded
def _on_startup_completed() -> None:
    from SegWithUSlicerLib.run.private_folder import remove_leftovers
    from SegWithUSlicerLib.run.session import temporary_root

    remove_leftovers(temporary_root())


class SegWithUSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects the panel with scene and application events."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: SegWithUSlicerLogic | None = None
        self.panel: Any = None

    def resourcePath(self, filename: str) -> str:
        """Return the path of a file in Resources/, next to the module or at the top of a source checkout."""
        return str(resource_path(filename))

    def setup(self) -> None:
        """Load the panel and observe the scene."""
        from SegWithUSlicerLib.panels.module_panel import ModulePanel

        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/SegWithUSlicer.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = SegWithUSlicerLogic()
        self.panel = ModulePanel(self.ui, list_models())
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneReady)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneReady)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self._bind_panel()

    @guarded
    def enter(self) -> None:
        """React to the module being shown."""
        self.panel.enter()

    @guarded
    def exit(self) -> None:
        """React to another module being shown; a run continues."""
        self.panel.exit()

    @guarded
    def cleanup(self) -> None:
        """React to the module being unloaded or reloaded, or to Slicer quitting."""
        from SegWithUSlicerLib.run.session import end_session

        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
        end_session()

    @guarded
    def onSceneStartClose(self, caller: Any, event: str) -> None:
        """Cancel before the scene is emptied: a run would have nowhere to put its result."""
        self.panel.scene_closes()

    @guarded
    def onSceneReady(self, caller: Any, event: str) -> None:
        """Show the empty or loaded scene: references are valid only now, so a new wrapper reads them."""
        self._bind_panel()

    def _bind_panel(self) -> None:
        if self.logic is not None:
            self.panel.bind(self.logic.getParameterNode())

    @guarded
    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller: Any, event: str, node: Any) -> None:
        """React to a removed node: an input may be gone, or a part of a result."""
        if not slicer.mrmlScene.IsClosing():
            self.panel.node_removed(node)

    @guarded
    def onReload(self) -> None:
        """Reload the whole module: Slicer itself reloads only this file."""
        from SegWithUSlicerLib.run.session import end_session

        end_session()
        for name in [name for name in sys.modules if name.split(".")[0] in _OUR_PACKAGES]:
            del sys.modules[name]
        super().onReload()
        if slicer.util.selectedModule() == self.moduleName:  # Slicer enters only what was left
            slicer.util.getModuleWidget(self.moduleName).enter()


class SegWithUSlicerLogic(ScriptedLoadableModuleLogic):
    """Runs the module from scripts.

    Example:
        nodes = SegWithUSlicerLogic().process(slicer.util.getNode("T1"), roiNode=slicer.util.getNode("R"))
        print(slicer.util.arrayFromVolume(nodes.maps["error_probability"]).max())
    """

    def getParameterNode(self) -> Parameters:
        """Return what the panel remembers in the scene."""
        return Parameters(super().getParameterNode())

    def process(
        self,
        volumeNode: Any,
        model: str = "",
        roiNode: Any = None,
        device: str = "auto",
        channels: Sequence[Any] = (),
        maskNode: Any = None,
        **settings: Any,
    ) -> Any:
        """Segment a volume and wait for the result; Slicer stays responsive meanwhile.

        Args:
            volumeNode: the volume of the model's first channel.
            model: name of a model, or the folder of a model bundle; by default the first one.
            roiNode: a markups ROI; only its inside is segmented and assessed.
            device: "auto", "cpu", "cuda" or "mps".
            channels: volumes of the further channels.
            maskNode: a segmentation that is judged by the model instead, its segments named as the model's structures.
            settings: further ones of a run (`SegWithUCore.inference.settings.RunSettings`), such as head="paper",
                engine="torch" or unlike_training=True.

        Returns:
            CaseNodes: `.segmentation`, `.maps` by name, `.case` with the structures.

        Raises:
            ValueError: no such model or head, or the wrong number of volumes.
            RuntimeError: the run failed, was refused or cancelled; the message names the next click.
        """
        from SegWithUCore.inference.settings import RunSettings
        from SegWithUSlicerLib.run.controller import Outcome, RunRequest
        from SegWithUSlicerLib.run.model_store import find_model
        from SegWithUSlicerLib.run.session import session

        chosen = find_model(model)
        volumes = [volumeNode, *channels]
        if len(volumes) != len(chosen.channels) or None in volumes:
            raise ValueError(f"the model '{chosen.name}' needs one volume for each of {', '.join(chosen.channels)}")
        choices = RunSettings(device=device, **settings)
        if choices.head and choices.head not in chosen.heads:
            known = ", ".join(chosen.heads)
            raise ValueError(f"the model '{chosen.name}' has no head '{choices.head}': choose one of {known}")
        controller = session().controller
        controller.start(RunRequest(volumes, chosen.folder, roiNode, maskNode, choices))
        while controller.is_busy:
            slicer.app.processEvents()
            time.sleep(0.01)
        if controller.status.outcome is not Outcome.DONE:
            raise RuntimeError(" ".join([*controller.status.warnings, controller.status.message]))
        return controller.nodes


class SegWithUSlicerTest(ScriptedLoadableModuleTest):
    """Self test for the real application: by its Reload and Test, and by ctest, which takes the test methods alone."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Segment the sample case, if the engine's packages are there."""
        self.setUp()
        try:
            self.test_sample_case()
        except unittest.SkipTest as reason:
            self.delayDisplay(f"skipped: {reason}")
        else:
            self.delayDisplay("Test passed")

    def test_sample_case(self) -> None:
        """From the sample to the overlay."""
        from SegWithUCore.inference.engines import OPENVINO
        from SegWithUCore.worker.check import PACKAGES, installed_versions
        from SegWithUSlicerLib.scene.overlay import Overlay
        from SegWithUSlicerLib.scene.sample import load_sample

        versions = installed_versions()
        needed = [one.name for one in PACKAGES if one.engine in (None, OPENVINO)]
        missing = [name for name in needed if versions[name] is None]
        if missing:  # nobody can consent to installing them
            self.skipTest(f"{', '.join(missing)} missing")
        sample = load_sample()
        nodes = SegWithUSlicerLogic().process(sample.volume, model=sample.model, device="cpu")
        self.assertEqual(nodes.segmentation.GetSegmentation().GetNumberOfSegments(), len(nodes.case.structures))
        self.assertTrue(all(structure.volume_mm3 > 0 for structure in nodes.case.structures))
        overlay = Overlay(nodes)
        self.assertGreater(overlay.show(next(iter(overlay.available))), 0)
        overlay.release()
