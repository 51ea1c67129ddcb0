"""One physical object stored in every way, written to files and segmented through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.segment import segment
from SegWithUCore.inference.settings import RunSettings
from SegWithUCore.io.roi import RegionOfInterest

AXIS_ORDERS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]
"""All 48 ways to store one volume: new axis a is old axis order[a], reversed where flips[a]."""
FORMATS = ("nii.gz", "nrrd", "mha")
MAPS = ("error_probability", "ranking", "calibration")

AxisOrder = tuple[Sequence[int], Sequence[bool]]


@dataclass(frozen=True)
class Volume:
    """An array (x, y, z) with its geometry in LPS: column a of `direction` is where axis a runs."""

    array: np.ndarray
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray

    def reordered(self, way: AxisOrder) -> "Volume":
        """The same object in another axis order, worked out with numpy alone."""
        order, flips = list(way[0]), way[1]
        array = self.array.transpose(order)
        spacing, direction, origin = self.spacing[order], self.direction[:, order].copy(), self.origin.copy()
        for axis, flipped in enumerate(flips):
            if flipped:
                array = np.flip(array, axis)
                origin = origin + direction[:, axis] * spacing[axis] * (array.shape[axis] - 1)
                direction[:, axis] *= -1
        return Volume(np.ascontiguousarray(array), spacing, origin, direction)

    def image(self) -> sitk.Image:
        """As SimpleITK knows it."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(self.array.transpose(2, 1, 0)))
        image.SetSpacing(self.spacing.tolist())
        image.SetOrigin(self.origin.tolist())
        image.SetDirection(self.direction.ravel().tolist())
        return image

    def points_ras(self) -> np.ndarray:
        """Centre of every voxel, (x, y, z, 3) in RAS mm."""
        index = np.stack(np.meshgrid(*(np.arange(n) for n in self.array.shape), indexing="ij"), -1)
        lps = index * self.spacing @ self.direction.T + self.origin
        points: np.ndarray = lps * [-1, -1, 1]
        return points


def undone(array: np.ndarray, way: AxisOrder) -> np.ndarray:
    """Back from the axis order `way` to the original one, (x, y, z)."""
    order, flips = way
    for axis, flipped in enumerate(flips):
        if flipped:
            array = np.flip(array, axis)
    original: np.ndarray = array.transpose(np.argsort(order))
    return original


def ras_volume(array: np.ndarray, spacing: Sequence[float], centre_ras: Sequence[float] = (7.0, -20.0, 31.0)) -> Volume:
    """A volume whose axes run R, A, S, with its first voxel at `centre_ras`."""
    origin = np.asarray(centre_ras, float) * [-1, -1, 1]
    return Volume(array.astype(np.float32), np.asarray(spacing, float), origin, np.diag([-1.0, -1.0, 1.0]))


def asymmetric_array(shape: Sequence[int] = (14, 18, 11), seed: int = 3) -> np.ndarray:
    """Smooth-edged noise in a lopsided body (x, y, z): no flip or permutation maps it onto itself."""
    array = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return array * (x + 2 * y + 3 * z < 4)


@dataclass(frozen=True)
class Segmented:
    """What a case folder holds, arrays (x, y, z), and the grid of its segmentation."""

    classes: np.ndarray
    maps: dict[str, np.ndarray]
    grid: sitk.Image


def segment_through_files(
    volume: Volume, model: Model, folder: Path, suffix: str = "nrrd", region: RegionOfInterest | None = None
) -> Segmented:
    """Write the volume, segment the file, read the case folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"input.{suffix}"
    sitk.WriteImage(volume.image(), str(file))
    target = folder / "case"
    roi = None if region is None else (*region.centre_ras_mm, *region.size_mm)
    segment(Job("case", [file], target, RunSettings(roi=roi), overwrite=True), model)
    images = {name: sitk.ReadImage(str(target / f"{name}.nii.gz")) for name in ("segmentation", *MAPS)}
    for name, image in images.items():
        assert_same_grid(image, sitk.ReadImage(str(file)), name)
    arrays = {name: sitk.GetArrayFromImage(image).transpose(2, 1, 0) for name, image in images.items()}
    return Segmented(arrays.pop("segmentation"), arrays, images["segmentation"])


def assert_same_grid(image: sitk.Image, expected: sitk.Image, name: str = "") -> None:
    """Size exactly, geometry within what a NIfTI header (float32) can hold."""
    assert image.GetSize() == expected.GetSize(), name
    np.testing.assert_allclose(image.GetSpacing(), expected.GetSpacing(), rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(image.GetDirection(), expected.GetDirection(), atol=1e-6, err_msg=name)
    np.testing.assert_allclose(image.GetOrigin(), expected.GetOrigin(), rtol=1e-6, atol=1e-4, err_msg=name)


def rotation(degrees: Sequence[float]) -> np.ndarray:
    """Rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        step = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix
