"""The foreground layer of the slice views: borrowed for a map, and restored.

What the user had in the foreground of a view, and its opacity, is remembered on the view's composite node: it is
saved with the scene, so that a scene loaded with an overlay still knows what to go back to.

The structures of a case: centred in the slice views, and in 3D.
"""

from collections.abc import Callable, Sequence

import numpy as np
import slicer
import vtk

from .case_nodes import is_ours
from .observers import Observations, nodes_of
from .segmentation import segment_array, segment_id
from .steps import pause

_FOREGROUND_ROLE = "segwithu.user_foreground"
_OPACITY_ATTRIBUTE = "SegWithU.UserForegroundOpacity"


class ViewLayers:
    """Shows one volume in the foreground of the views whose background is one of some images.

    A view in which the user chooses another foreground is released until the next `show`. A view that turns to another
    image gets its own foreground back: a map is never drawn over an image that it was not made from. Views that
    turn to the image, and views that a layout adds, join in.

    Args:
        scene: the scene of the views.
        backgrounds: returns the images; called at each change.
        on_change: called after a change that came from outside.
        on_foreground: called with the volume that replaced ours in the foreground, if it is one
            of our own maps.
    """

    def __init__(
        self,
        scene: "slicer.vtkMRMLScene",
        backgrounds: Callable[[], Sequence["slicer.vtkMRMLNode"]],
        on_change: Callable[[], None],
        on_foreground: Callable[["slicer.vtkMRMLNode"], None],
    ) -> None:
        self._scene = scene
        self._backgrounds = backgrounds
        self._on_change = on_change
        self._on_foreground = on_foreground
        self._observations = Observations()
        self._released: set[str] = set()
        self.volume_id: str | None = None
        self.opacity = 0.0
        self.blanked = False

    @property
    def count(self) -> int:
        """In how many views the volume is shown."""
        return sum(self._holds(view) for view in self._views())

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to show: no view holds the volume, and it was deleted or the user chose another one.

        Views that only show another image do not end it: they get the volume back when they return.
        """
        is_gone = self.volume_id is None or self._scene.GetNodeByID(self.volume_id) is None
        return self.count == 0 and (is_gone or bool(self._released))

    def show(self, volume: "slicer.vtkMRMLScalarVolumeNode", opacity: float) -> int:
        """Show a volume wherever its image is shown, also in released views; returns in how many views."""
        if not len(self._observations):
            self._observations.add(self._scene, self._scene.NodeAddedEvent, self._on_node_added)
        former, self.volume_id, self.opacity, self.blanked = self.volume_id, volume.GetID(), float(opacity), False
        self._released.clear()
        for view in self._views():
            self._watch(view)
            if self._is_target(view):
                self._take(view)
            elif former is not None and view.GetForegroundVolumeID() == former:
                self._give_back(view)
        return self.count

    def adopt(self, volume: "slicer.vtkMRMLScalarVolumeNode") -> int:
        """Take over views that show the volume already, as after a scene was loaded; returns how many."""
        held = [view for view in self._views() if view.GetForegroundVolumeID() == volume.GetID()]
        held = [view for view in held if _is_lent(view) and self._is_target(view)]
        return self.show(volume, held[0].GetForegroundOpacity()) if held else 0

    def set_opacity(self, opacity: float) -> None:
        """Change the opacity (0 to 1) in the views that show the volume."""
        self.opacity = float(opacity)
        self.blank(False)

    def blank(self, blanked: bool) -> None:
        """Make the volume invisible, or visible again, without giving the layer back."""
        self.blanked = blanked
        for view in self._views():
            if self._holds(view):
                with self._observations.paused():
                    view.SetForegroundOpacity(0.0 if blanked else self.opacity)

    def clear(self) -> None:
        """Give every view its own foreground back and stop watching."""
        self._observations.clear()
        for view in self._views():
            if self._holds(view):
                self._give_back(view)
        self.detach()

    def detach(self) -> None:
        """Stop watching without touching any view: the scene is being closed."""
        self._observations.clear()
        self.volume_id, self.blanked = None, False

    def _views(self) -> list["slicer.vtkMRMLSliceCompositeNode"]:
        return nodes_of(self._scene, "vtkMRMLSliceCompositeNode")

    def _is_target(self, view: "slicer.vtkMRMLSliceCompositeNode") -> bool:
        return view.GetBackgroundVolumeID() in {node.GetID() for node in self._backgrounds()}

    def _holds(self, view: "slicer.vtkMRMLSliceCompositeNode") -> bool:
        return self.volume_id is not None and _is_lent(view) and view.GetForegroundVolumeID() == self.volume_id

    def _watch(self, view: "slicer.vtkMRMLSliceCompositeNode") -> None:
        if not self._observations.watches(view):
            self._observations.add(view, "ModifiedEvent", self._on_view_modified)

    def _take(self, view: "slicer.vtkMRMLSliceCompositeNode") -> None:
        assert self.volume_id is not None
        with self._observations.paused():
            _lend(view, self.volume_id, 0.0 if self.blanked else self.opacity)

    def _give_back(self, view: "slicer.vtkMRMLSliceCompositeNode") -> None:
        with self._observations.paused():
            _restore(view)

    def _on_node_added(self, _scene: object, _event: str) -> None:
        # The event names no node in Python without a decorated function; new views are rare, the check is cheap.
        for view in self._views():
            if not self._observations.watches(view):
                self._watch(view)
                self._follow(view)

    def _on_view_modified(self, view: "slicer.vtkMRMLSliceCompositeNode", _event: str) -> None:
        if self.volume_id is not None:
            self._follow(view)

    def _follow(self, view: "slicer.vtkMRMLSliceCompositeNode") -> None:
        """Update our record of one view after a change from outside."""
        if self._holds(view):
            if not self._is_target(view):
                self._give_back(view)
                self._on_change()
            elif not self.blanked and view.GetForegroundOpacity() != self.opacity:
                self.opacity = view.GetForegroundOpacity()
                self._on_change()
        elif _is_lent(view):
            self._on_foreign_foreground(view)
        elif self._is_target(view) and view.GetID() not in self._released:
            self._take(view)
            self._on_change()

    def _on_foreign_foreground(self, view: "slicer.vtkMRMLSliceCompositeNode") -> None:
        shown = self._scene.GetNodeByID(view.GetForegroundVolumeID() or "")
        if is_ours(shown):
            # Another of our maps, perhaps of another run: the user's own foreground stays remembered.
            self._released.add(view.GetID())
            self._on_foreground(shown)
        elif shown is None and self._scene.GetNodeByID(self.volume_id) is None:
            # Our volume was deleted, which is not the user's choice of an empty foreground.
            self._give_back(view)
            self._on_change()
        else:
            with self._observations.paused():
                _forget(view)
            self._released.add(view.GetID())
            self._on_change()


def _is_lent(view: "slicer.vtkMRMLSliceCompositeNode") -> bool:
    return view.GetAttribute(_OPACITY_ATTRIBUTE) is not None


def _lend(view: "slicer.vtkMRMLSliceCompositeNode", volume_id: str | None, opacity: float) -> None:
    """Put our volume in the foreground; what is there now is remembered unless the view is lent already."""
    with slicer.util.NodeModify(view):
        if not _is_lent(view):
            own = view.GetScene().GetNodeByID(view.GetForegroundVolumeID() or "")
            if own is not None and not is_ours(own):
                view.SetNodeReferenceID(_FOREGROUND_ROLE, own.GetID())
            view.SetAttribute(_OPACITY_ATTRIBUTE, repr(view.GetForegroundOpacity()))
        view.SetForegroundVolumeID(volume_id)
        view.SetForegroundOpacity(opacity)


def _restore(view: "slicer.vtkMRMLSliceCompositeNode") -> None:
    """Give the view the foreground and opacity that were remembered."""
    with slicer.util.NodeModify(view):
        own = view.GetNodeReference(_FOREGROUND_ROLE)
        view.SetForegroundVolumeID(None if own is None else own.GetID())
        view.SetForegroundOpacity(float(view.GetAttribute(_OPACITY_ATTRIBUTE) or 0.0))
        _forget(view)


def _forget(view: "slicer.vtkMRMLSliceCompositeNode") -> None:
    view.SetNodeReferenceID(_FOREGROUND_ROLE, None)
    view.RemoveAttribute(_OPACITY_ATTRIBUTE)


def jump_to(point_ras: Sequence[float], scene: "slicer.vtkMRMLScene | None" = None) -> None:
    """Move all slice views, and the crosshair, to a point, which is then in the middle of each view.

    Args:
        point_ras: R, A, S in world millimetres (parent transforms applied).
        scene: the scene of the views; by default Slicer's.

    The field of view of each slice keeps its size and the crosshair stays shown or hidden as the user has it.
    """
    scene = scene or slicer.mrmlScene
    r, a, s = (float(part) for part in point_ras)
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, r, a, s, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(r, a, s)


def crosshair() -> tuple[float, float, float] | None:
    """Return where the crosshair is, in world RAS mm; None if it was never set."""
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if node is None:
        return None
    position = tuple(float(part) for part in node.GetCrosshairRAS())
    return None if position == (0.0, 0.0, 0.0) else (position[0], position[1], position[2])


def shown_volumes(scene: "slicer.vtkMRMLScene | None" = None) -> tuple[set[str], set[str]]:
    """Return the IDs of the volumes in the background and in the foreground of some view."""
    views = nodes_of(scene or slicer.mrmlScene, "vtkMRMLSliceCompositeNode")
    return {view.GetBackgroundVolumeID() for view in views}, {view.GetForegroundVolumeID() for view in views}


def centre_of_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> tuple[float, float, float] | None:
    """Return the centroid of a structure in world RAS mm, through all parent transforms; None if it is empty."""
    segment = node.GetSegmentation().GetSegment(segment_id(value))
    if segment is None:
        return None
    mask, image = segment_array(segment)
    if image is None or not mask.any():
        return None
    matrix, world = vtk.vtkMatrix4x4(), [0.0] * 3
    image.GetImageToWorldMatrix(matrix)
    k, j, i = (
        np.average(np.arange(size), weights=mask.sum(axis=tuple(other for other in range(3) if other != axis)))
        for axis, size in enumerate(mask.shape)
    )
    i0, _i1, j0, _j1, k0, _k1 = image.GetExtent()
    node.TransformPointToWorld(matrix.MultiplyPoint([i + i0, j + j0, k + k0, 1.0])[:3], world)
    r, a, s = world
    return r, a, s


def show_structure(node: "slicer.vtkMRMLSegmentationNode", value: int) -> bool:
    """Make a structure visible and centre all slice views on its centroid; False, and nothing moves, if it is empty."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(True)
    node.GetDisplayNode().SetSegmentVisibility(segment_id(value), True)
    centre = centre_of_structure(node, value)
    if centre is None:
        return False
    jump_to(centre, node.GetScene())
    return True


