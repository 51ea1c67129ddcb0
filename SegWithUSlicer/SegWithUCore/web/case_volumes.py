"""The volumes of one case: read once, checked, and kept as the page draws them.

A volume for the page has few bytes a voxel and is cut to what it holds, i fastest, then j, then k.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from ..case.case_files import case_file, case_volume
from ..case.case_folders import checked_file
from ..case.case_image import ELSEWHERE, IMAGE_FILE, case_image, find_image
from ..case.case_regions import assessed_part
from ..case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from ..io.grid import VoxelGrid
from ..io.roi import EMPTY, VoxelBox, whole_grid
from ..io.volume import read_header
from ..util.errors import InputError

ERROR_PROBABILITY = "error_probability"
# Four times the largest CT of a whole body, which a browser can still hold.
MAXIMUM_VOXELS = 1 << 29
# Intensities drawn black and white at first.
PERCENTILES = (1.0, 99.5)
# Larger images get 8 bits per voxel instead of 16, since a browser keeps them in memory.
LARGE_VOXELS = 1 << 26
# Voxels from which the window is estimated.
SAMPLED = 1 << 18
# Masks of a case have a few hundred thousand.
MAXIMUM_MASK_BYTES = 1 << 28
# Steps of a map's window, on which the thresholds of the slider lie: 0.002 each from 0 to 0.5.
STEPS = 250
# Bytes of voxels without a value and below the window; byte 2 + n is step n of the window.
NOT_ASSESSED, BELOW = 0, 1


@dataclass(frozen=True)
class DisplayVolume:
    """A part of the grid for the page.

    Attributes:
        array: (k, j, i) of the box, uint8, uint16 or int16, contiguous.
        box: where it lies on the grid.
    """

    array: np.ndarray
    box: VoxelBox

    @property
    def data(self) -> memoryview:
        """The voxels as they are sent, little-endian."""
        array = self.array.astype(self.array.dtype.newbyteorder("<"), copy=False)
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data  # an empty memoryview cannot be cast

    def facts(self) -> dict[str, Any]:
        """As JSON: type and box."""
        return {"dtype": self.array.dtype.name, "box": box_json(self.box)}

    def crop(self, outer: VoxelBox) -> "DisplayVolume":
        """Keep what lies in a box of the grid."""
        box = self.box.shared_with(outer)
        return DisplayVolume(np.ascontiguousarray(self.array[box.relative_to(self.box).slices_zyx]), box)


@dataclass(frozen=True)
class DisplayImage:
    """The image for the page: a value is a voxel's number times `scale` plus `offset`.

    Attributes:
        window: of values, drawn black and white at first.
        range: lowest and highest value.
    """

    volume: DisplayVolume
    scale: float
    offset: float
    window: tuple[float, float]
    range: tuple[float, float]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        figures = {"scale": self.scale, "offset": self.offset, "window": list(self.window), "range": list(self.range)}
        return {**self.volume.facts(), **figures}


def box_json(box: VoxelBox) -> dict[str, Any]:
    """As JSON of the page."""
    return {"index": list(box.index), "size": list(box.size)}


def display_labels(array: np.ndarray, what: str) -> DisplayVolume:
    """Take label values (k, j, i), cut to the box of all labels.

    Args:
        what: names them in messages.

    Raises:
        InputError: they are not integers between 0 and 65535.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if array.dtype.kind == "f" and not np.array_equal(np.rint(array), array):
        raise InputError(f"{what} holds fractions, so it is not a label volume: segment the case again.")
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise InputError(f"{what} holds the label {low if low < 0 else high:g}: labels go from 0 to 65535 here.")
    box = VoxelBox.around(array)
    kind = np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16
    return DisplayVolume(np.array(array[box.slices_zyx], dtype=kind, order="C"), box)


