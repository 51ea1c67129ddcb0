"""Off-screen slice and 3D views: Slicer's own displayable managers; only ctk's light-box renderer is replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
import vtkmodules.vtkRenderingFreeType
import vtkmodules.vtkRenderingOpenGL2
import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401  (they register the factories)
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from .mrml_core import with_node

_SLICE_MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
)
_THREED_MANAGERS = (
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


class _OffscreenView:
    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetAlphaBitPlanes(1)
        self.window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.group: Any = None

    def _manage(self, factory_class: Any, names: tuple[str, ...], application_logic: Any) -> None:
        factory = factory_class.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for name in names:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)

    def _pixels(self) -> NDArray[np.uint8]:
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        scalars = vtk_to_numpy(image.GetPointData().GetScalars())
        return np.ascontiguousarray(scalars.reshape(height, width, -1)[::-1, :, :3])

    def resize(self, size: tuple[int, int]) -> None:
        """Change the size of the window."""
        if size != self.size:
            self.size = size
            self.window.SetSize(*size)

    def close(self) -> None:
        """Let go of nodes and of the window."""
        self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()


class SliceView(_OffscreenView):
    """A slice view (Red, Yellow, Green) with its real slice logic."""

    def __init__(self, core: Any, name: str, orientation: str, size: tuple[int, int] = (512, 512)) -> None:
        super().__init__(size)
        self.name = name
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._overlay = vtk.vtkRenderer()
        self._overlay.GetActiveCamera().ParallelProjectionOn()
        self._overlay.SetLayer(1)
        self.window.SetNumberOfLayers(2)
        self.window.AddRenderer(self._overlay)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._picture = vtk.vtkActor2D()
        self._picture.SetMapper(self._mapper)
        self._picture.GetProperty().SetDisplayLocationToBackground()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory
        self._manage(factory, _SLICE_MANAGERS, core.application_logic)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(core.application_logic)
        core.application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(core.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetDimensions(*size, 1)
        self.composite = self.logic.GetSliceCompositeNode()
        self.group.SetMRMLDisplayableNode(self.node)
        self._following = None
        self._scene = core.scene
        self._tags = [
            core.scene.AddObserver(event, with_node(react))
            for event, react in (
                (core.scene.NodeAboutToBeRemovedEvent, self._volume_goes),
                (core.scene.NodeRemovedEvent, self._volume_gone),
            )
        ]

    def _volume_goes(self, node: Any) -> None:
        """Find what the selector of the view, which loses its row, will show instead: the next volume, or the last."""
        if node.GetID() == self.composite.GetForegroundVolumeID() and not self._scene.IsClosing():
            volumes = slicer.util.getNodesByClass("vtkMRMLVolumeNode", self._scene)
            row = volumes.index(node)
            others = [volume for volume in volumes if volume is not node]
            self._following = others[min(row, len(others) - 1)] if others else None

    def _volume_gone(self, node: Any) -> None:
        following, self._following = self._following, None
        if following is not None and self.composite.GetForegroundVolumeID() == node.GetID():
            self.composite.SetForegroundVolumeID(following.GetID())

    def fit(self) -> None:
        """Show the whole background."""
        self.node.SetDimensions(*self.size, 1)
        self.logic.FitSliceToAll()
        self.logic.SnapSliceOffsetToIJK()

    def resize(self, size: tuple[int, int]) -> None:
        """Change the size; the field of view follows, as when a view is resized in the application."""
        if size != self.size:
            super().resize(size)
            self.logic.ResizeSliceNode(*size)

    def render(self) -> NDArray[np.uint8]:
        """RGB picture, first row on top."""
        connection = self.logic.GetImageDataConnection()
        has_picture = bool(self.renderer.HasViewProp(self._picture))
        if connection is None:
            if has_picture:
                self.renderer.RemoveViewProp(self._picture)
        else:
            self._mapper.SetInputConnection(connection)
            if not has_picture:
                self.renderer.AddViewProp(self._picture)
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
            legend.Modified()  # off-screen, the legend's displayable manager updates only then
        return self._pixels()

    def close(self) -> None:
        """Let go of the logic too."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        super().close()
        self.logic.SetMRMLScene(None)


class ThreeDView(_OffscreenView):
    """The 3D view."""

    def __init__(self, core: Any, size: tuple[int, int] = (512, 512)) -> None:
        super().__init__(size)
        self.name = "1"
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory
        self._manage(factory, _THREED_MANAGERS, core.application_logic)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(core.application_logic)
        core.application_logic.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(core.scene)
        self.node = self.logic.AddViewNode("1")
        self.group.SetMRMLDisplayableNode(self.node)

    def render(self, keep_camera: bool = False) -> NDArray[np.uint8]:
        """RGB picture with the camera reset to what is shown, or as the camera stands."""
        if not keep_camera:
            self.renderer.ResetCamera()
        self.renderer.ResetCameraClippingRange()
        return self._pixels()

    def close(self) -> None:
        """Let go of the logic too."""
        super().close()
        self.logic.SetMRMLScene(None)
