"""The subject-hierarchy folder of a run, beside its input."""

import slicer
import vtk

from .i18n import _
from .scene.case_nodes import CaseNodes

_FOLDER_ATTRIBUTE = "SegWithU.Run"


def put_in_folder(nodes: CaseNodes) -> int:
    """Gather the run's nodes in one folder beside the input and return the folder's item id.

    Items that no plugin has made (outside the application) are made here. A folder that the user renamed or moved
    is used as it is; one that he deleted is made again.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.hub.GetScene())
    folder = _folder(hierarchy, nodes)
    for node in [*nodes.results, nodes.table]:
        if node is None:
            continue
        item = hierarchy.GetItemByDataNode(node)
        if item == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(folder, node)
        elif hierarchy.GetItemParent(item) != folder:
            hierarchy.SetItemParent(item, folder)
    return folder


def remove_folder(nodes: CaseNodes) -> None:
    """Remove the run's folder, if nothing else is in it; the nodes stay."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.hub.GetScene())
    found = _own_folder(hierarchy, nodes)
    if found is None:
        return
    own = [hierarchy.GetItemByDataNode(node) for node in [*nodes.results, nodes.table] if node is not None]
    inside = vtk.vtkIdList()
    hierarchy.GetItemChildren(found, inside)
    if {inside.GetId(index) for index in range(inside.GetNumberOfIds())} <= set(own):
        for item in own:
            hierarchy.SetItemParent(item, hierarchy.GetSceneItemID())
        hierarchy.RemoveItem(found)


def _own_folder(hierarchy: "slicer.vtkMRMLSubjectHierarchyNode", nodes: CaseNodes) -> int | None:
    """The folder of ours in which a part of the run lies."""
    invalid = hierarchy.GetInvalidItemID()
    for node in [*nodes.results, nodes.table]:
        item = invalid if node is None else hierarchy.GetItemByDataNode(node)
        parent = invalid if item == invalid else hierarchy.GetItemParent(item)
        if parent != invalid and hierarchy.GetItemAttribute(parent, _FOLDER_ATTRIBUTE):
            return int(parent)
    return None


def _folder(hierarchy: "slicer.vtkMRMLSubjectHierarchyNode", nodes: CaseNodes) -> int:
    invalid = hierarchy.GetInvalidItemID()
    found = _own_folder(hierarchy, nodes)
    if found is not None:
        return found
    beside = hierarchy.GetSceneItemID()
    if nodes.inputs:
        item = hierarchy.GetItemByDataNode(nodes.inputs[0])
        beside = beside if item == invalid else hierarchy.GetItemParent(item)
    folder = hierarchy.CreateFolderItem(beside, _("{input} with uncertainty").format(input=nodes.label))
    hierarchy.SetItemAttribute(folder, _FOLDER_ATTRIBUTE, "1")
    return folder
