"""Volume interval and predicted Dice of a structure, fitted from sums of its tempered probabilities.

The interval holds the true volume with a fitted probability (split conformal).

The predicted Dice says how good the segmentation probably is, from the soft Dice of its probabilities. All structures
share one slope, since a single structure has too few cases for its own, and keep their own mean. The slope is shrunk so
far to zero, which is the mean, as cases that were left out ask for; whether it is worth showing is judged on all
structures together. Cases that cross-validation models predicted tell about the slope around the means of those models,
and nothing about the mean of this one.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..metrics.bootstrap import Interval, paired_bootstrap
from ..metrics.patients import by_patient, numbered


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
    def joined(cls, parts: "Sequence[ProbabilitySums]") -> "ProbabilitySums":
        """Join the sums of boxes: background of all together, then the structures of each."""
        return cls(*(joined_classes([getattr(each, one.name) for each in parts]) for one in fields(cls)))

    @classmethod
    def zeros(cls, num_classes: int) -> "ProbabilitySums":
        """Make the sums of no voxels."""
        return cls(np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes))


def joined_classes(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join numbers a class of boxes: of the background their sum, then those of each box's structures."""
    return np.concatenate([np.sum([each[:1] for each in parts], 0), *(each[1:] for each in parts)])


def probability_sums(probabilities: np.ndarray, classes: np.ndarray) -> ProbabilitySums:
    """Sum probabilities (classes, *any), given the predicted class of each voxel."""
    flat, chosen = probabilities.reshape(probabilities.shape[0], -1).astype(np.float64, copy=False), np.ravel(classes)
    inside = [float(row[chosen == index].sum()) for index, row in enumerate(flat)]
    return ProbabilitySums(flat.sum(1), np.asarray(inside), np.asarray([(row * (1 - row)).sum() for row in flat]))


BY_CHANCE = 0.05


def held_too_rarely(held: float, patients: int, level: float) -> bool:
    """Return whether an interval held fewer true volumes than chance explains: a binomial tail below `BY_CHANCE`.

    The only rule for it, whoever asks: adopting a network, fitting again, cards, and what is shown beside a number.

    Args:
        held: patients whose volume it held; of one with several cases the share of them.
        patients: all of them: cases of one patient are alike, so each counts once.
        level: share of the volumes that it is to hold.
    """
    from scipy.special import bdtr  # loading it delays the first window

    return bool(bdtr(np.ceil(held - 1e-9), patients, level) < BY_CHANCE)


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
"""Keeps the scores finite where a structure is certain everywhere."""
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
        held, held_of: in so many of so many real cases it held the true volume, measured after it was fitted; None
            where nobody has measured.
        unseen: half width, in shares of the volume, that is added in quadrature for what the calibration cases cannot
            show, such as the rules by which others draw.
    """

    factor: float
    half_width: float
    level: float
    cases: int
    of: str = AMBIGUOUS
    least_mm3: float = 0.0
    held: int | None = None
    held_of: int | None = None
    unseen: float = 0.0

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
        half = math.hypot(self.half_width * unit, self.unseen * volume)
        return volume, max(0.0, volume - half), volume + half

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle; what is plain is left out."""
        plain = {"of": AMBIGUOUS, "least_mm3": 0.0, "held": None, "held_of": None, "unseen": 0.0}
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}


@dataclass(frozen=True)
class AsymmetryInterval:
    """How far the true asymmetry of two sides lies from that of their segmentations.

    Attributes:
        half_width: half the interval, in percentage points.
        level, cases, held, held_of: as of a `VolumeInterval`.
    """

    half_width: float
    level: float
    cases: int
    held: int | None = None
    held_of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def asymmetry(left: ArrayLike, right: ArrayLike) -> np.ndarray:
    """Return left minus right volume, any shape, in percent of their mean; NaN where both sides are empty."""
    total = np.add(left, right)
    return np.divide(200 * np.subtract(left, right), total, out=np.full(np.shape(total), np.nan), where=total > 0)


def fit_asymmetry(drawn: np.ndarray, true: np.ndarray, patients: Sequence[Hashable]) -> AsymmetryInterval | None:
    """Fit the interval of an asymmetry on calibration cases, by split conformal prediction; None for too few.

    Args:
        drawn, true: asymmetry of each case, (cases,), in percent; NaN where both sides are empty.
        patients: of each case.
    """
    known = np.flatnonzero(np.isfinite(drawn - true)).tolist()
    scores = np.abs(drawn - true)[known].tolist()
    half_width = conformal_quantile(scores, LEVEL, [patients[case] for case in known]) if known else None
    return None if half_width is None else AsymmetryInterval(half_width, LEVEL, len(scores))


