"""Content of the report's tables, as plain text: structures, facts of case and model, reviews."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..case.case_file import is_mask_alone
from ..case.structures_table import OUTSIDE, table_entries
from ..regions.region import Kind, Region
from ..review.flags import asked_of, informative_dice, structures_of, wrong_share
from ..review.reviews import Review
from ..review.signing import COLUMNS as VOLUME_COLUMNS
from ..review.signing import volume_rows
from ..review.verdicts import GIVEN, Verdict

NOT_ASSESSED = "not assessed"
ALL_TOGETHER = "all together"


@dataclass(frozen=True)
class ReportTable:
    """A table of plain text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def structures_table(case: Mapping[str, Any]) -> ReportTable:
    """List the entries of `table_entries`, first what is to be measured: name, and a cell for each of `CELLS`.

    What lies outside all structures and the sum follow, so that the figures add up to those of the whole case.
    """
    asked, empty = {int(entry["value"]) for entry in asked_of(case)}, [""] * (len(CELLS) - 1)
    entries = sorted(table_entries(case), key=lambda each: not asked.issuperset(each.get("of", [each.get("value")])))
    cells = {VOLUME: volume_cell} if is_mask_alone(case) else CELLS
    rows = [
        [
            str(each["name"]),
            *(cell(each) if "value" in each or title in OF_ALL else "" for title, cell in cells.items()),
        ]
        for each in entries
    ]
    outside = [entry for entry in case["structures"] if int(entry["value"]) == 0]
    wrong = [float(entry["expected_wrong_mm3"]) for entry in case["structures"]
             if entry.get("expected_wrong_mm3") is not None]  # fmt: skip
    if wrong and len(wrong) == len(case["structures"]):
        rows += [[OUTSIDE, *empty, f"{float(entry['expected_wrong_mm3']):.0f}"] for entry in outside]
        volume = sum(float(entry["volume_mm3"]) for entry in structures_of(case))
        share = f" ({sum(wrong) / volume * 100:.0f} %)" if volume > 0 else ""
        rows.append([ALL_TOGETHER, f"{volume:.0f}", *empty[1:], f"{sum(wrong):.0f}{share}"])
    whole = "".join(f" (% of {entry['name']})" for entry in entries if entry.get("is_denominator"))
    return ReportTable(["structure", *(title + whole * (title == VOLUME) for title in cells)], rows)


def volume_cell(entry: Mapping[str, Any]) -> str:
    """Format the segmented volume of an entry of `table_entries`, of an asymmetry its percentage."""
    percent = entry.get("percent")
    if "volume_mm3" not in entry:
        return f"{percent:+.1f} %"
    return f"{float(entry['volume_mm3']):.0f}{'' if percent is None else f' ({percent:.3g} %)'}"


def expected_cell(entry: Mapping[str, Any]) -> str:
    """Format the expected volume with its interval, of an asymmetry the interval alone."""
    if "volume_mm3" not in entry:
        ends = entry.get("interval_percent")
        return "no interval" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f} %"
    expected, interval = entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3")
    if expected is None:
        return _unknown(entry)
    if interval is None:
        return f"{float(expected):.0f}, no interval"
    low, high = map(float, interval)
    return f"{float(expected):.0f} ({low:.0f} to {high:.0f})"


def _dice(entry: Mapping[str, Any]) -> str:
    dice = informative_dice(entry)
    if dice is not None:
        return f"{dice:.2f}"
    return "not informative" if entry.get("predicted_dice_informative") is False else _unknown(entry)


def _unknown(entry: Mapping[str, Any]) -> str:
    """Say why there is no figure of an entry: after a reader's work (`reviewed_case`), the reason."""
    reader = entry.get("read_by")
    return f"read by {reader}" if reader else "edited" if entry.get("edited") else NOT_ASSESSED


def _wrong(entry: Mapping[str, Any]) -> str:
    wrong, share = entry.get("expected_wrong_mm3"), wrong_share(entry)
    if wrong is None or share is None:
        return NOT_ASSESSED
    return f"{float(wrong):.0f} ({share * 100:.0f} %)" if float(entry["volume_mm3"]) > 0 else f"{float(wrong):.0f}"


VOLUME = "volume mm³"
CELLS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    VOLUME: volume_cell,
    "expected volume mm³": expected_cell,
    "interval": lambda entry: str(entry["held_text"]),
    "predicted Dice": _dice,
    "expected wrong mm³": _wrong,
}
"""The columns of the table of structures after their names, by title."""
OF_ALL = tuple(CELLS)[:3]
"""Those that totals and asymmetries have, too."""


