"""Fit stage two of the error probability on cases with references, and take it only where cross-validation says so."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_error_probability, fit_with_directions
from SegWithUCore.calibration.local_features import Steps, neighbour_axes
from SegWithUCore.calibration.stage_two import FLOOR, Pairs, StageTwo, find_doubt
from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.metrics.bootstrap import Interval, paired_bootstrap
from SegWithUCore.metrics.error_detection import average_precision, region_groups
from SegWithUCore.models.stage_two_file import check_words

from .doubt_network import trained_layers
from .reference_cases import FOLD_WEIGHT, LEAST_GROUPS, OutOfFold, ReferenceCase
from .within_structures import AurocPairs, auroc_within

FOLDS = 4
LEAST_ERRORS = 200
"""Wrong voxels of a pair of classes from which on the networks tell it apart."""
LEAST_SPREAD = 1e-3
"""Added to the standard deviation of a feature, so that one which is always the same does not blow up."""
MOST_VOXELS, MOST_WITH_FOLDS = 120_000, 360_000
"""Voxels that the networks are trained on, without and with cases of fold networks; of more, each case gives a random
part."""


@dataclass(frozen=True)
class StageTwoCheck:
    """What cross-validation by patient says of stage two.

    Attributes:
        cases: measured.
        table, stage_two: AUPRC of the error probability without and with it, mean over cases.
        difference: of both, with its 95 % bootstrap interval.
        out_of_fold: of fitting it on cases that fold networks predicted, too; None where there were none.
    """

    cases: int
    table: float
    stage_two: float
    difference: Interval
    out_of_fold: "OutOfFoldCheck | None" = None

    @property
    def helps(self) -> bool:
        """Whether it ranks errors better, beyond chance."""
        return self.difference.low > 0

    @property
    def sentence(self) -> str:
        """Say so."""
        return check_words(self.to_json())

    def with_fold_errors(self, found: Mapping[str, Any]) -> "StageTwoCheck":
        """Add what `errors_alike` found."""
        return (
            self
            if self.out_of_fold is None
            else replace(self, out_of_fold=replace(self.out_of_fold, fold_errors=found))
        )

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        found = {key: value for key, value in asdict(self).items() if value is not None}
        if self.out_of_fold is not None:
            found["out_of_fold"] = {key: value for key, value in found["out_of_fold"].items() if value is not None}
        return found


@dataclass(frozen=True)
class OutOfFoldCheck:
    """What cross-validation says of fitting stage two on training cases, too, which fold networks predicted.

    Attributes:
        cases: so many of them.
        without: AUPRC of the network's own cases where it is fitted on others of them alone, mean over cases.
        difference: that of both together minus that, with its 95 % bootstrap interval.
        taken: whether they are fitted on.
        fold_errors: of `errors_alike`, how the fold networks err; None until it is asked.
    """

    cases: int
    without: float
    difference: Interval
    taken: bool
    fold_errors: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class FittedStageTwo:
    """What was fitted, and what cross-validation says of it.

    Attributes:
        within: of each case, for the error probability that `check` chooses.
    """

    stage: StageTwo
    check: StageTwoCheck
    within: Sequence[AurocPairs]


def fit_stage_two(
    cases: Sequence[ReferenceCase],
    table: ErrorProbability,
    seed: int = 0,
    fold_tables: Sequence[ErrorProbability] | None = None,
    fixed_table: bool = False,
    out_of_fold: OutOfFold | None = None,
) -> FittedStageTwo | None:
    """Fit stage two on all cases, calibrate it on values that it has not seen, and say whether it helps.

    Args:
        table: fitted on the same cases.
        seed: of the networks.
        fold_tables: of `tables_of_folds`, where they are known already.
        fixed_table: the table comes from other cases, so every fold takes it as it is.
        out_of_fold: further cases to fit on, where that finds more errors in `cases`; no patient is in both.

    Returns:
        None for too few patients, or where no pair of classes has enough errors.
    """
    settings = FitSettings.of(cases, seed)
    if not settings.pairs or len({case.group for case in cases}) < LEAST_GROUPS:
        return None
    if fixed_table:
        fold_tables = [table] * len(np.unique(folds_of([case.group for case in cases])))
    fold_tables = fold_tables or tables_of_folds(cases)
    answers, groups = cross_validated(cases, settings, fold_tables), [case.group for case in cases]
    further = None
    if out_of_fold is not None:
        both = cross_validated(cases, settings, fold_tables, out_of_fold)
        further = _further_check(both, answers, groups, len(out_of_fold.cases))
        answers, out_of_fold = (both, out_of_fold) if further.taken else (answers, None)
    knots, values = last_calibration(
        np.concatenate([answer.raw for answer in answers]), np.concatenate([answer.wrong for answer in answers])
    )
    stage = replace(fit_members(cases, table, settings, out_of_fold), knots=knots, values=values)
    check = replace(checked(answers, groups), out_of_fold=further)
    return FittedStageTwo(stage, check, [answer.within if check.helps else answer.within_table for answer in answers])


@dataclass(frozen=True)
class FitSettings:
    """Settings that all folds share.

    Attributes:
        pairs, axes: of `StageTwo`.
    """

    pairs: Pairs
    axes: tuple[bool, ...]
    seed: int

    @classmethod
    def of(cls, cases: Sequence[ReferenceCase], seed: int) -> "FitSettings":
        """Read them off the cases."""
        spacing = np.median([case.view.working_mm for case in cases], 0)
        return cls(pairs_of(cases), neighbour_axes(spacing.tolist()), seed)


@dataclass(frozen=True)
class HeldOutAnswer:
    """What a table and a stage two fitted on other patients say of a case.

    Attributes:
        raw, wrong: log-odds before the last calibration, and errors, of the voxels in doubt.
        auprc_table, auprc: of the whole case without and with stage two.
        within_table, within: the same of each structure, beside the softmax.
    """

    raw: np.ndarray
    wrong: np.ndarray
    auprc_table: float
    auprc: float
    within_table: AurocPairs
    within: AurocPairs


def tables_of_folds(cases: Sequence[ReferenceCase]) -> list[ErrorProbability]:
    """Fit the table for each fold, on the cases of the others."""
    folds = folds_of([case.group for case in cases])
    return [
        fit_table([case for case, own in zip(cases, folds, strict=True) if own != fold]) for fold in np.unique(folds)
    ]


def cross_validated(
    cases: Sequence[ReferenceCase],
    settings: FitSettings,
    tables: Sequence[ErrorProbability],
    out_of_fold: OutOfFold | None = None,
) -> list[HeldOutAnswer]:
    """Answer for each case with a table and networks that were fitted on other patients."""
    folds = folds_of([case.group for case in cases])
    answers: dict[int, HeldOutAnswer] = {}
    for fold, table in zip(np.unique(folds), tables, strict=True):
        others = [case for case, own in zip(cases, folds, strict=True) if own != fold]
        stage = fit_members(others, table, settings, out_of_fold)
        for number in np.flatnonzero(folds == fold).tolist():
            answers[number] = _held_out(cases[number], table, stage)
    return [answers[number] for number in range(len(cases))]


def _held_out(case: ReferenceCase, table: ErrorProbability, stage: StageTwo) -> HeldOutAnswer:
    before = table_probability(case.prediction, table)
    voxels, features = doubt_features(case, before, stage.pairs, steps_of(case, stage.axes))
    raw = stage.raw_log_odds(features)
    after = before.copy()
    after[voxels] = expit(raw)
    auprc_table, auprc = (average_precision(region_groups(score, case.wrong)["whole"]) for score in (before, after))
    within_table, within = (auroc_within(case.prediction, case.truth, score) for score in (before, after))
    return HeldOutAnswer(raw, case.wrong[voxels], auprc_table, auprc, within_table, within)


def checked(answers: Sequence[HeldOutAnswer], groups: Sequence[str]) -> StageTwoCheck:
    """Sum up over cases; those without errors have no say."""
    before, after = [a.auprc_table for a in answers], [a.auprc for a in answers]
    gap = paired_bootstrap(after, before, groups=groups)
    known = int(np.isfinite(before).sum())
    return StageTwoCheck(known, float(np.nanmean(before)), float(np.nanmean(after)), gap)


def _further_check(
    both: Sequence[HeldOutAnswer], alone: Sequence[HeldOutAnswer], groups: Sequence[str], cases: int
) -> OutOfFoldCheck:
    after, before = [a.auprc for a in both], [a.auprc for a in alone]
    gap = paired_bootstrap(after, before, groups=groups)
    return OutOfFoldCheck(cases, float(np.nanmean(before)), gap, gap.mean > 0)


def fit_table(cases: Sequence[ReferenceCase]) -> ErrorProbability:
    """Fit the table of the ranking map, as `calibrate` does."""
    predictions = [case.prediction for case in cases]
    return fit_with_directions(
        [p.ranking for p in predictions],
        [case.wrong for case in cases],
        [p.classes for p in predictions],
        [p.runner_up for p in predictions],
    )


def fit_members(
    cases: Sequence[ReferenceCase],
    table: ErrorProbability,
    settings: FitSettings,
    out_of_fold: OutOfFold | None = None,
) -> StageTwo:
    """Fit the networks and leave out the last calibration.

    A case of a fold's network gives the share `FOLD_WEIGHT` of the voxels that one of the network's own would give, or
    less where there are many; the network's own give as many as without them.
    """
    random = np.random.default_rng(settings.seed)
    most, parts = MOST_VOXELS // len(cases), []
    known = [(case, table, 1.0) for case in cases]
    if out_of_fold is not None:
        left = (MOST_WITH_FOLDS - MOST_VOXELS) / len(out_of_fold.cases)
        share = min(FOLD_WEIGHT, left / most)
        known += [(*pair, share) for pair in zip(out_of_fold.cases, out_of_fold.tables, strict=True)]
    for case, own, share in known:
        before, steps = table_probability(case.prediction, own), steps_of(case, settings.axes)
        voxels, features = doubt_features(case, before, settings.pairs, steps, most, random, share)
        parts.append((features, case.wrong[voxels]))
    inputs, wrong = (np.concatenate(part) for part in zip(*parts, strict=True))
    mean, scale = inputs.mean(0), inputs.std(0) + np.float32(LEAST_SPREAD)
    layers = trained_layers((inputs - mean) / scale, inputs[:, 0], wrong.astype(np.float32), settings.seed)
    ends = (float(logit(FLOOR)), float(logit(1 - FLOOR)))
    return StageTwo(settings.pairs, settings.axes, mean, scale, layers, ends, ends, len(cases))


def doubt_features(
    case: ReferenceCase,
    probability: np.ndarray,
    pairs: Pairs,
    steps: Steps,
    most: int | None = None,
    random: np.random.Generator | None = None,
    share: float = 1.0,
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the voxels in doubt of a case, or a random part of them, and their features.

    Args:
        probability: the table's.
        most: number of voxels wanted at most; goes with `random`.
        share: of the voxels that are wanted, so many are taken.
    """
    found = find_doubt(case.prediction.logits, slice(None), case.prediction.head_maps, probability, pairs, steps)
    count = found.voxels[0].size
    wanted = count if most is None else int(min(count, most) * share)
    if random is not None and count > wanted:
        found = found.chosen(np.sort(random.choice(count, wanted, replace=False)))
    return found.voxels, found.features(case.view.image, probability, steps)


