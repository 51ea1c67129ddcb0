"""Export finished structures as a data set of nnU-Net, with a worklist of the cases that have none yet.

The labels are those of the structures asked for; all else is background. A voxel that may be of one that is not
finished in this case, since reader or model drew it so or the model has it as the most probable other one, gets
nnU-Net's ignore label: a loss counts nowhere else than where a reader vouches for the label.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, naming_case, read_case
from ..case.case_files import case_volume
from ..case.case_image import case_grid, case_image
from ..case.case_regions import RUNNER_UP_FILE, assessed_part
from ..case.segmentation_file import read_reviewed
from ..review.flags import asked_of
from ..review.reviews import finished_structures, read_reviews, seen_by
from ..review.worklist import make_worklist
from ..review.worklist_files import write_worklist
from ..util.errors import InputError, UsageError
from ..util.strict_json import to_json
from .anonymous import strip_metadata, write_volume
from .case_export import image_file_of
from .formats import Exported, ExportSettings, ExportWriter

_FOLDER = re.compile(r"Dataset[0-9]{3}_[A-Za-z0-9_-]+")


class NnunetExport(ExportWriter):
    """Images and labels of finished structures, cut to what was segmented."""

    def __init__(self, work: Path, output: Path, settings: ExportSettings, found: Exported) -> None:
        """Begin a data set.

        Raises:
            UsageError: the folder's name is not one of nnU-Net.
        """
        super().__init__(work, output, settings, found)
        if not _FOLDER.fullmatch(output.name):
            wanted = "give one such as Dataset101_Hippocampus"
            raise UsageError(f"--output {output.name} is not a name of nnU-Net: {wanted}.")
        self._shared, self._waiting, self._ignores = dict[str, Any](), dict[str, Path](), False
        for part in ("imagesTr", "labelsTr"):
            (work / part).mkdir()

    def add(self, name: str, folder: Path) -> None:
        """Write a case that has finished structures, and note any other.

        Raises:
            InputError: its structures or channels are not those of cases before it, or a file cannot be used.
        """
        with naming_case(folder):
            case = read_case(folder)
            finished = finished_labels(folder, case, self.settings.options.get("reviewer"), self.found.notes)
            if finished is None:
                self._waiting[name] = folder
            else:
                self._write(name, folder, case, *finished)

    def _write(
        self, name: str, folder: Path, case: Mapping[str, Any], target: np.ndarray, asked: Sequence[str]
    ) -> None:
        labels, channels, grid = ["background", *asked], case["input"]["channels"], case_grid(folder, case)
        names = {str(number): channel["name"] for number, channel in enumerate(channels)}
        own = {"channel_names": names, "labels": {label: number for number, label in enumerate(labels)}}
        if self._shared not in ({}, own):
            message = f"{folder} has other structures or channels than cases before it: export it apart."
            raise InputError(message, "other-structures")
        moved = image_file_of(folder, self.settings)
        images = [case_image(folder, case, None if n else moved, n) for n in range(len(channels))]
        self._shared = own
        box = assessed_part(case, grid)  # nobody looked outside of it, so that is not background
        if np.count_nonzero(target[box.slices_zyx]) < np.count_nonzero(target):
            self.found.notes.append(f"{folder}: labels outside of the part that was segmented were left out.")
        self._ignores |= bool(target.max() == len(labels))
        write_volume(box.crop(grid.image(target)), self.work / "labelsTr" / f"{name}.nii.gz")
        for number, image in enumerate(images):
            path = self.work / "imagesTr" / f"{name}_{number:04d}.nii.gz"
            write_volume(box.crop(grid.put_on(strip_metadata(image))), path)

    def finish(self) -> None:
        """Describe the data set, and list the cases that are still to be reviewed.

        Raises:
            InputError: no structure is finished.
        """
        found, waiting = self.found, self._waiting
        for name in waiting:
            del found.names[name]
        if waiting and not found.names and not found.troubles:
            message = f"None of {len(waiting)} cases has a finished structure: accept or correct some as a whole."
            raise InputError(message, "unfinished-review")
        if self._ignores:
            self._shared["labels"]["ignore"] = len(self._shared["labels"])
        content = {**self._shared, "numTraining": len(found.names), "file_ending": ".nii.gz"}
        (self.work / "dataset.json").write_text(to_json(content) + "\n", encoding="utf-8")
        if waiting:
            found.notes.append(f"{len(waiting)} cases are still to be reviewed, in the order of segwithu worklist.")
            if not self.settings.anonymous:
                write_worklist(make_worklist(list(waiting.values())), self.work)


def finished_labels(
    folder: Path, case: Mapping[str, Any], reviewer: str | None, notes: list[str]
) -> tuple[np.ndarray, list[str]] | None:
    """Return nnU-Net's labels (z, y, x) of what a review has finished, and the names of the structures asked for.

    Labels are uint8, from 1 in the order of the names; voxels to be ignored lie above.

    Args:
        reviewer: whose review; None for the only one.
        notes: one on the reviewer's file is added where there is any.

    Returns:
        None where no structure asked for is finished.

    Raises:
        InputError: there are several reviews and none is named; the version is missing though something was corrected,
            or is not of this case.
    """
    found = read_reviews(folder, case)
    reviews = found.reviews if reviewer is None else seen_by(reviewer, found).reviews
    if len(reviews) > 1:
        raise InputError(f"{folder} has {len(reviews)} reviews: name one with --reviewer.", "no-such-review")
    if not reviews:
        return None
    (review,) = reviews
    entries = asked_of({**case, "asked": review.state.asked})
    asked = {
        str(entry["name"]): int(entry["value"]) for entry in sorted(entries, key=lambda entry: int(entry["value"]))
    }
    names = finished_structures(folder, case, review) & asked.keys()
    if not names:
        return None
    drawn = drawn_labels(folder, case, review.version(folder), notes)
    target, others = np.zeros(drawn.shape, np.uint8), [value for name, value in asked.items() if name not in names]
    for number, (name, value) in enumerate(asked.items(), 1):
        target[drawn == value] = number if name in names else 0
    if others:
        own = (case_volume(folder, case, name, labels=True) for name in (SEGMENTATION_FILE, RUNNER_UP_FILE))
        for values in (drawn, *map(sitk.GetArrayFromImage, own)):  # no views: the images are gone
            target[np.isin(values, others) & (target == 0)] = len(asked) + 1
    return target, list(asked)


def drawn_labels(folder: Path, case: Mapping[str, Any], version: Path | None, notes: list[str]) -> np.ndarray:
    """Read the label values (z, y, x) of a reviewer's version, or of the case's own segmentation if there is none.

    Args:
        notes: one on the reviewer's file is added where there is any.

    Raises:
        InputError: it cannot be read, or is not of this case.
    """
    if version is None:
        return sitk.GetArrayFromImage(case_volume(folder, case, SEGMENTATION_FILE, labels=True))
    labels, note = read_reviewed(version, case_grid(folder, case), case)
    notes += [note] if note else []
    return labels
