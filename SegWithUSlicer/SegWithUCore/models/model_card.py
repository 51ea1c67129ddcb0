"""`MODEL_CARD.md` and the licence notice, written from what `bundle.json` says."""

from collections.abc import Mapping
from typing import Any

from ..calibration.per_structure import AMBIGUOUS, SEGMENTED
from ..network.specs import HEAD_WORDS, HeadWords
from .bundle import FITTED_BY, Bundle
from .quality import input_check_words, model_warnings
from .stage_two_file import CHECK, check_words
from .training_record import TrainingRecord, read_record, training_words

LICENCE_PAGES = {
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
}
CARD_ROWS = (
    ("auroc whole ranking", "ranking map finds wrong voxels, AUROC, whole crop", 1.0),
    ("auroc band ranking", "the same within the band", 1.0),
    ("auprc whole ranking", "AUPRC, whole crop", 1.0),
    ("auprc whole error probability", "AUPRC of the error probability, which knows the direction of an error", 1.0),
    ("auprc whole softmax", "AUPRC of 1 - maximum softmax", 1.0),
    ("error rate", "share of wrong voxels", 1.0),
    ("aurc whole ranking", "AURC of the ranking map, x 1000", 1000.0),
    ("aurc whole error probability", "AURC of the error probability, x 1000", 1000.0),
    ("aurc whole softmax", "AURC of 1 - maximum softmax, x 1000", 1000.0),
    ("aurc whole distance", "AURC of the distance to the predicted boundary, x 1000", 1000.0),
    ("nll plain", "NLL of the plain probabilities", 1.0),
    ("nll tempered by the map alone", "NLL after tempering by the calibration map alone", 1.0),
    ("nll tempered", "NLL after tempering, with the scale refitted on calibration cases", 1.0),
    ("nll temperature scaling", "NLL after temperature scaling", 1.0),
    ("error probability ece band", "error probability: ECE in 15 equal-mass bins, within the band", 1.0),
    ("error probability brier", "error probability: Brier score, whole crop", 1.0),
    ("error probability brier softmax", "Brier score of isotonic regression on 1 - maximum softmax", 1.0),
)
"""Rows of the card: title among the figures, words, factor."""

RULE_WORDS = {
    "wrong_mm3": "Expected wrong volume of a structure, mm3",
    "wrong_share": "Expected wrong volume as a share of the structure",
    "interval_share": "Width of the volume interval as a share of the expected volume",
    "dice": "Predicted Dice",
    "soft_dice": "Lowest soft Dice of a structure",
}


def licence_notice(about: Mapping[str, str]) -> str:
    """Say who may do what with the weights, and what they were made from."""
    licence = about["licence_weights"]
    page = LICENCE_PAGES.get(licence, "")
    if "origin" in about:
        changes = f"The backbone was not trained here: {about['origin']}; its weights are unchanged."
    else:
        changes = "Changes: a neural network was trained on the images; no image is contained."
    return (
        f"The weights of the model '{about['name']}' are licensed under {licence}. {page}\n\n"
        f"They were derived by training on: {about.get('data', 'see the citation')} ({about['licence_data']}).\n"
        f"{about['citation']}\n\n{changes}\n"
    )


def model_card(bundle: Bundle) -> str:
    """Write the card: what the model is for, how it was made, how well it works, how to read its maps."""
    about, record = bundle.about, read_record(bundle.folder)
    parts = [
        f"# {about['name']} {about['version']}",
        *(f"**Warning: {warning}**" for warning in model_warnings(bundle)),
        about["task"] + " **For research, not for clinical use.**",
        "## What it expects",
        _expectations(bundle),
        "## How it was made",
        _making(bundle, record),
        "## How well it works",
        _metrics(bundle.figures, record, about.get("judged")),
        "## How to read the maps",
        "*Error probability*: of 100 voxels that read 0.25, about 25 are wrong. *Ranking map*: orders voxels by risk, "
        f"{_head_words(bundle.default_head.variant).ranking}. "
        "*Calibration map*: how much the probabilities are softened: "
        "softmax(z / (s sqrt(1 + U))), s = the fitted `tempering_scale`. A low value never means that a voxel is "
        "correct, and no map speaks about images unlike those of training.",
        *_numbers(bundle),
        *_flags(bundle),
        *_site(bundle),
        "## Licence and citation",
        f"Weights: {about['licence_weights']}. Training data: {about['licence_data']}. {about['citation']}",
    ]
    return "\n\n".join(parts) + "\n"


