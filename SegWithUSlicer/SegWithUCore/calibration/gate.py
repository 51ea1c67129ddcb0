"""The gate of a bundle: the log-odds of the softmax below which the head's maps may be interpolated."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """Where the head pays: at voxels whose softmax gives an error log-odds of `log_odds` or more.

    Elsewhere its correction and its tempering are made at the fusion's coarser resolution and interpolated.

    Attributes:
        log_odds: of the error, by the softmax alone; chosen on validation cases.
        gain: by which the head multiplies these log-odds before it corrects them.
        cases: number of validation cases that it was chosen on.
    """

    log_odds: float
    gain: float
    cases: int

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "Gate | None":
        """From the calibration block of a bundle; bundles without a gate have none."""
        return None if data is None else cls(float(data["log_odds"]), float(data["gain"]), int(data["cases"]))