def case_facts(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each fact on where the segmentation comes from."""
    grid, model, engine = case["input"]["grid"], case["model"], case.get("engine") or {}
    roi = case.get("roi")
    rows = [
        *((f"Image ({c['name']})", PurePosixPath(str(c.get("file") or "")).name) for c in case["input"]["channels"]),
        ("Grid", f"{_times(grid['size_ijk'])} voxels of {_times(grid['spacing_mm'])} mm"),
        ("Assessed", "the whole image" if roi is None else f"a region of interest of {_times(roi['size_mm'])} mm"),
        ("Segmented", str(case.get("created", "")).replace("T", " ").replace("+00:00", " UTC")),
        ("Model", "none" if is_mask_alone(case) else f"{model['name']} {model['version']}, head {model['head']}"),
        ("Calibration", "" if is_mask_alone(case) else _calibration(model)),
        ("Passes", str(case["passes"]) if case.get("passes", 1) > 1 else ""),
        ("Device", str(case.get("device", ""))),
        ("Engine", " ".join(str(engine.get(key) or "") for key in ("name", "version", "precision")).strip()),
    ]
    return [(name, value) for name, value in rows if value]


def _calibration(model: Mapping[str, Any]) -> str:
    """Say on how many cases, and whether the error probability sees the image."""
    if not model.get("calibrated"):
        return "none"
    sees = "with" if model["calibrated_with_image"] else "without"
    return f"on {model['calibration_cases']} cases, {sees} the image"


def hash_facts(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Hashes of image, weights and calibration."""
    model = case["model"]
    hashes = [
        *((f"Voxels ({c['name']})", c["voxels_sha256"]) for c in case["input"]["channels"]),
        ("Weights", model["weights_sha256"]),
        ("Calibration", model.get("calibration_sha256")),
    ]
    return [(f"SHA-256: {name}", str(value)) for name, value in hashes if value]


def reviews_table(regions: Sequence[Region], reviews: Sequence[Review]) -> ReportTable:
    """Count what each reviewer has finished and said, and what was accepted without a look.

    Of the blind sample, it says how many places were found to be wrong: what the list misses.
    """
    rows = []
    for review in reviews:
        given, state = list(review.verdicts(regions).values()), review.state
        now, wrong = state.progress(), state.expected_mm3_of(state.unseen_ids)
        without_a_look = f"{now.unseen} ({wrong:.0f} mm³)" if now.unseen else "0"
        counts = [str(given.count(verdict)) for verdict in GIVEN]
        finished = f"{now.finished} of {now.structures}"
        places = [verdict for place in state.blind_sample() if (verdict := state.verdict_of(place.id))]
        wrong_places = sum(verdict is not Verdict.ACCEPTED for verdict in places)
        sample = f"{wrong_places} of {len(places)} wrong" if places else "-"
        added = str(sum(region.kind is Kind.ADDED for region in state.listed()))
        done = (finished, f"{now.decided} of {now.regions}")
        rows.append([review.reviewer, *done, *counts, without_a_look, sample, added])
    titles = ("structures finished", "regions", *GIVEN, Verdict.NOT_LOOKED_AT, "blind sample", "places added")
    return ReportTable(["reviewer", *titles], rows)


def signed_table(case: Mapping[str, Any], reviews: Sequence[Review]) -> ReportTable:
    """List the volumes that readers have signed; see `volume_rows`."""
    rows = []
    for row in volume_rows(case, reviews):
        cells = dict(zip(VOLUME_COLUMNS, row, strict=True))
        if cells["reader"]:
            ends = (cells["expected_low_mm3"], cells["expected_high_mm3"])
            interval = "" if "" in ends else f"{cells['expected_volume_mm3']:.0f} ({ends[0]:.0f} to {ends[1]:.0f})"
            about = (
                cells["basis"],
                cells["reader"],
                str(cells["signed"]).replace("T", " "),
                cells["segmentation_sha256"],
            )
            rows.append([cells["structure"], f"{cells['volume_mm3']:.0f}", interval, *about])
    header = [
        "structure",
        VOLUME,
        "expected volume mm³",
        "basis",
        "reader",
        "signed (UTC)",
        "SHA-256 of the segmentation",
    ]
    return ReportTable(header, rows)


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
