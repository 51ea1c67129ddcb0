"""Lines by structure: slope and offset that the log-odds of an error get last, by the drawn structure.

They are fitted on a few patients of a site (`SegWithULab/calibration/fit_structure_lines.py`). Only voxels whose drawn
class *and* runner-up have a label in the references are moved: of the others nobody knows whether they are wrong.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .error_probability import Direction, refitted

BLOCK = "structure_lines"
"""Of a calibration."""


@dataclass(frozen=True)
class StructureLine:
    """Line of one structure.

    Attributes:
        name: without side.
        classes: indices of the classes that are drawn as it.
        slope, offset: of the log-odds.
    """

    name: str
    classes: tuple[int, ...]
    slope: float
    offset: float


@dataclass(frozen=True)
class StructureLines:
    """Lines of all structures that the references have.

    Attributes:
        known: indices of the classes that have a label in the references; runner-ups of others keep the model's odds.
        together: for each class the first of those that share its label; between these nothing is known, either. Empty
            where each class has its own.
        patients: that they were fitted on.
    """

    known: tuple[int, ...]
    together: tuple[int, ...]
    lines: tuple[StructureLine, ...]
    patients: int

    @cached_property
    def _directions(self) -> tuple[Direction, ...]:
        return tuple(
            Direction(drawn, other, line.slope, line.offset, 0)
            for line in self.lines
            for drawn in line.classes
            for other in self.known
            if not self.together or self.together[drawn] != self.together[other]
        )

    def __call__(self, probability: np.ndarray, predicted: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
        """Error probability by structure, float32; arguments as of `refitted`."""
        return refitted(probability, predicted, runner_up, self._directions)
