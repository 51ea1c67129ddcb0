"""Limits of flags, fitted on calibration cases so that few bad cases go by without a flag.

Conformal risk control (Angelopoulos et al., arXiv 2208.02814): the loss of a case is 1 where it is bad and not
flagged; it can only fall as the limit gets stricter. The laxest limit whose mean loss over n cases, raised by one more
lost case, n / (n + 1) * mean + 1 / (n + 1), stays within alpha keeps the expected loss of a new case like them within
alpha. The metrics that are limited were fitted on the same cases, which makes the bound a little optimistic.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALPHA = 0.1
"""Wanted bound on the share of cases that are bad and not flagged."""
BAD_SHARE = 0.2
"""Where the user does not say what is bad: the calibration cases of lowest Dice, this share of them."""
SIGNIFICANT = 0.05
"""Chance, at most, that any of the metrics would order bad cases as well while none says anything about them."""


@dataclass(frozen=True)
class StructureCase:
    """A structure of a calibration case; what the model does not give is None.

    Attributes:
        true_dice: of the segmentation, NaN if the structure is neither there nor predicted.
        wrong_mm3: expected wrong volume.
        wrong_share: the same over the structure's volume.
        interval_share: width of the volume interval over the expected volume.
        dice: predicted Dice, where informative.
    """

    true_dice: float
    wrong_mm3: float | None = None
    wrong_share: float | None = None
    interval_share: float | None = None
    dice: float | None = None


CaseMetrics = Mapping[str, StructureCase]
"""A calibration case: its structures by name, without background."""

_SCORES: dict[str, Callable[[StructureCase], float | None]] = {
    "wrong_mm3": lambda structure: structure.wrong_mm3,
    "wrong_share": lambda structure: structure.wrong_share,
    "interval_share": lambda structure: structure.interval_share,
    "dice": lambda structure: None if structure.dice is None else -structure.dice,
}
"""What each rule of `review.flags.FlagRules` limits, higher for worse."""


def fit_flag_rules(cases: Sequence[CaseMetrics], alpha: float = ALPHA, bad_dice: float | None = None) -> dict[str, Any]:
    """Fit each rule alone; rules that are used together flag more and miss less.

    A case is flagged where its worst structure is beyond the limit, and bad where its lowest Dice is below `bad_dice`.

    Args:
        alpha: wanted bound on the share of cases that are bad and not flagged, 0 to 1.
        bad_dice: None for the limit that makes `BAD_SHARE` of the cases bad.

    Returns:
        For the block "flags" of a bundle's calibration: `cases`, `alpha`, `bad_dice`, `bad_cases`, `least_alpha` (the
        strictest bound that so many cases allow), and for each rule that has metrics its `limit` (None for none),
        `flagged_share`, `missed`, `bound`, `p_value`, `useful` and a `sentence`.
    """
    lowest = np.asarray([_lowest_dice(case) for case in cases])
    if bad_dice is None:
        bad_dice = float(np.quantile(lowest, BAD_SHARE, method="higher")) if lowest.size else 0.0
    bad = lowest < bad_dice
    scores = {name: [_worst(case, score) for case in cases] for name, score in _SCORES.items()}
    usable = {name: np.asarray(worst, float) for name, worst in scores.items() if worst and None not in worst}
    rules = {name: _fitted(name, worst, bad, alpha, SIGNIFICANT / len(usable)) for name, worst in usable.items()}
    return {
        "cases": len(cases),
        "alpha": alpha,
        "bad_dice": bad_dice,
        "bad_cases": int(bad.sum()),
        "least_alpha": 1 / (len(cases) + 1),
        "rules": rules,
    }


def controlled_limit(scores: np.ndarray, bad: np.ndarray, alpha: float) -> float | None:
    """Find the laxest limit whose bound on missed bad cases stays within `alpha`; None if even flagging all does not.

    Args:
        scores: of the cases, higher for worse; a case is flagged above the limit.
        bad: which cases are bad, boolean.

    Returns:
        A limit half way between two cases; infinite where no flag is needed.
    """
    order = np.unique(scores)[::-1]
    between = (order[:-1] + order[1:]) / 2
    for limit in (math.inf, *between.tolist(), -math.inf):
        if _bound(int((bad & (scores <= limit)).sum()), bad.size) <= alpha + 1e-12:
            return float(limit)
    return None


def _bound(missed: int, cases: int) -> float:
    return (missed + 1) / (cases + 1)


def _fitted(name: str, scores: np.ndarray, bad: np.ndarray, alpha: float, significant: float) -> dict[str, Any]:
    limit, cases = controlled_limit(scores, bad, alpha), bad.size
    p_value = _p_value(scores, bad)
    if limit is None:
        return _no_rule(f"{cases} cases allow no bound below {_percent(_bound(0, cases))}", p_value)
    flagged, missed = int((scores > limit).sum()), int((bad & (scores <= limit)).sum())
    bound = _bound(missed, cases)
    entry = {"flagged_share": flagged / cases, "missed": missed, "bound": bound, "p_value": p_value}
    if not flagged:
        why = f"without any flag at most {_percent(bound)} of cases are bad, which is within {_percent(alpha)}"
    elif p_value is None or p_value > significant:
        found = "" if p_value is None else f" (p = {p_value:.2g}; with so many rules {significant:.2g} is asked for)"
        why = f"the figure does not tell the {int(bad.sum())} bad cases from the others{found}"
    elif flagged == cases:
        why = f"it flags all {cases} cases"
    else:
        shown = -limit if name == "dice" else limit
        words = f"flags {flagged} of {cases} calibration cases ({_percent(flagged / cases)}) and misses {missed} of "
        words += f"{int(bad.sum())} bad ones; of new cases like them at most {_percent(bound)} are bad and not flagged."
        return {**entry, "limit": shown, "useful": True, "sentence": f"The limit {shown:.4g} {words}"}
    return {**entry, **_no_rule(why, p_value)}


def _no_rule(why: str, p_value: float | None) -> dict[str, Any]:
    return {"limit": None, "useful": False, "p_value": p_value, "sentence": f"No useful rule: {why}."}


def _p_value(scores: np.ndarray, bad: np.ndarray) -> float | None:
    """Chance that a metric which says nothing ranks bad cases as high (Mann and Whitney); None without both kinds."""
    from scipy.stats import mannwhitneyu

    if bad.all() or not bad.any():
        return None
    return float(mannwhitneyu(scores[bad], scores[~bad], alternative="greater").pvalue)


def _lowest_dice(case: CaseMetrics) -> float:
    known = [structure.true_dice for structure in case.values() if math.isfinite(structure.true_dice)]
    return min(known, default=1.0)


def _worst(case: CaseMetrics, score: Callable[[StructureCase], float | None]) -> float | None:
    """Return the worst structure's score; None if none has a metric."""
    known = [value for structure in case.values() if (value := score(structure)) is not None]
    return max(known, default=None)


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
