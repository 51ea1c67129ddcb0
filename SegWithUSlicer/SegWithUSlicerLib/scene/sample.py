"""The sample case: an average T1 brain and the region around one hippocampus, from local files, no network."""

from dataclasses import dataclass

import slicer

from SegWithUCore.util.paths import resource_path
from SegWithUCore.util.strict_json import read_json_object

from .slice_views import jump_to
from .volume_export import propose_roi

NODE_NAME = "T1 brain"
_SAMPLE_ATTRIBUTE = "SegWithU.Sample"
_VIEW_MM = 120.0
"""Height of the slice views: a hippocampus in a view of the whole head is hard to see."""


@dataclass(frozen=True)
class Sample:
    """The nodes of the sample case and the name of its model."""

    volume: "slicer.vtkMRMLScalarVolumeNode"
    roi: "slicer.vtkMRMLMarkupsROINode"
    model: str


def load_sample() -> Sample:
    """Load image and region of interest once a scene, and show them in the slice views, centred and enlarged."""
    info = read_json_object(resource_path("SampleData/sample.json"))
    volume, roi = _marked("vtkMRMLScalarVolumeNode"), _marked("vtkMRMLMarkupsROINode")
    region = info["regions"][0]
    if volume is None:
        path = str(resource_path(f"SampleData/{info['file']}"))
        volume = slicer.util.loadVolume(path, {"name": NODE_NAME, "show": False})
        volume.SetAttribute(_SAMPLE_ATTRIBUTE, "1")
    if roi is None:
        roi = propose_roi(volume, region["centre_ras_mm"], region["size_mm"], region["name"])
        roi.SetAttribute(_SAMPLE_ATTRIBUTE, "1")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    _zoom(_VIEW_MM)
    jump_to(region["centre_ras_mm"])
    return Sample(volume, roi, info["model"])


def _zoom(height_mm: float) -> None:
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        width_px, height_px, _depth = view.GetDimensions()
        if height_px > 0:
            view.SetFieldOfView(height_mm * width_px / height_px, height_mm, view.GetFieldOfView()[2])


def _marked(class_name: str) -> "slicer.vtkMRMLNode | None":
    nodes = slicer.util.getNodesByClass(class_name)
    return next((node for node in nodes if node.GetAttribute(_SAMPLE_ATTRIBUTE)), None)
