"""Find and read the image that a case folder was made from, identified by a hash of its voxels."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.dicom_folder import scan_folder
from ..imaging.dicom_series import read_slices
from ..imaging.header_peek import on_form
from ..imaging.nifti_grid import FORMS
from ..imaging.plain_names import original_path, plain_path
from ..imaging.volume import grid_facts, read_image
from ..paths import has_links, is_inside, is_own, stored_path
from .case_file import DAMAGED

IMAGE_FILE = "image.nii.gz"


class OutsideError(InputError):
    """The image is said to lie outside the case folder, by another user: this user is asked for it.

    Attributes:
        path: where `case.json` says that it lies; that path was not opened.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.path = path
        super().__init__(
            f"The image of {folder} is said to lie at {path}, outside that folder, and this user did not write so: "
            "give the image with --image, or for many cases the folder of the images with export --images."
        )


def case_image(folder: Path, case: Mapping[str, Any], moved_to: Path | None = None, channel: int = 0) -> sitk.Image:
    """Read the image of a case.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: where the image lies now, if it was moved; a file, or the folder of a DICOM series.
        channel: which of its channels.

    Raises:
        OutsideError: it lies outside the case folder, and another user's `case.json` says where.
        InputError: it is not where it was, or holds other voxels than were segmented.
    """
    path = moved_to or trusted_path(folder, case, channel)
    if not is_there(path):
        raise InputError(f"The image of {folder} is not at {path} any more: say where it is with --image.")
    wanted = _channel(folder, case, channel)["voxels_sha256"]
    with plain_path(path) as plain:
        image = series_with_voxels(plain, wanted)[0] if plain.is_dir() else read_image(plain)
    if voxel_hash(image) != wanted:
        raise InputError(f"{path} holds other voxels than the image of {folder}: give the one that was segmented.")
    try:
        return _on_grid_of_case(path, image, case)
    except DAMAGED as error:
        raise _damaged(folder, error) from error


def _on_grid_of_case(path: Path, image: sitk.Image, case: Mapping[str, Any]) -> sitk.Image:
    """Read the image at a path; of a NIfTI file with two placements the one that the case was made with."""
    grid = case["input"].get("grid")
    if grid is None:
        return image
    if _is_at(image, grid):
        return image
    others = (on_form(path, image, form) for form in FORMS)  # each is a copy
    return next((each for each in others if _is_at(each, grid)), image)


def _is_at(image: sitk.Image, grid: Mapping[str, Any]) -> bool:
    facts = grid_facts(image)
    return all(np.allclose(facts[key], grid[key], rtol=0, atol=1e-3) for key in ("origin_lps_mm", "direction_lps"))


def is_there(path: Path) -> bool:
    """Whether there is a file or folder.

    Raises:
        InputError: the path may not be read.
    """
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path} cannot be looked at ({error.strerror}): give the image with --image.") from error


def image_path(folder: Path, case: Mapping[str, Any], channel: int = 0) -> Path:
    """Where the image of a case should lie: inside its folder, or where it was read from. Nothing is opened for it.

    Raises:
        InputError: `case.json` does not say.
    """
    inside = folder / IMAGE_FILE
    return inside if channel == 0 and inside.is_file() else _source(folder, case, channel)


def trusted_path(folder: Path, case: Mapping[str, Any], channel: int = 0) -> Path:
    """`image_path`, if it lies inside the case folder or was written by this user (`paths.is_own`).

    Raises:
        OutsideError: neither.
        InputError: `case.json` does not say where the image lies.
    """
    inside = folder / IMAGE_FILE
    return inside if channel == 0 and inside.is_file() else trusted_source(folder, case, channel)


def trusted_source(folder: Path, case: Mapping[str, Any], channel: int = 0) -> Path:
    """Return the file or folder that a channel was read from, whether or not the image lies in the case folder too.

    Raises:
        OutsideError: it lies outside the case folder, and this user did not write where.
        InputError: `case.json` does not say.
    """
    path = _source(folder, case, channel)
    if is_inside(folder, path):
        return path
    entry = _channel(folder, case, channel)
    if not is_own(entry.get("file_mac"), entry["file"], entry["voxels_sha256"]) or has_links(path):
        raise OutsideError(folder, path)
    return path


def _source(folder: Path, case: Mapping[str, Any], channel: int) -> Path:
    try:
        return original_path(stored_path(folder, _channel(folder, case, channel)["file"]))
    except (KeyError, ValueError) as error:
        raise _damaged(folder, error) from error


def image_among(folders: Sequence[Path], folder: Path, case: Mapping[str, Any]) -> Path | None:
    """Find the image of a case in folders that the user named, at any depth: by its name, then by its voxels.

    Args:
        folders: where images lie now.
        folder: of the case.

    Returns:
        A file, or the folder of a DICOM series; None if none of them holds it.

    Raises:
        InputError: `case.json` does not say which image it was made from.
    """
    name = _source(folder, case, 0).name
    for root in folders:
        for parent, subfolders, files in os.walk(root):
            if name in files or name in subfolders:
                try:
                    case_image(folder, case, Path(parent) / name)
                except InputError:  # another image of that name: the next one may be it
                    continue
                return Path(parent) / name
    return None


def _channel(folder: Path, case: Mapping[str, Any], channel: int) -> Mapping[str, Any]:
    try:
        found = case["input"]["channels"][channel]
        if not isinstance(found, Mapping) or not isinstance(found["voxels_sha256"], str):
            raise TypeError("no channel with a voxel hash")
    except DAMAGED as error:
        raise _damaged(folder, error) from error
    return found


def _damaged(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder} does not say which image it was made from ({error!r:.200}): segment the case again.")


def series_with_voxels(folder: Path, wanted: str) -> tuple[sitk.Image, list[Path]]:
    """Read the DICOM series of a folder and the files of its slices; of several series the one with the wanted voxels.

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
