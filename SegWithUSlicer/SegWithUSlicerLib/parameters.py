"""The parameter node: the panel's choices that are saved with the scene.

The overlay's own settings (map, threshold, colours, opacity) live in display and view nodes and need no copy here.
"""

from typing import TYPE_CHECKING, Annotated, Any

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLScriptedModuleNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

from SegWithUCore.inference.engines import ENGINES
from SegWithUCore.inference.settings import RunSettings

DEVICES = ("auto", "cpu", "cuda", "mps")


@parameterNodeWrapper
class Parameters:
    """The user's choices.

    Attributes:
        channels: the input volumes in the order of the model's channels; None if none is chosen yet.
        roi: the region of interest, None for the whole volume.
        mask: a segmentation to be judged, None to segment.
        labels: what the user chose that segments stand for, by their names; "" for what is not judged.
        model: name of the model bundle.
        head: name of an uncertainty head other than the model's default.
        device: one of DEVICES.
        engine: one of ENGINES.
        run: the run whose results the panel shows (the hidden node that holds it together).
        go_on: after a verdict the next undecided region is shown.
    """

    channels: list[vtkMRMLScalarVolumeNode]
    roi: vtkMRMLMarkupsROINode
    mask: vtkMRMLSegmentationNode
    labels: dict[str, str]
    model: str = ""
    head: str = ""
    device: Annotated[str, Choice(DEVICES)] = "auto"
    engine: Annotated[str, Choice(ENGINES)] = "auto"
    run: vtkMRMLScriptedModuleNode
    go_on: bool = True

    if TYPE_CHECKING:  # what the decorator adds

        def __init__(self, parameter_node: Any) -> None: ...

        def connectGui(self, gui: Any) -> int:  # noqa: N802
            """Connect the widgets that name a parameter; returns the tag for `disconnectGui`."""

        def __getattr__(self, name: str) -> Any:
            """Give what the parameter node has."""


def run_settings(parameters: Parameters) -> RunSettings:
    """Take the settings of a run from the panel's choices; the region is read when the image is written."""
    return RunSettings(head=parameters.head or None, engine=parameters.engine, device=parameters.device)
