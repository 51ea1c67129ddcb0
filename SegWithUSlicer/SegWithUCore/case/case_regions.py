"""Regions of a case: computed from maps in memory, or again from a case folder, and written to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..io.plane_writer import LABELS, write_nifti_planes
from ..io.roi import VoxelBox, whole_grid
from ..io.volume import check_file
from ..models.input_spec import Label
from ..util.atomic_files import atomic_file, remove_leftovers, write_text
from ..util.errors import InputError, OutputError
from .case_file import FILES, SEGMENTATION_FILE, asked_structures, naming_case, read_case, write_case
from .case_files import case_volume, file_record, file_records
from .case_folders import case_contents
from .region_files import REGION_LABELS_FILE, REGIONS_FILE, regions_csv, regions_text

if TYPE_CHECKING:
    from ..regions.find_regions import FoundRegions, RegionSettings  # needs scipy, which reports and exports do without

ERROR_PROBABILITY_FILE = "error_probability.nii.gz"
RUNNER_UP_FILE = "runner_up.nii.gz"
MODEL_PERCENTILE_FILE = "model_percentile.nii.gz"
DATA_PERCENTILE_FILE = "data_percentile.nii.gz"


def label_table(labels: Sequence[Label]) -> np.ndarray:
    """Label value of each class index, uint8 where they fit."""
    values = np.asarray([label.value for label in labels])
    return values.astype(np.uint8 if values.max() < 256 else np.int16)


def label_values(classes: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """Label values of class indices, as those of `label_table`."""
    return label_table(labels)[classes]


def whole_image(part: np.ndarray, box: VoxelBox, grid: VoxelGrid, outside: float) -> sitk.Image:
    """Put the assessed part (z, y, x) into an image of the whole grid, filled with `outside`.

    Of the whole grid one copy is made and no more: with a small region of a large image it is all that matters.
    """
    if box == whole_grid(grid):
        return grid.image(part)
    after = [whole - start - size for whole, start, size in zip(grid.size, box.index, box.size, strict=True)]
    small = sitk.GetImageFromArray(np.ascontiguousarray(part))
    return grid.put_on(sitk.ConstantPad(small, box.index, after, outside))


def write_regions(folder: Path, found: "FoundRegions", box: VoxelBox, grid: sitk.Image | VoxelGrid) -> None:
    """Write `regions.csv` and `regions.nii.gz`, each whole or not at all.

    Args:
        box: the part of the grid that `found` is about.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    with atomic_file(folder / REGION_LABELS_FILE) as work:
        try:
            write_nifti_planes(work, found.labels, box, VoxelGrid.of(grid), 0, view=LABELS)
            check_file(work)
        except (RuntimeError, InputError) as error:
            raise OSError("the disk is full or read-only") from error
    write_text(folder / REGIONS_FILE, regions_csv((*found.regions, *found.blind)))


def make_regions_again(folder: Path, settings: "RegionSettings", overwrite: bool = False) -> "FoundRegions":
    """Make the regions of a case folder from its files and write them, with their settings in `case.json`.

    `case.json` is written last and holds the hashes of both files: where the run is killed in between, readers see
    that they do not belong together.

    Args:
        overwrite: also if other regions of this case were reviewed; the reviews stay, but belong to none.

    Raises:
        InputError: it is not a case folder, is not calibrated, or was made before runner-ups were kept.
        OutputError: it cannot be written to.
    """
    from ..regions.find_regions import Assessed, find_regions

    remove_leftovers(folder)
    case_contents(folder)  # nothing is read through a link that leads elsewhere
    case = read_case(folder)

    def array(file: str) -> np.ndarray:
        return sitk.GetArrayFromImage(box.crop(case_volume(folder, case, file)))

    with naming_case(folder):
        if not (case.get("model") or {}).get("calibrated"):
            raise InputError(f"{folder} has no error probability: not calibrated, or of no model.", "not-calibrated")
        probability = sitk.Cast(case_volume(folder, case, ERROR_PROBABILITY_FILE), sitk.sitkFloat32)
        box = assessed_part(case, probability)
        part = box.crop(probability)
        model_percentile, data_percentile = (
            array(file) if file in file_records(case) or (folder / file).is_file() else None
            for file in (MODEL_PERCENTILE_FILE, DATA_PERCENTILE_FILE)
        )
        names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
        classes = array(SEGMENTATION_FILE), array(RUNNER_UP_FILE)
        asked = {value for value, name in names.items() if name in asked_structures(case)}
        probabilities = sitk.GetArrayViewFromImage(part)
        percentiles = (model_percentile, data_percentile)
        found = find_regions(Assessed(probabilities, *classes, names, ijk_to_ras(part), *percentiles, asked), settings)
        _keep_reviews(folder, found, overwrite)
        write_regions(folder, found, box, probability)
        records = {name: file_record(folder / name) for name in (REGIONS_FILE, REGION_LABELS_FILE)}
        write_case(folder, {**case, "regions": found.summary(settings), FILES: {**file_records(case), **records}})
    return found


def assessed_part(case: Mapping[str, Any], grid: sitk.Image | VoxelGrid) -> VoxelBox:
    """Return the part of a case that was segmented.

    Args:
        case: the content of its `case.json`.
        grid: of the image.

    Raises:
        InputError: it is not a box.
    """
    entry = case["assessed"]
    index, size = ([int(n) for n in entry[key]] for key in ("index_ijk", "size_ijk"))
    if not len(index) == len(size) == 3:
        raise InputError(f"The assessed part is not a box: {entry!r:.100}.")
    return VoxelBox((index[0], index[1], index[2]), (size[0], size[1], size[2]))


def _keep_reviews(folder: Path, found: "FoundRegions", overwrite: bool) -> None:
    """Refuse to pull the regions away from under a review."""
    old, reviews = folder / REGIONS_FILE, sorted(folder.glob("review.*.jsonl"))
    same = old.is_file() and regions_text(folder) == regions_csv((*found.regions, *found.blind))
    if reviews and not same and not overwrite:
        message = f"{folder} has reviews of other regions ({reviews[0].name}): pass --overwrite to give these up."
        raise OutputError(message, "reviewed-case")


def ijk_to_ras(image: sitk.Image | VoxelGrid) -> np.ndarray:
    """4 x 4 matrix from voxel index (i, j, k) to RAS mm."""
    grid, matrix = VoxelGrid.of(image), np.eye(4)
    matrix[:3, :3] = np.array(grid.direction).reshape(3, 3) @ np.diag(grid.spacing)
    matrix[:3, 3] = grid.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
