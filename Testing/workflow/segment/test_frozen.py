"""The shipped model makes of two real cases what it made when `Testing/data/make_frozen.py` froze the results."""

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from SegWithUCore import load_model, segment_image

DATA = ROOT / "Testing" / "data"
STEPS = 20_000
"""Of the frozen error probabilities, which are rounded by up to half a step."""


@pytest.mark.parametrize(("engine", "tolerance"), [("openvino", 1e-4), ("torch", 2e-3)])  # frozen with openvino
@pytest.mark.parametrize("case", ["hippocampus_075", "hippocampus_320"])
def test_labels_maps_and_regions_stay(case: str, engine: str, tolerance: float) -> None:
    result = segment_image(
        str(DATA / "hippocampus" / "images" / f"{case}.nii.gz"), load_model("hippocampus", engine=engine)
    )
    frozen = np.load(DATA / "frozen" / f"{case}.npz")
    assert np.array_equal(sitk.GetArrayFromImage(result.segmentation), frozen["labels"])
    error = sitk.GetArrayFromImage(result.error_probability)
    assert np.abs(error - frozen["error_probability"] / STEPS).max() <= tolerance + 0.5 / STEPS
    assert [structure.volume_mm3 for structure in result.structures] == pytest.approx(frozen["volumes_mm3"])
    regions = [[region.expected_wrong_mm3, *region.peak_ras_mm] for region in result.regions]
    assert np.allclose(regions, frozen["regions"], atol=0.05)
