"""Changes that images meet outside the training set, with the reference that fits them.

A *shift* takes an image and its reference (classes, on the image's grid) and gives both as a user would have them:
where voxels move or go, the reference moves and goes along, so that harm is what happens to the rest.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import SimpleITK as sitk

from SegWithUCore.io.volume import image_on_grid


@dataclass(frozen=True)
class Shifted:
    """An image and its reference after a shift.

    Attributes:
        image: single channel.
        truth: classes on its grid, (z, y, x).
        kept: which voxels of the case before the shift are left, for a fair comparison; None for all.
    """

    image: sitk.Image
    truth: np.ndarray
    kept: tuple[slice, ...] | None = None


Change = Callable[[sitk.Image, np.ndarray, np.random.Generator], Shifted]


@dataclass(frozen=True)
class Shift:
    """One kind of change in one strength."""

    family: str
    strength: str
    change: Change

    @property
    def name(self) -> str:
        """Both."""
        return f"{self.family}, {self.strength}" if self.strength else self.family

    def of(self, case: str, image: sitk.Image, truth: np.ndarray) -> Shifted:
        """Apply it to a case; what is drawn at random depends on case and family only."""
        return self.change(image, truth, np.random.default_rng(zlib.crc32(f"{case} {self.family}".encode())))


def _of_voxels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    def changed(image: sitk.Image, truth: np.ndarray, random: np.random.Generator) -> Shifted:
        array = sitk.GetArrayFromImage(image).astype(np.float64)
        return Shifted(image_on_grid(change(array, random).astype(np.float32), image), truth)

    return changed


def shading(array: np.ndarray, random: np.random.Generator, ratio: float) -> np.ndarray:
    """Bias field along a random direction: `ratio` times as bright at one end of the crop as at the other."""
    direction = random.normal(size=3)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij")
    along = sum(part * axis for part, axis in zip(direction, axes, strict=True))
    return array * ratio ** ((along - along.min()) / np.ptp(along) - 0.5)


def coil(array: np.ndarray, random: np.random.Generator, ratio: float) -> np.ndarray:
    """Sensitivity of a surface coil at a corner, `ratio` times as bright there as farthest from it."""
    corner = random.choice((-1.0, 1.0), size=3)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij")
    distance = sum((axis - end) ** 2 for axis, end in zip(axes, corner, strict=True))
    return array / (1 + (ratio - 1) * distance / distance.max())


def noise(array: np.ndarray, random: np.random.Generator, share: float) -> np.ndarray:
    """Gaussian noise whose deviation is a share of the contrast."""
    low, high = np.percentile(array, (0.5, 99.5))
    return array + random.normal(0, share * (high - low), array.shape)


def gamma(array: np.ndarray, random: np.random.Generator, power: float) -> np.ndarray:
    """Another curve of grey values between the darkest and the brightest."""
    low, high = np.percentile(array, (0.5, 99.5))
    return np.clip((array - low) / (high - low), 0, 1) ** power


def hot(array: np.ndarray, random: np.random.Generator, share: float) -> np.ndarray:
    """A bright ball, five times as bright as the brightest voxel, holds a share of the voxels."""
    centre = [random.uniform(0, n - 1) for n in array.shape]
    axes = np.meshgrid(*(np.arange(n) for n in array.shape), indexing="ij")
    distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    return np.where(distance <= np.quantile(distance, share), 5 * array.max(), array)


def ghost(array: np.ndarray, random: np.random.Generator, share: float) -> np.ndarray:
    """Ghost at half the field of view along anterior and posterior, as of a pulse or of readout errors."""
    return array + share * np.roll(array, array.shape[1] // 2, axis=1)


def blur(image: sitk.Image, truth: np.ndarray, random: np.random.Generator, deviation_mm: float) -> Shifted:
    """Blurred by a Gaussian."""
    return Shifted(sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), deviation_mm), truth)


def misdirected(image: sitk.Image, truth: np.ndarray, random: np.random.Generator, letters: str) -> Shifted:
    """A header with the directions of another orientation; the voxels are those of a RAS image."""
    result, reference = sitk.DICOMOrient(image, "RAS"), sitk.DICOMOrient(image_on_grid(truth, image), "RAS")
    result.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(letters))
    return Shifted(result, sitk.GetArrayFromImage(reference))


def coarser(image: sitk.Image, truth: np.ndarray, random: np.random.Generator, mm: Sequence[float]) -> Shifted:
    """Voxels of another size, each the mean of what it covers: thick slices, coarse images."""
    shape = [max(1, round(n * s / m)) for n, s, m in zip(image.GetSize(), image.GetSpacing(), mm, strict=True)]
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    one_hot = [(truth == value).astype(np.float64) for value in range(int(truth.max()) + 1)]
    small, *parts = (_averaged(volume, shape[::-1]) for volume in (array, *one_hot))
    result = sitk.GetImageFromArray(small.astype(np.float32))
    spacing = [n * s / m for n, s, m in zip(image.GetSize(), image.GetSpacing(), shape, strict=True)]
    first = [(new / old - 1) / 2 for new, old in zip(spacing, image.GetSpacing(), strict=True)]
    result.SetSpacing(spacing)
    result.SetDirection(image.GetDirection())
    result.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    return Shifted(result, np.argmax(parts, axis=0).astype(np.int16))


def _averaged(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    for axis, count in enumerate(shape):
        size = array.shape[axis]
        edges = np.linspace(0, size, count + 1)
        covered = np.clip(
            np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(edges[:-1, None], np.arange(size)), 0, None
        )
        array = np.moveaxis(np.tensordot(covered / covered.sum(1, keepdims=True), array, (1, axis)), 0, axis)
    return array


def cut(image: sitk.Image, truth: np.ndarray, random: np.random.Generator, share: float) -> Shifted:
    """A field of view that ends early: a share of the crop is missing on a random side."""
    axis, far = int(random.integers(3)), bool(random.integers(2))
    size = image.GetSize()[::-1]
    gone = round(share * size[axis])
    kept = [slice(0, n) for n in size]
    kept[axis] = slice(0, size[axis] - gone) if far else slice(gone, size[axis])
    slices = tuple(kept)
    return Shifted(image[slices[::-1]], truth[slices], slices)


def shifts() -> list[Shift]:
    """All of them."""
    return [
        Shift("shading", "x 3", _of_voxels(partial(shading, ratio=3))),
        Shift("surface coil", "x 4", _of_voxels(partial(coil, ratio=4))),
        *(Shift("blur", f"{mm:g} mm", partial(blur, deviation_mm=mm)) for mm in (1.0, 1.5)),
        *(Shift("noise", f"{s:.0%} of the contrast", _of_voxels(partial(noise, share=s))) for s in (0.1, 0.2)),
        *(Shift("gamma", f"{power:g}", _of_voxels(partial(gamma, power=power))) for power in (0.5, 3.5)),
        Shift("bright artefact", "1.0% of the voxels", _of_voxels(partial(hot, share=0.01))),
        Shift("ghost", "40%", _of_voxels(partial(ghost, share=0.4))),
        Shift("axes in the header", "RAI", partial(misdirected, letters="RAI")),
        Shift("thick slices", "3 mm", partial(coarser, mm=(1.0, 1.0, 3.0))),
        Shift("cut field of view", "25%", partial(cut, share=0.25)),
    ]
