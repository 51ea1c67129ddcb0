"""The limit of the figure that flags bad cases, fitted so that few of them go by without a flag.

One figure, chosen beforehand: the lowest soft Dice of a case's structures (`Testing/Benchmarks/results/case_flags.md`).
The limit is found by conformal risk control (Angelopoulos et al., arXiv 2208.02814) over the bad cases: the loss of a
bad case is 1 where it is not flagged, and can only fall as the limit gets stricter. The laxest limit whose mean loss
over n bad cases, raised by one more lost case, n / (n + 1) * mean + 1 / (n + 1), stays within `MISSED_SHARE` keeps the
expected share of missed ones among new bad cases like them within it; bad cases of one patient count as one. Nothing
but the tempering scale of the figure was fitted on the same cases.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MISSED_SHARE = 0.2
"""Wanted bound on the share of bad cases that are not flagged."""
BAD_SHARE = 0.2
"""Where the user does not say what is bad: the cases of lowest Dice, this share of them."""
SIGNIFICANT = 0.05
"""Chance, at most, that a figure which says nothing would order the cases as well."""
MOST_FLAGGED = 0.75
"""A rule that flags more than this share of the cases leaves too little out to be worth following."""
FIGURE = "soft_dice"
"""Name of the rule in bundles and in `review.flags.FlagRules`."""


@dataclass(frozen=True)
class FlagCase:
    """A case that the network has not seen.

    Attributes:
        soft_dice: the lowest of its structures; NaN where none is there or predicted.
        dice: the lowest true Dice of them.
        weight: counts as so many cases; less for one that another network predicted.
        patient: whose bad cases count as one, for they are alike; None for one who has no other case.
    """

    soft_dice: float
    dice: float
    weight: float = 1.0
    patient: str | None = None


def fit_flag_limit(
    cases: Sequence[FlagCase], missed_share: float = MISSED_SHARE, bad_dice: float | None = None
) -> dict[str, Any]:
    """Fit the limit below which a case is flagged.

    Args:
        missed_share: wanted bound on the share of bad cases that are not flagged, 0 to 1.
        bad_dice: a case is bad where its lowest Dice is below; None for the limit that makes `BAD_SHARE` of them bad.

    Returns:
        For the block "flags" of a bundle's calibration: `cases`, `missed_share`, `bad_dice`, `bad_cases`, `rules` with
        the one rule: its `limit` (None for none), `flagged_share`, `others_flagged_share` (of the cases that are not
        bad), `missed`, `bound`, `p_value`, `useful` and a `sentence`.
    """
    known = [case for case in cases if math.isfinite(case.soft_dice) and math.isfinite(case.dice)]
    score, dice, weight = np.asarray([(c.soft_dice, c.dice, c.weight) for c in known], float).reshape(-1, 3).T
    if bad_dice is None:
        bad_dice = float(np.quantile(dice, BAD_SHARE, method="higher")) if dice.size else 0.0
    bad = dice < bad_dice
    names = [case.patient if case.patient is not None else number for number, case in enumerate(known)]
    weight = weight / bad_of_patient(names, bad)
    return {
        "cases": len(known),
        "missed_share": missed_share,
        "bad_dice": bad_dice,
        "bad_cases": int(bad.sum()),
        "rules": {FIGURE: _rule(score, dice, bad, weight, missed_share, names)},
    }


def bad_of_patient(names: Sequence[Hashable], bad: np.ndarray) -> np.ndarray:
    """Count the bad cases of each case's patient; 1 where there is none. They are alike, so together they weigh 1."""
    counts = Counter(name for name, is_bad in zip(names, bad.tolist(), strict=True) if is_bad)
    return np.asarray([max(counts[name], 1) for name in names], float)


