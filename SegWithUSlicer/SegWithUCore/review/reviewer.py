"""Reviewer names, and the files of a reviewer in a case folder."""

import re
import unicodedata
from pathlib import Path

from ..util.errors import UsageError

LONGEST_NAME = 50  # characters: of four bytes each, the file name stays below the 255 that file systems allow


def clean_reviewer_name(name: str) -> str:
    """Normalise a name as it is stored in the log: composed characters, no blanks around it.

    Raises:
        UsageError: there is nothing left, or it is too long.
    """
    clean = unicodedata.normalize("NFC", " ".join(name.split()))
    if not 0 < len(clean) <= LONGEST_NAME:
        raise UsageError(f"The reviewer's name has {len(clean)} characters: enter one of 1 to {LONGEST_NAME}.")
    return clean


def safe_reviewer_name(name: str) -> str:
    """Make a name part of a file name: letters of all scripts stay, what file systems refuse becomes "_".

    Raises:
        UsageError: there is no name.
    """
    clean = clean_reviewer_name(name)
    safe = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in clean)
    safe = re.sub(r'[<>:"/\\|?*]', "_", safe)
    return re.sub(r"^\.+|[. ]+$", lambda dots: "_" * len(dots[0]), safe)


def log_path(folder: Path, reviewer: str) -> Path:
    """Where a reviewer's log lies in a case folder.

    Raises:
        UsageError: there is no name, or another reviewer's file has the same name but for upper and lower case, which
            is one file on many systems.
    """
    path = folder / f"review.{safe_reviewer_name(reviewer)}.jsonl"
    for other in sorted(folder.glob("review.*.jsonl")) if folder.is_dir() else []:
        if other.name != path.name and _folded(other.name) == _folded(path.name):
            message = f"{folder} holds {other.name}, which differs from {path.name} in case only: enter that name."
            raise UsageError(message, "reviewer-name")
    return path


def is_log_of(name: str, reviewer: str) -> bool:
    """Whether a file has the name of a reviewer's log; copies that a cloud or a user made have others."""
    return _folded(name) == _folded(f"review.{safe_reviewer_name(reviewer)}.jsonl")


def version_path(folder: Path, log_name: str) -> Path:
    """Where a reviewer's version of the segmentation lies: one each, so that two reviewers keep two versions."""
    reviewer = log_name.removeprefix("review.").removesuffix(".jsonl")
    return folder / f"segmentation_reviewed.{reviewer}.seg.nrrd"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
