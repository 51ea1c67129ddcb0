"""Volumes (z, y, x) that are made, looked at and written a few planes at a time, so that no whole one must fit memory.

A numpy array does; `PlaneFile` is one on disk. Work that follows goes through both in the pieces of `plane_pieces`.
"""

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .errors import os_errors_named

# Maps of up to so many voxels stay in memory: 16 bytes each.
IN_MEMORY_VOXELS = 1 << 25
# Voxels that are processed together.
PIECE_VOXELS = 1 << 22


class PlaneVolume(ABC):
    """A volume that gives some of its planes at a time: `volume[4:8]` are four, an array.

    Attributes:
        shape: of all of it, (z, y, x).
        dtype: of a voxel.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def __getitem__(self, planes: slice) -> np.ndarray:
        """Read some planes, one after the other."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Go through single planes."""
        return (self[z : z + 1][0] for z in range(self.shape[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the whole volume."""
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


# What can be read plane by plane.
Planes: TypeAlias = np.ndarray | PlaneVolume


class PlaneFile(PlaneVolume):
    """A volume in a file without a name: a process that is killed leaves nothing behind.

    Args:
        shape: (z, y, x).
        dtype: of a voxel.
        folder: on the disk that holds it.

    Raises:
        OutputError: that disk is full or read-only; also on writing.
    """

    def __init__(self, shape: Sequence[int], dtype: np.typing.DTypeLike, folder: Path) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._folder = folder
        with os_errors_named(self._folder):
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with this object
        self._plane_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

    def __getitem__(self, planes: slice) -> np.ndarray:
        """Read some planes, one after the other; those that were never written hold 0."""
        first, count = self._place(planes)
        found = np.zeros((count, *self.shape[1:]), self.dtype)
        view = found.reshape(-1).view(np.uint8).data
        self._file.seek(first * self._plane_bytes)
        done = 0
        while done < len(view) and (read := self._file.readinto(view[done:])):
            done += read
        return found

    def __setitem__(self, planes: slice, values: np.ndarray) -> None:
        """Write some planes, one after the other."""
        first, count = self._place(planes)
        whole = np.ascontiguousarray(np.broadcast_to(values, (count, *self.shape[1:])), self.dtype)
        view = whole.reshape(-1).view(np.uint8).data
        done = 0
        with os_errors_named(self._folder):
            self._file.seek(first * self._plane_bytes)
            while done < len(view):
                done += self._file.write(view[done:])

    def __len__(self) -> int:
        """Count the planes."""
        return self.shape[0]

    def _place(self, planes: slice) -> tuple[int, int]:
        first, last, step = planes.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"planes follow each other, but every {step}. one was asked for")
        return first, max(0, last - first)


class ChangedPlanes(PlaneVolume):
    """Planes of another volume, each value replaced by that of a table."""

    def __init__(self, planes: Planes, table: np.ndarray) -> None:
        self._planes, self._table = planes, table
        self.shape, self.dtype = tuple(planes.shape), table.dtype

    def __getitem__(self, planes: slice) -> np.ndarray:
        """Read some planes, one after the other."""
        return self._table[self._planes[planes]]


def room_for(shape: Sequence[int], dtype: np.typing.DTypeLike, folder: Path | None) -> "np.ndarray | PlaneFile":
    """Make room for a volume: in memory, or where it is large on the disk of `folder`, if there is one."""
    if folder is None or math.prod(shape) <= IN_MEMORY_VOXELS:
        return np.empty(tuple(shape), dtype)
    return PlaneFile(shape, dtype, folder)


def kept_planes(array: np.ndarray, folder: Path | None) -> "np.ndarray | PlaneFile":
    """Copy a volume to where `room_for` finds room."""
    kept = room_for(array.shape, array.dtype, folder)
    for planes in plane_pieces(array.shape):
        kept[planes] = array[planes]
    return kept


def plane_pieces(shape: Sequence[int], voxels: int | None = None) -> Iterator[slice]:
    """Cut a volume into pieces of some planes, at most `voxels` together if that is more than one plane."""
    step = max(1, (voxels or PIECE_VOXELS) // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def plane_across(volume: Planes, axis: int, index: int) -> np.ndarray:
    """Cut one plane across an axis; its own axes are in the order of the volume's."""
    if isinstance(volume, np.ndarray):
        return np.asarray(np.moveaxis(volume, axis, 0)[index])
    if axis == 0:
        return volume[index : index + 1][0]
    return np.concatenate([volume[planes].take(index, axis) for planes in plane_pieces(volume.shape)])