def _head_words(variant: str) -> HeadWords:
    """Return the words for a head; those of heads that were added are in the registry `HEADS`, which imports torch."""
    if variant in HEAD_WORDS:
        return HEAD_WORDS[variant]
    from ..network.heads import HEADS

    return HeadWords(HEADS[variant].description, HEADS[variant].ranking)


def _making(bundle: Bundle, record: TrainingRecord | None) -> str:
    about, calibration, arguments = bundle.about, bundle.calibration, dict(bundle.backbone.arguments)
    fitted = "not calibrated: there is no error probability"
    if calibration is not None:
        words = (
            calibration_words(calibration)
            if "stage_two" in calibration
            else f"{calibration['cases']} calibration cases{_fitted_by(calibration)}"
        )
        fitted = f"error probability fitted on {words}"
        if CHECK in calibration:
            fitted += f". {check_words(calibration[CHECK]).removesuffix('.')}"
    head = bundle.default_head
    heads = f"Uncertainty head: {head.name}, {_head_words(head.variant).description}"
    further = [head.name for head in bundle.heads if not head.default]
    if further:
        heads += f"; with `--head` also {', '.join(further)}"
    if not all(head.trained for head in bundle.heads):
        heads += ", not trained: its ranking map says little more than the network's own probabilities do."
    elif "origin" not in about or calibration is not None:
        heads += ", trained on the frozen backbone."
    else:
        heads += ", imported with the backbone."
    backbone = f"Backbone: {bundle.backbone.kind}, `{arguments}`"
    if "origin" in about:
        text = f"{backbone}, not trained here: {about['origin']}. {heads} "
    else:
        data = f" on {about['data']}" if "data" in about else ""
        text = f"{backbone}, trained{data}. {heads} "
    return f"{text}Calibration: {fitted}.\n\n{training_words(record)}"


def calibration_words(calibration: Mapping[str, Any]) -> str:
    """Say on how many cases the error probability was fitted, and whether it sees the image."""
    stage = calibration.get("stage_two")
    cases = f"{calibration['cases']} calibration cases"
    by = _fitted_by(calibration)
    if stage is None:
        return f"{cases}, without the image{by}"
    more = calibration.get("stage_two_check", {}).get("out_of_fold", {})
    further = f" and {more['cases']} training cases that cross-validation models predicted" if more.get("taken") else ""
    if stage["cases"] == calibration["cases"] and not further:
        return f"{cases}, with the image (stage two){by}"
    return f"{cases}, and stage two, which sees the image, on {stage['cases']}{further}{by}"


def _fitted_by(calibration: Mapping[str, Any]) -> str:
    """Say which version fitted a calibration, to end a list; empty where that is not recorded."""
    return f", by segwithu {calibration[FITTED_BY]['segwithu']}" if FITTED_BY in calibration else ""


def _expectations(bundle: Bundle) -> str:
    spec, fingerprint = bundle.input, bundle.fingerprint
    channels = ", ".join(spec.channels)
    text = f"{channels}." if channels == spec.modality else f"{channels} ({spec.modality})."
    if "notes" in bundle.about:
        text += f" {bundle.about['notes']}"
    if fingerprint is not None:
        span = fingerprint["field_of_view_mm"]
        sides = zip(span["low"], span["high"], strict=True)
        text += (
            f" The {fingerprint['cases']} training cases span {' x '.join(f'{a:g}-{b:g}' for a, b in sides)} mm "
            f"along {', '.join(spec.orientation)}: give a region of interest of about that size. The input check "
            f"{input_check_words(bundle)}."
        )
    return text


