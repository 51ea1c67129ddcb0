"""A case with its reference as every command reads it: the one place that opens references and the channels of a case.

A reference counts by its place, not by the order in which its voxels are stored: one at the image's place is turned
onto the image's grid, voxel for voxel, and one at another place is refused. Channels must share one grid, the order of
their axes included, as for `segment`: a case folder knows each of them by its voxels as stored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.case.segmentation_file import read_segments
from SegWithUCore.inference.given_mask import GivenMask, MaskedImage, MaskFile, listed, read_mask
from SegWithUCore.inference.preprocessing import assessed_box, box_around_mask
from SegWithUCore.io.grid import VoxelGrid, check_scalar_volume, turned_like
from SegWithUCore.io.volume import (
    check_same_grid,
    image_on_grid,
    read_header,
    read_image,
    read_labels,
    reorient,
    whole_labels,
)
from SegWithUCore.metrics.overlap import joint_counts
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import Label
from SegWithUCore.util.errors import InputError

SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Of a segmentation that Slicer saved; it may cover a part of the image's grid."""


SYNTHESISED = "synthesised"
"""Role of images that were made from label maps."""


@dataclass(frozen=True)
class Case:
    """One case on disk.

    Attributes:
        name: of its files.
        channels: one file per channel.
        reference: segmentation by an expert.
        patient: patient ID from the split table, None if not given.
        labels: structures of the model by the label of the reference that stands for them (`MaskFile.names`); empty
            where labels have the model's values.
        is_synthesised: its image was made from the reference (`segwithu synthesise`).
        is_review: a reader drew `labels` completely, over what the model had drawn: so much is known where the model
            draws one of them, or one is the most probable other structure.
        mask: segmentation that a model without a network judges; its labels are named as those of the reference.
        phase: of the heart, "" if not given.
    """

    name: str
    channels: tuple[Path, ...]
    reference: Path
    patient: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    is_synthesised: bool = False
    is_review: bool = False
    mask: Path | None = None
    phase: str = ""

    @property
    def group(self) -> str:
        """Bootstrap group: the patient ID, or the case name."""
        return self.patient or self.name


@dataclass(frozen=True)
class ReadCase:
    """A case as read.

    Attributes:
        images: one a channel, on one grid.
        reference: label values, int16, on the same grid.
    """

    images: list[sitk.Image]
    reference: sitk.Image


@dataclass(frozen=True)
class AssessedCase:
    """A case as read, cut to the part that a model assesses.

    Attributes:
        images: one a channel, on one grid.
        truth: class of each voxel, int16 (z, y, x); of several that a label stands for, the first.
        judged_as: for each class the first of those that share its label, 0 for a structure without a label; None where
            each class has its own.
        unjudged: voxels that may be a structure, (z, y, x), only of a case with a mask; None where there are none.
    """

    images: list[sitk.Image]
    truth: np.ndarray
    judged_as: np.ndarray | None = None
    unjudged: np.ndarray | None = None

    def truth_for(self, drawn: np.ndarray) -> np.ndarray:
        """Return the class of each voxel; where its label stands for the drawn class, too, the drawn one is true.

        Args:
            drawn: class of each voxel in a segmentation, (z, y, x).
        """
        if self.judged_as is None:
            return self.truth
        return np.where(self.judged_as[drawn] == self.truth, drawn, self.truth).astype(np.int16)

    def overlap(self, drawn: np.ndarray, classes: int) -> np.ndarray:
        """Count voxels as `joint_counts`; classes that share a label count as the first of them."""
        return joint_counts(drawn if self.judged_as is None else self.judged_as[drawn], self.truth, classes)


def read_images(case: Case) -> list[sitk.Image]:
    """Read the channels of a case.

    Raises:
        InputError: a file cannot be read, or lies on another grid than the first.
    """
    images = [read_image(path) for path in case.channels]
    for path, image in zip(case.channels[1:], images[1:], strict=True):
        check_same_grid(path, image, case.channels[0], images[0])
    return images


def read_case(case: Case) -> ReadCase:
    """Read channels and reference of a case.

    Raises:
        InputError: as `read_images` and `read_reference`.
    """
    images = read_images(case)
    return ReadCase(images, read_reference(case.reference, images[0], case.channels[0]))


def read_assessed(case: Case, bundle: Bundle) -> AssessedCase:
    """Read a case, cut to the part that a model assesses.

    Raises:
        InputError: as `read_case`, or the reference holds a label that the model does not know; with labels that are
            named, as `read_mask`.
    """
    if case.labels:
        images = read_images(case)
        box = assessed_box(images, bundle.input)
        mask = read_named(case, images[0], bundle.labels, case.mask is not None).part(box)
        members = np.unique(mask.label_of, return_index=True)[1].astype(np.int16)
        parts = [box.crop(image) for image in images]
        return AssessedCase(parts, members[mask.indices], members[mask.label_of], mask.unjudged)
    read = read_case(case)
    box = assessed_box(read.images, bundle.input)
    truth = class_indices(box.crop(read.reference), [label.value for label in bundle.labels], case.reference)
    return AssessedCase([box.crop(image) for image in read.images], truth)


