"""All that is done with image files before a case is computed, in one place."""

from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .dicom_folder import scan_folder
from .dicom_series import read_series
from .plain_names import plain_path
from .volume import grid_facts, header_grid, is_dicom, read_image


class InputReader:
    """Looks at image files and DICOM folders, and reads them, in this process; `ReaderProcess` does it in a child."""

    def is_dicom(self, file: Path) -> bool:
        """Whether a file is DICOM."""
        with plain_path(file) as plain:
            return is_dicom(plain)

    def folder_words(self, folder: Path) -> str:
        """What a folder of DICOM files holds: "DICOM series, 113 slices".

        Raises:
            InputError: as `scan_folder`.
        """
        with plain_path(folder) as plain:
            return scan_folder(plain).description

    def grid(self, file: Path) -> dict[str, Any]:
        """The grid of an image file, as `grid_facts`; its voxels are not read where the header tells.

        Raises:
            InputError: as `read_image`.
        """
        with plain_path(file) as plain:
            return header_grid(plain) or grid_facts(read_image(plain))

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
