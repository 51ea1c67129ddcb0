"""An image as it goes through a pipe: a description of JSON values, and its voxels as they lie in memory."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk


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
    """The bytes of an image's voxels, x fastest, not copied."""
    return sitk.GetArrayViewFromImage(image).data.cast("B")


def empty_voxels(description: Mapping[str, Any]) -> np.ndarray:
    """An array (z, y, x) that the voxels of the described image fit into, not filled.

    Raises:
        MemoryError: there is no room for it.
    """
    return np.empty(description["size"][::-1], description["voxel_type"])


def described_image(description: Mapping[str, Any], voxels: np.ndarray) -> sitk.Image:
    """The image that was described, bit by bit."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([float.fromhex(value) for value in description["spacing"]])
    image.SetOrigin([float.fromhex(value) for value in description["origin"]])
    image.SetDirection([float.fromhex(value) for value in description["direction"]])
    for key, value in description["metadata"].items():
        with contextlib.suppress(TypeError):  # a text that is no UTF-8 can be got but not set
            image.SetMetaData(key, value)
    return image
