"""One series is of one patient, one study and one frame of reference; what differs is named, never the patient."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .dicom_folder import DicomSlice

_IDENTITY = {
    "PatientID": "patients",
    "PatientName": "patients",
    "PatientBirthDate": "patients",
    "StudyInstanceUID": "studies",
    "FrameOfReferenceUID": "frames of reference",
}


def check_identity(folder: Path, slices: Sequence[DicomSlice]) -> None:
    """Check that all slices say the same of whom and what they show; what is absent in all of them is no matter.

    De-identified exports give the slices of several patients one series UID.

    Raises:
        InputError: names the attribute that differs, how many slices have each value, and a file of each.
    """
    for keyword, what in _IDENTITY.items():
        files: dict[str, list[str]] = {}
        for one in slices:
            files.setdefault(_same_written(keyword, one.text(keyword)), []).append(one.file.name)
        if len(files) > 1:
            without = files.get("")
            groups = sorted(files.values(), key=lambda names: -len(names))
            listed = "; ".join(f"{len(names)} slices such as {names[0]}" for names in groups[:4])
            more = f"; and {len(groups) - 4} more" if len(groups) > 4 else ""
            missing = f", of which {len(without)} have none" if without else ""
            raise InputError(
                f"{folder} holds {len(files)} {what} in one series ({keyword} differs: {listed}{more}{missing}): give "
                "a folder that holds one of them."
            )


def _same_written(keyword: str, value: str) -> str:
    """A name without the empty components at its end, which may be left out (PS3.5, section 6.2.1.1)."""
    return value.rstrip("^= ") if keyword == "PatientName" else value
