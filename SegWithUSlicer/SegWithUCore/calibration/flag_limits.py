"""The limit of the figure that flags bad cases, fitted so that few of them go by without a flag.

One figure, chosen beforehand: the lowest soft Dice of a case's structures (`Testing/Benchmarks/results/case_flags.md`).
The limit is found by conformal risk control (Angelopoulos et al., arXiv 2208.02814) over the bad cases: the loss of a
bad case is 1 where it is not flagged, and can only fall as the limit gets stricter. The laxest limit whose mean loss
over n bad cases, raised by one more lost case, n / (n + 1) * mean + 1 / (n + 1), stays within `MISSED_SHARE` keeps the
expected share of missed ones among new bad cases like them within it; bad cases of one patient count as one. Nothing
but the tempering scale of the figure was fitted on the same cases. The expectation is over all calibrations. A limit
that is not useful is not shown, and lax limits are useful more often: over those that are shown more can be missed
(`SHOWN_MISSED`).

Cases that other networks predicted (of folds) make the bound tighter, each by its weight. Those networks were trained
with less and are worse in both figures, which would look as if the one followed the other, and lay the limit too low.
So their cases are moved to the network's own means, and ranks are compared within each network. What is bad is of the
network's own cases, and these must agree: the figure follows their Dice, too, and the limit misses no larger share of
their bad ones than is wanted.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.patients import by_patient, numbered

MISSED_SHARE = 0.2
"""Wanted bound on the share of bad cases that are not flagged."""
BAD_SHARE = 0.2
"""Where the user does not say what is bad: the cases of lowest Dice, this share of them."""
SIGNIFICANT = 0.05
"""Chance, at most, that a figure which says nothing would order the cases as well."""
AGREEING = 0.1
"""The same among the network's own cases alone, where others say the most."""
LEAST_CASES = 17
"""Fewer have less than four bad ones, a fifth of them, and no limit keeps the bound of a fifth then; nor have they
means to which cases of other networks could be moved."""
SHOWN_MISSED = "17 to 32 %"
"""Missed by useful rules in simulations, by how closely the figure follows the Dice (correlation 0.6 to 0.3);
`Testing/Benchmarks/results/flag_rules.md`."""
PERMUTATIONS = 10_000
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
        network: that predicted it, where it is another.
    """

    soft_dice: float
    dice: float
    weight: float = 1.0
    patient: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class _Known:
    """Cases that have both figures, one entry a case.

    Attributes:
        score, dice: lowest soft and true Dice, those of other networks moved to the network's own means.
        weight: of a case, before those of a patient share it.
        patients, networks: numbered.
        own: whether the network itself predicted it.
    """

    score: np.ndarray
    dice: np.ndarray
    weight: np.ndarray
    patients: np.ndarray
    networks: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, cases: Sequence[FlagCase]) -> "_Known":
        score, dice, weight = np.asarray([(c.soft_dice, c.dice, c.weight) for c in cases], float).reshape(-1, 3).T
        names = [(c.network, number if c.patient is None else c.patient) for number, c in enumerate(cases)]
        networks = [c.network for c in cases]
        own, kinds = np.asarray([network is None for network in networks], bool), numbered(networks)
        for number in np.unique(kinds[~own]) if own.any() else ():
            its = kinds == number
            score, dice = (np.where(its, each + each[own].mean() - each[its].mean(), each) for each in (score, dice))
        return cls(score, dice, weight, numbered(names), kinds, own)

    def of_own(self) -> "_Known":
        """Those of the network itself alone."""
        arrays = (self.score, self.dice, self.weight, self.patients, self.networks, self.own)
        score, dice, weight, patients, networks, own = (each[self.own] for each in arrays)
        return _Known(score, dice, weight, numbered(patients.tolist()), networks, own)


def fit_flag_limit(cases: Sequence[FlagCase], bad_dice: float | None = None) -> dict[str, Any]:
    """Fit the limit below which a case is flagged; of bad cases at most `MISSED_SHARE` are to pass without a flag.

    Args:
        bad_dice: a case is bad where its lowest Dice is below; None for the limit that makes `BAD_SHARE` of those that
            the network itself predicted bad.

    Returns:
        For the block "flags" of a bundle's calibration: `cases` and `bad_cases` that the network itself predicted,
        `cross_validated_cases` and `cross_validated_bad_cases` of others, if there are any, `missed_share`, `bad_dice`,
        and `rules` with the one rule: its `limit` (None for none), `flagged_share`, `others_flagged_share` (of the
        cases that are not bad) and `missed` of the own cases, `bound`, `p_value`, `useful` and a `message`.
    """
    known = _Known.of([case for case in cases if math.isfinite(case.soft_dice) and math.isfinite(case.dice)])
    if bad_dice is None:
        bad_dice = _worst_part(known.dice[known.own])
    bad = known.dice < bad_dice
    others = {
        "cross_validated_cases": int((~known.own).sum()),
        "cross_validated_bad_cases": int((bad & ~known.own).sum()),
    }
    return {
        "cases": int(known.own.sum()),
        "missed_share": MISSED_SHARE,
        "bad_dice": bad_dice,
        "bad_cases": int((bad & known.own).sum()),
        **(others if others["cross_validated_cases"] else {}),
        "rules": {FIGURE: _rule(known, bad)},
    }


def _worst_part(dice: np.ndarray) -> float:
    """Find the Dice below which `BAD_SHARE` of the cases lie; more where so many share the lowest, such as 0."""
    if not dice.size:
        return 0.0
    better = dice[dice > dice.min()]
    return max(float(np.quantile(dice, BAD_SHARE, method="higher")), float(better.min()) if better.size else 0.0)


def bad_of_patient(names: Sequence[Hashable] | np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Count the bad cases of each case's patient; 1 where there is none. They are alike, so together they weigh 1."""
    found = np.ones(bad.size)
    for cases in by_patient(list(names)).values():
        found[cases] = max(int(bad[cases].sum()), 1)
    return found


