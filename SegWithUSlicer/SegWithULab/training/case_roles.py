"""Who has seen which case: the same voxels are found under any name, and no case is judged by what has seen it."""

from collections.abc import Mapping, Sequence

from SegWithUCore.models.training_record import ROLE_WORDS
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.progress import Progress, silent

from .case_reading import case_hash, read_images
from .dataset import Case, PreparedCase

ALLOW = "--allow-seen-cases"
_ACTS = {
    "train": "train with",
    "select": "choose the epoch on",
    "calibration": "calibrate on",
    "test": "judge the model on",
}
Known = Mapping[str, Mapping[str, str]]
"""Cases that were seen: by role, voxel hash -> name ("" where the name is not known)."""


def voxel_hashes(cases: Sequence[Case], progress: Progress = silent) -> list[str]:
    """Hash the voxels of each case, in order.

    Raises:
        InputError: as `read_images`.
    """
    found = []
    for number, case in enumerate(cases):
        progress("comparing with the cases of training", number / len(cases), case.name)
        found.append(case_hash(read_images(case)))
    return found


def hashes_of(cases: Sequence[Case], progress: Progress = silent) -> dict[str, str]:
    """Hash the voxels of each case; returns hash -> name, the last name of those with the same voxels."""
    return dict(zip(voxel_hashes(cases, progress), (case.name for case in cases), strict=True))


def prepared_hashes(cases: Sequence[PreparedCase]) -> dict[str, str]:
    """Return hash -> name of prepared cases."""
    return {case.voxels_sha256: case.name for case in cases}


def check_unseen(role: str, given: Mapping[str, str], known: Known, allowed: bool) -> list[str]:
    """Refuse cases of a role that were seen in another one.

    Args:
        role: what the cases are to be used for.
        given: hash -> name.
        known: cases that were seen; those of the same role do not count, nor of test.
        allowed: whether the user wants them all the same.

    Returns:
        A sentence for the model card for each role in which some were seen.

    Raises:
        UsageError: some were seen and that was not allowed; names the first and under which name it was seen.
    """
    remarks = []
    for other, seen in known.items():
        both = [sha256 for sha256 in given if sha256 in seen]
        if other in (role, "test") or not both:
            continue
        if not allowed:
            raise UsageError(_refusal(role, given, other, seen, both))
        harm = "figures look better than on new cases"
        if role == "calibration":
            harm = "an error probability fitted on them may be too low on new cases"
        remarks.append(f"{len(both)} of {len(given)} {role} cases were {other} cases ({ALLOW}), so {harm}.")
    return remarks


def _refusal(role: str, given: Mapping[str, str], other: str, seen: Mapping[str, str], both: Sequence[str]) -> str:
    name, before = given[both[0]], seen[both[0]]
    alias = f" under the name {before}" if before and before != name else ""
    return (
        f"{len(both)} of {len(given)} cases to {_ACTS[role]} were seen before: the image of {name} is that of "
        f"{ROLE_WORDS[other]}{alias}; leave them out, or pass {ALLOW}, which the model card will say."
    )


def seen_of(roles: Mapping[str, Sequence[str]] | None) -> dict[str, dict[str, str]]:
    """Return the cases of a bundle's record, whose names nobody knows."""
    return {role: dict.fromkeys(hashes, "") for role, hashes in (roles or {}).items()}
