"""The sample case: an average T1 brain and the region around one hippocampus, from local files, no network."""

from dataclasses import dataclass
from typing import Any

import slicer

from SegWithUCore.util.paths import resource_path
from SegWithUCore.util.strict_json import read_json_object

from .slice_views import jump_to
from .volume_export import propose_roi

SAMPLE_NAME = "SegWithU T1 brain"
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


def register_sample_data() -> None:
    """Offer the sample in the Sample Data module; the image is not read yet."""
    import SampleData

    icon, file = str(resource_path("Icons/SegWithUSlicer.png")), resource_path(f"SampleData/{_sample_info()['file']}")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="SegWithU",
        sampleName=SAMPLE_NAME,
        # Slicer wants as many addresses and file names as nodes, and takes the address where it is asked by name.
        uris=file.as_uri(),
        fileNames=file.name,
        nodeNames=NODE_NAME,
        thumbnailFileName=icon,
        customDownloader=lambda source: show_volume(),
    )


def load_volume() -> "slicer.vtkMRMLScalarVolumeNode":
    """Load the image of the sample, once for each scene."""
    found = _marked("vtkMRMLScalarVolumeNode")
    if found is None:
        path = str(resource_path(f"SampleData/{_sample_info()['file']}"))
        found = slicer.util.loadVolume(path, {"name": NODE_NAME, "show": False})
        found.SetAttribute(_SAMPLE_ATTRIBUTE, "1")
    return found


def show_volume() -> "slicer.vtkMRMLScalarVolumeNode":
    """Load the image of the sample, unless the scene holds it, and show it as other samples are."""
    volume = load_volume()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume


def load_sample() -> Sample:
    """Load image and region of interest, and show them in the slice views, centred on the region and enlarged."""
    info = _sample_info()
    volume, roi = load_volume(), _marked("vtkMRMLMarkupsROINode")
    region = info["regions"][0]
    if roi is None:
        roi = propose_roi(volume, region["centre_ras_mm"], region["size_mm"], region["name"])
        roi.SetAttribute(_SAMPLE_ATTRIBUTE, "1")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    _zoom(_VIEW_MM)
    jump_to(region["centre_ras_mm"])
    return Sample(volume, roi, info["model"])


def _sample_info() -> dict[str, Any]:
    return read_json_object(resource_path("SampleData/sample.json"))


def _zoom(height_mm: float) -> None:
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        width_px, height_px, _depth = view.GetDimensions()
        if height_px > 0:
            view.SetFieldOfView(height_mm * width_px / height_px, height_mm, view.GetFieldOfView()[2])


def _marked(class_name: str) -> "slicer.vtkMRMLNode | None":
    nodes = slicer.util.getNodesByClass(class_name)
    return next((node for node in nodes if node.GetAttribute(_SAMPLE_ATTRIBUTE)), None)
