"""Random windows and transforms, reproducible from (seed, epoch, case) alone.

Nothing depends on what was drawn before, so a resumed training sees exactly what an
uninterrupted one would have seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai import transforms
from torch.nn import functional

from .dataset import PreparedCase
from .other_acquisitions import LargerBox, OtherAcquisition

SLIGHT_TURN = 0.5
"""Largest angle in radians where windows are not turned by any angle."""
STRETCH = 0.15
"""Each axis is stretched by up to this share besides, each by itself."""
FOREGROUND_SHARE = 1 / 3
"""How often a window is centred on a random foreground voxel."""


@dataclass(frozen=True)
class ScaledWindows:
    """How windows are laid into cases.

    Attributes:
        window: (z, y, x) in voxels.
        scale: smallest and largest factor by which a window enlarges what it shows, drawn evenly in its logarithm.
        thick: tensor axis (0 = z, 1 = y, 2 = x) across thick slices, along which nothing is turned or scaled; None
            turns about every axis.
        any_turn: half of the windows are turned by any angle, the others slightly.
    """

    window: tuple[int, int, int]
    scale: tuple[float, float]
    thick: int | None
    any_turn: bool = False

    def draw(self, case: PreparedCase, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """One window of a case; equal states of `generator` give equal windows.

        Returns:
            `image` float32 (channels, z, y, x), linear; `labels` and `valid` float32 (1, z, y, x), nearest voxel;
            outside the case all are 0.
        """
        matrix = self._matrix(generator)
        centre = self._centre(case, np.linalg.norm(matrix, axis=0), generator)
        grid = _sampling_grid(self.window, matrix, centre, case.labels.shape)
        image = torch.from_numpy(np.ascontiguousarray(case.image))[None]
        labels = torch.from_numpy(case.labels.astype(np.float32))[None, None]
        return {
            "image": _sampled(image, grid, "bilinear"),
            "labels": _sampled(labels, grid, "nearest"),
            "valid": _sampled(torch.ones_like(labels), grid, "nearest"),
        }

    def _matrix(self, generator: np.random.Generator) -> np.ndarray:
        """Return steps in the case, (z, y, x) in voxels, for one step along each axis of the window (columns)."""
        low, high = np.log(self.scale)
        common = generator.uniform(low, high)
        stretches = generator.uniform(-math.log1p(STRETCH), math.log1p(STRETCH), 3)
        anywhere = self.any_turn and generator.random() < 0.5
        limit = math.pi if anywhere else SLIGHT_TURN
        angles = generator.uniform(-limit, limit, 3)
        if self.thick is None:
            turn = _turn(0, angles[0]) @ _turn(1, angles[1]) @ _turn(2, angles[2])
        else:
            stretches[self.thick] = -common
            turn = _turn(self.thick, angles[self.thick])
        return turn @ np.diag(np.exp(-(common + stretches)))

    def _centre(self, case: PreparedCase, steps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Where in the case the window's centre lies, (z, y, x) counted in voxels from the first voxel's centre.

        The window as if not turned: within the case along axes on which it is shorter, else around all of it.
        """
        aim, centre = _aim(case, generator), np.empty(3)
        for axis, size in enumerate(case.labels.shape):
            reach = self.window[axis] * steps[axis]
            ends = sorted((reach / 2 - 0.5, size - reach / 2 - 0.5))
            centre[axis] = generator.uniform(*ends)
            if aim is not None and reach < size:
                centre[axis] = np.clip(aim[axis], *ends)
            if axis == self.thick:  # voxels on voxels
                odd = (self.window[axis] - 1) / 2
                centre[axis] = np.rint(centre[axis] - odd) + odd
        return centre


def _aim(case: PreparedCase, generator: np.random.Generator) -> np.ndarray | None:
    """Draw a foreground voxel that a window is centred on; None for two windows of three, and without foreground."""
    places = np.argwhere(case.labels > 0) if generator.random() < FOREGROUND_SHARE else np.empty((0, 3), int)
    return places[generator.integers(len(places))] if len(places) else None


