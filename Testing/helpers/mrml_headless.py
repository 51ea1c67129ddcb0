"""Real MRML, module logics and off-screen slice views on the slicer-core wheel: no Qt, no application.

One `HeadlessScene` is a scene with everything these tests need; several can exist, one at a time has views.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
import vtkmodules.vtkRenderingFreeType
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (the renderer's factories)
from vtk.util.numpy_support import vtk_to_numpy

if sys.platform == "linux":
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

_COLOUR_TABLES = ("Inferno", "Viridis", "Cividis", "Plasma")
# By the names of their modules: displayable managers look their logic up by them.
_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Transforms": "vtkSlicerTransformLogic",
}
_SLICE_MANAGERS = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


_THREED_MANAGERS = ("vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager",
                    "vtkMRMLSegmentationsDisplayableManager3D")  # fmt: skip

_open: list["HeadlessScene | SliceView | ThreeDView"] = []


def close_all() -> None:
    """Close all views and scenes, the youngest first."""
    while _open:
        _open.pop().close()


class HeadlessScene:
    """A scene with application logic, module logics and Slicer's colour nodes.

    Args:
        folder: for caches and the colour files that the wheel lacks.
    """

    def __init__(self, folder: Path) -> None:
        _write_colour_files(folder / "home" / "share" / "Slicer" / "ColorFiles")
        cache = folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        self.scene = slicer.vtkMRMLScene()
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(cache))
        self._io = slicer.vtkDataIOManager()
        self._io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._io)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetHomeDirectory(str(folder / "home"))
        self.logic.SetShareDirectory("share/Slicer")
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        for factory in (
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(self.logic)
        self._module_logics = [self._module_logic(*module) for module in _LOGICS.items()]
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        slicer.mrmlScene = self.scene
        _open.append(self)

    def _module_logic(self, name: str, kind: str) -> "slicer.vtkMRMLAbstractLogic":
        logic = getattr(slicer, kind)()
        logic.SetMRMLApplicationLogic(self.logic)  # the colour logic looks for its files when it gets the scene
        logic.SetMRMLScene(self.scene)
        self.logic.SetModuleLogic(name, logic)
        return logic

    def close(self) -> None:
        """Empty the scene, as Slicer does on quitting.

        Left to Python's garbage collector, VTK would call observers that are half taken apart, and crash.
        """
        self.scene.Clear(True)

    def save_bundle(self, path: Path) -> None:
        """Write the scene as .mrb."""
        assert self.scene.WriteToMRB(str(path)), f"{path} could not be written"

    def load_bundle(self, path: Path) -> None:
        """Read an .mrb into this scene, in place of what it holds."""
        messages = slicer.vtkMRMLMessageCollection()
        assert self.scene.ReadFromMRB(str(path), True, messages), messages.GetAllMessagesAsString()


class SliceView:
    """An off-screen slice view of `size` (width, height) pixels with Slicer's own layer blending."""

    def __init__(self, headless: HeadlessScene, name: str = "Red", orientation: str = "Axial",
                 size: tuple[int, int] = (320, 320)) -> None:  # fmt: skip
        self._size = size
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._picture = vtk.vtkActor2D()
        self._picture.SetMapper(self._mapper)
        self._picture.GetProperty().SetDisplayLocationToBackground()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory
        self._managers = _displayable_managers(factory, _SLICE_MANAGERS, self._renderer, headless.logic)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(headless.logic)
        headless.logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(headless.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.composite = self.logic.GetSliceCompositeNode()
        self._managers.SetMRMLDisplayableNode(self.node)
        _open.append(self)

    def resize(self) -> None:
        """Tell the slice node the window's size, as Slicer's view widget does; a loaded scene brings another."""
        self.node.SetDimensions(*self._size, 1)

    def fit(self) -> None:
        """Fit the view to its background."""
        self.resize()
        self.logic.FitSliceToAll()

    def render(self) -> None:
        """Draw, without reading the pixels back."""
        connection = self.logic.GetImageDataConnection()
        if connection is None:
            self._renderer.RemoveViewProp(self._picture)
        else:
            self._mapper.SetInputConnection(connection)
            if not self._renderer.HasViewProp(self._picture):
                self._renderer.AddViewProp(self._picture)
        self._window.Render()

    def pixels(self, png: Path | None = None) -> np.ndarray:
        """The picture as rows from the top, uint8 RGB; also written to `png` where given."""
        self.render()
        return _pixels_of(self._window, png)

    def world_to_view(self) -> np.ndarray:
        """4 x 4: world RAS to x, y (pixels from the lower left) and depth."""
        to_view = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), to_view)
        return slicer.util.arrayFromVTKMatrix(to_view)

    def pixel_of(self, point_ras: Sequence[float]) -> tuple[int, int]:
        """Row (from the top) and column at which a world point is drawn."""
        x, y = (self.world_to_view() @ [*point_ras, 1.0])[:2]
        return round(self._size[1] - 1 - y), round(x)

    def close(self) -> None:
        """Let the window go."""
        self._managers.SetMRMLDisplayableNode(None)
        self._window.Finalize()


