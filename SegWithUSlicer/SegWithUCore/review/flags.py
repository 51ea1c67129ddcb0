"""Which cases need a look: the figures of a case, limits that the user sees and sets, and the reason for each flag."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..case.case_file import CASE_FILE, DAMAGED, naming_case, read_case
from ..models.quality import EMPTY_KIND, QUALITY_KIND
from ..regions.region import Region
from ..util.errors import InputError, UsageError
from ..util.strict_json import read_json_object
from .log_format import Verdict
from .reviews import Review, read_reviews

FIGURES = ("wrong_share", "wrong_mm3", "predicted_dice")
"""What a bundle keeps of its calibration cases (`calibration.flags.metrics`), sorted, for each of them."""
FIGURE_DIGITS = 6
"""Of the figures that a bundle keeps."""
LARGEST = 1e6
"""Stands for the infinite share of an empty segmentation, since JSON knows no infinity."""
WARNED = frozenset({"warning", "refused"})
"""Severities of a difference from the training cases that raise a flag; a note does not."""
WITHOUT_LIMITS = "the checks of input and model, empty structures and reviewers"
"""What flags a case although no limit is set."""
_LIMITED = {
    "wrong_share": ("an expected wrong volume", "expected_wrong_mm3"),
    "soft_dice": ("a soft Dice", "soft_dice"),
}
"""Limits of `FlagRules`: what an entry of a structure must have, in words and by its key."""
_WISHES = {Verdict.REJECTED: "rejected {}", Verdict.SECOND_READER: "wants a second reader for {}"}


class Rule(StrEnum):
    """What a flag is about."""

    WRONG_SHARE = "expected wrong share"
    SOFT_DICE = "soft Dice"
    OOD = "ood"
    EMPTY = "empty structure"
    MODEL = "model"
    REVIEWER = "reviewer"


_OF_KIND = {EMPTY_KIND: Rule.EMPTY, QUALITY_KIND: Rule.MODEL}


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

    def __post_init__(self) -> None:
        for name, most in (("wrong_share", math.inf), ("soft_dice", 1.0)):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, int | float) and 0 <= limit <= most and limit < math.inf):
                raise UsageError(f"The flag rule {name} has the limit {limit!r:.40}: give one from 0 to {most:g}.")

    @property
    def active(self) -> bool:
        """Whether any limit of a figure is set; else only what needs none raises flags (`WITHOUT_LIMITS`)."""
        return self != FlagRules()

    @classmethod
    def fitted(cls, calibration: Mapping[str, Any] | None) -> "FlagRules":
        """Limits that were fitted on calibration cases and are useful (`calibration.flag_limits`).

        Args:
            calibration: the block "flags" of a bundle's calibration, or None.
        """
        rules = (calibration or {}).get("rules") or {}
        return cls(**{name: float(entry["limit"]) for name, entry in rules.items() if entry["useful"]})


def read_rules(path: Path) -> FlagRules:
    """Read limits from a JSON file, such as {"wrong_share": 0.2}.

    Raises:
        UsageError: it cannot be read, or names something else.
    """
    try:
        return FlagRules(**read_json_object(path, "give a JSON file of limits"))
    except (InputError, TypeError) as error:
        known = ", ".join(_LIMITED)
        raise UsageError(f"The flag rules in {path} cannot be read ({error}): there are {known}.") from error


def flags_of_case(folder: Path, rules: FlagRules | None = None) -> list[Flag]:
    """Find the flags of a case folder.

    Args:
        rules: None for those that were fitted with the case's model.

    Raises:
        InputError: it is no case folder, or damaged.
    """
    case = read_case(folder)
    with naming_case(folder):
        found = read_reviews(folder, case)
        return case_flags(case, rules or rules_of_case(case), found.reviews, found.regions)


def rules_of_case(case: Mapping[str, Any]) -> FlagRules:
    """Return the limits that the case's model brings; if it brings none, only what needs no limit raises flags.

    Raises:
        InputError: they are damaged.
    """
    try:
        return FlagRules.fitted((case.get("model") or {}).get("flags"))
    except (*DAMAGED, UsageError) as error:
        raise InputError(f"The flag rules in {CASE_FILE} are damaged ({error!r}): segment the case again.") from error


def case_flags(
    case: Mapping[str, Any], rules: FlagRules, reviews: Sequence[Review] = (), regions: Sequence[Region] = ()
) -> list[Flag]:
    """Find the flags of a case; values that it lacks raise none.

    Args:
        case: the content of its `case.json`.
        reviews, regions: of `reviews.read_reviews`.

    Raises:
        InputError: the case is damaged.
    """
    try:
        found = _of_warnings(case)
        found += [flag for entry in structures_of(case) for flag in _of_structure(entry, rules)]
        found += _of_whole(case, rules)
    except DAMAGED as error:
        raise InputError(f"{CASE_FILE} is damaged ({error!r:.200}): segment the case again.") from error
    return [*found, *_of_reviewers(reviews, regions)]


def _of_warnings(case: Mapping[str, Any]) -> list[Flag]:
    """Flag what the case warns of; first the model, then empty structures."""
    names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
    found: dict[Rule, list[Flag]] = {Rule.MODEL: [], Rule.EMPTY: [], Rule.OOD: []}
    for warning in (case.get("ood") or {}).get("warnings") or []:
        if warning["severity"] in WARNED:
            structure = warning.get("structure")
            name = None if structure is None else names.get(int(structure))
            rule = _OF_KIND.get(str(warning.get("kind")), Rule.OOD)
            found[rule].append(Flag(rule, name, None, None, str(warning["message"])))
    return [flag for flags in found.values() for flag in flags]


def first_lines(flags: Iterable[Flag], rules: Collection[Rule] = (Rule.MODEL, Rule.EMPTY)) -> list[str]:
    """Return what stands above all else of a case, or of many with `Rule.MODEL` alone; each sentence once."""
    return list(dict.fromkeys(flag.message for flag in flags if flag.rule in rules))


def structures_of(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of the case's structures without the background."""
    return [entry for entry in case["structures"] if int(entry["value"]) != 0]


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


