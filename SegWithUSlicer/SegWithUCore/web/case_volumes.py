"""The volumes of one case, read once, checked, and kept as the page draws them."""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, CaseDescription, MapInfo
from ..case.case_image import (
    ELSEWHERE,
    IMAGE_FILE,
    OutsideError,
    case_image,
    image_among,
    is_there,
    trusted_path,
)
from ..case.case_regions import assessed_part, ijk_to_ras
from ..case.contents import checked_file
from ..case.region_files import REGION_LABELS_FILE, check_region_files
from ..io.grid import VoxelGrid
from ..io.header_peek import grid_of
from ..io.roi import VoxelBox, whole_grid
from ..io.volume import check_same_grid, read_file
from ..review.blind import SamplingInput
from ..util.errors import InputError
from .display_volumes import (
    DisplayImage,
    DisplayVolume,
    common,
    display_image,
    display_labels,
    display_map,
)

ERROR_PROBABILITY = "error_probability"
MAXIMUM_VOXELS = 1 << 29
"""Of a grid: four times the largest CT of a whole body, and what a browser may still hold."""
READERS = 2
"""Volumes read at once: reading is unpacking, which has a core of its own."""


@dataclass
class CaseVolumes:
    """What is drawn of a case; maps are read when they are first asked for.

    Attributes:
        labels: of the model's segmentation.
        region_labels: (k, j, i); None for a case without regions.
        assessed: the part of the grid that was segmented.
        first: the segmentation, on whose grid all volumes lie.
        image: None where it is not at hand; `image_trouble` says why.
        exact_image: its values (k, j, i).
    """

    folder: Path
    description: CaseDescription
    labels: DisplayVolume
    region_labels: np.ndarray | None
    assessed: VoxelBox
    first: sitk.Image = field(repr=False)
    image: DisplayImage | None = None
    image_trouble: str = "The image is not part of this page."
    exact_image: np.ndarray | None = field(repr=False, default=None)
    _lock: threading.Lock = field(repr=False, default_factory=threading.Lock)
    _kept: list[sitk.Image] = field(repr=False, default_factory=list)
    _maps: dict[str, tuple[DisplayVolume, np.ndarray]] = field(repr=False, default_factory=dict)

    @cached_property
    def grid(self) -> VoxelGrid:
        """Of all volumes."""
        return VoxelGrid.of(self.first)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """4 x 4, from voxel index (i, j, k) to RAS mm."""
        return ijk_to_ras(self.grid)

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
        return self._map(name)[0]

    def values(self, index: Sequence[int]) -> dict[str, Any]:
        """Return the exact values at a voxel (i, j, k) of the grid, of the maps that were read so far.

        Raises:
            InputError: there is no such voxel.
        """
        if any(not 0 <= at < size for at, size in zip(index, self.grid.size, strict=True)):
            raise InputError(f"Voxel {list(index)} lies outside the grid of {list(self.grid.size)} voxels.")
        i, j, k = index
        maps: dict[str, float | None] = {}
        for name, (shown, exact) in list(self._maps.items()):
            step = shown.value(index)
            first = shown.box.index
            maps[name] = float(exact[k - first[2], j - first[1], i - first[0]]) if step else None
        image = None if self.exact_image is None else float(self.exact_image[k, j, i])
        return {"image": image, "label": self.labels.value(index) or 0, "maps": maps}

    def sampling_input(self) -> SamplingInput:
        """Return what blind places are drawn from.

        Raises:
            InputError: as `map`.
        """
        shape = self.grid.shape_zyx
        labels = np.zeros(shape, np.int32)
        labels[self.labels.box.slices_zyx] = self.labels.array
        _shown, exact = self._map(ERROR_PROBABILITY)
        risk = np.full(shape, -1.0, np.float32)
        risk[self.assessed.slices_zyx] = exact
        names = {structure.value: structure.name for structure in self.description.structures}
        i, j, k = self.grid.spacing
        regions = self.region_labels if self.region_labels is not None else np.zeros(shape, np.uint16)
        return SamplingInput(risk, labels, regions, (k, j, i), self.ijk_to_ras, {0: "background", **names})

    def _map(self, name: str) -> tuple[DisplayVolume, np.ndarray]:
        with self._lock:
            if name not in self._maps:
                self._maps[name] = self._read_map(self.description.maps[name])
            return self._maps[name]

    def _read_map(self, info: MapInfo) -> tuple[DisplayVolume, np.ndarray]:
        path = checked_file(self.folder, info.file)
        _check_size(path, self.folder)
        image = read_file(path)
        check_same_grid(path, image, self.folder / SEGMENTATION_FILE, self.first)
        array = sitk.GetArrayViewFromImage(image)
        shown = display_map(array, map_window(info), info.not_assessed, self.assessed)
        if self.assessed == whole_grid(image):
            self._kept.append(image)  # else the values would be gone with it
            return shown, array
        return shown, np.array(array[self.assessed.slices_zyx])


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
    with ThreadPoolExecutor(READERS) as pool:
        image_job = pool.submit(_image, folder, description.raw, image_folders) if with_image else None
        first = read_file(path)
        labels = display_labels(sitk.GetArrayViewFromImage(first), str(path))
        regions = _regions(folder, description.raw, first)
        region_labels = None if regions is None else sitk.GetArrayViewFromImage(regions)
        assessed = _assessed(description.raw, VoxelGrid.of(first))
        kept = [] if regions is None else [regions]
        volumes = CaseVolumes(folder, description, labels, region_labels, assessed, first, _kept=kept)
        if ERROR_PROBABILITY in description.maps:
            volumes.map(ERROR_PROBABILITY)
        if image_job is not None:
            volumes.image, volumes.image_trouble, volumes.exact_image = image_job.result()
    if volumes.image is not None and volumes.image.volume.box != whole_grid(first):
        size = " x ".join(map(str, volumes.image.volume.box.size))
        volumes.image = volumes.exact_image = None
        volumes.image_trouble = f"The image has {size} voxels, other than the segmentation."
    return volumes


