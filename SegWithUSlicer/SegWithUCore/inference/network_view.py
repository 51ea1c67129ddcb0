"""What the network saw of a case, on the grid of its maps: what stage two of the error probability looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.stage_two import HeadMaps, find_doubt, refined
from .stage_two_sweep import axes_along
from .uncertainty_maps import FittedCalibration, resample_to_grid


@dataclass(frozen=True)
class NetworkView:
    """The image as the network got it, on the grid of the maps.

    Attributes:
        image: normalised float32 (channels, z, y, x).
        order: for each array axis (z, y, x), the array axis of the working grid that runs along it.
        working_mm: spacing of the working grid along its own axes (z, y, x).
        spacing_mm: of the maps, (z, y, x).
    """

    image: np.ndarray
    order: tuple[int, ...]
    working_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    @classmethod
    def of(cls, array: np.ndarray, working: sitk.Image, target: sitk.Image) -> "NetworkView":
        """Bring the network's input (channels, z, y, x) on the grid `working` to the grid `target`."""
        image = resample_to_grid(array, working, target)
        order = axes_along(working, target)
        return cls(image, order, working.GetSpacing()[::-1], target.GetSpacing()[::-1])

    def steps(self, axes: Sequence[bool]) -> Steps:
        """Find the steps to neighbours; `axes` are those of the working grid that have any."""
        return Steps.on_grid(
            [axes[source] for source in self.order], [self.working_mm[source] for source in self.order], self.spacing_mm
        )


def error_probability(
    fitted: FittedCalibration, view: NetworkView, logits: np.ndarray, maps: HeadMaps
) -> np.ndarray | None:
    """Error probability of a whole case, float32 (z, y, x); None without fitted calibration."""
    if fitted.error_probability is None:
        return None
    table = fitted.error_probability(maps.ranking, maps.classes, maps.runner_up)
    stage = fitted.stage_two
    if stage is None:
        return table
    steps = view.steps(stage.axes)
    doubt = find_doubt(logits, slice(None), maps, table, stage.pairs, steps)
    return refined(stage, doubt, view.image, table, steps)
