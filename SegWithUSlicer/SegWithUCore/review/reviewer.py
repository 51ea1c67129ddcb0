"""Reviewer names, and the files of a reviewer in a case folder."""

import hashlib
import re
import unicodedata
from pathlib import Path

from ..util.errors import UsageError

MAXIMUM_BYTES = 80
"""Of a name within a file name; file systems allow 255 for all of it."""


def clean_reviewer_name(name: str) -> str:
    """Normalise a name as it is stored in the log: composed characters, no blanks around it.

    Raises:
        UsageError: there is nothing left.
    """
    clean = unicodedata.normalize("NFC", " ".join(name.split()))
    if not clean:
        raise UsageError("The reviewer has no name: enter one, it becomes part of the file name of the review.")
    return clean


def safe_reviewer_name(name: str) -> str:
    """Make a name part of a file name: letters of all scripts stay, what file systems refuse becomes "_".

    A long name is cut and gets a mark of its own, so that two long names stay two.

    Raises:
        UsageError: there is no name.
    """
    clean = clean_reviewer_name(name)
    safe = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in clean)
    safe = re.sub(r'[<>:"/\\|?*]', "_", safe)
    safe = re.sub(r"^\.+|[. ]+$", lambda dots: "_" * len(dots[0]), safe)
    if len(safe.encode()) > MAXIMUM_BYTES:
        mark = hashlib.sha256(clean.encode(errors="surrogatepass")).hexdigest()[:8]
        safe = f"{safe.encode()[: MAXIMUM_BYTES - 9].decode(errors='ignore')}-{mark}"
    return safe


def log_path(folder: Path, reviewer: str) -> Path:
    """Where a reviewer's log lies in a case folder.

    Raises:
        UsageError: there is no name, or another reviewer's file has the same name but for upper and lower case, which
            is one file on many systems.
    """
    path = folder / f"review.{safe_reviewer_name(reviewer)}.jsonl"
    for other in sorted(folder.glob("review.*.jsonl")) if folder.is_dir() else []:
        if other.name != path.name and _folded(other.name) == _folded(path.name):
            raise UsageError(
                f"{folder} holds {other.name} already, which differs from {path.name} in upper and lower case "
                "only: enter the reviewer's name the way it was entered first, or another name."
            )
    return path


def version_path(folder: Path, log_name: str) -> Path:
    """Where a reviewer's version of the segmentation lies: one each, so that two reviewers keep two versions."""
    reviewer = log_name.removeprefix("review.").removesuffix(".jsonl")
    return folder / f"segmentation_reviewed.{reviewer}.seg.nrrd"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
