"""Which nodes of a scene a node selector lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class NodeFilter:
    """Types, hidden sub-types, attributes and the hide-from-editors flag."""

    types: list[str] = field(default_factory=list)
    hidden_types: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str | None]] = field(default_factory=list)
    children: bool = True
    show_hidden: bool = False
    hidden_ids: list[str] = field(default_factory=list)

    def candidates(self, scene: Any) -> list[Any]:
        """Nodes of the listed types, whatever their attributes are now."""
        if scene is None:
            return []
        found = []
        for index in range(scene.GetNumberOfNodes()):
            node = scene.GetNthNode(index)
            if any(node.IsA(kind) if self.children else node.GetClassName() == kind for kind in self.types):
                found.append(node)
        return found

    def listed(self, scene: Any) -> list[Any]:
        """Nodes to show, in the order of the scene."""
        return [node for node in self.candidates(scene) if self._passes(node)]

    def _passes(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.show_hidden:
            return False
        if node.GetID() in self.hidden_ids:
            return False
        if any(node.IsA(kind) for kind in self.hidden_types):
            return False
        for kind, name, value in self.attributes:
            if node.IsA(kind):
                has = node.GetAttribute(name)
                if has is None or (value is not None and has != value):
                    return False
        return True
