"""qMRMLNodeComboBox: the nodes of a scene that pass the filters, kept in step with the scene."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import shiboken6
from PySide6 import QtCore, QtWidgets

from ..qt_module import QT
from .node_filter import NodeFilter
from .stand_in import stand_in, stored

_SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent", "EndImportEvent")


class _SceneWatch:
    """Observers on the scene and on the listed nodes, removed with the combo box."""

    def __init__(self, owner: Any) -> None:
        self._owner = weakref.ref(owner)
        self._tags: list[tuple[Any, int]] = []
        self._node_tags: dict[Any, int] = {}

    def _changed(self, *_: Any) -> None:
        owner = self._owner()
        if owner is None or not shiboken6.isValid(owner):
            self.stop()
        else:
            owner._refresh()

    def start(self, scene: Any) -> None:
        for event in _SCENE_EVENTS:
            self._tags.append((scene, scene.AddObserver(getattr(scene, event), self._changed)))

    def watch_nodes(self, nodes: list[Any]) -> None:
        for node in [known for known in self._node_tags if known not in nodes]:
            node.RemoveObserver(self._node_tags.pop(node))
        for node in nodes:
            if node not in self._node_tags:
                self._node_tags[node] = node.AddObserver("ModifiedEvent", self._changed)

    def stop(self) -> None:
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()
        self.watch_nodes([])


@stand_in
class qMRMLSortFilterProxyModel(QT.QSortFilterProxyModel):
    """Which nodes a selector lists; only the list of hidden ones is here."""

    def __init__(self, owner: Any = None) -> None:
        super().__init__(owner)
        self._owner = owner

    def _hide(self, node_ids: list[str]) -> None:
        self._owner._refiltered("hidden_ids", list(node_ids))

    hiddenNodeIDs = QtCore.Property("QStringList", lambda self: self._owner._filter.hidden_ids, _hide)


@stand_in
class qMRMLNodeComboBox(QT.QWidget):
    """Selector of one node."""

    currentNodeChanged = QtCore.Signal(object)
    _currentNodeValid = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    currentNodeRenamed = QtCore.Signal(str)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeActivated = QtCore.Signal(object)
    _signals: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_currentNodeValid",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "currentNodeRenamed(QString)": "currentNodeRenamed",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._filter = NodeFilter()
        self._current: Any = None
        self._requested: Any = None
        self._current_name = ""
        self._nodes: list[Any] = []
        self._labels: dict[str, str] = {}
        self._watch = _SceneWatch(self)
        self._proxy = qMRMLSortFilterProxyModel(self)
        self._box = QtWidgets.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.activated.connect(self._chosen)
        self.setEnabled(False)  # until there is a scene

    def setMRMLScene(self, scene: Any) -> None:
        """List the nodes of this scene from now on (None: of no scene)."""
        if scene is self._scene:
            return
        self._watch.stop()
        first, self._scene = self._scene is None, scene
        if scene is not None:
            self._watch.start(scene)
        self._refresh()
        if first and self._requested is not None:
            self.setCurrentNode(self._requested)
        self._requested = None
        self.setEnabled(scene is not None)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def sortFilterProxyModel(self) -> Any:
        """The model behind the list."""
        return self._proxy

    def _choices(self) -> list[Any]:
        return [None, *self._nodes] if self._stored("noneEnabled", False) else list(self._nodes)

    def _stored(self, name: str, default: Any) -> Any:
        return self.__dict__.get(f"_stored_{name}", default)

    def _refresh(self) -> None:
        """Read the scene again, also in the middle of a batch, as Slicer's scene model does."""
        before = set(self._nodes)
        self._nodes = self._filter.listed(self._scene)
        self._watch.watch_nodes(self._filter.candidates(self._scene))
        keep = self._current if self._current in self._nodes else None
        if keep is None and self._nodes and not self._stored("noneEnabled", False):
            keep = self._nodes[0]
        self._become(keep)
        self._draw()
        for node in self._nodes:
            if node not in before:
                self.nodeAdded.emit(node)

    def _draw(self) -> None:
        self._box.clear()
        self._box.addItems([n.GetName() if n else self._stored("noneDisplay", "None") for n in self._choices()])
        self._box.setCurrentIndex(self._choices().index(self._current) if self._current in self._choices() else -1)
        name = self._current.GetName() if self._current else ""
        if self._current is not None and name != self._current_name:
            self._current_name = name
            self.currentNodeRenamed.emit(name)

    def _become(self, node: Any) -> None:
        if node is self._current:
            return
        self._current = node
        self._current_name = node.GetName() if node else ""
        self._draw()
        self.currentNodeChanged.emit(node)
        self._currentNodeValid.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _chosen(self, index: int) -> None:
        node = self._choices()[index]
        self._become(node)
        self.nodeActivated.emit(node)

    def setCurrentNode(self, node: Any) -> None:
        """Select a node, given itself or its id; one that is not listed selects nothing."""
        if self._scene is None:
            self._requested = node
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene and node else None
        if node not in self._nodes:
            node = None if self._stored("noneEnabled", False) or not self._nodes else self._current
        self._become(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        """Select a node by id."""
        self.setCurrentNode(node_id or "")

    def currentNode(self) -> Any:
        """The selected node or None."""
        return self._current

    def nodeCount(self) -> int:
        """Number of listed nodes."""
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        """The listed node at a place, or None."""
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """List only nodes of this type that have the attribute (with this value, if given)."""
        self._filter.attributes.append((node_type, name, None if value is None else str(value)))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        """Undo addAttribute."""
        self._filter.attributes = [a for a in self._filter.attributes if a[:2] != (node_type, name)]
        self._refresh()

    def _refiltered(self, field: str, value: Any) -> None:
        setattr(self._filter, field, value)
        self._refresh()

    def _set_none(self, value: bool) -> None:
        self.__dict__["_stored_noneEnabled"] = bool(value)
        self._refresh()

    nodeTypes = QtCore.Property(
        "QStringList", lambda self: self._filter.types, lambda self, v: self._refiltered("types", list(v))
    )
    hideChildNodeTypes = QtCore.Property(
        "QStringList", lambda self: self._filter.hidden_types, lambda self, v: self._refiltered("hidden_types", list(v))
    )
    showChildNodeTypes = QtCore.Property(
        bool, lambda self: self._filter.children, lambda self, v: self._refiltered("children", bool(v))
    )
    showHidden = QtCore.Property(
        bool, lambda self: self._filter.show_hidden, lambda self, v: self._refiltered("show_hidden", bool(v))
    )
    currentNodeID = QtCore.Property(
        str, lambda self: self._current.GetID() if self._current else "", lambda self, v: self.setCurrentNodeID(v)
    )
    noneEnabled = QtCore.Property(bool, lambda self: self._stored("noneEnabled", False), _set_none)
    noneDisplay = stored(str, "noneDisplay", "None")
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
