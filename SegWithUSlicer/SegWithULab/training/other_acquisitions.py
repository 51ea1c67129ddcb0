"""Training windows as other scanners, protocols, preprocessing and boxes would show them.

A network that saw one cohort alone loses more than Dice elsewhere: on another cohort the error probability of model 1.3
expected .58 of the wrong volume. Both transforms take and return the sample dictionaries of `random_window`.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.transforms import RandAdjustContrast, RandBiasField, RandomizableTransform
from scipy import ndimage
from torch.nn import functional

Sample = dict[Hashable, torch.Tensor]

LARGEST_RIM = 8
"""Voxels by which a box grows at most at each side."""
MOST_CUT = 0.4
"""Largest share of an axis that a cut field of view lacks."""
CLOSEST_STRIP, FARTHEST_STRIP = 3.0, 15.0
"""Distance in voxels from the structures at which tissue ends in a skull-stripped image."""


class LargerBox(RandomizableTransform):  # type: ignore[misc]  # MONAI has no types
    """Continue a case beyond its borders, as a box that was drawn larger would show it.

    Cases of a data set that was cut to boxes end a few voxels beyond the structure. A network that never saw what lies
    farther outside finds the structure there, too: a box larger by 4 mm cost model 1.3 .037 Dice.
    The rim is the case mirrored at its border, as far as no structure is mirrored with it; its label is background.

    Args:
        prob: share of the windows that are changed.
    """

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> Sample:
        """Change `image` (channels, z, y, x), `labels` and `valid` (1, z, y, x) of a window."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        for axis in (1, 2, 3):
            others = tuple(other for other in range(4) if other != axis)
            filled = np.flatnonzero(np.asarray(sample["valid"]).any(others))
            labelled = np.flatnonzero(np.asarray(sample["labels"]).any(others))
            if not len(filled):
                return sample
            first, last = int(filled[0]), int(filled[-1])
            nearest = (labelled[0] - first, last - labelled[-1]) if len(labelled) else (last - first, last - first)
            free = (first, sample["valid"].shape[axis] - 1 - last)
            for side in (0, 1):
                most = max(0, min(free[side], int(nearest[side]) - 1, LARGEST_RIM))
                rim = int(self.R.randint(0, most + 1))
                if rim > 0:
                    _mirror_into_rim(sample, axis, first if side == 0 else last, rim, side)
        return sample


