"""Find where a model's boxes lie in an image of a whole head, by one affine registration of a coarse template.

A bundle may have a template and the centres of its boxes in it (`bundle.Placement`). The registration maximises Mattes
mutual information inside the template's brain: coarse starts over turns and shifts on voxels of 8 mm, the best of them
optimised rigidly, then affinely on voxels of 4 mm. Without a brain mask and several starts a head with a neck ended
40 mm too low.
"""

from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..io.roi import RegionOfInterest
from ..io.volume import ras_to_lps, read_volume, reorient
from ..models.bundle import RESTORE, Placement, check_hash, file_sha256
from ..util.errors import InputError
from ..util.input_files import regular_file
from .preprocessing import grid_within

COARSE_MM, FINE_MM = 8.0, 4.0
TURNS_DEGREES = (25.0, -25.0)
"""Coarse starts about each axis, besides no turn."""
SHIFTS_UP_MM, SHIFTS_FORWARD_MM = (-30.0, 0.0, 30.0, 60.0), (-20.0, 0.0, 20.0)
"""Coarse starts around the centre of mass, which a neck draws down."""
RIGID_STARTS, AFFINE_STARTS = 3, 2
NEAR = 0.05
"""Nats behind the best rigid start within which the next one is optimised affinely, too. In brains for decisions, also
turned by 20 degrees, it was 0.07 to 0.24 behind and never won."""
INSIDE = 128
"""Added to the grey values (0 to 127) of a template inside its mask."""


@dataclass(frozen=True)
class Template:
    """A coarse image of a head and the mask of what drives the registration, on one grid."""

    image: sitk.Image
    mask: sitk.Image

    @classmethod
    def read(cls, path: Path, sha256: str) -> "Template":
        """Read the file of a bundle.

        Raises:
            InputError: it is missing, changed or damaged.
        """
        regular_file(path, RESTORE)
        check_hash(path, file_sha256(path), sha256)
        image = read_volume(path).image
        values = sitk.GetArrayFromImage(image)
        if values.min() < 0 or not INSIDE <= values.max() < 2 * INSIDE:
            raise InputError(f"{path} is not a template of a head: {RESTORE}.", code="damaged-bundle")
        grid = VoxelGrid.of(image)
        grey = sitk.Cast(grid.image(values % INSIDE / np.float32(INSIDE - 1)), sitk.sitkFloat32)
        return cls(grey, grid.image((values >= INSIDE).astype(np.uint8)))


@dataclass(frozen=True)
class Placed:
    """Where the boxes lie in an image.

    Attributes:
        rois: boxes along the patient's axes, by side ("left", "right"); they do not overlap.
        similarity: mutual information of template and image inside the mask, in nats.
        overlap: share of the template's mask that lies inside the image.
    """

    rois: dict[str, RegionOfInterest]
    similarity: float
    overlap: float


def place(spec: Placement, template: Template, image: sitk.Image) -> Placed:
    """Register the template with an image and move its boxes there.

    Args:
        image: of a whole head, any orientation and spacing, in world coordinates. It is registered in one order of
            axes: the grids that it is sampled on begin at its first voxel, so other axes would give other boxes.
    """
    image = reorient(image, "RAS")
    transform, similarity = register(template, image)
    centres = {box.side: ras_to_lps(transform.TransformPoint(ras_to_lps(box.centre_ras_mm))) for box in spec.boxes}
    rois = {box.side: RegionOfInterest.of([*centres[box.side], *box.size_mm]) for box in spec.boxes}
    return Placed(_apart(rois), similarity, _overlap(template, image, transform))


def _apart(rois: dict[str, RegionOfInterest]) -> dict[str, RegionOfInterest]:
    """Make boxes that overlap, as in a small head, narrower along the axis on which their centres differ most."""
    centres = np.array([roi.centre_ras_mm for roi in rois.values()])
    if len(rois) != 2:
        return rois
    gap = np.abs(centres[0] - centres[1])
    axis = int(gap.argmax())
    narrow = {}
    for side, roi in rois.items():
        size = list(roi.size_mm)
        size[axis] = min(size[axis], float(gap[axis]) - 1.0)
        narrow[side] = RegionOfInterest.of([*roi.centre_ras_mm, *size])
    return narrow


