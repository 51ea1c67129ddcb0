"""Look at image files and DICOM folders, and read them.

Nothing native reads a file of others here: NIfTI, NRRD and MetaImage are read by Python, zlib and numpy, DICOM headers
by pydicom, and GDCM decodes compressed slices in a process of its own (`dicom_decoder`).
"""

from pathlib import Path

from .dicom_folder import is_dicom, scan_folder
from .dicom_series import read_series, series_header
from .volume import Header, Volume, read_header, read_volume


class InputReader:
    """Looks at inputs, and reads them."""

    def is_dicom(self, file: Path) -> bool:
        """Whether a file is DICOM."""
        return is_dicom(file)

    def folder_words(self, folder: Path) -> str:
        """Describe what a folder of DICOM files holds: "DICOM series, 113 slices".

        Raises:
            InputError: as `scan_folder`.
        """
        return scan_folder(folder).description

    def series_uids(self, folder: Path) -> list[str]:
        """List the UIDs of the DICOM series in a folder.

        Raises:
            InputError: as `scan_folder`.
        """
        return list(scan_folder(folder).series)

    def header(self, path: Path, series: str | None = None) -> Header:
        """Read the header of an image file, or of the DICOM series of a folder; no voxel is read.

        Args:
            series: as in `read`.

        Raises:
            InputError: as `read`, as far as headers tell.
        """
        return series_header(path, series) if path.is_dir() else read_header(path)

    def read(self, path: Path, series: str | None = None, header: Header | None = None) -> Volume:
        """Read one channel: an image file, or the DICOM series of a folder.

        Args:
            series: end of the UID of the series to take from a folder with several.
            header: what `header` gave for it, so that it is not read again.

        Raises:
            InputError: as `read_volume` and `read_series`.
        """
        return read_series(path, series, header) if path.is_dir() else read_volume(path, header)


IN_THIS_PROCESS = InputReader()