def controlled_limit(
    scores: np.ndarray, bad: np.ndarray, weights: np.ndarray | None = None, own: np.ndarray | None = None
) -> float:
    """Find the laxest limit whose bound on missed bad cases stays within `MISSED_SHARE`.

    Args:
        scores: of the cases, lower for worse; a case is flagged below the limit.
        bad: which of them are bad, boolean.
        weights: of each; None for 1. A new case has the weight 1.
        own: cases, boolean, of whose bad ones no larger share may be missed either; None for none.

    Returns:
        A limit half way between two cases, or one that flags all of them; infinite where even that does not keep the
        bound, minus infinity where no flag is needed.
    """
    order = np.unique(scores)
    weight = np.ones(scores.size) if weights is None else weights
    own_bad = np.zeros(scores.size, bool) if own is None else own & bad
    above = [float(np.nextafter(order[-1], math.inf))] if order.size else []
    for limit in (-math.inf, *((order[:-1] + order[1:]) / 2).tolist(), *above):
        missed = scores >= limit
        own_share = weight[own_bad & missed].sum() / max(weight[own_bad].sum(), 1e-12)
        if max(bound_of(weight[bad], missed[bad]), own_share) <= MISSED_SHARE + 1e-12:
            return float(limit)
    return math.inf


def bound_of(weights: np.ndarray, missed: np.ndarray) -> float:
    """Bound the expected share of new bad cases that are missed, from the weights of the bad cases and which are."""
    return float((weights[missed].sum() + 1) / (weights.sum() + 1))


