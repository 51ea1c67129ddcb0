"""What the files of a case say of runner-up and sources of uncertainty: only where something competes."""

from collections.abc import Sequence

import numpy as np

from ..case.case_regions import DATA_PERCENTILE_FILE, MODEL_PERCENTILE_FILE, RUNNER_UP_FILE, label_table
from ..models.input_spec import Label
from ..util.plane_files import ChangedPlanes, Planes, PlaneVolume
from .uncertainty_maps import COMPETES_ABOVE, VoxelMaps


class CompetitionPlanes(PlaneVolume):
    """Runner-up or percentile as the files hold it: where nothing competes, the value of what is calm.

    Args:
        maps: with error probability.
        found: what holds where something competes.
        calm: what holds elsewhere; None for 0.
    """

    def __init__(self, maps: VoxelMaps, found: Planes, calm: Planes | None = None) -> None:
        assert maps.error_probability is not None
        self._probability, self._found, self._calm = maps.error_probability, found, calm
        self.shape, self.dtype = tuple(found.shape), found.dtype

    def __getitem__(self, planes: slice) -> np.ndarray:
        """Read some planes, one after the other."""
        is_calm = self._probability[planes] <= COMPETES_ABOVE
        calm = 0 if self._calm is None else self._calm[planes]
        return np.where(is_calm, calm, self._found[planes]).astype(self.dtype, copy=False)


def competition_planes(maps: VoxelMaps, labels: Sequence[Label]) -> dict[str, Planes]:
    """Return what regions need besides the segmentation, by file name; where nothing competes, its own classes."""
    if maps.error_probability is None:
        return {}
    table = label_table(labels)
    classes, runner_up = ChangedPlanes(maps.classes, table), ChangedPlanes(maps.runner_up, table)
    found: dict[str, Planes] = {RUNNER_UP_FILE: CompetitionPlanes(maps, runner_up, classes)}
    for file, part in ((MODEL_PERCENTILE_FILE, maps.model_percentile), (DATA_PERCENTILE_FILE, maps.data_percentile)):
        if part is not None:
            found[file] = CompetitionPlanes(maps, part)
    return found