class ThreeDView:
    """An off-screen 3D view of `size` (width, height) pixels."""

    def __init__(self, headless: HeadlessScene, size: tuple[int, int] = (320, 320)) -> None:
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory
        self._managers = _displayable_managers(factory, _THREED_MANAGERS, self._renderer, headless.logic)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(headless.logic)
        headless.logic.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(headless.scene)
        self.node = self.logic.AddViewNode("1")
        self._managers.SetMRMLDisplayableNode(self.node)
        self.camera = headless.scene.GetFirstNodeByClass("vtkMRMLCameraNode")
        _open.append(self)

    def pixels(self, png: Path | None = None) -> np.ndarray:
        """The picture as rows from the top, uint8 RGB; also written to `png` where given."""
        self._renderer.ResetCameraClippingRange()
        self._window.Render()
        return _pixels_of(self._window, png)

    def close(self) -> None:
        """Let the window go."""
        self._managers.SetMRMLDisplayableNode(None)
        self._window.Finalize()


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are not grey: the image is drawn in greys, maps and outlines are not."""
    values = pixels.astype(int)
    return values.max(axis=2) - values.min(axis=2) > 24


def load_volume(scene: "slicer.vtkMRMLScene", path: Path, name: str) -> "slicer.vtkMRMLScalarVolumeNode":
    """Load an image file into the scene, as Slicer does."""
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(volume)
    volume.SetAndObserveStorageNodeID(storage.GetID())
    volume.CreateDefaultDisplayNodes()
    return volume


def observers_on(node: vtk.vtkObject) -> int:
    """How many observers stand on a VTK object, from its own description."""
    return str(node).count("Tag:")


def _displayable_managers(
    kind: type, names: Sequence[str], renderer: vtk.vtkRenderer, logic: "slicer.vtkSlicerApplicationLogic"
) -> vtk.vtkObject:
    factory = kind.GetInstance()
    factory.SetMRMLApplicationLogic(logic)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group


def _pixels_of(window: vtk.vtkRenderWindow, png: Path | None) -> np.ndarray:
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    if png is not None:
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(png))
        writer.SetInputData(grab.GetOutput())
        writer.Write()
    width, height, _depth = grab.GetOutput().GetDimensions()
    return vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)[::-1].copy()


def _write_colour_files(folder: Path) -> None:
    import matplotlib  # the wheel's own dependency; the tables are matplotlib's, as in Slicer

    folder.mkdir(parents=True, exist_ok=True)
    for name in _COLOUR_TABLES:
        colours = (matplotlib.colormaps[name.lower()](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(int)
        rows = [f"{index} {index} {r} {g} {b} 255\n" for index, (r, g, b) in enumerate(colours)]
        (folder / f"{name}.txt").write_text("".join(rows))
    for name in ("GenericColors", "DarkBrightChartColors"):
        # Looked for by the segmentations and plots logics.
        (folder / f"{name}.txt").write_text("0 background 0 0 0 0\n1 tissue 128 174 128 255\n")