def conformal_quantile(
    scores: Sequence[float], level: float, patients: Sequence[Hashable] | None = None
) -> float | None:
    """Return the conformal quantile of scores at a level.

    It is the smallest score that bounds that of a new patient's case with probability `level`. The scores of a patient
    count as one, because they are alike.

    Args:
        patients: of each score; None if every one stands alone.

    Returns:
        None for too few patients.

    Source: split conformal prediction, Vovk et al., Algorithmic Learning in a Random World (2005); for several cases a
    patient Lee, Barber and Willett, arXiv 2306.06342.
    """
    values = np.asarray(scores, float)
    numbers = numbered(range(values.size) if patients is None else list(patients))
    counts = np.bincount(numbers)
    order = np.argsort(values, kind="stable")
    bounding = np.cumsum(1 / counts[numbers][order]) >= (counts.size + 1) * level - 1e-9
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

    def known(self, patients: Sequence[str]) -> "tuple[Volumes, list[str]]":
        """Return the cases whose true volume is known, and the patient of each."""
        which = np.flatnonzero(np.isfinite(self.true))
        return self.chosen(which), [patients[case] for case in which.tolist()]


def fit_volume_interval(volumes: Volumes, patients: Sequence[Hashable] | None = None) -> VolumeInterval | None:
    """Fit one structure on calibration cases; None for too few cases, or a structure that none of them has.

    The interval of the ambiguous volume is compared with a plain percentage of the segmented one, each patient judged
    by the others; the narrower is kept where it holds as many true volumes, or as many as promised.

    Args:
        patients: of each case; None if every case stands alone.
    """
    names = range(volumes.true.size) if patients is None else patients
    ours, plain = (fit_one_interval(volumes, kind, names) for kind in (AMBIGUOUS, SEGMENTED))
    judged = [_judged_without(volumes, kind, names) for kind in (AMBIGUOUS, SEGMENTED)]
    if ours is None or plain is None or judged[0] is None or judged[1] is None:
        return ours
    (coverage, width), (plain_coverage, plain_width) = judged[0], judged[1]
    return plain if plain_coverage >= min(coverage, LEVEL) and plain_width < width else ours


def fit_one_interval(volumes: Volumes, of: str, patients: Sequence[Hashable] | None = None) -> VolumeInterval | None:
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
    names = range(base.size) if patients is None else patients
    numbers = numbered(names)
    others_base, others_true = (each.sum() - np.bincount(numbers, each)[numbers] for each in (base, true))
    if true.sum() <= 0 or (others_base <= 0).any():
        return None
    factors = others_true / others_base
    half_width = conformal_quantile((np.abs(true - factors * base) / unit).tolist(), LEVEL, names)
    if half_width is None:
        return None
    return VolumeInterval(float(true.sum() / base.sum()), half_width, LEVEL, int(true.size), of, least)


def _judged_without(volumes: Volumes, of: str, patients: Sequence[Hashable]) -> tuple[float, float] | None:
    """Coverage and mean width of intervals fitted on other patients; None where these are too few."""
    held, widths = np.empty(len(patients), bool), np.empty(len(patients))
    for own in by_patient(patients).values():
        others = np.setdiff1d(np.arange(len(patients)), own)
        fitted = fit_one_interval(volumes.chosen(others), of, [patients[case] for case in others])
        if fitted is None:
            return None
        for case in own:
            sizes = (volumes.expected[case], volumes.ambiguous[case], volumes.segmented[case])
            _, low, high = fitted(*map(float, sizes))
            held[case], widths[case] = low <= volumes.true[case] <= high, high - low
    return float(held.mean()), float(widths.mean())


MINIMUM_CASES = 10
LEAST_VARIANCE = 1e-6
"""Of the Dice of a structure, so that one which is always the same does not decide everything."""