def read_with_mask(case: Case, mask: Path, bundle: Bundle) -> tuple[AssessedCase, np.ndarray]:
    """Read a case with a mask that a model without a network judges, cut to the surroundings of the mask.

    What may be a structure in mask or reference is not judged: there the mask counts as right.

    Returns:
        The case, and the classes of its mask, uint8 (z, y, x).

    Raises:
        InputError: as `read_assessed` and `read_mask`, or a label stands for several structures.
    """
    read = read_assessed(case, bundle)
    given = read_named(replace(case, reference=mask), read.images[0], bundle.labels, may_be_unclear=True)
    truth, box = read.truth, box_around_mask(given.indices)
    for unjudged in (read.unjudged, given.unjudged):
        truth = truth if unjudged is None else np.where(unjudged, given.classes, truth).astype(np.int16)
    images = [box.crop(image) for image in read.images]
    cut = replace(read, images=images, truth=truth[box.slices_zyx], unjudged=None)
    return cut, given.classes[box.slices_zyx]


def read_named(case: Case, image: sitk.Image, structures: Sequence[Label], may_be_unclear: bool = False) -> GivenMask:
    """Read a reference whose labels are named; it may be empty.

    Args:
        image: the first channel.
        structures: of the model, background first.
        may_be_unclear: whether some voxels may be one of several structures.

    Raises:
        InputError: as `read_mask`, or nobody says which structure some of its voxels are.
    """
    place = MaskedImage(case.channels[0], VoxelGrid.of(image), voxel_hash(image))
    mask = read_mask(MaskFile(case.reference, case.labels), place, structures, may_be_empty=True)
    if (
        not may_be_unclear and mask.unjudged is not None and mask.unjudged.any()
    ):  # as background they would make the model wrong
        problem = f"{case.reference} has labels that may be a structure of the model ({listed(mask.unclear)})"
        raise InputError(f"{problem}: give a reference in which they are one, or background.", "unknown-label")
    return mask


def read_reference(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """Read a reference on the grid of its image, int16.

    A segmentation that Slicer saved (`.seg.nrrd`) may cover a part of that grid; the rest is background.

    Raises:
        InputError: as `read_labels`; at another place than the image, or of other voxels; or segments that overlap.
    """
    if not path.name.endswith(SEGMENTATION_SUFFIX):
        labels = read_labels(path)
        check_scalar_volume(path, labels.GetSize(), labels.GetNumberOfComponentsPerPixel())
        labels = turned_like(labels, image)
        check_same_grid(path, labels, image_path, image)
        return image_on_grid(sitk.GetArrayViewFromImage(labels), image)
    if (count := read_header(path).components) > 1:
        problem = f"{path} holds segments that overlap, in {count} layers"
        raise InputError(f"{problem}: save it from Slicer as a label volume.", "overlapping-segments")
    return image_on_grid(whole_labels(path, read_segments(path, image, any_axes=True)[0][0]), image)


def label_values(paths: Sequence[Path]) -> list[int]:
    """List the values of label maps, without 0.

    Raises:
        InputError: as `read_labels`.
    """
    found = (np.unique(sitk.GetArrayFromImage(read_labels(path))) for path in paths)
    return sorted({int(value) for values in found for value in values} - {0})


def class_indices(labels: sitk.Image, label_values: Sequence[int], source: Path) -> np.ndarray:
    """Return the class of each voxel, int16 (z, y, x): class c has the label value `label_values[c]`.

    Raises:
        InputError: `source` holds another value.
    """
    values = sitk.GetArrayViewFromImage(labels)
    unknown = sorted(set(np.unique(values).tolist()) - set(label_values))
    if unknown:
        raise InputError(f"{source} holds the label {unknown[0]}, which the recipe does not name.", "unknown-label")
    classes = np.zeros(values.shape, np.int16)
    for index, value in enumerate(label_values):
        classes[values == value] = index
    return classes


CELLS = 26
"""Along each axis of an image, at most: the voxels at their centres are compared with those of other images."""
LEAST_SHARED = 100
"""Fewer voxels than these tell no image from another."""


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether two cases show the same image.

    Attributes:
        sha256: as `case_hash`.
        size: of the grid, in voxels.
        sample: grey values of the first channel at the centres of `CELLS` cells along each axis, without the largest;
            NaN for the lowest, such as padding, which all images of a scanner share.
    """

    sha256: str
    size: tuple[int, ...]
    sample: np.ndarray

    def correlation(self, other: "Fingerprint") -> float:
        """Correlate grey values with those of an image of the same size, where both have some; 1 for equal voxels."""
        if self.sha256 == other.sha256:
            return 1.0
        known = [np.isfinite(each.sample) for each in (self, other)]
        both = known[0] & known[1]
        if np.count_nonzero(both) < max(LEAST_SHARED, min(map(np.count_nonzero, known)) / 2):
            return 0.0
        first, second = (each.sample[both] - each.sample[both].mean() for each in (self, other))
        return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) or 1.0))


def fingerprint(images: Sequence[sitk.Image]) -> Fingerprint:
    """Take the fingerprint of a case from all of its channels."""
    turned = reorient(images[0], "RAS")  # a copy may be stored along other axes
    values = sitk.GetArrayViewFromImage(turned)
    centres = [((np.arange(min(n, CELLS)) + 0.5) * max(1, n / CELLS)).astype(np.intp) for n in values.shape]
    sample = values[np.ix_(*centres)].ravel().astype(np.float64)
    low, high = np.percentile(sample, (1, 99))
    sample = np.where(sample > low, np.minimum(sample, high), np.nan)
    return Fingerprint(case_hash(images), turned.GetSize(), sample)


def case_hash(images: Sequence[sitk.Image]) -> str:
    """Hash the voxels of all channels of a case, the same whatever files or names hold them."""
    hashes = [voxel_hash(image) for image in images]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