Drawn = tuple[DisplayImage | None, str, np.ndarray | None]
"""The image for the page, why there is none, and its exact values."""


def _image(folder: Path, raw: Mapping[str, Any], image_folders: Sequence[Path]) -> Drawn:
    try:
        moved = _moved(folder, raw, image_folders)
        if (folder / IMAGE_FILE).exists():
            _check_size(checked_file(folder, IMAGE_FILE), folder)
        image = case_image(folder, raw, moved)
    except InputError as error:
        if error.code == ELSEWHERE:
            raise
        return None, str(error), None
    array = sitk.GetArrayViewFromImage(image)
    shown, exact = display_image(array)
    return shown, "", array.copy() if exact is array else exact  # a view's numbers are gone with its image


def _moved(folder: Path, raw: Mapping[str, Any], image_folders: Sequence[Path]) -> Path | None:
    """Find the image in the folders given, if it lies neither in the case folder nor where this user had it."""
    if not image_folders:
        return None
    with contextlib.suppress(OutsideError):  # another user wrote where
        if is_there(trusted_path(folder, raw)):
            return None
    return image_among(image_folders, folder, raw)


def _regions(folder: Path, raw: Mapping[str, Any], first: sitk.Image) -> sitk.Image | None:
    if raw.get("regions") is None:
        return None
    check_region_files(folder, raw)
    path = checked_file(folder, REGION_LABELS_FILE)
    image = read_file(path)
    check_same_grid(path, image, folder / SEGMENTATION_FILE, first)
    return image


def _assessed(raw: Mapping[str, Any], grid: VoxelGrid) -> VoxelBox:
    """Return the part that was segmented, within the grid."""
    return common(assessed_part(raw, grid), whole_grid(grid))


def _check_size(path: Path, folder: Path) -> None:
    """Refuse a volume that no browser could hold, by its header."""
    claim = grid_of(path)
    if claim is not None and claim.grid.voxels > MAXIMUM_VOXELS:
        raise InputError(f"{path} has {claim.grid.voxels} voxels, too many for a page: review {folder} in 3D Slicer.")
