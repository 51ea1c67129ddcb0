"""Real MRML: scene, cache, application logic and module logics of slicer-core, wired as the application wires them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

from .color_files import write_color_files
from .strict import record
from .terminology_files import write_terminology_files

MODULE_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Models": "vtkSlicerModelsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Data": "vtkSlicerDataModuleLogic",
}
# nodes that the application's subject hierarchy plugins take on as soon as they are added
_OWNED_BY_HIERARCHY = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLModelNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLTransformNode",
    "vtkMRMLSequenceNode",
    "vtkMRMLPlotChartNode",
)


class MrmlCore:
    """The scene and every logic of one application."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.scene = slicer.vtkMRMLScene()
        self._hierarchy_tags: list[int] = []
        self._make_cache()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.application_logic = self._make_application_logic()
        self.module_logics = {name: self._make_logic(name, cls) for name, cls in MODULE_LOGICS.items()}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self._follow_hierarchy()

    def _make_cache(self) -> None:
        cache = self._folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(cache))
        self._data_io = slicer.vtkDataIOManager()
        self._data_io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._data_io)

    def _make_application_logic(self) -> Any:
        home = self._folder / "home"
        write_color_files(home)
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(self.scene)
        logic.SetHomeDirectory(str(home))
        logic.SetShareDirectory("share/Slicer")
        logic.SetTemporaryPath(str(self._folder))
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        return logic

    def _make_logic(self, name: str, class_name: str) -> Any:
        logic = getattr(slicer, class_name)()
        if name == "Terminologies":
            logic.SetModuleShareDirectory(str(write_terminology_files(self._folder)))
        logic.SetMRMLApplicationLogic(self.application_logic)  # before the scene: the colour files are read then
        logic.SetMRMLScene(self.scene)
        self.application_logic.SetModuleLogic(name, logic)
        return logic

    def _follow_hierarchy(self) -> None:
        for event, react in (("NodeAddedEvent", self._adopt), ("NodeAboutToBeRemovedEvent", self._let_go)):
            reactwith_node = with_node(react)
            self._hierarchy_tags.append(self.scene.AddObserver(getattr(self.scene, event), reactwith_node))

    def _adopt(self, node: Any) -> None:
        if node.IsA("vtkMRMLSegmentationNode"):
            self._check_item(node)
            node.AddObserver(node.SegmentationChangedEvent, lambda caller, _event: self._check_item(caller))
        if node.GetHideFromEditors() or self.scene.IsImporting():
            return
        if any(node.IsA(kind) for kind in _OWNED_BY_HIERARCHY):
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
            if hierarchy and not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _check_item(self, node: Any) -> None:
        """Complain as the plugin of segmentations does, which makes an item for each segment."""
        if not node.GetHideFromEditors() or node.GetScene() is not self.scene or self.scene.IsImporting():
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        has_segments = node.GetSegmentation() is not None and node.GetSegmentation().GetNumberOfSegments()
        if has_segments and hierarchy is not None and not hierarchy.GetItemByDataNode(node):
            record("critical", node.GetName(), "unable to find subject hierarchy item for segmentation node")

    def _let_go(self, node: Any) -> None:
        if self.scene.IsClosing() or not any(node.IsA(kind) for kind in _OWNED_BY_HIERARCHY):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    def close(self) -> None:
        """Let go of everything."""
        for tag in self._hierarchy_tags:
            self.scene.RemoveObserver(tag)
        self.scene.Clear(1)
        for name, logic in self.module_logics.items():
            if name != "SubjectHierarchy":  # it warns about the missing scene
                logic.SetMRMLScene(None)
        self.application_logic.SetMRMLScene(None)


def with_node(react: Any) -> Any:
    """Make an observer of a function that takes the node which an event of the scene is about."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def observed(caller: Any, event: str, node: Any) -> None:
        react(node)

    return observed
