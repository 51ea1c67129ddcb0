"""The nodes of a run, and the runs of a scene.

One hidden vtkMRMLScriptedModuleNode a run holds node references to its parts and the text of `case.json`. Both are
saved with the scene, and references follow renamed ids, so a run is found again after an .mrb is loaded. Map volumes
carry attributes of their own, so that selectors can leave them out and displays need nothing else; so does the label
volume of the regions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import MAP_NAMES, CaseDescription, parse_description
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json

from ..i18n import _
from .observers import nodes_of
from .segmentation import was_touched

MAP_ATTRIBUTE = "SegWithU.Map"
REGIONS_ATTRIBUTE = "SegWithU.Regions"
HUB_MODULE = "SegWithU.Run"
_HIDDEN_ATTRIBUTE = "SegWithU.Hidden"

INPUT, SEGMENTATION, MAP, BOX = "segwithu.input", "segwithu.segmentation", "segwithu.map.", "segwithu.box"
REGIONS, REGIONS_TEXT, ORIGINAL = "segwithu.regions", "segwithu.regions_text", "segwithu.original"
MASK = "segwithu.mask"
RUNNER_UP = "segwithu.runner_up"
"""The roles of a run's nodes."""
_CASE, _MODEL, _LABEL, _FOLDER = "case_json", "model", "label", "case_folder"


def _part(role: str) -> Any:
    """Make the property that is the one node of a role; None if there is none."""
    return property(lambda nodes: nodes.hub.GetNodeReference(role))


@dataclass(frozen=True)
class CaseNodes:
    """The nodes of one run, looked up at each access: what the user deleted reads as None.

    Attributes:
        segmentation: the predicted structures.
        regions: the label volume of the regions (value = id), cut to what it labels; see `review_nodes.region_labels`.
        regions_text: the regions' table as text; read it through `review_nodes.regions_of`.
        original: the model's own segmentation, next to the one that is edited.
        mask: the segmentation that was judged.
        runner_up: the label volume of the second most probable labels, once a review has begun.
    """

    hub: "slicer.vtkMRMLScriptedModuleNode"

    segmentation = _part(SEGMENTATION)
    regions = _part(REGIONS)
    regions_text = _part(REGIONS_TEXT)
    original = _part(ORIGINAL)
    mask = _part(MASK)
    runner_up = _part(RUNNER_UP)

    @property
    def case(self) -> CaseDescription:
        """The content of `case.json` when the run was loaded; shared, so it must not be changed."""
        return _description(self.hub.GetParameter(_CASE), self.hub.GetName())

    @property
    def label(self) -> str:
        """What the names of the nodes begin with."""
        return self.hub.GetParameter(_LABEL)

    @property
    def model_name(self) -> str:
        """The model that made the run."""
        return self.hub.GetParameter(_MODEL)

    @property
    def case_folder(self) -> Path | None:
        """The folder that the run was loaded from, if that stays; it may be gone, or be another machine's."""
        text = self.hub.GetParameter(_FOLDER)
        return Path(parse_json(text, self.hub.GetName())) if text else None

    @property
    def inputs(self) -> list["slicer.vtkMRMLScalarVolumeNode"]:
        """The input volumes that are still in the scene, first channel first."""
        return self.all_in(INPUT)

    @property
    def grid_volume(self) -> "slicer.vtkMRMLScalarVolumeNode":
        """A volume on the input's grid.

        Raises:
            InputError: image and maps were deleted.
        """
        for volume in [*self.inputs, *self.maps.values()]:
            if volume.GetImageData() is not None:
                return volume
        raise InputError(_("The image and all maps of {run} were deleted: load the case again.").format(run=self.label))

    @property
    def maps(self) -> dict[str, "slicer.vtkMRMLScalarVolumeNode"]:
        """The maps by name, in the order of `MAP_NAMES`."""
        nodes = {name: self.hub.GetNodeReference(MAP + name) for name in MAP_NAMES}
        return {name: node for name, node in nodes.items() if node is not None}

    @property
    def boxes(self) -> list["slicer.vtkMRMLMarkupsROINode"]:
        """The boxes that the model placed; see `boxes.put_boxes`."""
        return self.all_in(BOX)

    def all_in(self, role: str) -> list["slicer.vtkMRMLNode"]:
        """Return the nodes that have a role; those that were deleted are left out."""
        count = self.hub.GetNumberOfNodeReferences(role)
        nodes = [self.hub.GetNthNodeReference(role, index) for index in range(count)]
        return [node for node in nodes if node is not None]

    @property
    def results(self) -> list["slicer.vtkMRMLDisplayableNode"]:
        """All results: segmentation, maps and boxes. The run's folder in the subject hierarchy holds them."""
        return [*([] if self.segmentation is None else [self.segmentation]), *self.maps.values(), *self.boxes]

    @property
    def spatial(self) -> list["slicer.vtkMRMLDisplayableNode"]:
        """All nodes of the run that must lie under the input's transform: results and the hidden ones of a review."""
        hidden = (self.regions, self.original, self.runner_up)
        return [*self.results, *(node for node in hidden if node is not None)]

    @property
    def reference(self) -> "slicer.vtkMRMLTransformableNode | None":
        """The node that gives the run's position in the world: the input, or what is left of the results."""
        return next(iter([*self.inputs, *self.spatial]), None)

    def remember(self, role: str, node: "slicer.vtkMRMLNode | None") -> None:
        """Remember a node in one of the roles above (a map's is `MAP` and its name); None forgets it."""
        self.hub.SetNodeReferenceID(role, None if node is None else node.GetID())

    def set_case(self, case: CaseDescription, folder: Path | None = None) -> None:
        """Keep the text of `case.json` with the scene (ASCII: it passes through XML attributes).

        Args:
            folder: of the case, if it is permanent.
        """
        # The maps as they were found on disk: later the folder may be gone.
        entries = case.raw.get("maps") or {}
        maps = {name: {**(entries.get(name) or {}), "file": info.file} for name, info in case.maps.items()}
        self.hub.SetParameter(_CASE, json.dumps({**case.raw, "maps": maps}))
        self.hub.SetParameter(_MODEL, case.model_name)
        self.hub.SetParameter(_FOLDER, "" if folder is None else json.dumps(str(folder.absolute())))


