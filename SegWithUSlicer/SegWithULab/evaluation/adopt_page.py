"""The end of an adoption: the model with graphs, card and licence, and one page that says whether it can be trusted.

The page asks a few questions about the model's uncertainty, and answers each with its figures (`trust_of`).
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SegWithUCore.calibration.error_counts import Reading
from SegWithUCore.inference.engines.compiled_graphs import add_graphs
from SegWithUCore.models.bundle import CARD_FILE, LICENCE_FILE, Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.model_card import licence_notice, model_card
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.models.stage_two_file import CHECK, check_words
from SegWithUCore.models.training_record import read_record
from SegWithUCore.regions.region import UNCERTAIN
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import SegWithUError
from SegWithUCore.util.progress import Progress
from SegWithUCore.util.strict_json import read_json_object

from ..calibration.blocks import WITHIN, worse_sentences
from ..calibration.fit_second_stage import LEAST_PATIENTS
from .adopt_folds import FEWEST_CASES, Fold, FoldPlan
from .report import tables_page
from .report_tables import Table, markdown

PAGE, PAGE_TEXT = "adoption.html", "adoption.md"
JUDGED_FILE = "judged.json"
TOO_RARE = "no two classes are mistaken for each other often enough"

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


def head_words(plan: FoldPlan, fold: Fold) -> str:
    """Say in the card what the network had seen of the cases that the head was trained with."""
    if plan.all_unseen:
        return f"The head was trained on {len(fold.seen)} cases that the network has not seen (the user's word)."
    return (
        f"The head was trained on the {len(fold.seen)} cases that the network was trained with, so it saw fewer of the "
        "errors that the network makes on new cases; what is fitted after it has seen them."
    )


def judged_words(plan: FoldPlan) -> str:
    """Say how the figures were made."""
    kind, groups = plan.groups()
    patients = len({plan.patients[case] for case in groups})
    cases = f"{len(groups)} cases of {patients} patients" if patients != len(groups) else f"{len(groups)} cases"
    if kind == "none":
        return "nothing was judged"
    if plan.all_unseen:
        parts = len(plan.folds)
        return (
            f"{cases} that the network has not seen, in {parts} parts; each with a head and calibration of the others"
        )
    if kind == "folds":
        return (
            f"{cases}, each predicted by the one of {len(plan.folds)} cross-validation models that has not seen it; "
            "each fold measured with a calibration of the others"
        )
    how = "third measured with a calibration of the other two" if kind == "thirds" else "patient left out in turn"
    return f"the {cases} that validated fold {plan.folds[0].network}, which the network has not seen; each {how}"


def write_adopted(
    plan: FoldPlan, calibrated: Path, judged: Path | None, output: Path, progress: Progress, overwrite: bool = True
) -> dict[str, Any]:
    """Write the finished model; whole or not at all.

    Args:
        calibrated: folder of the model so far.
        judged: folder of the judgement, None if there were too few cases.

    Returns:
        `trust`, `headline`, `warnings` about the network, and `graphs`: why there are none, or None.
    """
    known = None if judged is None else read_json_object(judged / JUDGED_FILE, "remove its folder, and run again")
    trust = Trust([Answer(**answer) for answer in known["answers"]] if known else [])
    with atomic_folder(output, overwrite) as work:
        progress("writing", 0.0)
        shutil.copytree(calibrated, work, dirs_exist_ok=True)
        bundle = read_bundle(work)
        if known is not None and judged is not None:
            about = {**bundle.about, "judged": judged_words(plan)}
            bundle = replace(bundle, figures=known["figures"], about=about)
        bundle = write_bundle_json(bundle, work)
        progress("compiling", 0.3)
        bundle, lacking = _with_graphs(bundle, work)
        (work / CARD_FILE).write_text(model_card(bundle), encoding="utf-8")
        (work / LICENCE_FILE).write_text(licence_notice(bundle.about), encoding="utf-8")
        _write_page(work, bundle, plan, trust, judged, known["with_stage_two"] if known else [])
    progress("writing", 1.0)
    warnings = model_warnings(bundle)
    return {"trust": trust.level, "headline": trust.headline, "graphs": lacking, "warnings": warnings}


def _with_graphs(bundle: Bundle, folder: Path) -> tuple[Bundle, str | None]:
    """Compile for the engine openvino, or say why not."""
    try:
        return add_graphs(replace(bundle, folder=folder), folder), None
    except (SegWithUError, ImportError) as error:
        return bundle, str(error).removesuffix(".")


def _write_page(
    folder: Path, bundle: Bundle, plan: FoldPlan, trust: Trust, judged: Path | None, with_stage_two: Sequence[bool]
) -> None:
    lead = [trust.headline, *page_lead(bundle, plan), *stage_two_lines(bundle, plan, with_stage_two)]
    tables = [_answers(trust)] if trust.answers else []
    limits = _limits(bundle, plan)
    title = f"{bundle.name} {bundle.about['version']}: can its uncertainty be trusted?"
    pictures = _pictures(judged)
    warnings = model_warnings(bundle)
    page = tables_page(title, [*lead, " ".join(limits)], tables, {}, pictures, warnings)
    (folder / PAGE).write_text(page, encoding="utf-8")
    text = [
        f"# {title}",
        *(f"**Warning: {warning}**" for warning in warnings),
        *[f"**{lead[0]}**", *lead[1:]],
        *([markdown(tables).rstrip()] if tables else []),
    ]
    text += ["## Limits", "\n".join(f"- {limit}" for limit in limits)]
    (folder / PAGE_TEXT).write_text("\n\n".join(text) + "\n", encoding="utf-8")


def page_lead(bundle: Bundle, plan: FoldPlan) -> list[str]:
    """Say what was adopted and on what it was judged."""
    origin = f"The network was {bundle.about.get('origin', bundle.name)}."
    if plan.groups()[0] == "none":
        few = len(plan.unseen)
        return [
            f"{origin} Only {few} cases are left that the network has not seen, and {FEWEST_CASES} are the fewest to "
            "fit anything on: the model is not calibrated, gives no error probability, and its ranking map was not "
            "measured."
        ]
    figures = {row["title"]: row for row in (bundle.figures or {}).get("table", [])}
    dice = [
        f"{label.name} {figures[f'dice {label.name}']['mean']:.3f}"
        for label in bundle.labels[1:]
        if f"dice {label.name}" in figures
    ]
    return [f"{origin} Judged on {judged_words(plan)}. Mean Dice: {', '.join(dice)}."]


def stage_two_lines(bundle: Bundle, plan: FoldPlan, judged: Sequence[bool]) -> list[str]:
    """Say whether the error probability sees the image, and why.

    Args:
        judged: of each calibration that judged the model, whether it took stage two.
    """
    calibration = bundle.calibration
    if calibration is None:
        return []
    if CHECK not in calibration:
        patients = len({plan.patients[case] for case, _ in plan.unseen})
        why = f"{patients} patients are too few, {LEAST_PATIENTS} are needed" if patients < LEAST_PATIENTS else TOO_RARE
        return [f"Stage two of the error probability, which sees the image, was left out: {why}."]
    taken = f"Of the {len(judged)} calibrations that judged the model, each fitted without the cases it judged, "
    taken += "1 took it." if sum(judged) == 1 else f"{sum(judged)} took it."
    worse = worse_sentences(calibration.get(WITHIN) or {}, bundle.labels)
    return [" ".join([check_words(calibration[CHECK]), taken, *worse])]


def _limits(bundle: Bundle, plan: FoldPlan) -> list[str]:
    record = read_record(bundle.folder)
    limits = list(record.remarks) if record else []
    if len(plan.networks) > 1:
        limits.append(
            f"The figures come from {len(plan.networks)} networks with a head each; the model holds the first of them."
        )
    limits.append(f"Who has seen what is known from {plan.source}.")
    if plan.dropped:
        limits.append(
            f"{len(plan.dropped)} validation cases were left out: another case of their patients was trained with."
        )
    if plan.unknown:
        limits.append(f"{len(plan.unknown)} cases of the data set are in no fold and were not used.")
    limits.append("All this holds for images like these, of the same kind of patients and scanners, and no others.")
    return limits


def _answers(trust: Trust) -> Table:
    rows = [[answer.question, answer.level, answer.words] for answer in trust.answers]
    return Table(
        "Questions and answers",
        "Intervals hold 95 % of bootstrap draws of patients.",
        ["question", "answer", "figures"],
        rows,
        words=3,
    )


def _pictures(judged: Path | None) -> Mapping[str, Sequence[tuple[str, Path]]]:
    place = None if judged is None else judged / "plots" / "reliability.png"
    if place is None or not place.is_file():
        return {}
    words = "Of the voxels that read an error probability, how many were wrong; below, how many voxels there are."
    return {"Reliability": [(words, place)]}
