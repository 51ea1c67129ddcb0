"""The image that a case folder was made from: found where it lay, and known by its voxels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .dicom_series import read_series
from .volume import read_image

IMAGE_FILE = "image.nii.gz"


def case_image(folder: Path, case: Mapping[str, Any], moved_to: Path | None = None) -> sitk.Image:
    """The first channel of a case.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: where the image lies now, if it was moved; a file, or the folder of a DICOM series.

    Raises:
        InputError: it is not where it was, or holds other voxels than were segmented.
    """
    channel = case["input"]["channels"][0]
    inside = folder / IMAGE_FILE
    path = moved_to or (inside if inside.is_file() else (folder / channel["file"]).resolve())
    if not path.exists():
        raise InputError(f"The image of {folder} is not at {path} any more: say where it is with --image.")
    image = read_series(path) if path.is_dir() else read_image(path)
    if voxel_hash(image) != channel["voxels_sha256"]:
        raise InputError(f"{path} holds other voxels than the image of {folder}: give the one that was segmented.")
    return image


def voxel_hash(image: sitk.Image) -> str:
    """SHA-256 of the voxels as little-endian float32, x fastest: the same whatever file format held them."""
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(image), "<f4")
    return hashlib.sha256(array.data).hexdigest()
