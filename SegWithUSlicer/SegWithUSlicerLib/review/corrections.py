"""A brush of the segment editor that is held to unsure voxels. No Qt here."""

import json
from typing import Any

import slicer

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json

BRUSH_RADIUS_MM = 4.0
_HIGHEST = 1.0
_BEFORE, _BRUSH = "SegWithU.BeforeMask", "SegWithU.MaskedBrush"
_BRUSH_NAMES = ("BrushSphere", "BrushDiameterIsRelative", "BrushAbsoluteDiameter", "BrushPixelMode")
"""Attributes of the node that Paint and Erase share."""
_NOTHING: dict[str, Any] = {"mask": False, "range": (0.0, 0.0), "source": "", "brush": {}}
"""Settings of a node that has neither mask nor brush."""
_SPHERE: dict[str, str | None] = dict(zip(_BRUSH_NAMES, ("1", "0", f"{2 * BRUSH_RADIUS_MM:g}", "0"), strict=True))


def is_on(node: "slicer.vtkMRMLSegmentEditorNode") -> bool:
    """Check whether this editor node paints only where the model is unsure."""
    return node.GetAttribute(_BEFORE) is not None


def put_on(node: "slicer.vtkMRMLSegmentEditorNode", error_map: "slicer.vtkMRMLScalarVolumeNode", limit: float) -> None:
    """Paint only where the error probability reaches the limit, with a sphere; the settings of before are kept.

    Called again it changes map and limit. A brush that the user has chosen under the mask comes back the next time.
    """
    was_modifying = node.StartModify()
    try:
        if not is_on(node):
            node.SetAttribute(_BEFORE, json.dumps(_settings(node)))
            _set_brush(node, _kept(node, _BRUSH) or _SPHERE)
        node.SetAndObserveSourceVolumeNode(error_map)
        node.SetSourceVolumeIntensityMaskRange(limit, _HIGHEST)
        node.SetSourceVolumeIntensityMask(True)
    finally:
        node.EndModify(was_modifying)


def take_off(node: "slicer.vtkMRMLSegmentEditorNode") -> None:
    """Give mask, source volume and brush of before back; nothing happens where no mask of ours is on."""
    if not is_on(node):
        return
    before = {**_NOTHING, **_kept(node, _BEFORE)}
    was_modifying = node.StartModify()
    try:
        node.SetSourceVolumeIntensityMask(before["mask"])
        node.SetSourceVolumeIntensityMaskRange(*before["range"])
        scene = node.GetScene()
        source = scene.GetNodeByID(before["source"]) if scene is not None and before["source"] else None
        node.SetAndObserveSourceVolumeNode(source)
        node.SetAttribute(_BRUSH, json.dumps(_brush(node)))
        _set_brush(node, before["brush"])
    finally:
        node.RemoveAttribute(_BEFORE)
        node.EndModify(was_modifying)


def _kept(node: "slicer.vtkMRMLSegmentEditorNode", attribute: str) -> dict[str, Any]:
    """Read what was kept on the node; nothing if it is damaged, for a scene may come from anybody."""
    try:
        kept = parse_json(node.GetAttribute(attribute) or "{}", attribute)
    except InputError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _settings(node: "slicer.vtkMRMLSegmentEditorNode") -> dict[str, Any]:
    source = node.GetSourceVolumeNode()
    return {
        "mask": bool(node.GetSourceVolumeIntensityMask()),
        "range": list(node.GetSourceVolumeIntensityMaskRange()),
        "source": source.GetID() if source is not None else "",
        "brush": _brush(node),
    }


def _brush(node: "slicer.vtkMRMLSegmentEditorNode") -> dict[str, str | None]:
    return {name: node.GetAttribute(name) for name in _BRUSH_NAMES}


def _set_brush(node: "slicer.vtkMRMLSegmentEditorNode", brush: dict[str, str | None]) -> None:
    for name, value in brush.items():
        if value is None:
            node.RemoveAttribute(name)
        else:
            node.SetAttribute(name, value)
    # As effects do: without it their options would go on showing the brush of before.
    node.InvokeCustomModifiedEvent(node.EffectParameterModified)
