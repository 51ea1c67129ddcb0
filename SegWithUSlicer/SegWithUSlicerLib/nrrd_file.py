"""Whether an NRRD file is whole, found out before Slicer reads it.

Slicer's segmentation reader ends the whole application on a damaged file (an ITK exception that nobody catches).
"""

from pathlib import Path

from SegWithUCore.errors import InputError
from SegWithUCore.imaging.nrrd import read_nrrd_header
from SegWithUCore.imaging.stored_voxels import check_voxels
from SegWithUCore.input_files import regular_file


def is_whole_nrrd(path: Path) -> bool:
    """Whether a file is an NRRD with its voxels inside, all of them there and undamaged."""
    try:
        regular_file(path)
        stored = read_nrrd_header(path)
        check_voxels(stored)
    except (InputError, OSError):
        return False
    return stored.body.file == path