def _turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about a tensor axis."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _sampling_grid(window: Sequence[int], matrix: np.ndarray, centre: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Where each voxel of the window lies in the case, as `grid_sample` counts it: (1, z, y, x, 3), x first."""
    axes = [np.arange(size) - (size - 1) / 2 for size in window]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    places = offsets @ matrix.T + centre
    counted = (2 * places + 1) / np.asarray(shape) - 1
    return torch.from_numpy(np.ascontiguousarray(counted[..., ::-1], np.float32))[None]


def _sampled(volume: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return functional.grid_sample(volume, grid, mode=mode, padding_mode="zeros", align_corners=False)[0]


KEYS = ["image", "labels", "valid"]
THICK = 3.0
"""Anisotropy from which nnU-Net, too, leaves slices apart."""


def case_seed(seed: int, epoch: int, case: int) -> int:
    """Return a 32-bit seed for one case in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, case]).generate_state(1)[0])


def epoch_order(seed: int, epoch: int, cases: int) -> list[int]:
    """Return the order in which an epoch visits the cases."""
    return [int(i) for i in np.random.default_rng([seed, epoch, cases]).permutation(cases)]


def thick_axis(spacing_mm: Sequence[float] | np.ndarray) -> int | None:
    """Tensor axis (0 = z, 1 = y, 2 = x) along which voxels are more than `THICK` times as long as the shortest edge.

    Args:
        spacing_mm: (x, y, z).
    """
    longest = int(np.argmax(spacing_mm))
    return 2 - longest if spacing_mm[longest] > THICK * min(spacing_mm) else None


def thick_axis_of(cases: Sequence[PreparedCase]) -> int | None:
    """`thick_axis` of the usual case."""
    return thick_axis(np.median([case.spacing_mm for case in cases], axis=0))


def augmentation(
    mirror_axis: int | None = None,
    thick: int | None = None,
    any_turn: bool = False,
    scaled: bool = False,
    other_acquisitions: bool = False,
) -> transforms.Compose:
    """Spatial and intensity transforms for MRI.

    Args:
        mirror_axis: tensor axis (0 = z, 1 = y, 2 = x) along which left and right may be exchanged;
            None if the two sides carry different labels.
        thick: tensor axis across thick slices, from `thick_axis`: windows are turned, stretched, moved and blurred
            within slices only, more than otherwise. None if voxels are nearly cubes.
        any_turn: turn half of the windows by any angle, as nnU-Net does with thick slices, and the rest as otherwise.
        scaled: windows come turned and scaled already, from `ScaledWindows`: only mirror them and change their grey
            values.
        other_acquisitions: also show windows as other scanners, protocols, preprocessing and boxes would, turned twice
            as far; for images with voxels that are nearly cubes.
    """
    usual = turning(0.25 if thick is None and not other_acquisitions else 0.5, thick)
    spatial = transforms.OneOf([usual, turning(math.pi, thick)]) if any_turn else usual
    moved = [] if scaled else [spatial]
    blur = [(0.3, 0.9)] * 3
    if thick is not None:
        blur[thick] = (0.01, 0.02)
    coarse = (
        [] if thick is not None else [transforms.RandSimulateLowResolutiond(["image"], prob=0.1, zoom_range=(0.6, 1.0))]
    )
    intensity = [
        transforms.RandBiasFieldd(["image"], prob=0.2, coeff_range=(-0.1, 0.1)),
        transforms.RandAdjustContrastd(["image"], prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        transforms.RandScaleIntensityd(["image"], prob=0.3, factors=0.15),
        transforms.RandGaussianSmoothd(["image"], prob=0.15, sigma_x=blur[0], sigma_y=blur[1], sigma_z=blur[2]),
        *coarse,
        transforms.RandGaussianNoised(["image"], prob=0.3, std=0.15),
    ]
    mirrored = mirroring(mirror_axis).transforms
    if other_acquisitions:
        return transforms.Compose([*mirrored, LargerBox(0.4), *moved, OtherAcquisition()])
    return transforms.Compose([*mirrored, *moved, *intensity])


def turning(angle: float, thick: int | None) -> transforms.RandAffined:
    """Turn, stretch and move windows, only within slices where these are thick.

    Args:
        angle: the largest, in radians, about each axis, or that across thick slices.
        thick: see `augmentation`.
    """
    cubes = thick is None
    within = [axis != thick for axis in range(3)]
    return transforms.RandAffined(
        KEYS,
        prob=0.8,
        rotate_range=[angle if cubes or not moves else 0.0 for moves in within],
        scale_range=[(0.15 if cubes else 0.25) if moves else 0.0 for moves in within],
        translate_range=[(2.0 if cubes else 4.0) if moves else 0.0 for moves in within],
        mode=("bilinear", "nearest", "nearest"),
        padding_mode="zeros",
    )


def mirroring(mirror_axis: int | None) -> transforms.Compose:
    """Exchange the two ends of an axis in half of the windows; nothing if it is None. See `augmentation`."""
    return transforms.Compose(
        [] if mirror_axis is None else [transforms.RandFlipd(KEYS, prob=0.5, spatial_axis=mirror_axis)]
    )


def random_window(case: PreparedCase, window: Sequence[int], generator: np.random.Generator) -> dict[str, torch.Tensor]:
    """Cut or pad one window at a random place; every third cut is centred on a random foreground voxel.

    Along axes shorter than the window the whole case is placed at a random offset and padded with
    zero (the mean of a normalised image, background for labels); along longer axes a part is cut.

    Args:
        window: (z, y, x).

    Returns:
        `image` float32 (channels, z, y, x), `labels` and `valid` float32 (1, z, y, x); `valid` is 0 in padding.
    """
    aim = _aim(case, generator)
    source, target = [slice(None)], [slice(None)]
    for axis, (size, wanted) in enumerate(zip(case.labels.shape, window, strict=True)):
        if size <= wanted:
            start = int(generator.integers(wanted - size + 1))
            source.append(slice(0, size))
            target.append(slice(start, start + size))
        else:
            free = int(generator.integers(size - wanted + 1))
            start = free if aim is None else int(np.clip(aim[axis] - wanted // 2, 0, size - wanted))
            source.append(slice(start, start + wanted))
            target.append(slice(0, wanted))
    parts = {"image": case.image, "labels": case.labels[None], "valid": np.ones((1, *case.labels.shape), np.float32)}
    found = {}
    for key, whole in parts.items():
        padded = np.zeros((len(whole), *window), np.float32)
        padded[tuple(target)] = whole[tuple(source)]
        found[key] = torch.from_numpy(padded)
    return found


@dataclass(frozen=True)
class WindowSampler:
    """Draws the training window of a case for an epoch.

    Attributes:
        cases: prepared cases.
        window: (z, y, x).
        seed: of the training run.
        transform: from `augmentation`, or None for plain windows.
        draw: draws a window of a case: that of `ScaledWindows`, or of a `Synthesiser`; None cuts it along the axes.
    """

    cases: Sequence[PreparedCase]
    window: Sequence[int]
    seed: int
    transform: transforms.Compose | None
    draw: Callable[[PreparedCase, np.random.Generator], dict[str, torch.Tensor]] | None = None

    def window_of(self, epoch: int, case: int) -> dict[str, torch.Tensor]:
        """Cut the window of case number `case` in `epoch`; equal arguments give equal tensors."""
        seed = case_seed(self.seed, epoch, case)
        generator, chosen = np.random.default_rng(seed), self.cases[case]
        sample = self.draw(chosen, generator) if self.draw else random_window(chosen, self.window, generator)
        if self.transform is None:
            return sample
        self.transform.set_random_state(seed=seed)
        changed = self.transform(sample)
        plain = {key: value.as_tensor() if hasattr(value, "as_tensor") else value for key, value in changed.items()}
        plain["image"] = plain["image"] * plain["valid"]  # padding is exactly zero, as when segmenting
        return plain

    def batch(self, epoch: int, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Stack the windows of several cases: image (batch, channels, z, y, x), labels and valid with one channel."""
        samples = [self.window_of(epoch, number) for number in numbers]
        return {key: torch.stack([sample[key] for sample in samples]) for key in ("image", "labels", "valid")}
