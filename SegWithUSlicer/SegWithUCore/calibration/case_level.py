"""Case-level calibration: soft Dice and volume interval of a structure, from sums of its probabilities.

The interval holds the true volume with a fitted probability (split conformal).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ProbabilitySums:
    """Sums over voxels of the tempered probabilities, one entry a class.

    Attributes:
        expected: of p, over all voxels.
        inside: of p, over the voxels predicted as the class.
        ambiguous: of p (1 - p), over all voxels.
    """

    expected: np.ndarray
    inside: np.ndarray
    ambiguous: np.ndarray

    def __add__(self, other: "ProbabilitySums") -> "ProbabilitySums":
        return ProbabilitySums(
            self.expected + other.expected, self.inside + other.inside, self.ambiguous + other.ambiguous
        )

    @classmethod
    def zeros(cls, num_classes: int) -> "ProbabilitySums":
        """Make the sums of no voxels."""
        return cls(np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes))


def probability_sums(probabilities: np.ndarray, classes: np.ndarray) -> ProbabilitySums:
    """Sum probabilities (classes, *any), given the predicted class of each voxel."""
    flat, chosen = probabilities.reshape(probabilities.shape[0], -1).astype(np.float64), np.ravel(classes)
    inside = [float(row[chosen == index].sum()) for index, row in enumerate(flat)]
    return ProbabilitySums(flat.sum(1), np.asarray(inside), (flat * (1 - flat)).sum(1))


def soft_dice(expected: float, inside: float, predicted: float) -> float:
    """Soft Dice confidence: the Dice that calibrated probabilities expect; NaN if nothing is expected.

    Args:
        expected: sum of p over all voxels.
        inside: sum of p over the predicted voxels.
        predicted: number of predicted voxels.

    Source: Borges et al., arXiv 2402.10665.
    """
    total = expected + predicted
    return 2 * inside / total if total > 0 else float("nan")


LEVEL = 0.9
SMALLEST_SCALE_MM3 = 1e-6
"""Keeps the scores finite where a structure is nowhere in doubt."""
AMBIGUOUS, SEGMENTED = "ambiguous", "segmented"
"""What an interval is a multiple of."""


@dataclass(frozen=True)
class VolumeInterval:
    """From sums of tempered probabilities, or from the segmented volume, to a volume with its interval.

    Attributes:
        factor: true volume over sum of probabilities, or over segmented volume, on calibration cases.
        half_width: half the interval in units of the ambiguous volume, the sum of p (1 - p), or of the segmented one.
        level: share of new cases whose true volume lies in the interval, at least.
        cases: number of calibration cases.
        of: `AMBIGUOUS`, or `SEGMENTED` where a plain percentage is narrower.
        least_mm3: smallest segmented volume of a calibration case, which the width of a plain percentage is for any
            smaller one.
        compared: coverage and mean width of either kind on cases that were left out; empty if not compared.
    """

    factor: float
    half_width: float
    level: float
    cases: int
    of: str = AMBIGUOUS
    least_mm3: float = 0.0
    compared: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __call__(self, expected_mm3: float, ambiguous_mm3: float, segmented_mm3: float) -> tuple[float, float, float]:
        """Return the expected volume, and the lower and upper end of its interval, in mm3.

        Args:
            expected_mm3: sum of the structure's tempered probability over all voxels, times voxel volume.
            ambiguous_mm3: sum of p (1 - p), times voxel volume.
            segmented_mm3: number of predicted voxels, times voxel volume.
        """
        plain = self.of == SEGMENTED
        volume = self.factor * (segmented_mm3 if plain else expected_mm3)
        unit = max(segmented_mm3, self.least_mm3) if plain else max(ambiguous_mm3, SMALLEST_SCALE_MM3)
        half = self.half_width * unit
        return volume, max(0.0, volume - half), volume + half

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle; what is plain is left out."""
        plain = {"of": AMBIGUOUS, "least_mm3": 0.0, "compared": {}}
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "VolumeInterval":
        """From the calibration block of a bundle."""
        factor, half, level = (float(data[name]) for name in ("factor", "half_width", "level"))
        least, compared = float(data.get("least_mm3", 0.0)), data.get("compared") or {}
        return cls(factor, half, level, int(data["cases"]), data.get("of", AMBIGUOUS), least, compared)


