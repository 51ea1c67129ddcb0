"""Find case folders and say which are left out; and the files that may lie in one. No third-party packages."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

from ..util.atomic_files import TEMPORARY_PREFIX
from ..util.errors import InputError, unreadable_named
from ..util.folder_entries import EntryKind, check_entries, check_link, entry_kind
from ..util.input_files import is_there, regular_file
from ..util.paths import is_inside
from .case_file import CASE_FILE, NOT_A_CASE, SEGMENTATION_FILE
from .region_files import REGION_LABELS_FILE, REGIONS_FILE

# Files that show that a folder without a `case.json` was a case.
MARKS = (SEGMENTATION_FILE, "regions.csv", "review.*.jsonl")
# What commands write into a folder of cases.
BESIDE_CASES = ("index.html", "structures.csv", "failed*.csv", "worklist.csv", "worklist.json")
# Folders between the one that is given and a case that is listed as left out, and how many of them are listed.
_DEEPEST, _NAMED = 3, 5


def case_folders(paths: Sequence[Path]) -> list[Path]:
    """List the case folders among `paths` and directly inside them, each once, in the order given, then by name.

    A folder that was a case and lost its `case.json` is among them, and so is an entry that cannot be opened: reading
    it fails with the reason, and the others continue. What a run writes next to its cases is skipped, so that a shell
    may name all entries (`results/*`).

    Raises:
        InputError: a path is neither a case folder nor holds any.
    """
    found: dict[str, Path] = {}
    named = [path for path in paths if not (_is_one_of(path.name, BESIDE_CASES) and _is_file(path))] or paths
    for path in named:
        for folder in [path] if _is_file(path / CASE_FILE) else _cases_inside(path):
            found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())


def holds_cases(path: Path) -> bool:
    """Whether a path is a case folder, or holds any."""
    return _is_case(path) or any(_is_case(entry) for entry in _entries(path))


def deeper_cases(paths: Sequence[Path], given: Sequence[Path] = ()) -> list[str]:
    """Report case folders that `case_folders` leaves out: hidden ones, and those deeper than directly inside `paths`.

    Args:
        given: further folders that are looked at, so that nothing in them is left out.
    """
    known, left = {path.resolve() for path in (*paths, *given)}, dict[Path, str]()
    for path, depth in product(paths, range(1, _DEEPEST + 2)):
        for file in sorted(path.glob("/".join([*["*"] * depth, CASE_FILE]))):
            folder, real = file.parent, file.parent.resolve()
            is_listed = real in known or (folder.parent.resolve() in known and not folder.name.startswith("."))
            if not is_listed and not any(part.startswith(TEMPORARY_PREFIX) for part in folder.relative_to(path).parts):
                left.setdefault(real, str(folder))
    names = ", ".join(list(left.values())[:_NAMED])
    return [f"Left out: {len(left)} case(s) that are hidden or lie deeper ({names}): name them, too."] if left else []


def _cases_inside(path: Path) -> list[Path]:
    """List the cases in a folder, with other entries that cannot be opened; or the path itself if it is a case.

    Raises:
        InputError: there are none.
    """
    entries = _entries(path)
    lost = [entry for entry in entries if _is_lost(entry)]
    if any(_is_case(entry) for entry in entries):
        return [entry for entry in entries if entry in lost or _is_case(entry)]
    if _is_case(path) or _is_lost(path):
        return [path]
    check_entries(lost, "entries")
    raise InputError(f"{path} is not a case folder and holds none: give folders that segment wrote.", NOT_A_CASE)


def _entries(folder: Path) -> list[Path]:
    """List what may be a case in a folder; nothing in what is none, or is closed."""
    if entry_kind(folder) is not EntryKind.FOLDER:
        return []
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _is_case(folder: Path) -> bool:
    """Whether a folder is a case, or was one."""
    if entry_kind(folder) is not EntryKind.FOLDER:
        return False
    return (folder / CASE_FILE).is_file() or any(next(folder.glob(mark), None) is not None for mark in MARKS)


def _is_lost(entry: Path) -> bool:
    """Whether an entry cannot be opened though it may be a case folder, such as a link to nothing; not a file."""
    kind = entry_kind(entry)
    return not (kind.opens or kind is EntryKind.ABSENT or _is_one_of(entry.name, BESIDE_CASES) or _is_file(entry))


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises behind a folder that is closed


# What `regions` alone reads.
REGION_INPUTS = ("runner_up.nii.gz", "model_percentile.nii.gz", "data_percentile.nii.gz")
# Volumes on the grid of the image.
VOLUMES = (
    *("segmentation.nii.gz", "error_probability.nii.gz", "ranking.nii.gz", "calibration.nii.gz"),
    *(*REGION_INPUTS, REGION_LABELS_FILE),
)
# What only shows the content of other files: a case is whole without them.
DERIVED = ("structures.csv", "preview.png")
# What `segment` and `regions` write.
MODEL_FILES = (*(CASE_FILE, "image.nii.gz", *VOLUMES, REGIONS_FILE, "segmentation.seg.nrrd"), *DERIVED)
# What reviewers add.
REVIEWED_PATTERN = "segmentation_reviewed*.seg.nrrd"
# What can be made again and is not copied.
REPRODUCIBLE = ("report.html", "itksnap_labels.txt", "reviewed.*.json", "*.lock", f"{TEMPORARY_PREFIX}*")


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
        InputError: it cannot be listed, or one of `MODEL_FILES` is not a regular file or a link that leads elsewhere.
    """
    check_link(folder, "give a case folder")
    with unreadable_named(folder, "give a case folder"):
        names = sorted(path.name for path in folder.iterdir())
    model, reviews, left_out = {}, [], []
    for name in names:
        if name in MODEL_FILES:
            model[name] = checked_file(folder, name)
        elif _is_one_of(name, ("review.*.jsonl", REVIEWED_PATTERN)):
            try:
                reviews.append(checked_file(folder, name))
            except InputError as error:
                left_out.append(str(error))
        elif not _is_one_of(name, REPRODUCIBLE):
            left_out.append(f"{folder / name} is not a file of a case.")
    return Contents(model, tuple(reviews), tuple(left_out))


def checked_file(folder: Path, name: str) -> Path:
    """Return a file of a case folder.

    Raises:
        InputError: it is missing, not a regular file, or a link that leads out of the folder.
    """
    path = folder / name
    if not is_there(path) and not path.is_symlink():
        raise InputError(f"{path} is missing: restore it from a copy, or segment the case again.", "missing-file")
    if not is_inside(folder, Path(name)):
        raise InputError(f"{path} is a link that leads out of its folder: put the file itself there.")
    regular_file(path, "put the file itself there")
    return path


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
