"""Structure by structure: does each label of a mask lie where the model draws its structure?

Sums over many structures hide one that is wrong: two exchanged hippocampi are one in a hundred voxels of a brain.
"""

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from ..metrics.overlap import structure_dice
from ..models.input_spec import Label, without_side
from ..models.quality import EMPTY_KIND, MISPLACED_KIND
from .deviation import JUDGED_KIND, WARNING, Deviation
from .given_mask import listed

POOR_AGREEMENT = 0.6
"""Dice of mask and model below which the mask may be of another patient or place: so have 9 of 15 masks of other
patients on crops around the same structure (Testing/Benchmarks/results/judge.json)."""
ELSEWHERE_DICE = 0.4
"""Dice below which a label is not where the model draws its structure, and from which on it is where another one is.
Manual masks of another protocol, the five brains for decisions: the lowest of 150 structures has 0.55 with its own (the
next 0.64), and the highest has 0.24 with another (two of these brains)."""
LEAST_VOXELS = 20
"""Fewer drawn voxels, as at the edge of a region of interest, say nothing of a place."""
_FINDINGS = {
    "sides": (MISPLACED_KIND, "The sides of {} are exchanged ({}): exchange its labels, or check how it was made."),
    "names": (MISPLACED_KIND, "The names of structures of {} are exchanged ({}): exchange its labels."),
    "empty": (EMPTY_KIND, "{} has no voxel of structures that the model draws: {}."),
    "elsewhere": (MISPLACED_KIND, "{} has structures that are not where the model draws them: {}."),
    "poor": (JUDGED_KIND, "{} and the model hardly agree on {}: look there, and check that it is of this patient."),
}
"""What may be wrong with structures, the most important first: its kind, and a sentence on the mask and structures."""


def structure_findings(
    name: str, labels: Sequence[Label], joint: np.ndarray, voxels: Sequence[int], rare: Collection[int] = ()
) -> list[Deviation]:
    """Warn of exchanged sides and names, and of structures that are empty, elsewhere, or hardly agree with the model.

    Args:
        name: of the mask.
        labels: of the mask without background.
        joint: as in `structure_dice`.
        voxels: of each label, in the whole mask.
        rare: indices of labels of structures that cases often lack, such as tumours.
    """
    dice, drawn, names = structure_dice(joint), joint.sum(1)[1:], [label.name for label in labels]
    better = (dice > np.diag(dice)) & (dice >= ELSEWHERE_DICE)
    # Each lies where the model draws the other.
    pairs = [(a, b) for a, b in combinations(range(len(dice)), 2) if better[a, b] and better[b, a]]
    found = {key: dict[str, int | None]() for key in _FINDINGS}
    for one, other in pairs:
        if (both := without_side(names[one])) == without_side(names[other]):
            found["sides"][both] = None
        else:
            found["names"][f"{names[one]} and {names[other]}"] = None
    for index in sorted({*range(len(labels))} - {each for pair in pairs for each in pair}):
        own, best = dice[index, index], int(dice[:, index].argmax())
        if own >= POOR_AGREEMENT or max(drawn[index], joint[:, index + 1].sum()) < LEAST_VOXELS:
            continue
        is_sure = index not in rare and drawn[index] >= LEAST_VOXELS and own < ELSEWHERE_DICE
        there = f"where the model draws {names[best]}, " if is_sure and dice[best, index] >= ELSEWHERE_DICE else ""
        key = "poor" if not is_sure else "elsewhere" if voxels[index] else "empty"
        found[key][names[index] + f" ({there}Dice {own:.2f})" * bool(voxels[index])] = labels[index].value
    values = {key: next(iter(members.values())) if len(members) == 1 else None for key, members in found.items()}
    return [
        Deviation(WARNING, text.format(name, listed(found[key])), kind, values[key])
        for key, (kind, text) in _FINDINGS.items()
        if found[key]
    ]
