"""Flags of cases to review first: the metrics of a case, limits fitted on calibration cases, and a reason for each."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..case.case_file import asked_structures
from ..models.quality import EMPTY_KIND, MISPLACED_KIND, QUALITY_KIND
from .reviews import Review
from .verdicts import GIVEN, Verdict

# What a bundle keeps of its calibration cases (`calibration.flags.metrics`), sorted, for each of them.
FIGURES = ("wrong_share", "wrong_mm3", "predicted_dice")
# Precision of the metrics in a bundle.
FIGURE_DIGITS = 6
# Stands for the infinite share of an empty segmentation, since JSON has no infinity.
LARGEST = 1e6
# Severities of a difference from the training cases that raise a flag; a note does not.
WARNED = frozenset({"warning", "refused"})
# A case, or a structure, of which more is expected to be wrong is flagged, whatever its model's limits are.
MOST_WRONG_SHARE = 0.5


class Rule(StrEnum):
    """What a flag is about, the most important first: in this order a case has its flags."""

    MODEL = "model"
    MISPLACED = "misplaced structure"
    EMPTY = "empty structure"
    WRONG_SHARE = "expected wrong share"
    SOFT_DICE = "soft Dice"
    OOD = "ood"
    REVIEWER = "reviewer"


_OF_KIND = {EMPTY_KIND: Rule.EMPTY, MISPLACED_KIND: Rule.MISPLACED, QUALITY_KIND: Rule.MODEL}


@dataclass(frozen=True)
class Flag:
    """Why a case needs a look.

    Attributes:
        rule: that raised it.
        structure: name; None for the whole case.
        value, limit: what was found and what is allowed, in the rule's unit; None if the rule has no figure.
        message: for people.
    """

    rule: Rule
    structure: str | None
    value: float | None
    limit: float | None
    message: str

    def to_json(self) -> dict[str, Any]:
        """For `case.json` and `worklist.json`."""
        return {**asdict(self), "rule": self.rule.value}


@dataclass(frozen=True)
class FlagRules:
    """Limits beyond which a case is flagged; None switches a rule off.

    Attributes:
        wrong_share: most expected wrong volume of a structure as a share of its volume, and of the whole case, missed
            tissue included, as a share of the segmented volume.
        soft_dice: lowest soft Dice of a structure, which is what the fitted limit is about.
    """

    wrong_share: float | None = None
    soft_dice: float | None = None

    @property
    def active(self) -> bool:
        """Whether any limit of a figure is set."""
        return self != FlagRules()

    @classmethod
    def fitted(cls, calibration: Mapping[str, Any] | None) -> "FlagRules":
        """Limits that were fitted on calibration cases and are useful (`calibration.flag_limits`).

        Args:
            calibration: the block "flags" of a bundle's calibration, or None.
        """
        rules = (calibration or {}).get("rules") or {}
        return cls(**{name: float(entry["limit"]) for name, entry in rules.items() if entry["useful"]})


def rules_of_case(case: Mapping[str, Any]) -> FlagRules:
    """Return the limits that the case's model brings; if it brings none, only what needs no limit raises flags.

    Raises:
        LookupError, TypeError, ValueError: they are damaged, which `naming_case` reports.
    """
    return FlagRules.fitted((case.get("model") or {}).get("flags"))


def case_flags(case: Mapping[str, Any], rules: FlagRules, reviews: Sequence[Review] = ()) -> list[Flag]:
    """Find the flags of a case; values that it lacks raise none.

    Args:
        case: the content of its `case.json`.
        reviews: of `reviews.read_reviews`.

    Raises:
        LookupError, TypeError, ValueError: the case is damaged, which `naming_case` reports.
    """
    whole, order = metrics_of_case(case), list(Rule)
    limit = MOST_WRONG_SHARE if rules.wrong_share is None else min(rules.wrong_share, MOST_WRONG_SHARE)
    of_case = limit if asks_all(case) else MOST_WRONG_SHARE  # the fitted limit is about all structures together
    found = [*_of_warnings(case), *_of_share(None, whole["wrong_share"], whole["wrong_mm3"], of_case, asks_all(case))]
    for entry in sorted(asked_of(case), key=lambda entry: -(wrong_share(entry) or 0.0)):
        found += _of_structure(entry, rules, limit)
    return sorted([*found, *_of_reviewers(reviews)], key=lambda flag: order.index(flag.rule))


def _of_warnings(case: Mapping[str, Any]) -> Iterator[Flag]:
    """Flag what the case warns of."""
    names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
    for warning in warnings_of(case):
        if warning["severity"] in WARNED:
            structure = warning.get("structure")
            name = None if structure is None else names.get(int(structure))
            rule = _OF_KIND.get(str(warning.get("kind")), Rule.OOD)
            yield Flag(rule, name, None, None, str(warning["message"]))


def structures_of(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of the case's structures without the background."""
    return [entry for entry in case["structures"] if int(entry["value"]) != 0]


