"""What a network wants to be fed, as a bundle stores it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Normalisation:
    """How intensities become network input.

    Attributes:
        kind: "volume" (percentile clip, then zero mean and unit deviation within each volume), "fixed" (clip and
            scale by constants of the training set, as for CT) or "range" (two percentiles of each volume become 0 and
            1, nothing is clipped: minimum and maximum with 0 and 100).
        low, high: percentiles (kinds "volume" and "range") or intensities (kind "fixed") to clip at.
        mean, std: constants of kind "fixed".
    """

    kind: str = "volume"
    low: float = 0.5
    high: float = 99.5
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Normalise one channel, any shape, to float32."""
        values = array.astype(np.float64)
        if self.kind == "fixed":
            return ((np.clip(values, self.low, self.high) - self.mean) / max(self.std, 1e-8)).astype(np.float32)
        low, high = np.percentile(values, [self.low, self.high])
        if high <= low:  # nearly all voxels equal: keep the few that differ
            low, high = float(values.min()), float(values.max())
        if self.kind == "range":
            return ((values - low) / max(high - low, 1e-8)).astype(np.float32)
        clipped = np.clip(values, low, high)
        return ((clipped - clipped.mean()) / max(float(clipped.std()), 1e-8)).astype(np.float32)


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to be fed.

    Attributes:
        channels: name of each channel in order ("T1", "FLAIR").
        modality: DICOM modality of the channels ("MR", "CT").
        orientation: letters towards which the axes x, y, z run ("RAS").
        spacing_mm: working spacing along x, y, z; None leaves each image at its own.
        window: window size along x, y, z in voxels.
        normalisation: applied to each channel after cropping and resampling.
    """

    channels: tuple[str, ...]
    modality: str
    orientation: str
    spacing_mm: tuple[float, float, float] | None
    window: tuple[int, int, int]
    normalisation: Normalisation = Normalisation()

    @property
    def window_zyx(self) -> tuple[int, int, int]:
        """The window in tensor order."""
        x, y, z = self.window
        return z, y, x

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "InputSpec":
        """Build from the `input` block of a bundle or recipe."""
        spacing = data["spacing_mm"]
        return cls(
            channels=tuple(data["channels"]),
            modality=data["modality"],
            orientation=data["orientation"],
            spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
            window=(int(data["window"][0]), int(data["window"][1]), int(data["window"][2])),
            normalisation=Normalisation(**data["normalisation"]),
        )

    def to_json(self) -> dict[str, Any]:
        """The `input` block."""
        return asdict(self)
