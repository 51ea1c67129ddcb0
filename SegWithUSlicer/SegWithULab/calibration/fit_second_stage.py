"""Fit the second-stage error classifier, and take it only where cross-validation by patient shows that it helps.

Its small networks are trained with numpy alone: a bundle whose engine does without torch is calibrated without torch.

Fit table and second stage anew on added cases of one source, and take them only where they find more errors there.

What is wrong with the segmentations of another cohort is mostly systematic: there the errors of its own cases teach
more than all that the model was calibrated on.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_increasing
from SegWithUCore.calibration.local_features import neighbour_axes
from SegWithUCore.calibration.second_stage import FLOOR, Pairs, SecondStage, find_uncertain_voxels
from SegWithUCore.calibration.structure_lines import StructureLines
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.error_detection import average_precision, region_groups
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.models.second_stage_file import CHECK

from .blocks import FOLD_WEIGHT
from .cases import CalibrationCase, PredictedCases, fit_table

LEAST_PATIENTS = 10
"""Below this number nothing is cross-validated, and the second stage is left out."""
LOOKS_ABOVE = 0.003
"""Error probability of the table above which it judges: 9 % of the voxels of hippocampus crops
(measured with hippocampus 1.4.0)."""
FOLDS = 4
SEED = 0
"""Of the networks."""
LEAST_ERRORS = 200
"""Wrong voxels of a pair of classes from which on the networks tell it apart."""
MOST_PAIRS = 32
"""Of a whole brain with 31 classes several hundred pairs have so many, and each is a column for every voxel."""
LEAST_SPREAD = 1e-3
"""Added to the standard deviation of a feature, so that one which is always the same does not blow up."""
MOST_VOXELS, MOST_WITH_FOLDS = 120_000, 360_000
"""Voxels that the networks are trained on, without and with cases of cross-validation models; of more, each case gives
a random part."""


class Settings(NamedTuple):
    """What all folds share; as in `SecondStage`, and of how many voxels of the network's own cases."""

    pairs: Pairs
    axes: tuple[bool, ...]
    sees_mask: bool = False
    most: int = MOST_VOXELS


@dataclass(frozen=True)
class FittedSecondStage:
    """What was fitted, and its cross-validation.

    Attributes:
        answers: of each case, as fitted on other patients.
        check: block of a calibration: `cases` measured; AUPRC of the error probability `table` alone and with
            `second_stage`, mean over cases; their `difference` with its 95 % bootstrap interval; `mask`, for features
            of the segmentation's shape, and `out_of_fold`, where there are cases of cross-validation models: their
            number, AUPRC `without` them, the `difference` that they make, and whether they are `taken`.
    """

    stage: SecondStage
    check: dict[str, Any]
    answers: "Sequence[HeldOutAnswer]" = ()

    @property
    def helps(self) -> bool:
        """Whether it ranks errors better, beyond chance."""
        return bool(self.check["difference"]["low"] > 0)


def fit_second_stage(
    cases: Sequence[CalibrationCase],
    table: ErrorProbability,
    other: PredictedCases | None = None,
    most: int = MOST_VOXELS,
    least: int = LEAST_PATIENTS,
) -> FittedSecondStage | None:
    """Fit the second stage on all cases, calibrate it on values that it has not seen, and measure whether it helps.

    Args:
        table: fitted on the same cases.
        other: cases of cross-validation models to fit on, too, where that finds more errors in `cases`; no patient is
            in both.
        most: voxels of `cases` that are trained on.
        least: patients.

    Returns:
        None for too few patients, or where no pair of classes has enough errors.
    """
    patients = [case.patient for case in cases]
    pairs = pairs_of(cases)
    if not pairs or len(set(patients)) < least:
        return None
    spacing = np.median([case.view.working.spacing[::-1] for case in cases], 0)
    settings = Settings(pairs, neighbour_axes(spacing.tolist()), most=most)
    folds = patient_folds(patients, FOLDS)
    tables = {
        fold: fit_table([cases[n] for n in np.flatnonzero(folds != fold).tolist()])
        for fold in np.unique(folds).tolist()
    }
    answers, further = _cross_validated(cases, settings, folds, tables), dict[str, Any]()
    taken = None
    for name, more in (("mask", None), ("out_of_fold", other)):
        if name == "out_of_fold" and (other is None or not other.cases):
            continue
        now = settings._replace(sees_mask=True) if name == "mask" else settings
        found = _cross_validated(cases, now, folds, tables, more)
        without = [answer.auprc for answer in answers]
        gap = paired_bootstrap([answer.auprc for answer in found], without, groups=patients)
        further[name] = {"without": float(np.nanmean(without)), "difference": asdict(gap), "taken": gap.mean > 0}
        further[name] |= {} if more is None else {"cases": len(more.cases)}
        if gap.mean > 0:
            answers, settings, taken = found, now, more
    knots, values = fit_increasing([answer.raw for answer in answers], [answer.wrong for answer in answers])
    stage = _fit_members(cases, table, settings, taken)
    stage = replace(stage, knots=tuple(knots.tolist()), values=tuple(values.tolist()))
    before, after = [answer.auprc_table for answer in answers], [answer.auprc for answer in answers]
    check = {
        "cases": int(np.isfinite(before).sum()),
        "table": float(np.nanmean(before)),
        "second_stage": float(np.nanmean(after)),
        "difference": asdict(paired_bootstrap(after, before, groups=patients)),
    }
    return FittedSecondStage(stage, check | further, answers)


