"""slicer.app.coreIOManager(): scenes, volumes, segmentations and other storable nodes, through their real storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore

from .qt_module import QT
from .widgets.stand_in import stand_in

_BY_SUFFIX = {
    ".mrb": "SceneFile",
    ".mrml": "SceneFile",
    ".seg.nrrd": "SegmentationFile",
    ".nrrd": "VolumeFile",
    ".nhdr": "VolumeFile",
    ".nii": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".mha": "VolumeFile",
    ".mrk.json": "MarkupsFile",
    ".csv": "TableFile",
    ".tsv": "TableFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".ctbl": "ColorTableFile",
    ".vtk": "ModelFile",
    ".ply": "ModelFile",
    ".txt": "TextFile",
}
_STORAGE = {
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "TableFile": ("vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
    "TransformFile": ("vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    "ModelFile": ("vtkMRMLModelNode", "vtkMRMLModelStorageNode"),
    "TextFile": ("vtkMRMLTextNode", "vtkMRMLTextStorageNode"),
    "ColorTableFile": ("vtkMRMLColorTableNode", "vtkMRMLColorTableStorageNode"),
}


def _stem(path: str) -> str:
    name = Path(path).name
    suffix = max((s for s in _BY_SUFFIX if name.lower().endswith(s)), key=len, default=Path(name).suffix)
    return name[: len(name) - len(suffix)] if suffix else name


def write_scene(scene: Any, path: Path) -> bool:
    """Save the scene: .mrb bundles everything, .mrml writes the nodes' files beside it."""
    if path.suffix == ".mrb":
        return bool(scene.WriteToMRB(str(path)))
    scene.SetURL(str(path))
    scene.SetRootDirectory(str(path.parent))
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        suffix = _suffix_of(node) if node.GetSaveWithScene() and node.GetModifiedSinceRead() else ""
        if suffix:
            _write_node(node, str(path.parent / f"{node.GetName()}{suffix}"))
    return bool(scene.Commit(str(path)))


def read_scene(scene: Any, path: Path, clear: bool) -> bool:
    """Load a scene; with clear it replaces the present one."""
    if not path.is_file():
        return False
    if path.suffix == ".mrb":
        messages = slicer.vtkMRMLMessageCollection()
        loaded = scene.ReadFromMRB(str(path), clear, messages)
        # False though everything was loaded, when a node class of the bundle is not registered: then no error is told
        return bool(loaded) or messages.GetNumberOfMessagesOfType(vtk.vtkCommand.ErrorEvent) == 0
    scene.SetURL(str(path))
    return bool(scene.Connect() if clear else scene.Import())


def _suffix_of(node: Any) -> str:
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode("")
    storage = node.GetStorageNode()
    return f".{storage.GetDefaultWriteFileExtension()}" if storage else ""


def _write_node(node: Any, path: str) -> bool:
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode(path)
    storage = node.GetStorageNode()
    storage.SetFileName(path)
    return bool(storage.WriteData(node))


@stand_in
class qSlicerCoreIOManager(QT.QObject):
    """Loads and saves files for slicer.util."""

    newFileLoaded = QtCore.Signal(object)
    fileSaved = QtCore.Signal(object)
    _signals: ClassVar[dict[str, str]] = {
        "newFileLoaded(qSlicerIO::IOProperties)": "newFileLoaded",
        "fileSaved(qSlicerIO::IOProperties)": "fileSaved",
    }

    def fileType(self, file_name: str) -> str:
        """Type by the longest known suffix."""
        known = [suffix for suffix in _BY_SUFFIX if file_name.lower().endswith(suffix)]
        return _BY_SUFFIX[max(known, key=len)] if known else "NoFile"

    def fileWriterFileType(self, node: Any, file_format: str = "") -> str:
        """Type under which a node is saved; here one for all nodes."""
        return f"{node.GetClassName()}File"

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None) -> bool:
        """Load one file into the scene."""
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return read_scene(slicer.mrmlScene, Path(path), bool(properties.get("clear", False)))
        node = self._load(file_type, path, properties) if Path(path).is_file() else None
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        self.newFileLoaded.emit(dict(properties))
        return True

    @staticmethod
    def _load(file_type: str, path: str, properties: dict[str, Any]) -> Any:
        name = str(properties.get("name") or _stem(path))
        if file_type == "VolumeFile":
            options = 1 if properties.get("labelmap") else 0
            node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
            if node and properties.get("show", True) and not properties.get("labelmap"):
                selection = slicer.app.applicationLogic().GetSelectionNode()
                selection.SetReferenceActiveVolumeID(node.GetID())
                slicer.app.applicationLogic().PropagateVolumeSelection()
            return node
        if file_type == "MarkupsFile":
            return slicer.mrmlScene.GetNodeByID(slicer.modules.markups.logic().LoadMarkups(path, name) or "")
        node_class, storage_class = _STORAGE[file_type]
        node = slicer.mrmlScene.AddNewNodeByClass(node_class, name)
        storage = slicer.mrmlScene.AddNewNodeByClass(storage_class)
        storage.SetFileName(path)
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            slicer.mrmlScene.RemoveNode(storage)
            return None
        node.SetAndObserveStorageNodeID(storage.GetID())
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any = None) -> bool:
        """Save the scene or one node."""
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return write_scene(slicer.mrmlScene, Path(path))
        return _write_node(slicer.mrmlScene.GetNodeByID(properties["nodeID"]), path)
