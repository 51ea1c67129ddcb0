"""An evaluation in some ten sentences: what `segwithu evaluate` and `models show` print of it."""

from collections.abc import Mapping
from typing import Any

SCORE, RIVAL = "error probability", "softmax"


def in_words(result: Mapping[str, Any]) -> list[str]:
    """Say what was measured; what the figures lack is left out.

    Args:
        result: of `summary.summary`, or the part of it that a bundle keeps.
    """
    rows = {row["title"]: row for row in result["table"] if row.get("cases")}
    found = [
        _dice(rows, result),
        *_worst(result),
        *_input_check(result),
        _error_rate(rows),
        *_finding(rows),
        *_riskiest(result),
    ]
    found += [*_probabilities(rows, result), *_softened(rows), *_unseen(rows), *_intervals(result), *_cases(result)]
    return [sentence for sentence in found if sentence]


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _dice(rows: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    said = [
        _with_interval(title.removeprefix("dice "), row) for title, row in rows.items() if title.startswith("dice ")
    ]
    cases = f"{result['cases']} cases" if result["cases"] != 1 else "1 case"
    patients = result.get("patients", result["cases"])
    whom = cases if patients == result["cases"] else f"{cases} of {patients} patients"
    return f"Segmentation, {whom}: mean Dice of {', '.join(said)}." if said else f"{whom[:1].upper()}{whom[1:]}."


def _with_interval(name: str, row: Mapping[str, Any]) -> str:
    between = "" if row.get("low") is None else f" (95 %: {row['low']:.3f} to {row['high']:.3f})"
    return f"{name} {row['mean']:.3f}{between}"


def _worst(result: Mapping[str, Any]) -> list[str]:
    details = result.get("details_by_case") or {}
    known = {name: case["mean_dice"] for name, case in details.items() if case.get("mean_dice") is not None}
    if len(known) < 2:
        return []
    worst = min(known, key=lambda name: known[name])
    return [f"Worst case: {worst} with a mean Dice of {known[worst]:.3f}."]


NAMED = 5
"""Cases unlike the training cases that are named; the report has all."""


def _input_check(result: Mapping[str, Any]) -> list[str]:
    """Say how many cases look unlike the training cases, and which."""
    check = result.get("input_check")
    if check is None:
        return []
    unlike, cases = check["unlike"], check["cases"]
    noted = f"; notes on {len(check['noted'])} more" if check["noted"] else ""
    noted += f"; not compared: {', '.join(check['lacks'])}" if check["lacks"] else ""
    if not unlike:
        return [
            f"Input check: {'the case' if cases == 1 else f'none of {cases} cases'} "
            f"{'does not look' if cases == 1 else 'looks'} unlike the training cases{noted}."
        ]
    names = ", ".join(unlike[:NAMED]) + (", ..." if len(unlike) > NAMED else "")
    verb = "looks" if len(unlike) == 1 else "look"
    return [
        f"Input check: {len(unlike)} of {cases} cases {verb} unlike the training cases ({names}){noted}: judge them "
        "apart, the report says why."
    ]


def _error_rate(rows: Mapping[str, Any]) -> str:
    whole, band = rows.get("error rate"), rows.get("error rate band")
    if whole is None:
        return ""
    near = "" if band is None else f", {_percent(band['mean'])} of those near the surface"
    return f"Wrong voxels: {_percent(whole['mean'])} of all that is assessed{near}."


def _finding(rows: Mapping[str, Any]) -> list[str]:
    """Say how well wrong voxels are ordered before correct ones, beside plain softmax."""
    score = SCORE if f"auroc whole {SCORE}" in rows else "ranking"
    parts = []
    for region, words in (("whole", "in the whole image"), ("band", "near the surface")):
        ours, theirs = rows.get(f"auroc {region} {score}"), rows.get(f"auroc {region} {RIVAL}")
        if ours is not None:
            beside = "" if theirs is None else f" (plain softmax {_percent(theirs['mean'])})"
            parts.append(f"{words} in {_percent(ours['mean'])}{beside}")
    name = "error probability" if score == SCORE else "ranking map"
    return (
        [f"Finding errors: a wrong voxel has a higher {name} than a correct one, {', '.join(parts)} of pairs."]
        if parts
        else []
    )


def _riskiest(result: Mapping[str, Any]) -> list[str]:
    found = {
        (row["figure"], row["score"]): row["mean"]
        for row in result.get("detection") or []
        if row["region"] == "whole" and row.get("mean") is not None
    }
    one, five = (found.get((f"found in {share} %", SCORE)) for share in (1, 5))
    if one is None or five is None:
        return []
    return [f"The riskiest 1 % of voxels hold {_percent(one)} of what is wrong, the riskiest 5 % {_percent(five)}."]


def _probabilities(rows: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    error = rows.get("error probability ece band")
    if error is None and "error probability brier" not in rows:
        return ["Not calibrated: there is no error probability."] if "auroc whole ranking" in rows else []
    pooled = result["comparisons"].get("error probability ece band, pooled")
    ratio = result["comparisons"].get("wrong voxels, expected / true")
    words = "Error probability near the surface: "
    if error is None:
        words += "not measurable, since nothing was segmented and there is no surface"
    else:
        words += f"off by {_number(error['mean'])} within a case (ECE)"
    words += "" if pooled is None else f", {_number(pooled)} over all cases together"
    if ratio is not None:
        verdict = "too many" if ratio > 1.1 else "too few" if ratio < 0.9 else "about right"
        words += f"; it expects {_number(ratio)} times as many wrong voxels as there are ({verdict})"
    return [f"{words}."]


def _softened(rows: Mapping[str, Any]) -> list[str]:
    names = (("nll tempered", "softened by the head"), ("nll temperature scaling", "by one temperature"))
    known = [(rows[title]["mean"], words) for title, words in (*names, ("nll plain", "plain softmax")) if title in rows]
    if len(known) < 2:
        return []
    return [
        f"Class probabilities, NLL (lower is better): {', '.join(f'{words} {value:.3g}' for value, words in known)}."
    ]


def _unseen(rows: Mapping[str, Any]) -> list[str]:
    unseen, wrong = rows.get("wrong voxels unseen"), rows.get("wrong voxels")
    if unseen is None or wrong is None or not wrong["mean"]:
        return []
    return [f"Unseen: {_percent(unseen['mean'] / wrong['mean'])} of the wrong voxels read below 0.1."]


def _intervals(result: Mapping[str, Any]) -> list[str]:
    held = [
        (row["structure"], row["volume_interval"]) for row in result.get("structures") or [] if "volume_interval" in row
    ]
    said = [
        f"{name} {_percent(entry['coverage'])} (as wide as {_percent(entry['relative_width'])} of the volume)"
        for name, entry in held
        if entry.get("coverage") is not None and entry.get("relative_width") is not None
    ]
    return (
        [f"Volume intervals hold the true volume, {100 * held[0][1]['level']:.0f} % promised: {', '.join(said)}."]
        if said
        else []
    )


def _cases(result: Mapping[str, Any]) -> list[str]:
    """Say whether whole cases are told apart."""
    order = {row["confidence"]: row.get("spearman", {}).get("value") for row in result.get("confidences") or []}
    named = (("expected wrong share", "expected wrong share"), ("predicted Dice", "predicted Dice"))
    said = [f"by {words} {order[key]:.2f}" for key, words in named if order.get(key) is not None]
    if not said:
        return []
    lines = [f"Ordering whole cases (1: as the true Dice does, 0: says nothing): {', '.join(said)} (Spearman)."]
    dice = [
        (row["structure"], row["predicted_dice"]) for row in result.get("structures") or [] if "predicted_dice" in row
    ]
    errors = [
        f"{name} {_number(entry['mean_absolute_error']['value'])} "
        f"(the mean said of every case: {_number(entry['mean_absolute_error_of_mean']['value'])})"
        for name, entry in dice
        if entry["mean_absolute_error"].get("value") is not None
    ]
    return [*lines, f"Predicted Dice is off by {', '.join(errors)}."] if errors else lines