def steps_of(case: ReferenceCase, axes: tuple[bool, ...]) -> Steps:
    """Find the steps to neighbours on the grid of a case."""
    return case.view.steps(axes)


def table_probability(prediction: Prediction, table: ErrorProbability) -> np.ndarray:
    """Error probability of the table alone."""
    return table(prediction.ranking, prediction.classes, prediction.runner_up)


def last_calibration(raw: np.ndarray, wrong: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of the isotonic regression of error on log-odds, and their values, as log-odds too."""
    table = fit_error_probability([raw], [wrong])
    return table.ranking, tuple(logit(np.clip(table.probability, FLOOR, 1 - FLOOR)).tolist())


def folds_of(groups: Sequence[str], seed: int = 0, count: int = FOLDS) -> np.ndarray:
    """Return the fold of each case; cases of one group share it."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[place]: number % count for number, place in enumerate(order)}
    return np.asarray([fold[group] for group in groups])


def pairs_of(cases: Sequence[ReferenceCase]) -> Pairs:
    """Pairs of predicted class and runner-up in which enough voxels are wrong."""
    keys = []
    for case in cases:
        first, second = (
            each[case.wrong].astype(np.int64) for each in (case.prediction.classes, case.prediction.runner_up)
        )
        keys.append(first * 1024 + second)
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    return tuple((int(key // 1024), int(key % 1024)) for key in found[counts >= LEAST_ERRORS])
