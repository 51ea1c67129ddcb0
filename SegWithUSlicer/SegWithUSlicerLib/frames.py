"""The current frame of a sequence as a volume of its own: a proxy would change under a run."""

import slicer

from .i18n import _


def sequence_frame(volume: "slicer.vtkMRMLScalarVolumeNode") -> int | None:
    """Which frame (from 0) of a sequence a volume shows now; None for a volume that is no proxy of a sequence."""
    scene = volume.GetScene()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode")
        if browser.GetSequenceNode(volume) is not None:
            return int(browser.GetSelectedItemNumber())
    return None


def steady(volume: "slicer.vtkMRMLScalarVolumeNode") -> "slicer.vtkMRMLScalarVolumeNode":
    """The volume itself, or a copy of the current frame, named after it and put where the proxy was in the views.

    The copy of the same frame is used again, so that a re-run updates its results.
    """
    frame = sequence_frame(volume)
    if frame is None:
        return volume
    name = _("{volume} frame {number}").format(volume=volume.GetName(), number=frame + 1)
    scene = volume.GetScene()
    copy = _same_frame(scene, volume, name)
    if copy is None:
        copy = slicer.vtkSlicerVolumesLogic.CloneVolume(scene, volume, name)
        copy.SetAttribute(_FRAME_OF, volume.GetID())
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        view = scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        if view.GetBackgroundVolumeID() == volume.GetID():
            view.SetBackgroundVolumeID(copy.GetID())
    return copy


_FRAME_OF = "SegWithU.FrameOf"


def _same_frame(
    scene: "slicer.vtkMRMLScene", volume: "slicer.vtkMRMLScalarVolumeNode", name: str
) -> "slicer.vtkMRMLScalarVolumeNode | None":
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode")
        if node.GetAttribute(_FRAME_OF) == volume.GetID() and node.GetName() == name:
            return node
    return None
