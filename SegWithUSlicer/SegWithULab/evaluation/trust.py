"""Whether a model's uncertainty can be trusted, in words: a few questions, each answered with its figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from SegWithUCore.calibration.readings import Reading
from SegWithUCore.regions.region import UNCERTAIN

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "not known"
GOOD_AUROC, POOR_AUROC = 0.8, 0.7
"""Of the error probability in the whole image: from here on it points at errors; below it hardly does."""
FAR_OFF = 1.5
"""So many times as often wrong as it reads, and a probability misleads."""
HEADLINES = {
    YES: "Yes: the uncertainty of this model can be trusted on images like these.",
    PARTLY: "With care: the uncertainty of this model helps, with the limits named below.",
    NO: "No: do not rely on the uncertainty of this model.",
    UNKNOWN: "Not known: there were too few cases to tell whether the uncertainty can be trusted.",
}


@dataclass(frozen=True)
class Answer:
    """One question, its answer and the figures behind it."""

    question: str
    level: str
    words: str


@dataclass(frozen=True)
class Trust:
    """The answers, and what follows from them."""

    answers: Sequence[Answer]

    @property
    def level(self) -> str:
        """The first two answers decide; intervals that do not hold take a "yes" away."""
        levels = [answer.level for answer in self.answers]
        if not levels:
            return UNKNOWN
        deciding = levels[:2]
        if NO in deciding:
            return NO
        if UNKNOWN in deciding:
            return UNKNOWN
        return PARTLY if PARTLY in deciding or NO in levels else YES

    @property
    def headline(self) -> str:
        """One sentence."""
        return HEADLINES[self.level]


def trust_of(result: Mapping[str, Any], readings: Sequence[Reading], calibration: Mapping[str, Any]) -> Trust:
    """Answer the questions.

    Args:
        result: `summary.summary` of cases that nothing was fitted on.
        readings: of the error probability on these cases, at several levels.
        calibration: the model's block; says what could be fitted.
    """
    return Trust(
        [
            _finds_errors(result),
            _probabilities_hold(readings),
            _intervals_hold(result, calibration),
            _predicted_dice(result),
            _flags(calibration),
        ]
    )


def _finds_errors(result: Mapping[str, Any]) -> Answer:
    question = "Does it point at the errors?"
    rows = {row["title"]: row for row in result["table"]}
    row = rows.get("auroc whole error probability", {"mean": None})
    if row["mean"] is None:
        return Answer(question, UNKNOWN, "No case has a wrong voxel, so there was nothing to find.")
    low, high = row["low"], row["high"]
    level = NO if low < POOR_AUROC else YES if low >= GOOD_AUROC else PARTLY
    words = f"Of a wrong and a right voxel it takes the wrong one for riskier in {_percent(row['mean'])} of pairs "
    words += f"({_percent(low)} to {_percent(high)}); 50 % would be guessing."
    band = rows.get("auroc band error probability")
    if band and band["mean"] is not None:
        words += f" Near the surface alone, where nearly all errors are: {_percent(band['mean'])}."
    gain = result["comparisons"].get("auprc whole, error probability - softmax by direction")
    if level == YES and isinstance(gain, Mapping) and gain["high"] < 0:
        level = PARTLY
    return Answer(question, level, words + _against_softmax(gain))


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _against_softmax(gain: Mapping[str, float] | None) -> str:
    if not isinstance(gain, Mapping):
        return ""
    if gain["low"] > 0:
        verdict = "It finds errors better than the network's own probabilities, fitted alike"
    elif gain["high"] < 0:
        verdict = "The network's own probabilities, fitted alike, find errors better"
    else:
        verdict = "It finds errors about as well as the network's own probabilities, fitted alike"
    return f" {verdict} (AUPRC {gain['mean']:+.3g}, {gain['low']:+.3g} to {gain['high']:+.3g})."


def _probabilities_hold(readings: Sequence[Reading]) -> Answer:
    question = "Does an error probability mean what it says?"
    known = [reading for reading in readings if reading.verdict != "no verdict"]
    words = " ".join(reading.sentence for reading in known or readings)
    headline = next((reading for reading in known if reading.level == UNCERTAIN), None)
    if headline is None:
        return Answer(question, UNKNOWN, words)
    optimistic = [reading for reading in known if reading.verdict == "too optimistic"]
    if any(reading.observed.mean > FAR_OFF * reading.read for reading in optimistic):
        return Answer(question, NO, words)
    holds = all(reading.verdict == "holds" for reading in known)
    return Answer(question, YES if holds else PARTLY, words)


def _intervals_hold(result: Mapping[str, Any], calibration: Mapping[str, Any]) -> Answer:
    question = "Does the true volume lie in the interval?"
    rows = [row for row in result["structures"] if "volume_interval" in row]
    rows = [row for row in rows if row["volume_interval"]["coverage"] is not None]
    if not rows:
        return Answer(question, UNKNOWN, f"No interval was fitted: {calibration['cases']} cases are too few.")
    said, level = [], YES
    for row in rows:
        held = row["volume_interval"]
        count, share, promised = held["cases"], held["coverage"], held["level"]
        said.append(f"{row['structure']} in {round(share * count)} of {count} cases")
        if share < promised - 2 * math.sqrt(promised * (1 - promised) / count):
            level = NO
    promised = rows[0]["volume_interval"]["level"]
    short = "" if level == YES else " That is fewer than chance explains."
    return Answer(question, level, f"{'; '.join(said)}; {promised * 100:.0f} % are promised.{short}")


def _predicted_dice(result: Mapping[str, Any]) -> Answer:
    question = "Does the predicted Dice tell good segmentations from bad ones?"
    rows = [row for row in result["structures"] if "predicted_dice" in row]
    if not rows:
        return Answer(question, UNKNOWN, "It was not fitted: too few cases.")
    said = []
    for row in rows:
        entry = row["predicted_dice"]
        error, plain = entry["mean_absolute_error"]["value"], entry["mean_absolute_error_of_mean"]["value"]
        if error is None or plain is None:
            continue
        shown = "shown" if entry["informative"] else "no better, therefore not shown"
        said.append(f"{row['structure']}: off by {error:.3f}, the mean of all cases by {plain:.3f} ({shown})")
    informative = [row["predicted_dice"]["informative"] for row in rows]
    level = YES if all(informative) else PARTLY if any(informative) else UNKNOWN
    return Answer(question, level, f"{'; '.join(said)}." if said else "No case has the structures.")


def _flags(calibration: Mapping[str, Any]) -> Answer:
    question = "Are bad cases flagged?"
    rules = (calibration.get("flags") or {}).get("rules") or {}
    useful = [rule["sentence"] for rule in rules.values() if rule["useful"]]
    if useful:
        return Answer(question, YES, " ".join(useful))
    reasons = list(dict.fromkeys(rule["sentence"] for rule in rules.values()))
    return Answer(question, UNKNOWN, " ".join(reasons) or "No limit was fitted.")
