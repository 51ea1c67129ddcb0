"""Thumbnails of the regions of a case folder, drawn from the image that it was made from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic_files import whole_folder
from ..case.case_file import read_case
from ..case.case_image import case_image
from ..case.case_regions import SEGMENTATION_FILE
from ..case.contents import case_contents
from ..case.region_files import REGION_LABELS_FILE, check_region_files
from ..imaging.volume import orientation_of, ras_to_lps, read_file
from ..regions.region import Region
from ..review.thumbnail import Grid, thumbnail, write_png

PICTURES_FOLDER = "regions"


def draw_regions(folder: Path, regions: Sequence[Region], image_file: Path | None = None) -> Path:
    """Draw `regions/<id>.png` for each region; returns that folder, written whole.

    Args:
        folder: the case folder, with its regions.
        image_file: where the image lies now, if it was moved.

    Raises:
        InputError: the image is missing or another one.
        OutputError: the folder cannot be written to.
    """
    case_contents(folder)  # nothing is read through a link that leads elsewhere
    case = read_case(folder)
    check_region_files(folder, case)
    image = case_image(folder, case, image_file)
    grid = Grid(image.GetSpacing()[::-1], orientation_of(image)[::-1])
    array = sitk.GetArrayViewFromImage(image)
    labels, places = (_array(folder / name) for name in (SEGMENTATION_FILE, REGION_LABELS_FILE))
    target = folder / PICTURES_FOLDER
    with whole_folder(target, overwrite=True) as work:
        for region in regions:
            i, j, k = image.TransformPhysicalPointToIndex(ras_to_lps(region.peak_ras_mm))
            picture = thumbnail(array, labels, places, region, (k, j, i), grid)
            write_png(picture, work / f"{region.id}.png")
    return target


def _array(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(read_file(path))
    return array
