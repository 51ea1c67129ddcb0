"""Who is trained with and who is kept apart: roles for the cases of a data set that has none, by patient."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from SegWithUCore.util.errors import InputError, UsageError

SHARES = {"train": 0.6, "select": 0.1, "calibration": 0.15, "test": 0.15}
"""Of the patients. Calibration and test get more than select: intervals and flags are fitted and judged on cases."""
FEWEST_PATIENTS = 10
"""So that select, calibration and test have one each at least."""
_PARTS = re.compile(r"[_\-. ]")


def patients_by_name(names: Sequence[str], pattern: str | None = None) -> dict[str, str]:
    """Tell the patient of each case from its name.

    Without a pattern, names that agree up to their last separator belong together ("patient002_frame01" and
    "patient002_frame12"), if that gives groups of at most a tenth of all cases: "heart_001" and "heart_002" stay apart.
    Putting two patients together costs little; taking one patient's cases apart would make every figure too good.

    Args:
        names: of the cases.
        pattern: regular expression whose first group is the patient.

    Raises:
        UsageError: the pattern is none, has no group, or does not match a name.
    """
    if pattern is not None:
        return {name: _matched(pattern, name) for name in names}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        separators = list(_PARTS.finditer(name))
        groups[name[: separators[-1].start()] if separators else name].append(name)
    if max(map(len, groups.values())) > max(4, len(names) // 10):
        return {name: name for name in names}
    return {name: group for group, members in groups.items() for name in members}


def _matched(pattern: str, name: str) -> str:
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise UsageError(f"--patient-pattern {pattern!r} is no regular expression: {error}.") from None
    if found is None or not found.groups() or not found.group(1):
        raise UsageError(
            f"--patient-pattern {pattern!r} does not find a patient in the name {name}: give one with a group, such "
            "as '(patient[0-9]+)'."
        )
    return found.group(1)


def roles(patients: Mapping[str, str]) -> dict[str, str]:
    """Draw a role for each case; all cases of a patient get the same.

    Args:
        patients: of each case.

    Raises:
        InputError: fewer than `FEWEST_PATIENTS` patients.
    """
    known = sorted(set(patients.values()))
    if len(known) < FEWEST_PATIENTS:
        raise InputError(
            f"There are {len(known)} patients, and {FEWEST_PATIENTS} are the fewest to train, choose, calibrate and "
            "test on: add cases, or write a split table by hand (columns case, role, patient)."
        )
    order = [known[place] for place in np.random.default_rng(0).permutation(len(known))]
    drawn: dict[str, str] = {}
    for role, share in SHARES.items():
        if role != "train":
            for _ in range(max(1, round(share * len(known)))):
                drawn[order.pop()] = role
    return {case: drawn.get(patient, "train") for case, patient in patients.items()}