def _numbers(bundle: Bundle) -> list[str]:
    """Explain the case-level numbers of a structure; nothing for bundles without them."""
    calibration = bundle.calibration or {}
    intervals, dice = calibration.get("volume_interval") or {}, calibration.get("predicted_dice") or {}
    lines = []
    for label in bundle.labels[1:]:
        interval, line = intervals.get(str(label.value)), dice.get(str(label.value))
        parts = []
        if interval is not None:
            parts.append(_interval_words(interval))
        if line is not None:
            parts.append(_dice_words(line))
        if parts:
            lines.append(f"- {label.name}: {'; '.join(parts)}.")
    if not lines:
        return []
    return [
        "## Numbers per structure",
        "*Expected volume*: what the softened probabilities add up to (where the interval is a share of the segmented "
        "volume: that volume), corrected by the mean ratio found on calibration cases. *Interval*: in nine of "
        "ten new cases like the training cases, the volume that an expert "
        "would draw lies inside; how far the calibration cases were off says how wide it must be, so it holds although "
        "neighbouring voxels are wrong together. It is a promise on average over cases, not for each kind of patient. "
        "*Predicted Dice*: the overlap with an expert's drawing that the model expects for this case; *not "
        "informative* where it told better from worse segmentations of the calibration cases no better than their "
        "mean does. Outside the region of interest, and for images far from the training cases, all of them read *not "
        "assessed*.",
        "\n".join(lines),
    ]


def _flags(bundle: Bundle) -> list[str]:
    """Say which cases are flagged by default, and what that is worth; nothing for bundles without fitted limits."""
    flags = (bundle.calibration or {}).get("flags")
    if not flags:
        return ["## Flags", "Not fitted."] if bundle.calibration is not None else []
    if "alpha" not in flags:
        return [
            "## Flags",
            f"A case is *bad* here where the Dice of a structure is below {flags['bad_dice']:.3f} "
            f"({flags['bad_cases']} of {flags['cases']} cases that the network has not been trained with"
            f"{_fold_words(flags)}). One figure, "
            "chosen beforehand, flags cases: the lowest *soft Dice* of a structure, which is the Dice that its own "
            f"probabilities expect. Its limit is set so that of new bad cases like them at most "
            f"{flags['missed_share']:.0%} go by without a flag, on average (conformal risk control). Every limit can "
            "be set by the user.",
            "\n".join(f"- {RULE_WORDS[name]}: {rule['sentence']}" for name, rule in flags["rules"].items()),
            *([flags["fold_errors"]["sentence"]] if "fold_errors" in flags else []),
        ]
    return [
        "## Flags",
        f"A case is *bad* here where the Dice of a structure is below {flags['bad_dice']:.3f} ({flags['bad_cases']} of "
        f"{flags['cases']} calibration cases). Each limit is set so that of new cases like them at most "
        f"{flags['alpha']:.0%} are bad and not flagged (conformal risk control; {flags['cases']} cases allow no bound "
        f"below {flags['least_alpha']:.1%}). Every limit can be set by the user.",
        "\n".join(f"- {RULE_WORDS[name]}: {rule['sentence']}" for name, rule in flags["rules"].items()),
    ]


def _fold_words(flags: Mapping[str, Any]) -> str:
    """Say what cross-validation models predicted, whose cases were moved to the network's own means."""
    if "fold_cases" not in flags:
        return ""
    return (
        f", and {flags['fold_bad_cases']} of {flags['fold_cases']} training cases that cross-validation models "
        "predicted, moved to the network's own means"
    )


