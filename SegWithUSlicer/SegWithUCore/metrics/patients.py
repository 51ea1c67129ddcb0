"""Which cases belong to one patient: the only place that groups cases.

Cases of one patient are alike, so they share a fold, are drawn together, and count as one wherever patients are
counted. Who a case's patient is comes from its table (column `patient`) or from a pattern, never from a guess in here.
"""

from collections.abc import Hashable, Sequence

import numpy as np


def by_patient(patients: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Return the indices of each patient's cases, patients in order of appearance.

    Example:
        >>> by_patient(["a", "b", "a"])
        {'a': [0, 2], 'b': [1]}
    """
    found: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patients):
        found.setdefault(patient, []).append(index)
    return found


def numbered(patients: Sequence[Hashable]) -> np.ndarray:
    """Return the number of each case's patient, from 0 in order of appearance."""
    numbers = np.empty(len(patients), np.int64)
    for number, cases in enumerate(by_patient(patients).values()):
        numbers[cases] = number
    return numbers


def patient_folds(patients: Sequence[str], count: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each case; cases of one patient share it, and folds differ by one patient at most."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[place]: number % count for number, place in enumerate(order)}
    return np.asarray([fold[patient] for patient in patients])
