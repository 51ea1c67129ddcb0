#!/usr/bin/env python3
"""Freeze what a checkout of SegWithU makes of two small cases: `python Testing/data/make_frozen.py OUTPUT_FOLDER`.

Run it with the checkout whose results are to stay (`PYTHONPATH=CHECKOUT/SegWithUSlicer`). Error probabilities are in
steps of 1 / 20,000, which makes the files small.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from segwithu import load_model, segment_image

CASES = ("hippocampus_075", "hippocampus_320")
STEPS = 20_000
IMAGES = Path(__file__).parent / "hippocampus" / "images"


def main(folder: Path) -> None:
    """Segment and write one file a case."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model("hippocampus", engine="openvino")
    for name in CASES:
        result = segment_image(str(IMAGES / f"{name}.nii.gz"), model)
        error = sitk.GetArrayFromImage(result.error_probability)
        np.savez_compressed(
            folder / f"{name}.npz",
            labels=sitk.GetArrayFromImage(result.segmentation).astype(np.uint8),
            error_probability=np.rint(error * STEPS).astype(np.int16),
            regions=[[region.expected_wrong_mm3, *region.peak_ras_mm] for region in result.regions],
            volumes_mm3=[structure.volume_mm3 for structure in result.structures],
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
