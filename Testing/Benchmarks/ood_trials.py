"""Inputs that the OOD check should let pass, and inputs that it should notice, made of real images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import image_on_grid, orientation_of, read_image

SIZE_MM = (36.0, 50.0, 36.0)
"""Region of interest of the README's tutorial."""
HIPPOCAMPI = ((-28.0, -22.0, -14.0), (28.0, -22.0, -14.0))
"""Centres (RAS, mm) in the MNI152 average."""
NEAR_MM = 40.0
"""Crops whose centre is at least this far from both hippocampi hold none of either."""
BODY_HU = -200.0

Trial = tuple[str, sitk.Image]


def inverted(image: sitk.Image) -> sitk.Image:
    """Bright and dark exchanged."""
    array = sitk.GetArrayFromImage(image)
    return image_on_grid(array.max() + array.min() - array, image)


def noisy(image: sitk.Image, share: float, seed: int = 0) -> sitk.Image:
    """Gaussian noise whose deviation is a share of the contrast (0.5 to 99.5 percentile)."""
    array = sitk.GetArrayFromImage(image)
    low, high = np.percentile(array, (0.5, 99.5))
    noise = np.random.default_rng(seed).normal(0, share * (high - low), array.shape)
    return image_on_grid((array + noise).astype(np.float32), image)


def smoothed(image: sitk.Image, deviation_mm: float) -> sitk.Image:
    """Blurred by a Gaussian."""
    return sitk.SmoothingRecursiveGaussian(image, deviation_mm)


def respaced(image: sitk.Image, factor: float) -> sitk.Image:
    """A header whose spacing is wrong by a factor."""
    result = sitk.Image(image)
    result.SetSpacing([factor * value for value in image.GetSpacing()])
    return result


def misdirected(image: sitk.Image, letters: str) -> sitk.Image:
    """A header with the directions of another orientation; the voxels are those of a RAS image."""
    result = sitk.DICOMOrient(image, "RAS")
    matrix = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(letters)
    result.SetDirection(matrix)
    return result


def mirrored(image: sitk.Image) -> sitk.Image:
    """The other side of the head."""
    axis = next(i for i, letter in enumerate(orientation_of(image)) if letter in "LR")
    flipped = sitk.Flip(image, [i == axis for i in range(3)])
    flipped.CopyInformation(image)
    return flipped


def empty_crops(image: sitk.Image) -> Iterator[Trial]:
    """The case's grid with nothing in it: zeros, zeros but for some voxels, a constant with faint noise."""
    shape = image.GetSize()[::-1]
    random = np.random.default_rng(0)
    few = np.zeros(shape, np.float32)
    few.flat[random.choice(few.size, few.size // 1000, replace=False)] = 100
    yield "zeros", image_on_grid(np.zeros(shape, np.float32), image)
    yield "a few bright voxels", image_on_grid(few, image)
    yield "constant with faint noise", image_on_grid(random.normal(100, 1, shape).astype(np.float32), image)


def crop(image: sitk.Image, centre: tuple[float, float, float]) -> sitk.Image:
    """A region of interest of the tutorial's size."""
    return voxel_box(RegionOfInterest(centre, SIZE_MM), image).crop(image)


def sample_hippocampi(sample: Path) -> list[Trial]:
    """Both hippocampi of the MNI152 average, centred and 4 mm off in each direction."""
    image, trials = read_image(sample), []
    for centre in HIPPOCAMPI:
        for axis, step in ((0, 0.0), (0, 4.0), (0, -4.0), (1, 4.0), (1, -4.0), (2, 4.0), (2, -4.0)):
            moved = np.asarray(centre)
            moved[axis] += step
            trials.append((f"{centre} {'xyz'[axis]}{step:+g}", crop(image, tuple(moved.tolist()))))
    return trials


def other_places(sample: Path, count: int) -> list[Trial]:
    """Crops of the MNI152 average within the head that hold no hippocampus."""
    image, random, trials = read_image(sample), np.random.default_rng(0), []
    bright = float(np.percentile(sitk.GetArrayViewFromImage(image), 50))
    while len(trials) < count:
        centre = random.uniform((-55, -90, -45), (55, 60, 65))
        r, a, s = (float(v) for v in centre.round())
        part = crop(image, (r, a, s))
        full = part.GetSize() == tuple(int(v) for v in SIZE_MM)
        inside = float((sitk.GetArrayViewFromImage(part) > bright).mean()) > 0.6
        if full and inside and all(np.linalg.norm(centre - np.asarray(c)) > NEAR_MM for c in HIPPOCAMPI):
            trials.append((f"RAS ({r:g}, {a:g}, {s:g})", part))
    return trials


def ct_crops(files: list[Path], count: int) -> list[Trial]:
    """Crops of abdominal CT, brought to 1 mm voxels so that neither size nor spacing gives them away."""
    random, trials = np.random.default_rng(0), []
    images = [_resampled(sitk.DICOMOrient(read_image(file), "RAS")) for file in files]
    while len(trials) < count:
        number = len(trials) % len(images)
        image = images[number]
        size = [int(v) for v in SIZE_MM]
        corner = [int(random.integers(0, max(1, n - s))) for n, s in zip(image.GetSize(), size, strict=True)]
        part = sitk.RegionOfInterest(image, [min(s, n) for s, n in zip(size, image.GetSize(), strict=True)], corner)
        if (sitk.GetArrayViewFromImage(part) > BODY_HU).mean() > 0.9:
            trials.append((f"{files[number].name} at {corner}", part))
    return trials


def _resampled(image: sitk.Image) -> sitk.Image:
    assert orientation_of(image) == "RAS"
    size = [int(n * s) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    unit = (1.0, 1.0, 1.0)
    return sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), unit, image.GetDirection())
