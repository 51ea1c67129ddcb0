"""Read a channel: an image file, or the DICOM series of a folder.

Nothing native reads a file of others here: NIfTI, NRRD and MetaImage are read by Python, zlib and numpy, DICOM headers
by pydicom, and GDCM decodes compressed slices in a process of its own (`dicom_decoder`).
"""

from pathlib import Path

from .dicom_series import read_series, series_header
from .volume import Header, Volume, read_header, read_volume


class InputReader:
    """Reads channels; a subclass may read them from elsewhere than files."""

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
