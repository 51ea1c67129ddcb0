"""All that is done with image files before a case is computed, in one place."""

from pathlib import Path

import SimpleITK as sitk

from .dicom_folder import scan_folder
from .dicom_series import read_series
from .grid_peek import FileGrid, grid_of
from .plain_names import plain_path
from .volume import is_dicom, read_image


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

    def grid(self, path: Path, series: str | None = None) -> FileGrid | None:
        """What the header of an image file, or of a DICOM series, claims; None where only reading says what is wrong.

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