def register(template: Template, image: sitk.Image) -> tuple[sitk.AffineTransform, float]:
    """Find the affine transform from template to image (LPS), and their mutual information."""
    fine = _scaled(_resampled(image, FINE_MM))
    coarse, coarse_template = _resampled(fine, COARSE_MM), _resampled(template.image, COARSE_MM)
    coarse_mask = sitk.Cast(_resampled(template.mask, COARSE_MM) > 0.5, sitk.sitkUInt8)
    centre = _centre_of_mass(sitk.Cast(template.mask, sitk.sitkFloat32))
    base = _centre_of_mass(coarse) - centre
    turns = [np.zeros(3), *(np.eye(3)[axis] * np.radians(by) for axis in range(3) for by in TURNS_DEGREES)]
    starts = [
        sitk.Euler3DTransform(centre.tolist(), *turn.tolist(), (base + np.array([0, -forward, up])).tolist())
        for turn, up, forward in product(turns, SHIFTS_UP_MM, SHIFTS_FORWARD_MM)
    ]
    starts.sort(key=lambda start: _similarity(coarse_template, coarse_mask, coarse, start))
    rigid = [
        (_optimise(coarse_template, coarse_mask, coarse, start, 40, 2.0), start) for start in starts[:RIGID_STARTS]
    ]
    rigid.sort(key=itemgetter(0))
    affine = [
        sitk.AffineTransform(start.GetMatrix(), start.GetTranslation(), start.GetCenter())
        for value, start in rigid[:AFFINE_STARTS]
        if value <= rigid[0][0] + NEAR
    ]
    values = [_optimise(template.image, template.mask, fine, start, 60, 1.0) for start in affine]
    best = int(np.argmin(values))
    return affine[best], -values[best]


def _overlap(template: Template, image: sitk.Image, transform: sitk.Transform) -> float:
    """Share of the template's mask that lies inside the image."""
    inside = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    inside.CopyInformation(image)
    seen = sitk.Resample(inside, template.mask, transform, sitk.sitkNearestNeighbor, 0)
    return float(sitk.GetArrayViewFromImage(seen)[sitk.GetArrayViewFromImage(template.mask) > 0].mean())


def _resampled(image: sitk.Image, mm: float) -> sitk.Image:
    """Smooth and resample to isotropic voxels, along the image's own axes."""
    spacing = np.array(image.GetSpacing())
    work = sitk.Cast(image, sitk.sitkFloat32)
    if (spacing < mm).any():
        work = sitk.SmoothingRecursiveGaussian(work, [0.4 * mm if own < mm else 1e-3 for own in spacing])
    size = [max(4, int(np.ceil(count * own / mm))) for count, own in zip(image.GetSize(), spacing, strict=True)]
    grid = grid_within(image, size, [mm] * 3)
    return sitk.Resample(work, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)


def _scaled(image: sitk.Image) -> sitk.Image:
    """Bring the percentiles 1 and 99.5 to 0 and 1."""
    low, high = np.percentile(sitk.GetArrayViewFromImage(image), [1, 99.5])
    return sitk.Clamp((image - float(low)) / max(float(high - low), 1e-6), sitk.sitkFloat32, 0.0, 1.0)


def _centre_of_mass(image: sitk.Image) -> np.ndarray:
    grey = sitk.GetArrayViewFromImage(image).astype(np.float64)
    grey = grey * (grey > 0.15)
    total = max(float(grey.sum()), 1e-6)
    z, y, x = (
        float((grey.sum(tuple({0, 1, 2} - {axis})) * np.arange(count)).sum()) / total
        for axis, count in enumerate(grey.shape)
    )
    return np.array(image.TransformContinuousIndexToPhysicalPoint([x, y, z]))


def _method(mask: sitk.Image, transform: sitk.Transform) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricFixedMask(mask)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _similarity(fixed: sitk.Image, mask: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Minus the mutual information; 0 where too little overlaps."""
    try:
        return float(_method(mask, transform).MetricEvaluate(fixed, moving))
    except RuntimeError:  # ITK's way to say that too few points lie inside the image
        return 0.0


def _optimise(
    fixed: sitk.Image, mask: sitk.Image, moving: sitk.Image, transform: sitk.Transform, steps: int, rate: float
) -> float:
    """Optimise a transform in place; returns minus the mutual information, 0 where too little overlaps."""
    method = _method(mask, transform)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=rate, numberOfIterations=steps, minStep=1e-3, gradientMagnitudeTolerance=1e-6, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    try:
        method.Execute(fixed, moving)
        return float(method.GetMetricValue())
    except RuntimeError:  # as above
        return 0.0
