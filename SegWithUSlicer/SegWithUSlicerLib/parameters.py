"""The parameter node: the panel's choices that are saved with the scene.

The overlay's own settings (map, threshold, colours, opacity) live in display and view nodes and need no copy here.
"""

from typing import TYPE_CHECKING, Any

from slicer import (
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLScriptedModuleNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import parameterNodeWrapper

DEVICES = ("auto", "cpu", "cuda", "mps")
ENGINES = ("auto", "torch", "openvino")


@parameterNodeWrapper
class Parameters:
    """The user's choices.

    Attributes:
        channels: the input volumes in the order of the model's channels; None if none is chosen yet.
        roi: the region of interest, None for the whole volume.
        output: the segmentation that the next run writes into, None for a new one.
        model: name of the model bundle.
        head: name of an uncertainty head other than the model's default.
        device: one of DEVICES.
        engine: one of ENGINES.
        run: the run whose results the panel shows (the hidden node that holds it together).
        keep_zoom: a review keeps the user's zoom unless a region does not fit.
        go_on: after a verdict the next undecided region is shown.
    """

    channels: list[vtkMRMLScalarVolumeNode]
    roi: vtkMRMLMarkupsROINode
    output: vtkMRMLSegmentationNode
    model: str = ""
    head: str = ""
    device: str = "auto"
    engine: str = "auto"
    run: vtkMRMLScriptedModuleNode
    keep_zoom: bool = True
    go_on: bool = True

    if TYPE_CHECKING:  # what the decorator adds

        def __init__(self, parameter_node: Any) -> None: ...

        def connectGui(self, gui: Any) -> int:  # noqa: N802
            """Connect the widgets that name a parameter; returns the tag for `disconnectGui`."""

        def disconnectGui(self, tag: int) -> None:  # noqa: N802
            """Undo `connectGui`."""

        def AddObserver(self, event: int | str, callback: Any) -> int:  # noqa: N802
            """Observe the parameter node."""

        def RemoveObserver(self, tag: int) -> None:  # noqa: N802
            """Stop observing."""
