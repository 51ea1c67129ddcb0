"""A real hippocampus as three DICOM series, and what was segmented in them."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from dicom_phantoms import as_mr, write_series
from exchanged_cases import CASES
from phantoms import rotation
from segwithu_command import MODEL

from SegWithUCore.cli.__main__ import main

KINDS = ("axial", "sagittal", "oblique")
NAMES = {
    "axial": ("ISO_IR 100", "Müller^Jürgen"),
    "sagittal": ("ISO_IR 192", "Wójcik^Łucja"),
    "oblique": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
}
STUDY = {
    "PatientID": "P-1",
    "PatientBirthDate": "19531127",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77",
    "StudyDate": "20240318",
    "AccessionNumber": "A-5",
    "SeriesNumber": 4,
    "ReferringPhysicianName": "Referrer^R",
}


def make_dicom_cases(data_folder: Path, root: Path) -> Path:
    """A real hippocampus as three DICOM series, each segmented: whole, and (axial) in a region of interest only."""
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"))
    turned = sitk.Image(image)
    turned.SetDirection((rotation([7, -9, 5]) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    turned.SetSpacing((0.95, 1.05, 1.3))
    volumes = {"axial": image, "sagittal": sitk.PermuteAxes(image, (1, 2, 0)), "oblique": turned}
    for kind, volume in volumes.items():
        charset, name = NAMES[kind]
        change = as_mr(SpecificCharacterSet=charset, PatientName=name, **STUDY)
        write_series(volume, root / "series" / kind, scale=lambda number: (1, 0), change=change)
    options = ["--model", str(MODEL), "--output", str(root / "cases"), "--unlike-training"]
    x, y, z = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    roi = f"--roi={-x},{-y},{z},30,44,26"
    assert main(["segment", str(root / "series" / "axial"), *options, roi]) == 0
    assert main(["segment", *(str(root / "series" / kind) for kind in KINDS[1:]), *options]) == 0
    return root
