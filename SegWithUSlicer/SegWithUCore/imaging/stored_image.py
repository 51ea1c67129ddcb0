"""NRRD and MetaImage files as SimpleITK images."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import metaimage, nrrd
from .stored_voxels import StoredImage, read_voxels


def is_stored_image(path: Path) -> bool:
    """Whether a file is NRRD or MetaImage, by its name as for ITK."""
    return path.name.lower().endswith(nrrd.SUFFIXES + metaimage.SUFFIXES)


def stored_header(path: Path) -> StoredImage:
    """Read and check the header of an NRRD or MetaImage file.

    Raises:
        InputError: as `read_nrrd_header` and `read_metaimage_header`.
    """
    is_nrrd = path.name.lower().endswith(nrrd.SUFFIXES)
    return nrrd.read_nrrd_header(path) if is_nrrd else metaimage.read_metaimage_header(path)


def read_stored_image(path: Path) -> sitk.Image:
    """Read an NRRD or MetaImage file; key/value pairs of an NRRD header become metadata.

    Raises:
        InputError: as `stored_header` and `read_voxels`.
    """
    stored = stored_header(path)
    array = np.ascontiguousarray(read_voxels(stored))
    image = sitk.GetImageFromArray(array, isVector=array.ndim > len(stored.size))
    image.SetSpacing(stored.spacing)
    image.SetOrigin(stored.origin)
    image.SetDirection(stored.direction)
    for key, value in stored.fields.items():
        image.SetMetaData(key, value)
    return image
