"""Stage two of the error probability over a volume whose maps are made some planes at a time.

While the maps are made, voxels in doubt are noted with what the head says of them. Once the table's error probability
is there for all planes, the image is looked at some planes at a time, and the noted voxels get their last probability.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.stage_two import Doubt, HeadMaps, StageTwo, find_doubt, refined
from ..io.grid import VoxelGrid
from ..util.errors import OutputError
from ..util.plane_files import PlaneFile, plane_pieces
from .engines.base import Voxelwise

PIECE_VOXELS = 1 << 23
"""Of the planes that the image is looked at together: those around them are looked at twice."""
ImagePlanes = Callable[[slice], np.ndarray]
"""Gives some planes of the image as the network gets it, (channels, z, y, x) on the grid of the maps."""


def axes_along(working: sitk.Image | VoxelGrid, target: sitk.Image | VoxelGrid) -> tuple[int, ...]:
    """For each array axis (z, y, x) of `target`, name the array axis of `working` that lies nearest to it."""
    own, wanted = (np.reshape(VoxelGrid.of(each).direction, (3, 3)) for each in (working, target))
    source = np.abs(wanted.T @ own).argmax(1)
    return tuple(int(2 - source[axis]) for axis in (2, 1, 0))


def steps_on_grid(axes: Sequence[bool], working: sitk.Image | VoxelGrid, target: sitk.Image | VoxelGrid) -> Steps:
    """Find the steps to neighbours on the grid of the maps.

    Args:
        axes: of the working grid (z, y, x), along which voxels have neighbours.
    """
    order, spacing = axes_along(working, target), VoxelGrid.of(working).spacing[::-1]
    goal = VoxelGrid.of(target).spacing[::-1]
    return Steps.on_grid([axes[each] for each in order], [spacing[each] for each in order], goal)


def head_maps(found: Voxelwise) -> HeadMaps:
    """Return what stage two reads of the head's maps."""
    return HeadMaps(found.classes, found.runner_up, found.ranking, found.calibration, found.epistemic, found.aleatoric)


class StageTwoSweep:
    """Stage two of one case.

    Args:
        steps: on the grid of the maps.
        folder: on the disk that the notes of large images go to; None keeps them in memory.
    """

    def __init__(self, stage: StageTwo, steps: Steps, folder: Path | None = None) -> None:
        self.stage, self.steps = stage, steps
        self._notes = _Notes(folder)

    def __len__(self) -> int:
        """How many voxels in doubt are noted."""
        return len(self._notes)

    def note(self, logits: np.ndarray, inner: slice, first_plane: int, found: Voxelwise, table: np.ndarray) -> None:
        """Note the voxels in doubt of some planes.

        Args:
            logits: (classes, z, y, x), of these planes and those around them.
            inner: which planes of `logits` they are.
            found: what the head says of these planes.
            table: the table's error probability there.
        """
        doubt = find_doubt(logits, inner, head_maps(found), table, self.stage.pairs, self.steps)
        z, y, x = doubt.voxels
        self._notes.add(replace(doubt, voxels=(z + first_plane, y, x)))

    def finish(self, probability: np.ndarray | PlaneFile, image: ImagePlanes) -> None:
        """Turn the table's error probability of all planes into the last one."""
        halo, count = self.steps.halo[0], probability.shape[0]
        before: np.ndarray = probability[:0]
        for planes in plane_pieces(probability.shape, PIECE_VOXELS):
            first, last = max(0, planes.start - halo), min(count, planes.stop + halo)
            table = np.concatenate([before[first - planes.start + len(before) :], probability[planes.start : last]])
            doubt = self._noted(planes, first)
            found = refined(self.stage, doubt, image(slice(first, last)), table, self.steps)
            before = table[: planes.stop - first][-halo:] if halo else table[:0]
            probability[planes] = found[planes.start - first : planes.stop - first]

    def _noted(self, planes: slice, first: int) -> Doubt:
        """Return what was noted of some planes, counted from `first` on."""
        parts = []
        for part in self._notes.of(planes):
            z, y, x = part.voxels
            inside = np.flatnonzero((z >= planes.start) & (z < planes.stop))
            parts.append(replace(part, voxels=(z - first, y, x)).chosen(inside))
        return _joined([part for part in parts if len(part.voxels[0])], len(self.stage.mean))


class _Notes:
    """Voxels in doubt, in memory or, a hundred bytes each, in a file without a name."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._count = folder, 0
        self._parts: list[tuple[int, int, Doubt | tuple[int, int]]] = []  # first and last plane; rows and place
        self._file = tempfile.TemporaryFile(dir=folder) if folder is not None else None  # noqa: SIM115 - closed with this

    def __len__(self) -> int:
        return self._count

    def add(self, doubt: Doubt) -> None:
        """Take some in.

        Raises:
            OutputError: the disk is full.
        """
        z = doubt.voxels[0]
        if not len(z):
            return
        self._count += len(z)
        if self._file is None:
            self._parts.append((int(z.min()), int(z.max()), doubt))
            return
        places = np.stack(doubt.voxels).astype(np.int32).view(np.float32)
        rows = np.concatenate([places, doubt.normals, doubt.columns.T])
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"Cannot keep what stage two notes in {self._folder} ({error.strerror or error}): free some space or "
                "choose another output folder."
            ) from error
        self._parts.append((int(z.min()), int(z.max()), (len(rows), place)))

    def of(self, planes: slice) -> Iterator[Doubt]:
        """Yield all that may lie in some planes."""
        for number, (low, high, noted) in enumerate(self._parts):
            if high < planes.start or low >= planes.stop:
                continue
            yield noted if isinstance(noted, Doubt) else self._read(number, *noted)

    def _read(self, number: int, rows: int, place: int) -> Doubt:
        assert self._file is not None
        later = self._parts[number + 1][2] if number + 1 < len(self._parts) else None
        end = later[1] if isinstance(later, tuple) else self._file.seek(0, os.SEEK_END)
        self._file.seek(place)
        values = np.frombuffer(self._file.read(end - place), np.float32).reshape(rows, -1)
        z, y, x = values[:3].view(np.int32).astype(np.intp)
        return Doubt((z, y, x), np.ascontiguousarray(values[6:].T), values[3:6])


def _joined(parts: Sequence[Doubt], features: int) -> Doubt:
    if not parts:
        nothing = np.empty(0, np.intp)
        return Doubt((nothing, nothing, nothing), np.empty((0, features), np.float32), np.empty((3, 0), np.float32))
    parts = sorted(parts, key=lambda part: int(part.voxels[0][0]))  # planes may come last first
    z, y, x = (np.concatenate([part.voxels[axis] for part in parts]) for axis in range(3))
    columns, normals = np.concatenate([part.columns for part in parts]), [part.normals for part in parts]
    return Doubt((z, y, x), columns, np.concatenate(normals, 1))
