"""Label volumes: whole numbers, whatever type of voxels a file has."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from .volume import read_file, without_axes_of_one


def read_labels(path: Path) -> sitk.Image:
    """Read a label volume as int16, whatever type the file has.

    A trailing axis of one is dropped, as by `read_image`.

    Raises:
        InputError: as `read_image`, or labels that are not whole numbers of 16 bits.
    """
    image = without_axes_of_one(read_file(path))
    array = whole_labels(path, sitk.GetArrayViewFromImage(image))
    labels = sitk.GetImageFromArray(array, isVector=image.GetNumberOfComponentsPerPixel() > 1)
    labels.CopyInformation(image)
    return labels


def whole_labels(path: Path, array: np.ndarray) -> np.ndarray:
    """Make labels that were read from `path` int16.

    Raises:
        InputError: they are not whole numbers of 16 bits.
    """
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        raise InputError(
            f"{path} is not a label volume: it holds fractions such as {array[rounded != array][0]:g}.",
            code="fractions-as-labels",
        )
    limits = np.iinfo(np.int16)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        raise InputError(
            f"{path} holds the label {array[outside][0]:.0f}: give labels between {limits.min} and {limits.max}.",
            code="label-out-of-range",
        )
    return rounded.astype(np.int16)
