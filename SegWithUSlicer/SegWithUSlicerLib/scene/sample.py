"""The sample case: an average T1 brain, from a local file, no network."""

from dataclasses import dataclass

import slicer

from SegWithUCore.util.paths import resource_path
from SegWithUCore.util.strict_json import read_json_object

NODE_NAME = "T1 brain"
_SAMPLE_ATTRIBUTE = "SegWithU.Sample"


@dataclass(frozen=True)
class Sample:
    """The image of the sample case and the name of its model."""

    volume: "slicer.vtkMRMLScalarVolumeNode"
    model: str


def load_sample() -> Sample:
    """Load the image once a scene, and show it in the slice views."""
    info = read_json_object(resource_path("SampleData/sample.json"))
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    volume = next((node for node in nodes if node.GetAttribute(_SAMPLE_ATTRIBUTE)), None)
    if volume is None:
        path = str(resource_path(f"SampleData/{info['file']}"))
        volume = slicer.util.loadVolume(path, {"name": NODE_NAME, "show": False})
        volume.SetAttribute(_SAMPLE_ATTRIBUTE, "1")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return Sample(volume, info["model"])
