"""Find and read the image that a case folder was made from: known by a hash of its voxels, and where these lie."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..io.dicom_folder import scan_folder
from ..io.dicom_series import read_slices
from ..io.grid import VoxelGrid, check_geometry
from ..io.volume import Volume, read_volume
from ..util.errors import InputError, wrong_values_named
from ..util.input_files import is_there, original_path
from ..util.paths import has_links, is_inside, is_own, stored_path
from .case_file import CASE_FILE, DAMAGED_CASE

IMAGE_FILE = "image.nii.gz"
# Error codes of an image, or a segmentation of an image, with other voxels than were segmented, and of a volume at
# another place.
OTHER_IMAGE, ELSEWHERE = "other-image", "another-place"


class OutsideError(InputError):
    """Another user's `case.json` names an image outside the case folder.

    Attributes:
        path: of that image, which was not opened.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{folder} was made by another user from an image outside that folder ({path}): give the image with "
            "--image, or for many cases the folder of the images with export --images."
        )


def case_image(folder: Path, case: Mapping[str, Any], moved_to: Path | None = None, channel: int = 0) -> sitk.Image:
    """Read the image of a case.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: current path of the image, if it was moved; a file, or the folder of a DICOM series.
        channel: which of its channels.

    Raises:
        OutsideError: it lies outside the case folder, and another user's `case.json` says where.
        InputError: it is not where it was, or is not the one that was segmented (see `checked_image`).
    """
    path = moved_to or trusted_path(folder, case, channel)
    if not is_there(path):
        raise InputError(f"The image of {folder} is not at {path} any more: give its place with --image.")
    wanted = channel_hash(folder, case, channel)
    volume = series_with_voxels(path, wanted)[0] if path.is_dir() else read_volume(path)
    return checked_image(path, volume, folder, case, channel)


def checked_image(path: Path, volume: Volume, folder: Path, case: Mapping[str, Any], channel: int = 0) -> sitk.Image:
    """Return an image that was read, if it is the one that was segmented, at the place that it had then.

    Args:
        path: of the image.
        folder, case, channel: as in `case_image`.

    Raises:
        InputError: it holds other voxels, or lies elsewhere.
    """
    if voxel_hash(volume.image) != channel_hash(folder, case, channel):
        raise InputError(f"{path} has other voxels than the image of {folder}: give its own image.", OTHER_IMAGE)
    grid = case_grid(folder, case)
    if VoxelGrid.of(volume.image).is_at(grid):
        return volume.image
    places = f"{VoxelGrid.of(volume.image).place} instead of {grid.place}"
    raise InputError(f"{path} has the voxels of {folder} at another place, {places}: restore its header.", ELSEWHERE)


def case_grid(folder: Path, case: Mapping[str, Any]) -> VoxelGrid:
    """Return the grid of the image that was segmented, on which all volumes of a case lie.

    Raises:
        InputError: `case.json` does not say, or it is not a grid of an image.
    """
    with _image_named(folder):
        grid = VoxelGrid.of_facts(case["input"]["grid"])
    check_geometry(folder / CASE_FILE, grid.size, grid.spacing, grid.origin, np.reshape(grid.direction, (3, 3)))
    return grid


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
    with _image_named(folder):
        return original_path(stored_path(folder, _channel(folder, case, channel)["file"]))


def find_image(
    folder: Path, case: Mapping[str, Any], folders: Sequence[Path], channel: int = 0
) -> tuple[Path, sitk.Image] | None:
    """Find and read an image of a case: where this user had it, else by name in the folders given, at any depth.

    Args:
        folder: of the case.
        folders: where images lie now.

    Returns:
        A file, or the folder of a DICOM series, and the image; None if it is not found.

    Raises:
        InputError: `case.json` names no image, or none of the files of its name is the one that was segmented; then
            the reason of the best of them, and one with the right voxels at another place is better.
    """
    with contextlib.suppress(OutsideError):  # another user wrote where it lies
        path = trusted_path(folder, case, channel)
        if is_there(path):
            return path, case_image(folder, case, path, channel)
    name, problems = _source(folder, case, channel).name, list[InputError]()
    for root in folders:
        for parent, subfolders, files in os.walk(root):
            if name in files or name in subfolders:
                path = Path(parent) / name
                try:
                    return path, case_image(folder, case, path, channel)
                except InputError as error:  # the next one of that name may be it
                    problems.append(error)
    if problems:
        raise min(problems, key=lambda error: {ELSEWHERE: 0, OTHER_IMAGE: 2}.get(error.code, 1))
    return None


def _channel(folder: Path, case: Mapping[str, Any], channel: int) -> Mapping[str, Any]:
    with _image_named(folder):
        found = case["input"]["channels"][channel]
        if not isinstance(found, Mapping) or not isinstance(found["voxels_sha256"], str):
            raise TypeError("no channel with a voxel hash")
    return found


def channel_hash(folder: Path, case: Mapping[str, Any], channel: int = 0) -> str:
    """Return the hash of the voxels that a channel had when it was segmented.

    Raises:
        InputError: `case.json` does not say.
    """
    return str(_channel(folder, case, channel)["voxels_sha256"])


def _image_named(folder: Path) -> AbstractContextManager[None]:
    problem = "does not say which image it was made from"
    return wrong_values_named(folder, "segment the case again", DAMAGED_CASE, problem)


def series_with_voxels(folder: Path, wanted: str) -> tuple[Volume, list[Path]]:
    """Read the DICOM series of a folder and the files of its slices; of several series the one with the wanted voxels.

    Args:
        wanted: voxel hash; not compared where the folder holds one series.

    Raises:
        InputError: no series, a damaged one, or none of several has these voxels.
    """
    found = scan_folder(folder)
    if len(found.series) < 2:
        return read_slices(found, found.chosen())
    for slices in found.series.values():
        try:
            volume, files = read_slices(found, slices)
        except InputError:
            continue
        if voxel_hash(volume.image) == wanted:
            return volume, files
    message = f"None of the {len(found.series)} series in {folder} has the voxels that were segmented: give its folder."
    raise InputError(message, "no-source-series")


def voxel_hash(image: sitk.Image) -> str:
    """SHA-256 of the voxels as little-endian float32, x fastest: the same whatever file format held them."""
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(image), "<f4")
    return hashlib.sha256(array.data).hexdigest()
