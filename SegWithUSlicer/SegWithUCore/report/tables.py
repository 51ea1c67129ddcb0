"""Tables of the report: structures, facts of case and model, audit trails."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from html import escape
from pathlib import PurePosixPath
from typing import Any

from ..review.flags import informative_dice, structures_of, wrong_share
from ..review.log_format import NAMES, Event, Opened, RegionViewed
from ..review.reviews import Review

MOST_LINES = 200
"""Of an audit trail that are printed, the last ones; the log beside the report has all."""
NOT_ASSESSED = "not assessed"


def rows_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A table of plain text; `numbers` are the columns set to the right."""
    kinds = [" class=n" if column in numbers else "" for column in range(len(header))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def structures_table(case: Mapping[str, Any]) -> str:
    """Volume, expected volume with its interval, predicted Dice and expected wrong volume of each structure."""
    rows = [
        [
            str(entry["name"]),
            f"{float(entry['volume_mm3']):.0f}",
            _expected(entry),
            _dice(entry),
            _wrong(entry),
        ]
        for entry in structures_of(case)
    ]
    header = ["structure", "volume mm³", "expected volume mm³", "predicted Dice", "expected wrong mm³"]
    return rows_table(header, rows, numbers=(1, 2, 3, 4))


def _expected(entry: Mapping[str, Any]) -> str:
    expected, interval = entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3")
    if expected is None:
        return NOT_ASSESSED
    if interval is None:
        return f"{float(expected):.0f}, no interval"
    low, high = map(float, interval)
    return f"{float(expected):.0f} ({low:.0f} to {high:.0f})"


def _dice(entry: Mapping[str, Any]) -> str:
    dice = informative_dice(entry)
    if dice is not None:
        return f"{dice:.2f}"
    return "not informative" if entry.get("predicted_dice_informative") is False else NOT_ASSESSED


def _wrong(entry: Mapping[str, Any]) -> str:
    wrong, share = entry.get("expected_wrong_mm3"), wrong_share(entry)
    if wrong is None or share is None:
        return NOT_ASSESSED
    return f"{float(wrong):.0f} ({share * 100:.0f} %)" if float(entry["volume_mm3"]) > 0 else f"{float(wrong):.0f}"


def case_table(case: Mapping[str, Any]) -> str:
    """Where the segmentation comes from."""
    grid, model = case["input"]["grid"], case["model"]
    roi = case.get("region_of_interest")
    rows = [
        *((f"Image ({c['name']})", _file_name(c)) for c in case["input"]["channels"]),
        ("Grid", f"{_times(grid['size_ijk'])} voxels of {_times(grid['spacing_mm'])} mm"),
        ("Assessed", "the whole image" if roi is None else f"a region of interest of {_times(roi['size_mm'])} mm"),
        ("Segmented", str(case.get("created", "")).replace("T", " ").replace("+00:00", " UTC")),
        ("Model", f"{model['name']} {model['version']}, head {model['head']}"),
        ("Calibration", f"on {model['calibration_cases']} cases" if model.get("calibrated") else "none"),
        ("Device", str(case.get("device", ""))),
    ]
    return _facts([(name, escape(value)) for name, value in rows if value])


def versions_table(case: Mapping[str, Any]) -> str:
    """Versions and hashes."""
    model = case["model"]
    versions = ", ".join(f"{name} {version}" for name, version in (case.get("versions") or {}).items())
    hashes = [
        *((f"Voxels ({c['name']})", c["voxels_sha256"]) for c in case["input"]["channels"]),
        ("Weights", model["weights_sha256"]),
        ("Calibration", model.get("calibration_sha256")),
    ]
    rows = [(f"SHA-256: {name}", f"<code>{escape(str(value))}</code>") for name, value in hashes if value]
    return _facts([("Versions", escape(versions)), *rows])


def trail_tables(reviews: Sequence[Review], anonymous: bool) -> str:
    """The audit trail of each reviewer.

    Args:
        anonymous: tell times from the beginning of the review on, no dates.
    """
    return "".join(_trail(review, anonymous) for review in reviews)


def _trail(review: Review, anonymous: bool) -> str:
    told = [event for event in review.events if not isinstance(event.fact, RegionViewed)]
    rows = [[_when(event, review, anonymous), NAMES[type(event.fact)], _detail(event)] for event in told[-MOST_LINES:]]
    left = len(told) - len(rows)
    more = f" The first {left} lines are in {escape(review.path.name)}." if left else ""
    table = rows_table(["since the beginning" if anonymous else "when (UTC)", "event", "what"], rows)
    lead = f"<p>{more}</p>" if more else ""
    return f"<h3>Audit trail of {escape(review.reviewer)}</h3>{lead}<div class=trail>{table}</div>"


def _when(event: Event, review: Review, anonymous: bool) -> str:
    if not anonymous:
        return event.when.replace("T", " ").removesuffix("Z")
    return str(datetime.fromisoformat(event.when) - datetime.fromisoformat(review.events[0].when))


def _detail(event: Event) -> str:
    """The fields of a fact in words; hashes and settings stay in the log."""
    if isinstance(event.fact, Opened):
        return f"{event.fact.model} {event.fact.model_version}, head {event.fact.head}"
    values = ((field.name, getattr(event.fact, field.name)) for field in fields(event.fact))
    return ", ".join(_told(name, value) for name, value in values if value not in (None, ""))


def _told(name: str, value: object) -> str:
    said = f"{value:.4g}" if isinstance(value, float) else str(value)
    if name == "seconds":
        return f"{said} s"
    return f"“{said}”" if name == "comment" else f"{name.replace('_', ' ')} {said}"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values; the values are HTML already."""
    return f"<table>{''.join(f'<tr><th>{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)}</table>"


def _file_name(channel: Mapping[str, Any]) -> str:
    return PurePosixPath(str(channel.get("file") or "")).name


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
