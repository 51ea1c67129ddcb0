"""The shipped model makes of two real cases what it made when `Testing/data/make_frozen.py` froze the results.

Tolerances are about five times the largest difference from the frozen results that was measured, rounding left out:
8.5e-6 over OpenVINO 2025.2, 2025.4, 2026.1 and 2026.4, each on AVX-512, AVX2 and AVX, with 1, 2 and 4 threads; 4.9e-5
over torch on AVX-512, AVX2 and SSE4. Labels, volumes and peaks were equal and regions within 0.0002 mm3 in all of them:
the closest two logits are 1.1e-3 apart and the voxel closest to the threshold of regions 2e-4, while logits differ by
7.5e-5 and probabilities by 4.9e-5.
"""

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from segwithu import load_model, segment_image

DATA = ROOT / "Testing" / "data"
STEPS = 20_000
"""Of the frozen error probabilities, which are rounded by up to half a step."""


@pytest.mark.other_machine
@pytest.mark.parametrize(("engine", "tolerance"), [("openvino", 5e-5), ("torch", 2e-4)])
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
    np.testing.assert_allclose(regions, frozen["regions"], rtol=0, atol=0.001)  # mm3, and mm of the same voxel
