"""The second stage of the error probability, which sees the image, over a volume whose maps are made plane by plane.

While the maps are made, uncertain voxels are noted with the head's maps there. Once the table's error probability is
known on all planes, the image is looked at some planes at a time, and the noted voxels get their last probability.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.second_stage import HeadMaps, SecondStage, UncertainVoxels, find_uncertain_voxels, refined
from ..io.grid import VoxelGrid
from ..util.errors import OutputError
from ..util.plane_files import PlaneFile, plane_pieces
from .engines.base import Voxelwise
from .grid_blocks import Turn

PIECE_VOXELS = 1 << 23
"""Of the planes that the image is looked at together: those around them are looked at twice."""
ImagePlanes = Callable[[slice], np.ndarray]
"""Gives some planes of the image as the network gets it, (channels, z, y, x) on the grid of the maps."""


def steps_on_grid(axes: Sequence[bool], working: sitk.Image | VoxelGrid, target: sitk.Image | VoxelGrid) -> Steps:
    """Find the steps to neighbours on the grid of the maps.

    Args:
        axes: of the working grid (z, y, x), along which voxels have neighbours.
    """
    own, goal = VoxelGrid.of(working), VoxelGrid.of(target)
    order, spacing = Turn.between(own, goal).order, own.spacing[::-1]
    return Steps.on_grid([axes[each] for each in order], [spacing[each] for each in order], goal.spacing[::-1])


def head_maps(found: Voxelwise) -> HeadMaps:
    """Return what the second stage reads of the head's maps."""
    return HeadMaps(found.classes, found.runner_up, found.ranking, found.calibration, found.epistemic, found.aleatoric)


class SecondStageSweep:
    """The second stage of one case.

    Args:
        steps: on the grid of the maps.
        image: gives its planes.
        folder: on the disk that the notes of large images go to, a hundred bytes a voxel, in a file without a name;
            None keeps them in memory.
    """

    def __init__(self, stage: SecondStage, steps: Steps, image: ImagePlanes, folder: Path | None = None) -> None:
        self.stage, self.steps = stage, steps
        self._image, self._folder = image, folder
        self._notes: list[tuple[int, int, np.ndarray | tuple[int, tuple[int, ...]]]] = []
        """First and last plane, and rows (places, normals, columns) or where in the file they begin and their shape."""
        self._file = tempfile.TemporaryFile(dir=folder) if folder is not None else None  # noqa: SIM115 - closed with this

    @property
    def halo(self) -> int:
        """Planes around others that are looked at with them while noting."""
        return int(self.steps.unit[0])

    def note(self, logits: np.ndarray, inner: slice, first_plane: int, found: Voxelwise, table: np.ndarray) -> None:
        """Note the uncertain voxels of some planes.

        Args:
            logits: (classes, z, y, x), of these planes and those around them.
            inner: which planes of `logits` they are.
            found: what the head says of these planes.
            table: the table's error probability there.

        Raises:
            OutputError: the disk is full.
        """
        doubt = find_uncertain_voxels(logits, inner, head_maps(found), table, self.stage.pairs, self.steps)
        z, y, x = doubt.voxels
        if not len(z):
            return
        places = np.stack([z + first_plane, y, x]).astype(np.int32).view(np.float32)
        rows = np.ascontiguousarray(np.concatenate([places, doubt.normals, doubt.columns.T]), np.float32)
        noted: np.ndarray | tuple[int, tuple[int, ...]] = rows
        if self._file is not None:
            try:
                noted = self._file.seek(0, os.SEEK_END), rows.shape
                self._file.write(rows.tobytes())
                self._file.flush()
            except OSError as error:
                raise OutputError(
                    f"Cannot keep the second stage in {self._folder} ({error.strerror or error}): free some space "
                    "or choose another output folder."
                ) from error
        self._notes.append((int(z.min()) + first_plane, int(z.max()) + first_plane, noted))

    def finish(self, probability: np.ndarray | PlaneFile) -> None:
        """Turn the table's error probability of all planes into the last one."""
        halo, count = self.steps.halo[0], probability.shape[0]
        before: np.ndarray = probability[:0]
        for planes in plane_pieces(probability.shape, PIECE_VOXELS):
            first, last = max(0, planes.start - halo), min(count, planes.stop + halo)
            table = np.concatenate([before[first - planes.start + len(before) :], probability[planes.start : last]])
            found = refined(self.stage, self._noted(planes, first), self._image(slice(first, last)), table, self.steps)
            before = table[: planes.stop - first][-halo:] if halo else table[:0]
            probability[planes] = found[planes.start - first : planes.stop - first]

    def _noted(self, planes: slice, first: int) -> UncertainVoxels:
        """Return what was noted of some planes, counted from `first` on."""
        parts = []
        for low, high, noted in self._notes:
            if high < planes.start or low >= planes.stop:
                continue
            rows = noted if isinstance(noted, np.ndarray) else self._read(*noted)
            z, y, x = rows[:3].view(np.int32).astype(np.intp)
            inside = np.flatnonzero((z >= planes.start) & (z < planes.stop))
            parts.append(UncertainVoxels((z - first, y, x), np.ascontiguousarray(rows[6:].T), rows[3:6]).chosen(inside))
        # Planes may come last first.
        parts = sorted((part for part in parts if len(part.voxels[0])), key=lambda part: int(part.voxels[0][0]))
        if not parts:
            nothing = np.empty(0, np.intp)
            columns = np.empty((0, len(self.stage.mean)), np.float32)
            return UncertainVoxels((nothing, nothing, nothing), columns, np.empty((3, 0), np.float32))
        z, y, x = (np.concatenate([part.voxels[axis] for part in parts]) for axis in range(3))
        columns, normals = np.concatenate([part.columns for part in parts]), [part.normals for part in parts]
        return UncertainVoxels((z, y, x), columns, np.concatenate(normals, 1))

    def _read(self, place: int, shape: tuple[int, ...]) -> np.ndarray:
        assert self._file is not None
        self._file.seek(place)
        return np.frombuffer(self._file.read(4 * shape[0] * shape[1]), np.float32).reshape(shape)
