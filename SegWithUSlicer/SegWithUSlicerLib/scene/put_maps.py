"""Maps as nodes: voxels, what they measure, and how they are drawn."""

import slicer

from SegWithUCore.case.case_file import MapInfo

from ..i18n import _
from .case_images import CaseImages, MapVolume, Volume
from .case_nodes import MAP_ATTRIBUTE, NEAR_ATTRIBUTE, CaseNodes
from .map_display import prepare_display

_QUANTITY_SCHEME = "99SEGWITHU"


def put_maps(nodes: CaseNodes, images: CaseImages) -> None:
    """Put the maps of a run into its scene, in place of those it had; what is not among them goes."""
    scene = nodes.hub.GetScene()
    for name in set(nodes.maps) | set(nodes.near):
        # A map of the former run that this one lacks must not be taken for a result of this one.
        entry = images.maps.get(name)
        if entry is None and name in nodes.maps:
            scene.RemoveNode(nodes.maps[name])
        if (entry is None or entry.near is None) and name in nodes.near:
            scene.RemoveNode(nodes.near[name])
    for entry in images.maps.values():
        put_map(nodes, entry)
        if entry.near is not None:
            put_near(nodes, entry, entry.near)


def put_map(nodes: CaseNodes, entry: MapVolume) -> "slicer.vtkMRMLScalarVolumeNode":
    """Put one map into the scene of its run, in place of the one it had."""
    name = entry.info.name
    node = nodes.maps.get(name) or _new_volume(nodes, f"{nodes.label} {entry.info.title}")
    nodes.set_map(name, False, node)
    _fill(node, entry, entry.volume)
    return node


def put_near(nodes: CaseNodes, entry: MapVolume, copy: Volume) -> "slicer.vtkMRMLScalarVolumeNode":
    """Put the copy of a map that is masked away from the segmentation into the scene, in place of the one it had."""
    name = entry.info.name
    title = _("{map} (near the segmentation)").format(map=f"{nodes.label} {entry.info.title}")
    node = nodes.near.get(name) or _new_volume(nodes, title)
    nodes.set_map(name, True, node)
    node.SetAttribute(NEAR_ATTRIBUTE, "1")
    _fill(node, entry, copy)
    return node


def _new_volume(nodes: CaseNodes, name: str) -> "slicer.vtkMRMLScalarVolumeNode":
    return nodes.hub.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def _fill(node: "slicer.vtkMRMLScalarVolumeNode", entry: MapVolume, volume: Volume) -> None:
    was_modifying = node.StartModify()
    try:
        node.SetAttribute(MAP_ATTRIBUTE, entry.info.name)
        node.SetAndObserveImageData(volume.image)
        node.SetIJKToRASMatrix(volume.ijk_to_ras)
        quantity, units = _codes(entry.info)
        node.SetVoxelValueQuantity(quantity)
        node.SetVoxelValueUnits(units)
        prepare_display(node, entry.info, entry.window, entry.floor, entry.top)
    finally:
        node.EndModify(was_modifying)


def _codes(info: MapInfo) -> tuple["slicer.vtkCodedEntry", "slicer.vtkCodedEntry"]:
    quantity, units = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    # DICOM has no code for these quantities yet: a private scheme, as its rules ask for.
    quantity.SetValueSchemeMeaning(info.name, _QUANTITY_SCHEME, info.quantity)
    units.SetValueSchemeMeaning(info.unit, "UCUM", "no units" if info.unit == "1" else info.unit)
    return quantity, units
