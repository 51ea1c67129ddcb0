"""Recognise cases that are parts of one scan, such as its left and right side, though nothing says so.

Scaling a scan to floats leaves its grey values on a lattice whose step no other scan has. In the hippocampi of the
Medical Segmentation Decathlon the two sides of a scan are cases 2k-1 and 2k, and 54 pairs of neighbouring numbers share
such a step; no two other cases do. Taken for patients, they put one scan into two roles.
"""

import re
from collections.abc import Mapping

import numpy as np

from SegWithUCore.util.errors import InputError

SAMPLE = 200_000
"""Voxels of an image that its step is found from."""
FEWEST_LEVELS = 16
OFF_LATTICE = 0.1
"""Steps by which a grey value may miss the lattice by rounding."""
EQUAL_STEPS = 1e-5
"""Relative difference; 8e-8 at most in the pairs of the Decathlon."""
FEWEST_PAIRS = 2


def grey_value_step(values: np.ndarray) -> float | None:
    """Return the step of the lattice that grey values lie on; None for few values, or values on no lattice."""
    flat = values.reshape(-1)
    levels = np.unique(flat[:: max(1, flat.size // SAMPLE)].astype(np.float64))
    if len(levels) < FEWEST_LEVELS or not np.isfinite(levels).all():
        return None
    above = levels - levels[0]
    step = float(np.diff(levels).min())
    for count in (8, 64, 512, 4096, len(levels)):  # over longer and longer spans the step gets more exact
        span = float(above[min(count, len(levels)) - 1])
        step = span / round(span / step)
    steps = above / step
    return step if np.abs(steps - np.rint(steps)).max() < OFF_LATTICE else None


def pairs_of_one_scan(steps: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """List pairs of cases with neighbouring numbers in their names that share a step which no other case has.

    Args:
        steps: `grey_value_step` by the name of the case.
    """
    groups: list[list[tuple[float, str]]] = []
    for step, name in sorted((step, name) for name, step in steps.items() if step is not None):
        if groups and step - groups[-1][-1][0] < EQUAL_STEPS * step:
            groups[-1].append((step, name))
        else:
            groups.append([(step, name)])
    pairs = [(group[0][1], group[1][1]) for group in groups if len(group) == 2]
    return sorted((one, other) if one < other else (other, one) for one, other in pairs if _neighbours(one, other))


def _neighbours(one: str, other: str) -> bool:
    """Whether names are equal but for one number, which differs by one."""
    parts, others = (re.split(r"([0-9]+)", name) for name in (one, other))  # numbers at odd places
    if len(parts) != len(others) or parts[::2] != others[::2]:
        return False
    return sum(abs(int(a) - int(b)) for a, b in zip(parts[1::2], others[1::2], strict=True)) == 1


def check_patients(steps: Mapping[str, float | None], patients: Mapping[str, str]) -> None:
    """Refuse cases of different patients that look like parts of one scan.

    Args:
        steps: as for `pairs_of_one_scan`.
        patients: of each case.

    Raises:
        InputError: at least `FEWEST_PAIRS` pairs do.
    """
    pairs = [pair for pair in pairs_of_one_scan(steps) if patients[pair[0]] != patients[pair[1]]]
    if len(pairs) < FEWEST_PAIRS:
        return
    named = ", ".join(f"{one} and {other}" for one, other in pairs[:3])
    raise InputError(
        f"{len(pairs)} pairs of cases look like parts of one scan, such as its left and right side: {named}. Their "
        "numbers are neighbours, and they share a step of grey values that no other case has. Give a split table with "
        "a column patient; if they are different patients, pass --different-patients.",
        code="cases-of-one-scan",
    )