def display_image(array: np.ndarray) -> DisplayImage:
    """Take intensities (k, j, i): exactly where the page's type holds them, else in equal steps over their range."""
    low, high = float(array.min()), float(array.max())
    window = _window(array, low, high)
    exact = _as_int16(array, low, high) if array.size <= LARGE_VOXELS else None
    whole = VoxelBox((0, 0, 0), (array.shape[2], array.shape[1], array.shape[0]))
    if exact is not None:
        return DisplayImage(DisplayVolume(exact, whole), 1.0, 0.0, window, (low, high))
    kind = np.int16 if array.size <= LARGE_VOXELS else np.uint8
    # With 8 bits what is far brighter than the window, as metal is, must not take the steps away from it.
    start, end, half = low, high, (window[1] - window[0]) / 2
    if kind is np.uint8:
        start, end = max(low, window[0] - half), min(high, window[1] + half)
    first, last = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    scale = (end - start) / (last - first) or 1.0
    offset = start - scale * first
    numbers = np.empty(array.shape, kind)
    for k in range(array.shape[0]):
        numbers[k] = np.clip(np.rint((array[k].astype(np.float64) - offset) / scale), first, last)
    return DisplayImage(DisplayVolume(numbers, whole), scale, offset, window, (low, high))


def _as_int16(array: np.ndarray, low: float, high: float) -> np.ndarray | None:
    """Return the same numbers as int16; None where it cannot hold them."""
    info = np.iinfo(np.int16)
    if low < info.min or high > info.max:
        return None
    numbers = array.astype(np.int16)
    return numbers if np.array_equal(numbers, array) else None


