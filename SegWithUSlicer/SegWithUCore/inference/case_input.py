"""The image that a case folder was made from: found where it lay, and known by its voxels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.dicom_folder import scan_folder
from ..imaging.dicom_series import read_slices
from ..imaging.grid_notes import on_form
from ..imaging.nifti_grid import FORMS
from ..imaging.plain_names import original_path, plain_path
from ..imaging.volume import grid_facts, read_image

IMAGE_FILE = "image.nii.gz"


def case_image(folder: Path, case: Mapping[str, Any], moved_to: Path | None = None, channel: int = 0) -> sitk.Image:
    """The image of a case.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: where the image lies now, if it was moved; a file, or the folder of a DICOM series.
        channel: which of its channels.

    Raises:
        InputError: it is not where it was, or holds other voxels than were segmented.
    """
    path = moved_to or image_place(folder, case, channel)
    if not path.exists():
        raise InputError(f"The image of {folder} is not at {path} any more: say where it is with --image.")
    wanted = case["input"]["channels"][channel]["voxels_sha256"]
    with plain_path(path) as plain:
        image = series_with_voxels(plain, wanted)[0] if plain.is_dir() else read_image(plain)
    if voxel_hash(image) != wanted:
        raise InputError(f"{path} holds other voxels than the image of {folder}: give the one that was segmented.")
    return _on_grid_of_case(path, image, case)


def _on_grid_of_case(path: Path, image: sitk.Image, case: Mapping[str, Any]) -> sitk.Image:
    """The image where the case has it: of a NIfTI file with two places the user may have chosen the other one."""
    here = (image, *(on_form(path, image, form) for form in FORMS))
    return next((each for each in here if _is_at(each, case["input"]["grid"])), image)


def _is_at(image: sitk.Image, grid: Mapping[str, Any]) -> bool:
    facts = grid_facts(image)
    return all(np.allclose(facts[key], grid[key], rtol=0, atol=1e-3) for key in ("origin_lps_mm", "direction_lps"))


def image_place(folder: Path, case: Mapping[str, Any], channel: int = 0) -> Path:
    """Where the image of a case should lie: inside its folder, or where it was read from."""
    inside = folder / IMAGE_FILE
    if channel == 0 and inside.is_file():
        return inside
    return original_path((folder / case["input"]["channels"][channel]["file"]).resolve())


def series_with_voxels(folder: Path, wanted: str) -> tuple[sitk.Image, list[Path]]:
    """The DICOM series of a folder, and the files of its slices; of several series the one whose voxels are wanted.

    Args:
        wanted: voxel hash; not compared where the folder holds one series.

    Raises:
        InputError: no series, a damaged one, or none of several has these voxels.
    """
    found = scan_folder(folder)
    if len(found.series) < 2:
        return read_slices(folder, found.chosen())
    for slices in found.series.values():
        try:
            image, files = read_slices(folder, slices)
        except InputError:
            continue
        if voxel_hash(image) == wanted:
            return image, files
    raise InputError(
        f"None of the {len(found.series)} series in {folder} holds the voxels that were segmented: give the folder "
        "of the series that was."
    )


def voxel_hash(image: sitk.Image) -> str:
    """SHA-256 of the voxels as little-endian float32, x fastest: the same whatever file format held them."""
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(image), "<f4")
    return hashlib.sha256(array.data).hexdigest()