def controlled_limit(
    scores: np.ndarray, bad: np.ndarray, weights: np.ndarray | None = None, missed_share: float = MISSED_SHARE
) -> float:
    """Find the laxest limit whose bound on missed bad cases stays within `missed_share`.

    Args:
        scores: of the cases, lower for worse; a case is flagged below the limit.
        bad: which of them are bad, boolean.
        weights: of each; None for 1. A new case has the weight 1.

    Returns:
        A limit half way between two cases, or one that flags all of them; infinite where even that does not keep the
        bound, minus infinity where no flag is needed.
    """
    order = np.unique(scores)
    weight = np.ones(scores.size) if weights is None else weights
    above = [float(np.nextafter(order[-1], math.inf))] if order.size else []
    for limit in (-math.inf, *((order[:-1] + order[1:]) / 2).tolist(), *above):
        if bound_of(weight[bad], scores[bad] >= limit) <= missed_share + 1e-12:
            return float(limit)
    return math.inf


def bound_of(weights: np.ndarray, missed: np.ndarray) -> float:
    """Bound the expected share of new bad cases that are missed, from the weights of the bad cases and which are."""
    return float((weights[missed].sum() + 1) / (weights.sum() + 1))


def _rule(
    score: np.ndarray,
    dice: np.ndarray,
    bad: np.ndarray,
    weight: np.ndarray,
    missed_share: float,
    patients: Sequence[Hashable],
) -> dict[str, Any]:
    cases, bads = dice.size, int(bad.sum())
    limit, p_value = controlled_limit(score, bad, weight, missed_share), _p_value(score, dice, patients)
    if not bads:
        return _no_rule("no case is bad, so there is nothing to fit on", p_value)
    if math.isinf(limit) and limit > 0:
        least = bound_of(weight[bad], np.zeros(bads, bool))
        of = len({name for name, is_bad in zip(patients, bad.tolist(), strict=True) if is_bad})
        alike = "" if of == bads else f" of {of} patient{'' if of == 1 else 's'}"
        return _no_rule(f"{bads} bad cases{alike} allow no bound below {_percent(least)}", p_value)
    flagged, missed = score < limit, bad & (score >= limit)
    others = float(flagged[~bad].mean()) if (~bad).any() else 0.0
    bound = bound_of(weight[bad], missed[bad])
    entry = {
        "flagged_share": float(flagged.mean()),
        "others_flagged_share": others,
        "missed": int(missed.sum()),
        "bound": bound,
        "p_value": p_value,
    }
    if p_value is None or p_value > SIGNIFICANT:
        found = "" if p_value is None else f" (p = {p_value:.2g}; {SIGNIFICANT:g} is asked for)"
        return {**entry, **_no_rule(f"the soft Dice does not follow the Dice of the {cases} cases{found}", p_value)}
    if flagged.mean() > MOST_FLAGGED:
        why = f"to miss at most {_percent(missed_share)} of bad cases it would flag {int(flagged.sum())} of {cases}"
        return {**entry, **_no_rule(why, p_value)}
    words = f"flags {int(flagged.sum())} of {cases} cases ({_percent(flagged.mean())}; of those that are not bad "
    words += f"{_percent(others)}) and misses {entry['missed']} of {bads} bad ones; of new bad "
    words += f"cases like them at most {_percent(bound)} are missed, on average."
    sentence = f"The limit {limit:.4g}, fitted on {cases} cases, {words}"
    return {**entry, "limit": limit, "useful": True, "sentence": sentence}


def _no_rule(why: str, p_value: float | None) -> dict[str, Any]:
    return {"limit": None, "useful": False, "p_value": p_value, "sentence": f"No useful rule: {why}."}


def _p_value(score: np.ndarray, dice: np.ndarray, patients: Sequence[Hashable]) -> float | None:
    """Chance that a figure which says nothing follows the Dice as well (Spearman); None where neither varies.

    Over patients, by the means of their cases, which are alike.
    """
    from scipy.stats import spearmanr

    known: dict[Hashable, int] = {}
    numbers = np.asarray([known.setdefault(name, len(known)) for name in patients], np.int64)
    counts = np.bincount(numbers)
    score, dice = np.bincount(numbers, score) / counts, np.bincount(numbers, dice) / counts
    if dice.size < 3 or np.ptp(score) == 0 or np.ptp(dice) == 0:
        return None
    return float(spearmanr(score, dice, alternative="greater").pvalue)


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