def dice_estimate(entry: Mapping[str, Any]) -> float | None:
    """Predicted Dice of a structure, informative or not; None if there is none."""
    value = entry.get("dice_estimate")
    return None if value is None else float(value)


def informative_dice(entry: Mapping[str, Any]) -> float | None:
    """Predicted Dice of a structure; None if there is none or it says nothing."""
    dice = entry.get("predicted_dice")
    return None if dice is None or not entry.get("predicted_dice_informative") else float(dice)


def _of_structure(entry: Mapping[str, Any], rules: FlagRules) -> Iterator[Flag]:
    name, share, soft = str(entry["name"]), wrong_share(entry), entry.get("soft_dice")
    if rules.wrong_share is not None and share is not None and share > rules.wrong_share:
        is_empty = math.isinf(share)
        what = "it is empty, and" if is_empty else f"{_percent(share)} of its volume"
        words = f"{name}: {what} ({entry['expected_wrong_mm3']:.0f} mm3) is expected to be wrong, above the limit of "
        figure = None if is_empty else share  # JSON knows no infinity
        yield Flag(Rule.WRONG_SHARE, name, figure, rules.wrong_share, f"{words}{_percent(rules.wrong_share)}.")
    if rules.soft_dice is not None and soft is not None and soft < rules.soft_dice:
        words = "its own probabilities expect a Dice of {} (soft Dice), below the limit of {}"
        words = words.format(*told_apart(float(soft), rules.soft_dice, 3))
        yield Flag(Rule.SOFT_DICE, name, float(soft), rules.soft_dice, f"{name}: {words}.")


def _of_whole(case: Mapping[str, Any], rules: FlagRules) -> Iterator[Flag]:
    figures = metrics_of_case(case)
    share, wrong = figures["wrong_share"], figures["wrong_mm3"]
    if rules.wrong_share is None or share is None or wrong is None or share <= rules.wrong_share:
        return
    words = f"{_percent(share)} of the segmented volume" if share < LARGEST else "Nothing was found, and as much as"
    words += f" ({wrong:.0f} mm3, missed tissue included) is expected to be wrong, above the limit of "
    words += f"{_percent(rules.wrong_share)}."
    yield Flag(Rule.WRONG_SHARE, None, share if share < LARGEST else None, rules.wrong_share, words)


def no_flag_sentence(active: bool) -> str:
    """Say why a case has no flag.

    Args:
        active: whether a limit of any figure is set (`FlagRules.active`).
    """
    if active:
        return "No rule flags this case."
    return (
        "No rule is active for this model: its calibration cases gave no limit that tells bad cases from good ones. "
        f"Only {WITHOUT_LIMITS} can flag a case, unless you set a limit."
    )


def check_limits(cases: Sequence[Mapping[str, Any]], rules: FlagRules) -> list[str]:
    """Check that limits which a user has set can act; returns a sentence for each that some cases escape.

    Args:
        cases: contents of their `case.json`.

    Raises:
        UsageError: none of the cases has the figure that a limit is about.
    """
    notes = []
    for limit, (what, key) in _LIMITED.items():
        if getattr(rules, limit) is None or not cases:
            continue
        lacking = sum(all(entry.get(key) is None for entry in structures_of(case)) for case in cases)
        if lacking == len(cases):
            raise UsageError(f"The flag rule {limit} cannot act, since no case has {what}: leave it out.")
        if lacking:
            notes.append(f"The flag rule {limit} does not act on {lacking} of {len(cases)} cases, which lack {what}.")
    return notes


def _of_reviewers(reviews: Sequence[Review], regions: Sequence[Region]) -> Iterator[Flag]:
    names = list(dict.fromkeys(region.structure for region in regions))
    for review in reviews:
        for name in names:
            own = review.verdicts([region for region in regions if region.structure == name])
            for verdict, words in _WISHES.items():
                count = sum(given is verdict for given in own.values())
                if count:
                    said = f"{review.reviewer} {words.format(f'{count} region' if count == 1 else f'{count} regions')}"
                    yield Flag(Rule.REVIEWER, name, float(count), None, f"{name}: {said}.")
            standing = review.state.structure(name)
            if standing.explicit and standing.verdict in _WISHES:
                said = _WISHES[standing.verdict].format("the whole structure")
                yield Flag(Rule.REVIEWER, name, None, None, f"{name}: {review.reviewer} {said}.")


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def told_apart(value: float, limit: float, digits: int) -> tuple[str, str]:
    """Write a value and the limit that it is beyond, with more digits where fewer read the same."""
    for count in range(digits, digits + 4):
        texts = f"{value:.{count}f}", f"{limit:.{count}f}"
        if texts[0] != texts[1]:
            break
    return texts


def metrics_of_case(case: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the `FIGURES` of a case.

    Args:
        case: the content of its `case.json`.
    """
    wrong = [float(entry["expected_wrong_mm3"]) for entry in case["structures"]
             if entry.get("expected_wrong_mm3") is not None]  # fmt: skip
    volume = sum(float(entry["volume_mm3"]) for entry in case["structures"] if int(entry["value"]) != 0)
    dice = [value for entry in case["structures"] if (value := dice_estimate(entry)) is not None]
    total = sum(wrong) if wrong else None
    return {
        "wrong_share": None if total is None else finite_share(total, volume),
        "wrong_mm3": total,
        "predicted_dice": min(dice, default=None),
    }
