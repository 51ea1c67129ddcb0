"""Small heads with masks of two sides, made up with known faults, for reviews of masks without a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LEFT, RIGHT = 17, 53
NAMES = {LEFT: "left organ", RIGHT: "right organ"}
LABELS = tuple(f"{value}={name}" for value, name in NAMES.items())
SHAPE, SPACING = (30, 34, 52), (1.0, 1.0, 1.5)
CENTRES = {LEFT: (13.0, 15.0, 17.0), RIGHT: (38.0, 15.0, 17.0)}
"""In the image's own axes, (x, z, y); x runs to the patient's right."""


def ball(centre: Sequence[float], radius: float) -> np.ndarray:
    """Voxels (z, y, x) within a radius of a place (x, z, y), in voxels."""
    z, y, x = np.indices(SHAPE)
    inside: np.ndarray = (x - centre[0]) ** 2 + (z - centre[1]) ** 2 + (y - centre[2]) ** 2 <= radius**2
    return inside


def even_mask(radius: float = 8.0, sides: Sequence[int] = (LEFT, RIGHT)) -> np.ndarray:
    """A ball on each side without a fault, left first."""
    labels = np.zeros(SHAPE, np.uint16)
    for value, centre in zip(sides, CENTRES.values(), strict=True):
        labels[ball(centre, radius)] = value
    return labels


def with_island(labels: np.ndarray) -> np.ndarray:
    """A part of the left structure that lies apart."""
    return np.where(ball((13, 27, 30), 2), np.uint16(LEFT), labels)


def with_hole(labels: np.ndarray) -> np.ndarray:
    """A hole in the right structure."""
    return np.where(ball(CENTRES[RIGHT], 2.5), np.uint16(0), labels)


def write(array: np.ndarray, path: Path, spacing: Sequence[float] = SPACING) -> Path:
    """Write an array on the grid of all these files: the first voxel is the patient's left, axes run to R, A, S."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(np.diag([-1.0, -1.0, 1.0]).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_image(path: Path, seed: int = 0) -> Path:
    """Write an image of noise round two bright balls."""
    random = np.random.default_rng(seed)
    return write((even_mask() > 0).astype(np.float32) * 90 + random.normal(100, 9, SHAPE).astype(np.float32), path)