def _rule(known: _Known, bad: np.ndarray) -> dict[str, Any]:
    """Fit the rule, and say why it is not useful where it is not."""
    weight = known.weight / bad_of_patient(known.patients, bad)
    alone, counted = bool(known.own.all()), int(known.own.sum())
    limit, p_value = controlled_limit(known.score, bad, weight, None if alone else known.own), _p_value(known)
    entry: dict[str, Any] = {"limit": None, "useful": False, "p_value": p_value}
    if not alone and counted < LEAST_CASES:
        why = f"{counted} cases of the network itself are too few besides those of cross-validation models"
        return {**entry, "message": f"No useful rule: {why}, give {LEAST_CASES}."}
    if not bad.any():
        own = known.dice[known.own] if known.own.any() else known.dice
        same = own.size > 0 and own.min() == own.max()
        why = f"all {own.size} cases have the same Dice ({own[0]:.2f})" if same else "no case is bad"
        return {**entry, "message": f"No useful rule: {why}, so there is nothing to fit on."}
    if math.isinf(limit) and limit > 0:
        patients, least = np.unique(known.patients[bad]).size, bound_of(weight[bad], np.zeros(int(bad.sum()), bool))
        alike = "" if patients == bad.sum() else f" of {patients} patients"
        why = f"{int(bad.sum())} bad cases{alike} allow no bound below {_percent(least)}"
        return {**entry, "message": f"No useful rule: {why}."}
    flagged, missed = known.score < limit, bad & (known.score >= limit)
    own_flagged, own_bad = flagged[known.own], bad[known.own]
    entry |= {
        "flagged_share": float(own_flagged.mean()) if own_flagged.size else 0.0,
        "others_flagged_share": float(own_flagged[~own_bad].mean()) if (~own_bad).any() else 0.0,
        "missed": int((missed & known.own).sum()),
        "bound": bound_of(weight[bad], missed[bad]),
    }
    why = _why_useless(known, p_value, flagged)
    if why:
        return {**entry, "message": f"No useful rule: {why}."}
    on = f"{counted} cases"
    if not alone:
        further = known.weight[~known.own]
        on += f" and on {further.size} cases predicted by cross-validation models, "
        on += f"each counted as {further.mean():.2g} of a case"
    sentence = (
        f"The limit {limit:.4g}, fitted on {on}, flags {own_flagged.sum()} of {counted} cases "
        f"({_percent(entry['flagged_share'])}; of those that are not bad {_percent(entry['others_flagged_share'])}) "
        f"and misses {entry['missed']} of {own_bad.sum()} bad ones; of new bad cases like them at most "
        f"{_percent(entry['bound'])} are missed on average over calibrations, useful or not; over useful ones, such as "
        f"this, {SHOWN_MISSED} in simulations."
    )
    return {**entry, "limit": limit, "useful": True, "message": sentence}


def _why_useless(known: _Known, p_value: float | None, flagged: np.ndarray) -> str:
    """Say why the limit is not worth following; empty where it is."""
    of = f"of the {known.dice.size} cases"
    if p_value is None or p_value > SIGNIFICANT:
        found = "" if p_value is None else f" (p = {p_value:.2g}; {SIGNIFICANT:g} is asked for)"
        return f"the soft Dice does not follow the Dice {of}{found}"
    for which in (known.own, np.ones_like(known.own)):
        if np.average(flagged[which], weights=known.weight[which]) > MOST_FLAGGED:
            count = f"{flagged[which].sum()} of {which.sum()} cases"
            return f"missing at most {_percent(MISSED_SHARE)} of bad cases would flag {count}"
    alone = 0.0 if known.own.all() else _p_value(known.of_own())
    if alone is None or alone > AGREEING:
        return f"the soft Dice does not follow the Dice of the network's own {known.own.sum()} {of}, only of others"
    return ""


def _p_value(known: _Known) -> float | None:
    """Chance that a figure which says nothing follows the Dice as well; None where neither varies.

    Over patients, by the means of their cases, which are alike. With one network Spearman's; with several the ranks
    within each, so that a network whose cases are worse in both proves nothing, permuted within each.
    """
    from scipy.stats import rankdata, spearmanr

    counts = np.bincount(known.patients)
    score, dice, weight = (
        np.bincount(known.patients, each) / counts for each in (known.score, known.dice, known.weight)
    )
    network = np.zeros(counts.size, np.int64)
    network[known.patients] = known.networks
    parts = [network == number for number in np.unique(network)]
    parts = [part for part in parts if part.sum() >= 3 and np.ptp(score[part]) > 0 and np.ptp(dice[part]) > 0]
    if not parts:
        return None
    if len(parts) == 1:
        return float(spearmanr(score[parts[0]], dice[parts[0]], alternative="greater").pvalue)
    random, found, drawn = np.random.default_rng(0), 0.0, np.zeros(PERMUTATIONS)
    for part in parts:
        first, second = (rankdata(each[part]) / part.sum() for each in (score, dice))
        second = (second - second.mean()) * weight[part].mean()
        found += float(first @ second)
        drawn += random.permuted(np.tile(first, (PERMUTATIONS, 1)), axis=1) @ second
    return float((1 + np.count_nonzero(drawn >= found - 1e-12)) / (1 + PERMUTATIONS))


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