@dataclass(frozen=True)
class PredictedDice:
    """A straight line from soft Dice to Dice.

    Attributes:
        intercept, slope: of the line, shrunk.
        mean: Dice over the calibration cases, the constant that a prediction has to beat.
        lowest: prediction among the calibration cases.
        error, error_of_mean: mean absolute error on calibration cases, each predicted without its patient; those of
            other networks count by weight.
        difference_low, difference_high: 95 % interval, over patients, of the difference of the two: of the structure
            alone or, if that tells less of a gain, of all structures that were judged together. Where the lines are
            no better on the cases of the network itself, the latter is of these alone.
        cases: number of calibration cases that have the structure, predicted by the network itself.
        cross_validated_cases: the same of other networks.
        shrinkage: how much of the slope was kept, 0 (the mean alone) to 1.
        structures: so many were judged together.
    """

    intercept: float
    slope: float
    mean: float
    lowest: float
    error: float
    error_of_mean: float
    difference_low: float
    difference_high: float
    cases: int
    shrinkage: float = 1.0
    structures: int = 1
    cross_validated_cases: int = 0

    @property
    def informative(self) -> bool:
        """Whether it beats the constant mean beyond chance; otherwise it is not shown."""
        return self.difference_high < 0

    def __call__(self, confidence: float) -> float:
        """Predicted Dice, 0 to 1."""
        return float(np.clip(self.intercept + self.slope * confidence, 0, 1))

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle; what is plain is left out."""
        plain = {"shrinkage": 1.0, "structures": 1, "cross_validated_cases": 0}
        found = {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}
        return {**found, "informative": self.informative}


@dataclass(frozen=True)
class DiceFit:
    """Lines by structure, and what those without a case's patient were off by.

    Attributes:
        lines: of the structures that enough cases have.
        errors, errors_of_mean: (cases,) by structure, NaN where a case lacks it.
        gain: mean difference of both, over all structures; see `PredictedDice`.
        predictions: left out alike.
    """

    lines: Mapping[int, PredictedDice]
    errors: Mapping[int, np.ndarray]
    errors_of_mean: Mapping[int, np.ndarray]
    gain: Interval
    predictions: Mapping[int, np.ndarray]


def fit_predicted_dice(
    structures: Mapping[int, tuple[Sequence[float], Sequence[float]]],
    patients: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    networks: Sequence[Hashable] | None = None,
) -> DiceFit:
    """Fit all structures that at least `MINIMUM_CASES` cases of the network itself have.

    Args:
        structures: soft Dice and true Dice of the same cases in the same order; NaN where a structure is neither there
            nor predicted.
        patients: of each case; None if every case stands alone.
        weights: of each case, such as less for those that another network predicted; None for 1.
        networks: what predicted each case, None for the network itself; None if all are its own.
    """
    count = len(next(iter(structures.values()))[1]) if structures else 0
    kinds: Sequence[Hashable] = [None] * count if networks is None else networks
    own = np.asarray([kind is None for kind in kinds], bool)
    names = list(zip(kinds, range(count) if patients is None else patients, strict=True))
    weight = np.ones(count) if weights is None else np.asarray(weights, float)
    pairs = {key: np.asarray(pair, float) for key, pair in structures.items()}
    pairs = {key: each for key, each in pairs.items() if np.isfinite(each[:, own]).all(0).sum() >= MINIMUM_CASES}
    cells, which = _of_each_network(pairs, kinds), numbered(kinds)
    left = _left_out(cells, numbered(names), weight)
    found = {key: _LeftOut.of_each([left[cell] for cell in cells if cell[0] == key], which) for key in pairs}
    mean_errors = {key: np.abs(part.mean - pairs[key][1]) for key, part in found.items()}
    errors = {key: np.abs(part.prediction - pairs[key][1]) for key, part in found.items()}
    gain = _gain(errors, mean_errors, names, weight)
    if not own.all():
        alone = _gain(errors, mean_errors, names, own.astype(float))
        # Simulated: what holds of other networks only was called informative in 96 of 100 draws.
        gain = gain if alone.mean < 0 else alone
    slope, centres = _common_line(cells, weight)
    kept = _kept_part(cells, left, weight)
    lines = {}
    for key, (x, y) in pairs.items():
        centre, mean = centres[key, None]
        known, intercept = np.isfinite(x * y), mean - kept * slope * centre
        alone = _gain({key: errors[key]}, {key: mean_errors[key]}, names, weight)
        shown = max(gain, alone, key=lambda each: each.high)
        lines[key] = PredictedDice(
            intercept=intercept,
            slope=kept * slope,
            mean=mean,
            lowest=float(np.clip(intercept + kept * slope * x[known & own], 0, 1).min()),
            error=_mean_of(errors[key], weight),
            error_of_mean=_mean_of(mean_errors[key], weight),
            difference_low=shown.low,
            difference_high=shown.high,
            cases=int((known & own).sum()),
            shrinkage=kept,
            structures=len(pairs),
            cross_validated_cases=int((known & ~own).sum()),
        )
    return DiceFit(lines, errors, mean_errors, gain, {key: part.prediction for key, part in found.items()})


Cell = tuple[int, Hashable]
"""A structure in the cases of a network, which has its own means."""


def _of_each_network(pairs: Mapping[int, np.ndarray], kinds: Sequence[Hashable]) -> dict[Cell, np.ndarray]:
    """Take the pairs apart, NaN where another network predicted the case."""
    numbers = numbered(kinds)
    return {
        (key, kind): np.where(numbers == number, pair, np.nan)
        for key, pair in pairs.items()
        for number, kind in enumerate(dict.fromkeys(kinds))
    }


def _mean_of(values: np.ndarray, weight: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else float("nan")


@dataclass(frozen=True)
class _LeftOut:
    """What the other patients say of each case of a structure: mean, step of the whole slope, shrunk prediction."""

    mean: np.ndarray
    step: np.ndarray
    prediction: np.ndarray

    @classmethod
    def of_each(cls, parts: "Sequence[_LeftOut]", which: np.ndarray) -> "_LeftOut":
        """Take each case from the part with its number."""
        cases = np.arange(which.size)
        mean, step, prediction = (
            np.stack([getattr(part, name) for part in parts])[which, cases] for name in ("mean", "step", "prediction")
        )
        return cls(mean, step, prediction)


def _left_out(pairs: Mapping[Cell, np.ndarray], patients: np.ndarray, weight: np.ndarray) -> dict[Cell, _LeftOut]:
    mean, step = ({key: np.full(len(weight), np.nan) for key in pairs} for _ in range(2))
    for patient in np.unique(patients):
        own = patients == patient
        slope, centres = _common_line(pairs, np.where(own, 0.0, weight))
        for key, (x, _) in pairs.items():
            centre, average = centres[key]
            mean[key][own], step[key][own] = average, slope * (x[own] - centre)
    plain = {key: _LeftOut(mean[key], step[key], step[key]) for key in pairs}
    shrunk = {key: np.full(len(weight), np.nan) for key in pairs}
    for patient in np.unique(patients):
        own = patients == patient
        kept = _kept_part(pairs, plain, np.where(own, 0.0, weight))
        for key in pairs:
            shrunk[key][own] = np.clip(mean[key] + kept * step[key], 0, 1)[own]
    return {key: _LeftOut(mean[key], step[key], shrunk[key]) for key in pairs}


def _common_line(pairs: Mapping[Cell, np.ndarray], weight: np.ndarray) -> tuple[float, dict[Cell, tuple[float, float]]]:
    """Return the slope, and mean soft Dice and mean Dice of each structure in the cases of each network.

    A falling line would punish confidence, so it is flat.
    """
    centres: dict[Cell, tuple[float, float]] = {}
    for cell, (x, y) in pairs.items():
        known = np.isfinite(x * y) & (weight > 0)
        w = weight[known]
        means = [float(np.average(each[known], weights=w)) if known.any() else float("nan") for each in (x, y)]
        centres[cell] = (means[0], means[1])
    apart = {cell: (x - centres[cell][0], y - centres[cell][1]) for cell, (x, y) in pairs.items()}
    return max(0.0, _slope(apart, weight)), centres


def _slope(pairs: Mapping[Cell, tuple[np.ndarray, np.ndarray]], weight: np.ndarray) -> float:
    """Fit the slope of a line through 0; structures count by the inverse variance of their second values."""
    sums: dict[int, np.ndarray] = {}
    for (key, _), (x, y) in pairs.items():
        known = np.isfinite(x * y) & (weight > 0)
        if known.any():
            w, dx, dy = weight[known], x[known], y[known]
            found = np.asarray([(w * dx * dy).sum(), (w * dx**2).sum(), (w * dy**2).sum(), w.sum()])
            sums[key] = sums.get(key, np.zeros(4)) + found
    parts = [found[:2] / max(float(found[2] / found[3]), LEAST_VARIANCE) for found in sums.values()]
    above, below = np.sum(parts, 0).tolist() if parts else (0.0, 0.0)
    return above / below if below > 0 else 0.0


def _kept_part(pairs: Mapping[Cell, np.ndarray], left: Mapping[Cell, _LeftOut], weight: np.ndarray) -> float:
    """How much of the slope predicts the cases that were left out best, 0 to 1."""
    apart = {cell: (left[cell].step, y - left[cell].mean) for cell, (_, y) in pairs.items()}
    return float(np.clip(_slope(apart, weight), 0, 1))


def _gain(
    errors: Mapping[int, np.ndarray],
    constant: Mapping[int, np.ndarray],
    patients: Sequence[Hashable],
    weight: np.ndarray,
) -> Interval:
    first, second = (np.concatenate([each[key] for key in errors] or [np.empty(0)]) for each in (errors, constant))
    groups, weights = list(patients) * len(errors), weight.tolist() * len(errors)
    return paired_bootstrap(first.tolist(), second.tolist(), groups=groups, weights=weights)