@lru_cache(maxsize=8)
def _description(text: str, name: str) -> CaseDescription:
    """Parse a description once: it is asked for several times with every verdict, and has thousands of numbers."""
    return parse_description(parse_json(text, name), name)


def new_case_nodes(
    scene: "slicer.vtkMRMLScene", inputs: Sequence["slicer.vtkMRMLScalarVolumeNode"], label: str
) -> CaseNodes:
    """Add the hidden node that holds a run together; it has no parts yet."""
    hub = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", label)
    hub.SetModuleName(HUB_MODULE)
    hub.SetParameter(_LABEL, label)
    for index, node in enumerate(inputs):
        hub.SetNthNodeReferenceID(INPUT, index, node.GetID())
    return CaseNodes(hub)


def find_cases(
    scene: "slicer.vtkMRMLScene | None" = None, input_node: "slicer.vtkMRMLScalarVolumeNode | None" = None
) -> list[CaseNodes]:
    """List the runs in a scene, oldest first; with an input, only those made from it."""
    hubs = nodes_of(scene or slicer.mrmlScene, "vtkMRMLScriptedModuleNode")
    found = [CaseNodes(hub) for hub in hubs if hub.GetModuleName() == HUB_MODULE]
    return [nodes for nodes in found if input_node is None or input_node in nodes.inputs]


def find_replaceable(
    scene: "slicer.vtkMRMLScene",
    inputs: Sequence["slicer.vtkMRMLScalarVolumeNode"],
    case: CaseDescription,
    mask: "slicer.vtkMRMLSegmentationNode | None" = None,
) -> CaseNodes | None:
    """Find the newest run of the same inputs, model, place and mask, if it was neither edited nor reviewed since.

    Args:
        mask: the node that was judged; what it holds may have changed. Without a node its content is compared.
    """
    same = [
        nodes
        for nodes in (find_cases(scene, inputs[0]) if inputs else [])
        if nodes.inputs == list(inputs) and nodes.model_name == case.model_name and _same_place(nodes.case, case)
        if nodes.mask is mask and (mask is not None or nodes.case.raw.get("judged") == case.raw.get("judged"))
    ]
    if not same or (same[-1].segmentation is not None and was_touched(same[-1].segmentation)):
        return None
    return same[-1]


def _same_place(one: CaseDescription, other: CaseDescription) -> bool:
    """Check whether two cases are of the whole image, or of regions that contain each other's centre."""
    first, second = (case.raw.get("roi") for case in (one, other))
    if first is None or second is None:
        return first is second
    apart = np.abs(np.subtract(first["centre_ras_mm"], second["centre_ras_mm"]))
    return bool((apart < np.minimum(first["size_mm"], second["size_mm"]) / 2).all())


def is_ours(node: "slicer.vtkMRMLNode | None") -> bool:
    """Check whether a node is one of our maps or region volumes: no input, no foreground to remember."""
    return node is not None and any(node.GetAttribute(name) for name in (MAP_ATTRIBUTE, REGIONS_ATTRIBUTE))


def add_hidden_node(scene: "slicer.vtkMRMLScene", kind: str, name: str, saved: bool = True) -> "slicer.vtkMRMLNode":
    """Add a node that no selector and no tree shows.

    Slicer decides when a node is added whether it gets an item in the subject hierarchy, so what is hidden must be so
    before. A segmentation needs an item all the same, before it gets segments: Slicer would complain of each of them.
    """
    node = scene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(saved)
    node = scene.AddNode(node)
    if node.IsA("vtkMRMLSegmentationNode"):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        names = slicer.vtkMRMLSubjectHierarchyConstants
        hierarchy.SetItemAttribute(item, names.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")
        hierarchy.SetItemAttribute(item, _HIDDEN_ATTRIBUTE, "1")
    return node


def remove_items_without_node(scene: "slicer.vtkMRMLScene") -> None:
    """Remove the hidden items of nodes that are not saved: a scene that is saved in a review keeps them."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    found = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found)
    for item in [found.GetId(index) for index in range(found.GetNumberOfIds())]:
        if hierarchy.GetItemAttribute(item, _HIDDEN_ATTRIBUTE) and hierarchy.GetItemDataNode(item) is None:
            hierarchy.RemoveItem(item)


def remove_node(node: "slicer.vtkMRMLNode") -> None:
    """Remove a node with its display and storage nodes, which nothing else uses."""
    scene = node.GetScene()
    if scene is None:
        return
    parts = [node.GetStorageNode()] if node.IsA("vtkMRMLStorableNode") else []
    if node.IsA("vtkMRMLDisplayableNode"):
        parts += [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
    scene.RemoveNode(node)
    for part in parts:
        if part is not None and part.GetScene() is not None:
            scene.RemoveNode(part)