@dataclass(frozen=True)
class HeldOutAnswer:
    """What a table and a second stage fitted on other patients say of a case.

    Attributes:
        raw, wrong: log-odds before the last calibration, and errors, of the uncertain voxels.
        auprc_table, auprc: of the whole case without and with the second stage.
    """

    raw: np.ndarray
    wrong: np.ndarray
    auprc_table: float
    auprc: float


def _cross_validated(
    cases: Sequence[CalibrationCase],
    settings: Settings,
    folds: np.ndarray,
    tables: Mapping[int, ErrorProbability],
    other: PredictedCases | None = None,
) -> list[HeldOutAnswer]:
    """Answer for each case with a table and networks that were fitted on other patients."""
    answers: dict[int, HeldOutAnswer] = {}
    for fold, table in tables.items():
        others = [case for case, own in zip(cases, folds, strict=True) if own != fold]
        stage = _fit_members(others, table, settings, other)
        for number in np.flatnonzero(folds == fold).tolist():
            answers[number] = _held_out(cases[number], table, stage)
    return [answers[number] for number in range(len(cases))]


def _held_out(case: CalibrationCase, table: ErrorProbability, stage: SecondStage) -> HeldOutAnswer:
    before = table_probability(case, table)
    voxels, features = features_of(case, before, stage.pairs, stage.axes, sees_mask=stage.sees_mask)
    raw = stage.raw_log_odds(features)
    after = before.copy()
    after[voxels] = expit(raw)
    return HeldOutAnswer(raw, case.wrong[voxels], _precision(case, before), _precision(case, after))


def _precision(case: CalibrationCase, score: np.ndarray) -> float:
    """Area under the precision-recall curve of the voxels where an error can be seen."""
    return average_precision(region_groups(score[case.clean], case.wrong[case.clean])["whole"])


def _moved(case: CalibrationCase, chance: np.ndarray, lines: Mapping[Hashable, StructureLines]) -> np.ndarray:
    own = lines.get(case.patient)
    return chance if own is None else own(chance, case.prediction.classes, case.prediction.runner_up)


def _fit_members(
    cases: Sequence[CalibrationCase], table: ErrorProbability, settings: Settings, other: PredictedCases | None = None
) -> SecondStage:
    """Fit the networks and leave out the last calibration.

    A case of a cross-validation model gives the share `FOLD_WEIGHT` of the voxels that one of the network's own would
    give, or less where there are many; the network's own give as many as without them.
    """
    random = np.random.default_rng(SEED)
    most, parts = settings.most // len(cases), []
    known = [(case, table, 1.0) for case in cases]
    if other is not None:
        left = (MOST_WITH_FOLDS - MOST_VOXELS) / len(other.cases)
        share = min(FOLD_WEIGHT, left / most)
        known += [(*pair, share) for pair in zip(other.cases, other.tables, strict=True)]
    for case, own, share in known:
        before = table_probability(case, own)
        voxels, features = features_of(
            case, before, settings.pairs, settings.axes, most, random, share, settings.sees_mask
        )
        parts.append((features, case.wrong[voxels]))
    inputs, wrong = (np.concatenate(part) for part in zip(*parts, strict=True))
    mean, scale = inputs.mean(0), inputs.std(0) + np.float32(LEAST_SPREAD)
    layers = trained_layers((inputs - mean) / scale, inputs[:, 0], wrong.astype(np.float32), SEED)
    ends = (float(logit(FLOOR)), float(logit(1 - FLOOR)))
    pairs, axes, sees, _ = settings
    return SecondStage(
        pairs, axes, mean, scale, layers, ends, ends, len(cases), looks_above=LOOKS_ABOVE, sees_mask=sees
    )


