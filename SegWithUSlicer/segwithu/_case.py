"""A case folder in Python: volumes, structures, regions and verdicts, each read when it is asked for."""

from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.case_file import CaseDescription, Structure, naming_case, read_description
from SegWithUCore.case.case_files import case_volume
from SegWithUCore.case.case_image import case_image
from SegWithUCore.regions.region import Region
from SegWithUCore.review.reviews import CaseReviews, read_reviews
from SegWithUCore.review.verdicts import Verdict
from SegWithUCore.util.errors import UsageError


def read_case(folder: str | Path) -> "Case":
    """Read a case folder that `segwithu segment` or `judge` wrote; nothing in it is changed.

    Raises:
        InputError: it is not a case folder, or damaged.
    """
    return Case(Path(folder), read_description(Path(folder)))


class Case:
    """A case folder. Files are compared with the hashes in `case.json` when they are read.

    Attributes:
        folder: of the case.
        name: of the case.
        description: `case.json`, checked and typed; `description.raw` is the whole file.
        structures: metrics of each structure, without the background.
    """

    def __init__(self, folder: Path, description: CaseDescription) -> None:
        """Wrap what was read; see `read_case`."""
        self.folder, self.description, self.name = folder, description, description.name
        self.structures: tuple[Structure, ...] = description.structures

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names for `image` and `array`: the segmentation, the maps, and the regions if there are any."""
        regions = () if self.description.raw.get("regions") is None else ("regions",)
        return ("segmentation", *self.description.maps, *regions)

    def image(self, name: str) -> sitk.Image:
        """Read one of `volumes` as a SimpleITK image on the grid of the input.

        Raises:
            UsageError: there is no volume of that name.
            InputError: the file is missing, damaged or not the one that was written.
        """
        if name not in self.volumes:
            raise UsageError(f"{self.folder} has no volume '{name}': choose one of {', '.join(self.volumes)}.")
        map_info = self.description.maps.get(name)
        with naming_case(self.folder):
            file = f"{name}.nii.gz" if map_info is None else map_info.file
            return case_volume(self.folder, self.description.raw, file, labels=map_info is None)

    def array(self, name: str) -> np.ndarray:
        """Read one of `volumes` as an array (z, y, x); raises as `image`."""
        return sitk.GetArrayFromImage(self.image(name))

    def source(self, file: str | Path | None = None, channel: int = 0) -> sitk.Image:
        """Read the image that was segmented.

        Args:
            file: where it lies now, if it was moved.
            channel: of several.

        Raises:
            InputError: it is not found, or is not the image of this case.
        """
        return case_image(self.folder, self.description.raw, None if file is None else Path(file), channel)

    @cached_property
    def _reviews(self) -> CaseReviews:
        with naming_case(self.folder):
            return read_reviews(self.folder, self.description.raw)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions to review, largest expected error first; empty if the model is not calibrated."""
        return self._reviews.regions

    @property
    def verdicts(self) -> dict[str, dict[int, Verdict]]:
        """Verdicts of each reviewer by the id of a region; regions without a verdict are left out."""
        return {review.reviewer: review.verdicts(self.regions) for review in self._reviews.reviews}

    @property
    def notes(self) -> tuple[str, ...]:
        """Why review logs in the folder do not count, one sentence each."""
        return self._reviews.notes
