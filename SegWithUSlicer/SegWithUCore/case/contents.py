"""Known files of a case folder: nothing else is read or copied from a folder that others may have filled."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..util.atomic_files import TEMPORARY_PREFIX
from ..util.errors import InputError
from ..util.folder_entries import check_link
from ..util.input_files import regular_file
from ..util.paths import is_inside
from .case_file import CASE_FILE
from .region_files import REGION_LABELS_FILE, REGIONS_FILE

VOLUMES = (
    *("segmentation.nii.gz", "error_probability.nii.gz", "ranking.nii.gz", "calibration.nii.gz", "runner_up.nii.gz"),
    *("model_percentile.nii.gz", "data_percentile.nii.gz", REGION_LABELS_FILE),
)
"""On the grid of the image, which may lie beside them."""
MODEL_FILES = (
    *(CASE_FILE, "image.nii.gz", *VOLUMES, REGIONS_FILE, "segmentation.seg.nrrd"),
    *("structures.csv", "preview.png"),
)
"""What `segment` and `regions` write."""
REVIEW_PATTERNS = ("review.*.jsonl", "segmentation_reviewed*.seg.nrrd")
"""What reviewers add."""
MADE_ANEW = ("report.html", "*.lock", f"{TEMPORARY_PREFIX}*")
"""What belongs to where it lies and can be made again."""


@dataclass(frozen=True)
class Contents:
    """The files of a case folder.

    Attributes:
        model: what `segment` and `regions` wrote, by name.
        reviews: what reviewers added, in the order of their names.
        left_out: everything else but what can be made again, each with the reason.
    """

    model: dict[str, Path]
    reviews: tuple[Path, ...]
    left_out: tuple[str, ...]


def case_contents(folder: Path) -> Contents:
    """Look at what lies in a case folder.

    Raises:
        InputError: it cannot be listed, or one of `MODEL_FILES` is no regular file or a link that leads elsewhere.
    """
    check_link(folder, "give a case folder")
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): give a case folder.") from error
    model, reviews, left_out = {}, [], []
    for name in names:
        if name in MODEL_FILES:
            model[name] = checked_file(folder, name)
        elif _is_one_of(name, REVIEW_PATTERNS):
            try:
                reviews.append(checked_file(folder, name))
            except InputError as error:
                left_out.append(str(error))
        elif not _is_one_of(name, MADE_ANEW):
            left_out.append(f"{folder / name} is no file of a case.")
    return Contents(model, tuple(reviews), tuple(left_out))


def checked_file(folder: Path, name: str) -> Path:
    """Return a file of a case folder.

    Raises:
        InputError: it is no regular file, or a link that leads out of the folder.
    """
    path = folder / name
    if not is_inside(folder, Path(name)):
        raise InputError(f"{path} is a link that leads out of its folder: put the file itself there.")
    regular_file(path, "put the file itself there")
    return path


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