def show_in_3d(node: "slicer.vtkMRMLSegmentationNode", visible: bool = True) -> None:
    """Show the closed surfaces of all structures in the 3D views, or hide them; they are made at the first call."""
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    segmentation = node.GetSegmentation()
    if visible and not segmentation.ContainsRepresentation(surface):
        # One step for observers: the views make at once what a segment lacks that they know of.
        with slicer.util.NodeModify(node):
            for identifier in segmentation.GetSegmentIDs():
                pause()
                _make_surface(segmentation, segmentation.GetSegment(identifier), surface)
        pause()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(surface)
    node.GetDisplayNode().SetVisibility3D(visible)
    if visible:
        _look_at(node)
    pause()


def _make_surface(segmentation: "slicer.vtkSegmentation", segment: "slicer.vtkSegment", surface: str) -> None:
    """Make the surface of one segment, as the segmentation would of all at once."""
    labelmap = segmentation.GetSourceRepresentationName()
    alone, copy = slicer.vtkSegmentation(), slicer.vtkSegment()
    copy.SetLabelValue(segment.GetLabelValue())
    copy.AddRepresentation(labelmap, segment.GetRepresentation(labelmap))
    alone.SetSourceRepresentationName(labelmap)
    alone.CopyConversionParameters(segmentation)
    alone.AddSegment(copy, "alone")
    alone.CreateRepresentation(surface)
    segment.AddRepresentation(surface, copy.GetRepresentation(surface))


def _look_at(node: "slicer.vtkMRMLSegmentationNode") -> None:
    """Centre a segmentation in all 3D views and fit it to them; the direction of view stays."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    radius = float(np.linalg.norm(high - low)) / 2
    if radius <= 0:  # all structures are empty
        return
    for camera in nodes_of(node.GetScene(), "vtkMRMLCameraNode"):
        forward = np.array(camera.GetFocalPoint()) - np.array(camera.GetPosition())
        forward = forward / (np.linalg.norm(forward) or 1.0)
        camera.SetFocalPoint(*(low + high) / 2)
        camera.SetPosition(*((low + high) / 2 - forward * radius / np.sin(np.radians(camera.GetViewAngle() / 2))))
        camera.SetParallelScale(radius)
        camera.ResetClippingRange()