def _window(array: np.ndarray, low: float, high: float) -> tuple[float, float]:
    sample = array.reshape(-1)[:: max(1, array.size // SAMPLED)]
    black, white = (float(value) for value in np.percentile(sample, PERCENTILES))
    return (black, white) if white > black else (low, high if high > low else low + 1.0)


def display_map(array: np.ndarray, window: tuple[float, float], not_assessed: float, box: VoxelBox) -> DisplayVolume:
    """Take a map's values (k, j, i) as steps of its window.

    A voxel's byte is at least 2 + n exactly where its value is at or above step n, `low + n / STEPS * (high - low)`.

    Args:
        array: of the whole grid.
        not_assessed: the value of voxels without one.
        box: what was assessed.
    """
    part = array[box.slices_zyx]
    low, high = window
    shown = np.empty(part.shape, np.uint8)
    room = np.empty(part.shape[1:], np.float64)  # a plane at a time stays in the processor's cache
    for k in range(part.shape[0]):
        np.subtract(part[k], low, out=room)
        room *= STEPS / (high - low)
        np.clip(room, -1.0, STEPS, out=room)
        room += 2.0  # what lies below the window comes out between 1 and 2
        shown[k] = room
        shown[k][part[k] == not_assessed] = NOT_ASSESSED
    return DisplayVolume(shown, box)


@dataclass(frozen=True)
class RegionMasks:
    """The voxels of all regions.

    Attributes:
        data: 0 and 1, one region's box after the other, i fastest.
        boxes: of each region, by id.
        starts: where each begins in `data`, by id.
    """

    data: bytes
    boxes: dict[int, VoxelBox]
    starts: dict[int, int]


def region_masks(labels: np.ndarray, ids: Sequence[int]) -> RegionMasks:
    """Take the regions' voxels from a label volume (k, j, i); a region without any gets an empty box.

    Raises:
        InputError: the boxes around them are together much larger than regions are.
    """
    places = np.flatnonzero(labels)
    values = labels.reshape(-1)[places]
    order = np.argsort(values, kind="stable")
    places, values = places[order], values[order]
    points = np.stack(np.unravel_index(places, labels.shape), -1)  # k, j, i
    parts: list[bytes] = []
    boxes: dict[int, VoxelBox] = {}
    starts: dict[int, int] = {}
    length = 0
    for id_ in ids:
        own = points[np.searchsorted(values, id_, "left") : np.searchsorted(values, id_, "right")]
        boxes[id_], starts[id_] = EMPTY, length
        if len(own):
            low, high = own.min(0), own.max(0) + 1
            if length + int(np.prod(high - low)) > MAXIMUM_MASK_BYTES:
                raise InputError(f"The voxels of region {id_} lie too far apart: run segwithu regions again.")
            mask = np.zeros(high - low, np.uint8)
            mask[tuple((own - low).T)] = 1
            boxes[id_] = VoxelBox.between(low[::-1], high[::-1])
            parts.append(mask.tobytes())
            length += mask.size
    return RegionMasks(b"".join(parts), boxes, starts)


@dataclass
class CaseVolumes:
    """What is drawn of a case; maps are read when they are first asked for.

    Attributes:
        labels: of the model's segmentation.
        region_labels: (k, j, i); None for a case without regions.
        assessed: the part of the grid that was segmented.
        first: the segmentation, on whose grid all volumes lie.
        image: None where it is not at hand; `image_trouble` says why.
    """

    folder: Path
    description: CaseDescription
    labels: DisplayVolume
    region_labels: np.ndarray | None
    assessed: VoxelBox
    first: sitk.Image = field(repr=False)
    image: DisplayImage | None = None
    image_trouble: str = "The image is not part of this page."
    _lock: threading.Lock = field(repr=False, default_factory=threading.Lock)
    _maps: dict[str, DisplayVolume] = field(repr=False, default_factory=dict)

    @cached_property
    def grid(self) -> VoxelGrid:
        """Of all volumes."""
        return VoxelGrid.of(self.first)

    def index_of(self, point_ras_mm: Sequence[float]) -> list[int]:
        """Return the voxel nearest to a point, within the grid."""
        r, a, s = point_ras_mm
        found = np.rint(self.grid.continuous_index((-r, -a, s)))
        return [int(n) for n in np.clip(found, 0, np.subtract(self.grid.size, 1))]

    def map(self, name: str) -> DisplayVolume:
        """Return a map as steps of its window.

        Raises:
            InputError: its file is damaged, or lies on another grid.
        """
        with self._lock:
            if name not in self._maps:
                self._maps[name] = self._read_map(self.description.maps[name])
            return self._maps[name]

    def _read_map(self, info: MapInfo) -> DisplayVolume:
        image = case_volume(self.folder, self.description.raw, info.file)
        return display_map(sitk.GetArrayViewFromImage(image), map_window(info), info.not_assessed, self.assessed)


def map_window(info: MapInfo) -> tuple[float, float]:
    """Return the ends of a map's colour scale; 0 to 1 of a map that names none."""
    return info.window if info.window is not None and info.window[1] > info.window[0] else (0.0, 1.0)


def read_volumes(
    folder: Path, description: CaseDescription, image_folders: Sequence[Path] = (), with_image: bool = True
) -> CaseVolumes:
    """Read segmentation, regions and image of a case, and its error probability, which is shown first.

    Args:
        image_folders: where the image is looked for if it lies neither in the case folder nor where this user had it.
        with_image: False leaves the image where it is.

    Raises:
        InputError: a volume is damaged or lies on another grid, or the grid is too large.
    """
    path = checked_file(folder, SEGMENTATION_FILE)
    _check_size(path, folder)
    first = case_volume(folder, description.raw, SEGMENTATION_FILE)
    labels = display_labels(sitk.GetArrayViewFromImage(first), str(path))
    regions, grid = _regions(folder, description.raw), VoxelGrid.of(first)
    assessed = assessed_part(description.raw, grid).shared_with(whole_grid(grid))
    volumes = CaseVolumes(folder, description, labels, regions, assessed, first)
    if ERROR_PROBABILITY in description.maps:
        volumes.map(ERROR_PROBABILITY)
    if with_image:
        volumes.image, volumes.image_trouble = _image(folder, description.raw, image_folders)
    if volumes.image is not None and volumes.image.volume.box != whole_grid(first):
        size = " x ".join(map(str, volumes.image.volume.box.size))
        volumes.image = None
        volumes.image_trouble = f"The image has {size} voxels, other than the segmentation."
    return volumes


def _image(folder: Path, raw: Mapping[str, Any], image_folders: Sequence[Path]) -> tuple[DisplayImage | None, str]:
    """Return the image for the page, or why there is none."""
    try:
        if (folder / IMAGE_FILE).exists():
            _check_size(checked_file(folder, IMAGE_FILE), folder)
        found = find_image(folder, raw, image_folders)
        image = case_image(folder, raw) if found is None else found[1]  # which says why there is none
    except InputError as error:
        if error.code == ELSEWHERE:
            raise
        return None, str(error)
    return display_image(sitk.GetArrayViewFromImage(image)), ""


def _regions(folder: Path, raw: Mapping[str, Any]) -> np.ndarray | None:
    if raw.get("regions") is None:
        return None
    case_file(folder, raw, REGIONS_FILE)
    return np.asarray(sitk.GetArrayFromImage(case_volume(folder, raw, REGION_LABELS_FILE)))


def _check_size(path: Path, folder: Path) -> None:
    """Refuse a volume that no browser could hold, by its header."""
    grid = read_header(path).grid
    if grid is not None and grid.voxels > MAXIMUM_VOXELS:
        raise InputError(f"{path} has {grid.voxels} voxels, too many for a page: review {folder} in 3D Slicer.")