def _site(bundle: Bundle) -> list[str]:
    """Say what was fitted anew on cases of another site; nothing for other bundles."""
    site = (bundle.calibration or {}).get("site")
    if not site:
        return []
    return [
        "## Calibrated anew",
        f"On {site['cases']} cases of {site['patients']} patients, after the model's own calibration:",
        "\n".join(f"- {sentence}" for sentence in site["sentences"]),
    ]


def _interval_words(interval: Mapping[str, Any]) -> str:
    words = f"interval fitted on {interval['cases']} cases, level {interval['level']:.0%}"
    if interval.get("of") == SEGMENTED:
        words += f", {interval['half_width']:.0%} of the segmented volume up and down"
    compared = interval.get("compared")
    if not compared:
        return words
    sides = [f"{each['width_mm3']:.0f} mm3 wide, holds {each['coverage']:.1%}" for each in
             (compared[AMBIGUOUS], compared[SEGMENTED])]  # fmt: skip
    return f"{words} (on cases left out, of the ambiguous volume: {sides[0]}; of the segmented volume: {sides[1]})"


def _dice_words(line: Mapping[str, Any]) -> str:
    figures = f"{line['error']:.3f} against {line['error_of_mean']:.3f} for the mean {line['mean']:.3f}"
    verdict = "informative" if line["informative"] else "not informative, therefore not shown"
    if line.get("structures", 1) > 1:
        verdict += f", judged on {line['structures']} structures together"
    if "shrinkage" in line:
        verdict += f", {line['shrinkage']:.0%} of its slope kept"
    cases = f"{line['cases']} cases"
    if "fold_cases" in line:
        cases += f" and {line['fold_cases']} training cases that cross-validation models predicted, each"
        return f"predicted Dice {verdict} (mean error, {cases} left out in turn: {figures})"
    return f"predicted Dice {verdict} (mean error, each of {cases} left out in turn: {figures})"


def _metrics(figures: Mapping[str, Any] | None, record: TrainingRecord | None, judged: str | None) -> str:
    """Write the figures; `judged` says how they were made where no test cases were kept apart."""
    if figures is None:
        return "Not measured yet: run `segwithu evaluate --record`."
    by_title = {entry["title"]: entry for entry in figures["table"]}
    dice = [(title, title.replace("dice ", "Dice, "), 1.0) for title in by_title if title.startswith("dice ")]
    rows = ["| figure | mean | 10 % to 90 % of cases |", "|---|---|---|"]
    for title, words, factor in [*dice, *CARD_ROWS]:
        entry = by_title.get(title)
        if entry and entry["cases"]:
            mean, low, high = (f"{entry[key] * factor:.3g}" for key in ("mean", "p10", "p90"))
            rows.append(f"| {words} | {mean} | {low} to {high} |")
    notes = [f"- {title}: {_comparison(value)}" for title, value in figures["comparisons"].items()]
    apart = "" if judged else f" {_apart(record)}"
    where = f"Measured on {judged or '{} cases'.format(figures['cases'])}"
    return (
        f"{where}; means over cases.{apart} The band holds the voxels within "
        "3 mm of the predicted surface. Figures of every case: `bundle.json`.\n\n"
        + "\n".join(rows)
        + "\n\nComparisons, with 95 % bootstrap intervals over cases in brackets:\n\n"
        + "\n".join(notes)
    )


def _apart(record: TrainingRecord | None) -> str:
    """Say whether the cases of the figures were used for anything else, if that is known."""
    roles = {} if record is None else record.roles or {}
    if record is None or not {"train", "select", "calibration", "test"} <= set(roles):
        return "Whether they were used for anything else is not recorded."
    others = {sha256 for role, known in roles.items() if role != "test" for sha256 in known}
    both = sum(sha256 in others for sha256 in roles["test"])
    if both:
        return f"{both} of them were used for training, validation or calibration too: new cases will fare worse."
    return "None of them is a training, validation or calibration case (compared by their voxels)."


def _comparison(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value['mean']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