def conformal_quantile(
    scores: Sequence[float], level: float = LEVEL, patients: Sequence[str] | np.ndarray | None = None
) -> float | None:
    """Return the smallest score that bounds that of a new patient's case with probability `level`.

    The scores of a patient count as one altogether, for they are alike.

    Args:
        patients: of each score; None if every one stands alone.

    Returns:
        None for too few patients.

    Source: split conformal prediction, Vovk et al., Algorithmic Learning in a Random World (2005); for several cases a
    patient Lee, Barber and Willett, arXiv 2306.06342.
    """
    values = np.asarray(scores, float)
    names = np.arange(values.size) if patients is None else np.asarray(patients)
    _, indices, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    bounding = np.cumsum(1 / counts[indices][order]) >= (counts.size + 1) * level - 1e-9
    return float(values[order][int(bounding.argmax())]) if bounding.any() else None


@dataclass(frozen=True)
class Volumes:
    """Volumes of one structure, (cases,) each, in mm3; see `VolumeInterval`."""

    expected: np.ndarray
    ambiguous: np.ndarray
    segmented: np.ndarray
    true: np.ndarray

    def chosen(self, which: np.ndarray) -> "Volumes":
        """Return some of the cases."""
        return Volumes(*(getattr(self, name)[which] for name in ("expected", "ambiguous", "segmented", "true")))


def fit_volume_interval(volumes: Volumes, patients: Sequence[str] | None = None) -> VolumeInterval | None:
    """Fit one structure on calibration cases; None for too few cases, or a structure that none of them has.

    The interval of the ambiguous volume is compared with a plain percentage of the segmented one, each patient judged
    by the others; the narrower is kept where it holds as many true volumes, or as many as promised.

    Args:
        patients: of each case; None if every case stands alone.
    """
    names = np.arange(volumes.true.size) if patients is None else np.asarray(patients)
    found = {kind: fit_one_interval(volumes, kind, names) for kind in (AMBIGUOUS, SEGMENTED)}
    ours, plain = found[AMBIGUOUS], found[SEGMENTED]
    if ours is None or plain is None:
        return ours
    judged = {kind: _left_out(volumes, kind, names) for kind in found}
    compared = {kind: each for kind, each in judged.items() if each is not None}
    if len(compared) < len(found):
        return ours
    enough = compared[SEGMENTED]["coverage"] >= min(compared[AMBIGUOUS]["coverage"], LEVEL)
    narrower = compared[SEGMENTED]["width_mm3"] < compared[AMBIGUOUS]["width_mm3"]
    return replace(plain if enough and narrower else ours, compared=compared)


def fit_one_interval(
    volumes: Volumes, of: str, patients: Sequence[str] | np.ndarray | None = None
) -> VolumeInterval | None:
    """Fit an interval of one kind.

    The factor makes up for volumes that are too large or too small. Each case is scored with the factor of the other
    patients, so that having fitted it does not make the interval too narrow.
    """
    base, true, least = volumes.expected, volumes.true, 0.0
    unit = np.maximum(volumes.ambiguous, SMALLEST_SCALE_MM3)
    if of == SEGMENTED:
        base = volumes.segmented
        least = float(base[base > 0].min(initial=np.inf))
        unit = np.maximum(base, least)
    names = np.arange(base.size) if patients is None else np.asarray(patients)
    others_base = _sum_of_others(base, names)
    if true.sum() <= 0 or (others_base <= 0).any():
        return None
    factors = _sum_of_others(true, names) / others_base
    half_width = conformal_quantile((np.abs(true - factors * base) / unit).tolist(), LEVEL, names)
    if half_width is None:
        return None
    return VolumeInterval(float(true.sum() / base.sum()), half_width, LEVEL, int(true.size), of, least)


def _sum_of_others(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Sum over the cases of all other patients, for each case."""
    _, indices = np.unique(patients, return_inverse=True)
    return values.sum() - np.bincount(indices, values)[indices]


def _left_out(volumes: Volumes, of: str, patients: np.ndarray) -> dict[str, float] | None:
    """Coverage and mean width of intervals fitted on other patients; None where these are too few."""
    held, widths = np.empty(patients.size, bool), np.empty(patients.size)
    for patient in np.unique(patients):
        own = patients == patient
        fitted = fit_one_interval(volumes.chosen(~own), of, patients[~own])
        if fitted is None:
            return None
        for case in np.flatnonzero(own).tolist():
            sizes = (volumes.expected[case], volumes.ambiguous[case], volumes.segmented[case])
            _, low, high = fitted(*map(float, sizes))
            held[case], widths[case] = low <= volumes.true[case] <= high, high - low
    return {"coverage": float(held.mean()), "width_mm3": float(widths.mean())}