def features_of(
    case: CalibrationCase,
    probability: np.ndarray,
    pairs: Pairs,
    axes: tuple[bool, ...],
    most: int | None = None,
    random: np.random.Generator | None = None,
    share: float = 1.0,
    sees_mask: bool = False,
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the uncertain voxels of a case where an error can be seen, or a random part of them, and their features.

    Args:
        probability: the table's.
        most: number of voxels wanted at most; goes with `random`.
        share: of the voxels that are wanted, so many are taken.
        sees_mask: whether features of the segmentation's shape are among them.
    """
    steps, maps = case.view.steps(axes), case.prediction
    found = find_uncertain_voxels(case.prediction.logits, slice(None), maps, probability, pairs, steps, LOOKS_ABOVE)
    found = found.chosen(np.flatnonzero(case.clean[found.voxels]))
    count = found.voxels[0].size
    wanted = count if most is None else int(min(count, most) * share)
    if random is not None and count > wanted:
        found = found.chosen(np.sort(random.choice(count, wanted, replace=False)))
    mask = (maps.classes, maps.runner_up) if sees_mask else None
    return found.voxels, found.features(case.view.image, probability, steps, mask=mask)


def table_probability(case: CalibrationCase, table: ErrorProbability) -> np.ndarray:
    """Error probability of the table alone."""
    prediction = case.prediction
    return table(prediction.ranking, prediction.classes, prediction.runner_up)


def pairs_of(cases: Sequence[CalibrationCase]) -> Pairs:
    """Pairs of predicted class and runner-up in which enough voxels are wrong, `MOST_PAIRS` with the most of them."""
    keys = []
    for case in cases:
        seen = case.wrong & case.clean
        first, second = (each[seen].astype(np.int64) for each in (case.prediction.classes, case.prediction.runner_up))
        keys.append(first * 1024 + second)
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    often = np.argsort(-counts, kind="stable")[: min(MOST_PAIRS, int((counts >= LEAST_ERRORS).sum()))]
    return tuple((int(key // 1024), int(key % 1024)) for key in found[np.sort(often)])


WIDTH = 24
MEMBERS = 5
EPOCHS = 4
BATCH = 512
RATE = 5e-3
DECAY = 3e-3
MOMENTUM, POWER = 0.9, 0.999

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


def trained_layers(inputs: np.ndarray, table: np.ndarray, wrong: np.ndarray, seed: int) -> Layers:
    """Train all members side by side with Adam on the cross-entropy, each on its own order of the voxels.

    They begin by adding nothing to the table's log-odds.

    Args:
        inputs: standardised features, (voxels, features).
        table: log-odds that the networks correct.
    """
    random = np.random.default_rng(seed)
    values = _beginning(inputs.shape[1], random)
    optimiser = _Adam(values)
    batches = max(1, len(inputs) // BATCH)
    for epoch in range(EPOCHS):
        orders = np.stack([random.permutation(len(inputs)) for _ in range(MEMBERS)])
        for number, part in enumerate(np.array_split(orders, batches, 1)):
            done = (epoch + number / batches) / EPOCHS
            optimiser.step(_gradients(values, inputs[part], table[part], wrong[part]), done)
    return tuple((values[n], values[n + 1]) for n in range(0, len(values), 2))


def _beginning(features: int, random: np.random.Generator) -> list[np.ndarray]:
    """Weight and bias of each layer, one after the other; the last layer is 0."""
    sizes = (features, WIDTH, WIDTH, 1)
    values = []
    for before, after in pairwise(sizes):
        spread = np.sqrt(2 / before) if after > 1 else 0.0
        values.append((random.standard_normal((MEMBERS, before, after)) * spread).astype(np.float32))
        values.append(np.zeros((MEMBERS, 1, after), np.float32))
    return values


def _gradients(values: list[np.ndarray], x: np.ndarray, table: np.ndarray, wrong: np.ndarray) -> list[np.ndarray]:
    """Gradients of the mean cross-entropy of each member's batch; `x` is (members, voxels, features)."""
    w1, b1, w2, b2, w3, b3 = values
    first = np.maximum(x @ w1 + b1, 0)
    second = np.maximum(first @ w2 + b2, 0)
    odds = (second @ w3 + b3)[..., 0] + table
    last = ((expit(odds) - wrong) / x.shape[1])[..., None].astype(np.float32)
    middle = (last @ w3.swapaxes(1, 2)) * (second > 0)
    outer = (middle @ w2.swapaxes(1, 2)) * (first > 0)
    found = []
    for below, back in ((x, outer), (first, middle), (second, last)):
        found += [below.swapaxes(1, 2) @ back, back.sum(1, keepdims=True)]
    return found


class _Adam:
    """Adam with decoupled weight decay and a rate that falls along a cosine to 0 (Loshchilov and Hutter 2019)."""

    def __init__(self, values: list[np.ndarray]) -> None:
        self._values, self._steps = values, 0
        self._means = [np.zeros_like(value) for value in values]
        self._powers = [np.zeros_like(value) for value in values]

    def step(self, gradients: list[np.ndarray], done: float) -> None:
        """Change the values in place; `done` is the part of the training that lies behind."""
        self._steps += 1
        rate = RATE * 0.5 * (1 + np.cos(np.pi * done))
        for value, gradient, mean, power in zip(self._values, gradients, self._means, self._powers, strict=True):
            mean += (1 - MOMENTUM) * (gradient - mean)
            power += (1 - POWER) * (gradient * gradient - power)
            size = np.sqrt(power / (1 - POWER**self._steps)) + 1e-8
            value -= (rate * (mean / (1 - MOMENTUM**self._steps) / size + DECAY * value)).astype(np.float32)


@dataclass(frozen=True)
class AddedStage:
    """Table and second stage of added cases.

    Attributes:
        check: block `added` of a calibration's site: `cases`; AUPRC `before` and `after`, each patient judged by
            others; their `difference` with its interval.
    """

    table: ErrorProbability
    fitted: FittedSecondStage
    check: Mapping[str, Any]

    @property
    def helps(self) -> bool:
        """Whether it finds more errors of patients that it was not fitted on than the model did, beyond chance."""
        return bool(self.check["difference"]["low"] > 0)

    @property
    def block(self) -> dict[str, Any]:
        """The parts of a calibration block that it replaces, but for the second stage itself."""
        return {"cases": self.check["cases"], "error_probability": self.table.to_json(), CHECK: self.fitted.check}

    @property
    def message(self) -> str:
        """What was fitted or kept, and why."""
        gap, verdict = self.check["difference"], "fitted anew" if self.helps else "the model's own stays"
        return (
            f"Second stage: {verdict}; on {self.check['cases']} added cases, each patient judged by others, AUPRC "
            f"{self.check['after']:.3f} instead of {self.check['before']:.3f}, "
            f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})."
        )


