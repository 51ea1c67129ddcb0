"""Random windows and transforms, reproducible from (seed, epoch, case) alone.

Nothing depends on what was drawn before, so a resumed training sees exactly what an
uninterrupted one would have seen.
"""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandSimulateLowResolutiond,
)

from .cases import PreparedCase

KEYS = ["image", "labels", "valid"]


def case_seed(seed: int, epoch: int, case: int) -> int:
    """A 32-bit seed for one case in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, case]).generate_state(1)[0])


def epoch_order(seed: int, epoch: int, cases: int) -> list[int]:
    """The order in which an epoch visits the cases."""
    return [int(i) for i in np.random.default_rng([seed, epoch, cases]).permutation(cases)]


def augmentation(mirror_axis: int | None = None) -> Compose:
    """Spatial and intensity transforms for small MRI crops.

    Args:
        mirror_axis: tensor axis (0 = z, 1 = y, 2 = x) along which left and right may be exchanged;
            None where the two sides carry different labels.
    """
    spatial = RandAffined(
        KEYS,
        prob=0.8,
        rotate_range=(0.25, 0.25, 0.25),
        scale_range=(0.15, 0.15, 0.15),
        translate_range=(2, 2, 2),
        mode=("bilinear", "nearest", "nearest"),
        padding_mode="zeros",
    )
    intensity = [
        RandBiasFieldd(["image"], prob=0.2, coeff_range=(-0.1, 0.1)),
        RandAdjustContrastd(["image"], prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        RandScaleIntensityd(["image"], prob=0.3, factors=0.15),
        RandGaussianSmoothd(["image"], prob=0.15, sigma_x=(0.3, 0.9), sigma_y=(0.3, 0.9), sigma_z=(0.3, 0.9)),
        RandSimulateLowResolutiond(["image"], prob=0.1, zoom_range=(0.6, 1.0)),
        RandGaussianNoised(["image"], prob=0.3, std=0.15),
    ]
    return Compose([*mirroring(mirror_axis).transforms, spatial, *intensity])


def mirroring(mirror_axis: int | None) -> Compose:
    """Exchange the two ends of an axis in half of the windows; nothing where it is None. See `augmentation`."""
    return Compose([] if mirror_axis is None else [RandFlipd(KEYS, prob=0.5, spatial_axis=mirror_axis)])


def random_window(
    case: PreparedCase, window: Sequence[int], generator: np.random.Generator, foreground_share: float = 1 / 3
) -> dict[str, torch.Tensor]:
    """Cut or pad one window at a random place.

    Along axes shorter than the window the whole case is placed at a random offset and padded with
    zero (the mean of a normalised image, background for labels); along longer axes a part is cut.

    Args:
        window: (z, y, x).
        foreground_share: how often a cut is centred on a random foreground voxel.

    Returns:
        `image` float32 (channels, z, y, x), `labels` and `valid` float32 (1, z, y, x); `valid` is 0 in padding.
    """
    shape = case.labels.shape
    centre = None
    if generator.random() < foreground_share:
        places = np.argwhere(case.labels > 0)
        centre = places[generator.integers(len(places))] if len(places) else None
    source: list[slice] = []
    target: list[slice] = []
    for axis, (size, wanted) in enumerate(zip(shape, window, strict=True)):
        if size <= wanted:
            start = int(generator.integers(wanted - size + 1))
            source.append(slice(0, size))
            target.append(slice(start, start + size))
        else:
            free = int(generator.integers(size - wanted + 1))
            start = free if centre is None else int(np.clip(centre[axis] - wanted // 2, 0, size - wanted))
            source.append(slice(start, start + wanted))
            target.append(slice(0, wanted))
    image = np.zeros((case.image.shape[0], *window), np.float32)
    labels = np.zeros((1, *window), np.float32)
    valid = np.zeros((1, *window), np.float32)
    image[:, target[0], target[1], target[2]] = case.image[:, source[0], source[1], source[2]]
    labels[0, target[0], target[1], target[2]] = case.labels[tuple(source)]
    valid[0, target[0], target[1], target[2]] = 1
    return {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels), "valid": torch.from_numpy(valid)}


class WindowSampler:
    """Draws the training window of a case for an epoch.

    Args:
        cases: prepared cases.
        window: (z, y, x).
        seed: of the training run.
        transform: from `augmentation`, or None for plain windows.
    """

    def __init__(
        self, cases: Sequence[PreparedCase], window: Sequence[int], seed: int, transform: Compose | None
    ) -> None:
        self.cases = cases
        self.window = tuple(window)
        self.seed = seed
        self.transform = transform

    def window_of(self, epoch: int, case: int) -> dict[str, torch.Tensor]:
        """The window of case number `case` in `epoch`; equal arguments give equal tensors."""
        seed = case_seed(self.seed, epoch, case)
        sample = random_window(self.cases[case], self.window, np.random.default_rng(seed))
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
