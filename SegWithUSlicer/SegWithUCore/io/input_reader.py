"""Everything that is done with image files before a case is computed, in this process or in a child."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .dicom_folder import scan_folder
from .dicom_series import read_series
from .header_peek import FileGrid, grid_of
from .plain_names import plain_path
from .volume import is_dicom, read_image


class InputReader:
    """Looks at image files and DICOM folders, and reads them, in this process; `ReaderProcess` does it in a child."""

    def is_dicom(self, file: Path) -> bool:
        """Whether a file is DICOM."""
        with plain_path(file) as plain:
            return is_dicom(plain)

    def folder_words(self, folder: Path) -> str:
        """Describe what a folder of DICOM files holds: "DICOM series, 113 slices".

        Raises:
            InputError: as `scan_folder`.
        """
        with plain_path(folder) as plain:
            return scan_folder(plain).description

    def grid(self, path: Path, series: str | None = None) -> FileGrid | None:
        """Read what the header of an image file or DICOM series claims; None if only reading says what is wrong.

        Args:
            series: as in `read`.
        """
        with plain_path(path) as plain:
            return grid_of(plain, series)

    def read(self, path: Path, series: str | None = None) -> sitk.Image:
        """Read one channel, float32: an image file, or the DICOM series of a folder.

        Args:
            series: end of the UID of the series to take from a folder with several.

        Raises:
            InputError: as `read_image` and `read_series`.
        """
        with plain_path(path) as plain:
            return read_series(plain, series) if plain.is_dir() else read_image(plain)


IN_THIS_PROCESS = InputReader()
"""For work that a file may end: tests, scripts, a single image."""


def image_description(image: sitk.Image) -> dict[str, Any]:
    """All of a scalar image but its voxels; numbers in hexadecimal, so that none is rounded."""
    return {
        "size": list(image.GetSize()),
        "voxel_type": sitk.GetArrayViewFromImage(image).dtype.str,
        "spacing": [value.hex() for value in image.GetSpacing()],
        "origin": [value.hex() for value in image.GetOrigin()],
        "direction": [value.hex() for value in image.GetDirection()],
        "metadata": {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()},
    }


def image_voxels(image: sitk.Image) -> memoryview:
    """View the bytes of an image's voxels, x fastest, without a copy."""
    return sitk.GetArrayViewFromImage(image).data.cast("B")


def empty_voxels(description: Mapping[str, Any]) -> np.ndarray:
    """Allocate an array (z, y, x) that the voxels of the described image fit into.

    Raises:
        MemoryError: there is no room for it.
    """
    return np.empty(description["size"][::-1], description["voxel_type"])


def described_image(description: Mapping[str, Any], voxels: np.ndarray) -> sitk.Image:
    """Make the image that was described, bit by bit."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([float.fromhex(value) for value in description["spacing"]])
    image.SetOrigin([float.fromhex(value) for value in description["origin"]])
    image.SetDirection([float.fromhex(value) for value in description["direction"]])
    for key, value in description["metadata"].items():
        with contextlib.suppress(TypeError):  # a text that is no UTF-8 can be got but not set
            image.SetMetaData(key, value)
    return image