def asked_of(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of the structures that are to be measured; all where none were chosen."""
    asked = asked_structures(case)
    return [entry for entry in structures_of(case) if entry["name"] in asked]


def asks_all(case: Mapping[str, Any]) -> bool:
    """Whether all structures are to be measured."""
    return len(asked_of(case)) == len(structures_of(case))


def warnings_of(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the warnings of a case, without those about a structure that is not asked for."""
    asked = [entry["value"] for entry in asked_of(case)]
    others = {int(entry["value"]) for entry in structures_of(case) if entry["value"] not in asked}
    return [each for each in (case.get("ood") or {}).get("warnings") or [] if each.get("structure") not in others]


def wrong_share(entry: Mapping[str, Any]) -> float | None:
    """Divide the expected wrong volume by the volume; infinite if it is empty, None if not assessed."""
    wrong = entry.get("expected_wrong_mm3")
    return None if wrong is None else share_of(float(wrong), float(entry["volume_mm3"]))


def share_of(part: float, whole: float) -> float:
    """Part over whole; infinite if there is a part of nothing."""
    return part / whole if whole > 0 else math.inf if part > 0 else 0.0


def finite_share(part: float, whole: float) -> float:
    """Part over whole; `LARGEST` if there is a part of nothing."""
    return min(share_of(part, whole), LARGEST)


def informative_dice(entry: Mapping[str, Any]) -> float | None:
    """Predicted Dice of a structure; None if there is none or it is not informative."""
    dice = entry.get("predicted_dice")
    return None if dice is None or not entry.get("predicted_dice_informative") else float(dice)


def _of_structure(entry: Mapping[str, Any], rules: FlagRules, limit: float) -> Iterator[Flag]:
    name, soft = str(entry["name"]), entry.get("soft_dice")
    yield from _of_share(name, wrong_share(entry), entry.get("expected_wrong_mm3"), limit)
    if rules.soft_dice is not None and soft is not None and soft < rules.soft_dice:
        share = 100 * min(wrong_share(entry) or 0.0, 1.0)
        message = f"The model is not certain enough of the {name}: about {share:.0f} % of it is likely wrong."
        yield Flag(Rule.SOFT_DICE, name, float(soft), rules.soft_dice, message)


def _of_share(
    name: str | None, share: float | None, wrong: float | None, limit: float, is_whole: bool = False
) -> Iterator[Flag]:
    """Flag a structure, or all that is asked for, of which too much is expected to be wrong."""
    if share is None or wrong is None or share <= limit:
        return
    is_empty, missed = share >= LARGEST, ", missed tissue included" if is_whole else ""
    of_what = "its volume" if name else "the segmented volume" if is_whole else "the volume asked for"
    found = "nothing was segmented, and as much as" if is_empty else f"{_percent(share)} of {of_what}"
    message = f"{found} ({wrong:.0f} mm3{missed}) is expected to be wrong, above the limit of {_percent(limit)}."
    message = f"{name}: {message}" if name else f"{message[:1].upper()}{message[1:]}"
    yield Flag(Rule.WRONG_SHARE, name, None if is_empty else share, limit, message)  # JSON has no infinity


def _of_reviewers(reviews: Sequence[Review]) -> Iterator[Flag]:
    """Flag each structure of which a verdict wants attention: on it, a region, an added place or the blind sample."""
    for review in reviews:
        listed = review.state.listed()
        for name in dict.fromkeys([*(region.structure for region in listed), *review.state.asked]):
            own = review.verdicts([region for region in listed if region.structure == name])
            standing = review.state.structure(name)
            for verdict in GIVEN if standing.verdict is not Verdict.CORRECTED else ():  # what was rejected is mended
                count = list(own.values()).count(verdict)
                if verdict.wants_attention and count:
                    what = verdict.kind.flag.format(f"{count} region" if count == 1 else f"{count} regions")
                    yield Flag(Rule.REVIEWER, name, float(count), None, f"{name}: {review.reviewer} {what}.")
            if standing.verdict is not None and standing.verdict.wants_attention:
                what = standing.verdict.kind.flag.format("the whole structure")
                yield Flag(Rule.REVIEWER, name, None, None, f"{name}: {review.reviewer} {what}.")


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def distinct_texts(value: float, limit: float, digits: int) -> tuple[str, str]:
    """Write a value and the limit that it is beyond, with more digits where fewer read the same."""
    for count in range(digits, digits + 4):
        texts = f"{value:.{count}f}", f"{limit:.{count}f}"
        if texts[0] != texts[1]:
            break
    return texts


def metrics_of_case(case: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the `FIGURES` of what is asked for, and the mean of its structures' estimated Dice, which sorts only.

    Missed tissue counts where all is asked for: whose it is the background does not say.

    Args:
        case: the content of its `case.json`.
    """
    asked = asked_of(case)
    wrong = [float(entry["expected_wrong_mm3"]) for entry in (case["structures"] if asks_all(case) else asked)
             if entry.get("expected_wrong_mm3") is not None]  # fmt: skip
    volume = sum(float(entry["volume_mm3"]) for entry in asked)
    dice = [value for entry in asked if (value := informative_dice(entry)) is not None]
    estimates = [float(each) for entry in asked if (each := entry.get("dice_estimate")) is not None]
    total = sum(wrong) if wrong else None
    return {
        "wrong_share": None if total is None else finite_share(total, volume),
        "wrong_mm3": total,
        "predicted_dice": min(dice, default=None),
        "mean_dice": sum(estimates) / len(estimates) if estimates else None,
    }
