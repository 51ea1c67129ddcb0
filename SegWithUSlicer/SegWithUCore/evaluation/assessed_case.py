"""A case with its reference, read and cut to the part that a model assesses."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..imaging.volume import check_same_grid, read_image, read_labels
from ..inference.preprocessing import assessed_box, mirrored_copy
from ..models.bundle import Bundle
from ..training.dataset import Case, class_indices


@dataclass(frozen=True)
class AssessedCase:
    """A case as read, cut to the part that is assessed.

    Attributes:
        images: one a channel, on one grid.
        truth: class of each voxel, int16 (z, y, x).
    """

    images: list[sitk.Image]
    truth: np.ndarray


def read_assessed(case: Case, bundle: Bundle, mirrored: bool = False) -> AssessedCase:
    """Images and reference of a case.

    Args:
        mirrored: exchange left and right first.

    Raises:
        InputError: a file cannot be read, lies on another grid, or holds a label that the model does not know.
    """
    images, labels = [read_image(path) for path in case.channels], read_labels(case.reference)
    for path, image in [*zip(case.channels[1:], images[1:], strict=True), (case.reference, labels)]:
        check_same_grid(path, image, case.channels[0], images[0])
    if mirrored:
        images, labels = [mirrored_copy(image) for image in images], mirrored_copy(labels)
    box = assessed_box(images, bundle.input)
    truth = class_indices(box.crop(labels), [label.value for label in bundle.labels], case.reference)
    return AssessedCase([box.crop(image) for image in images], truth)
