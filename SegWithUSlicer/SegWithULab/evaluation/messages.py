"""The main metrics of an evaluation in a few lines: what `segwithu evaluate` and `models show` print."""

from collections.abc import Mapping
from typing import Any

SCORE = "error probability"
NAMED = 5
"""Cases with an OOD warning that are named; the report has all."""


def messages(result: Mapping[str, Any]) -> list[str]:
    """Summarise an evaluation; metrics that do not exist are left out.

    Args:
        result: of `summary.summary`, or the part of it that a bundle keeps.
    """
    rows = {row["title"]: row for row in result["table"] if row.get("cases")}
    lines = [_dice(rows, result), _input_check(result), _error_detection(rows), _calibration(rows, result)]
    return [line for line in [*lines, _volume_intervals(result)] if line]


def _dice(rows: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    count, patients = result["cases"], result.get("patients", result["cases"])
    cases = "1 case" if count == 1 else f"{count} cases"
    cases += "" if patients == count else f" of {patients} patients"
    parts = []
    for title, row in rows.items():
        if title.startswith("dice "):
            interval = "" if row.get("low") is None else f" (95 % interval {row['low']:.3f} to {row['high']:.3f})"
            parts.append(f"{title.removeprefix('dice ')} {row['mean']:.3f}{interval}")
    worst = {
        name: case["mean_dice"]
        for name, case in (result.get("details_by_case") or {}).items()
        if case.get("mean_dice") is not None
    }
    lowest = min(worst, key=lambda name: worst[name]) if len(worst) > 1 else None
    return f"Dice, {cases}: {', '.join(parts)}" + (f"; lowest {worst[lowest]:.3f} ({lowest})." if lowest else ".")


def _input_check(result: Mapping[str, Any]) -> str:
    check = result.get("input_check")
    if check is None:
        return ""
    unlike = check["unlike"]
    names = f" ({', '.join(unlike[:NAMED])}{', ...' if len(unlike) > NAMED else ''})" if unlike else ""
    noted = f"; notes on {len(check['noted'])} more" if check["noted"] else ""
    lacks = f"; not compared: {', '.join(check['lacks'])}" if check["lacks"] else ""
    return f"OOD check: warnings on {len(unlike)} of {check['cases']} cases{names}{noted}{lacks}."


def _error_detection(rows: Mapping[str, Any]) -> str:
    score = SCORE if f"auroc whole {SCORE}" in rows else "ranking"
    parts = []
    for region, where in (("whole", "whole image"), ("band", "near the surface")):
        ours, softmax = rows.get(f"auroc {region} {score}"), rows.get(f"auroc {region} softmax")
        if ours is not None:
            beside = "" if softmax is None else f" (softmax {softmax['mean']:.3f})"
            parts.append(f"{where} {ours['mean']:.3f}{beside}")
    return f"Error detection, AUROC of the {score}: {', '.join(parts)}." if parts else ""


def _calibration(rows: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    error = rows.get("error probability ece band")
    if error is None and "error probability brier" not in rows:
        return "Not calibrated: the model has no error probability." if "auroc whole ranking" in rows else ""
    ece = "no ECE, nothing was segmented" if error is None else f"ECE near the surface {error['mean']:.3g}"
    ratio = result["comparisons"].get("wrong voxels, expected / true")
    return f"Error probability: {ece}" + ("." if ratio is None else f"; wrong voxels, expected / true: {ratio:.3g}.")


def _volume_intervals(result: Mapping[str, Any]) -> str:
    rows = [(row["structure"], row["volume_interval"]) for row in result.get("structures") or []
            if (row.get("volume_interval") or {}).get("coverage") is not None]  # fmt: skip
    if not rows:
        return ""
    parts = ", ".join(f"{name} {100 * interval['coverage']:.0f} %" for name, interval in rows)
    return f"Volume intervals of {100 * rows[0][1]['level']:.0f} %, coverage: {parts}."