class OtherAcquisition(RandomizableTransform):  # type: ignore[misc]
    """Change a window as another acquisition would: sharpness, slice thickness, shading, contrast, noise, cut, strip.

    Each change is drawn by itself. Where tissue is removed (skull stripping, a cut field of view) the window is
    normalised again, as the smaller image would be when it is segmented.
    """

    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        self._bias = RandBiasField(prob=1.0, coeff_range=(-0.3, 0.3))
        self._gamma = RandAdjustContrast(prob=1.0, gamma=(0.6, 1.7), retain_stats=True)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> "OtherAcquisition":
        """Seed all draws."""
        super().set_random_state(seed, state)
        for part in (self._bias, self._gamma):
            part.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> Sample:
        """Change `image` (channels, z, y, x), `labels` and `valid` (1, z, y, x) of a window."""
        sample = dict(data)
        image = torch.as_tensor(sample["image"]).clone()
        if self.R.random_sample() < 0.35:
            image = self._sharpness(image)
        if self.R.random_sample() < 0.25:
            image = self._thick_slices(image)
        if self.R.random_sample() < 0.35:
            image = torch.as_tensor(self._bias(image))
        if self.R.random_sample() < 0.4:
            image = torch.as_tensor(self._gamma(image))
        if self.R.random_sample() < 0.4:
            noise = self.R.standard_normal(image.shape).astype(np.float32)
            image = image + torch.from_numpy(noise) * float(self.R.uniform(0, 0.25))
        valid, labels = torch.as_tensor(sample["valid"]).clone(), torch.as_tensor(sample["labels"]).clone()
        removed = False
        if self.R.random_sample() < 0.2:
            removed |= self._strip(image, labels)
        if self.R.random_sample() < 0.2:
            removed |= self._cut(image, labels, valid)
        if removed:
            _normalise_again(image, valid)
        return {**sample, "image": image, "labels": labels, "valid": valid}

    def _sharpness(self, image: torch.Tensor) -> torch.Tensor:
        """Blur by a Gaussian of 0.4 to 1.2 voxels, or add 0.3 to 1.5 times what a Gaussian of 0.7 voxels takes."""
        if self.R.random_sample() < 0.5:
            return _blurred(image, self.R.uniform(0.4, 1.2, 3))
        return image + (image - _blurred(image, [0.7, 0.7, 0.7])) * float(self.R.uniform(0.3, 1.5))

    def _thick_slices(self, image: torch.Tensor) -> torch.Tensor:
        """Average slices of 2 to 3 voxels along a random axis, and interpolate them again."""
        axis, factor = int(self.R.randint(3)), float(self.R.uniform(2, 3))
        sigmas = [0.0, 0.0, 0.0]
        sigmas[axis] = factor / 2.355  # a profile as wide as the slice, at half of its height
        size = list(image.shape[1:])
        size[axis] = max(2, round(size[axis] / factor))
        low = functional.interpolate(_blurred(image, sigmas)[None], size=size, mode="trilinear")
        return functional.interpolate(low, size=image.shape[1:], mode="trilinear")[0]

    def _strip(self, image: torch.Tensor, labels: torch.Tensor) -> bool:
        """Set what lies beyond a smooth surface around the structures to the lowest grey value."""
        mask = np.asarray(labels[0]) > 0
        if not mask.any():
            return False
        reach = float(self.R.uniform(CLOSEST_STRIP, FARTHEST_STRIP))
        coarse = torch.from_numpy(self.R.standard_normal((1, 1, 4, 4, 4)).astype(np.float32))
        uneven = functional.interpolate(coarse, size=mask.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
        outside = ndimage.distance_transform_edt(~mask) > np.maximum(reach + 2.0 * uneven, CLOSEST_STRIP)
        for channel in image:
            channel[torch.from_numpy(outside)] = channel.min()
        return bool(outside.any())

    def _cut(self, image: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> bool:
        """Let the field of view end early at one side; what lies beyond is padding."""
        axis, low_end = int(self.R.randint(3)), self.R.random_sample() < 0.5
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(np.asarray(valid[0]).any(others))
        if len(filled) < 8:
            return False
        lost = int(len(filled) * float(self.R.uniform(0, MOST_CUT)))
        gone = filled[:lost] if low_end else filled[len(filled) - lost :]
        for volume in (image, labels, valid):
            volume.index_fill_(axis + 1, torch.from_numpy(gone), 0.0)
        return lost > 0


def _mirror_into_rim(sample: Sample, axis: int, border: int, rim: int, side: int) -> None:
    """Fill `rim` voxels beyond `border` (0: towards low indices) with the image mirrored there; the label stays 0."""
    steps = torch.arange(1, rim + 1)
    sources, targets = (border + steps, border - steps) if side == 0 else (border - steps, border + steps)
    for name in ("image", "valid"):
        volume = torch.as_tensor(sample[name]).clone()
        volume.index_copy_(axis, targets, volume.index_select(axis, sources))
        sample[name] = volume


def _blurred(image: torch.Tensor, sigmas: "np.ndarray | list[float]") -> torch.Tensor:
    """Blur each channel by a Gaussian; 0 leaves an axis as it is."""
    return torch.from_numpy(ndimage.gaussian_filter(np.asarray(image), [0.0, *map(float, sigmas)], mode="nearest"))


def _normalise_again(image: torch.Tensor, valid: torch.Tensor) -> None:
    """Bring the voxels within the field of view to mean 0 and deviation 1, as `Normalisation` does for kind volume."""
    inside = valid[0] > 0.5
    for channel in image:
        values = channel[inside]
        if len(values) > 1:
            channel[inside] = (values - values.mean()) / values.std().clamp_min(1e-6)