def own_chance(case: CalibrationCase, table: ErrorProbability) -> np.ndarray:
    """Error probability that a model gave a case; its table's for a prediction that was made up."""
    chance = case.prediction.error_probability
    return table_probability(case, table) if chance is None else chance


def fit_added(
    cases: Sequence[CalibrationCase], own: ErrorProbability, lines: Mapping[Hashable, StructureLines]
) -> AddedStage | None:
    """Fit on cases as the model to be changed predicts them; None for fewer than `LEAST_PATIENTS` patients.

    Args:
        own: table of that model.
        lines: what would be done without: by structure, by patient, fitted on the others; empty for nothing.
    """
    patients = [case.patient for case in cases]
    if len(set(patients)) < LEAST_PATIENTS:
        return None
    table = fit_table(cases)
    fitted = fit_second_stage(cases, table, most=MOST_WITH_FOLDS)
    if fitted is None:
        return None
    before = [_precision(case, _moved(case, own_chance(case, own), lines)) for case in cases]
    after = [answer.auprc for answer in fitted.answers]
    gap = paired_bootstrap(after, before, groups=patients)
    means = {"before": float(np.nanmean(before)), "after": float(np.nanmean(after))}
    return AddedStage(table, fitted, {"cases": len(cases), **means, "difference": asdict(gap)})
