"""The report of a case as one HTML page, from `templates/case.html`: nothing is loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..case.pictures import TINT_FROM, tint_stops
from ..regions.region import Region, why
from ..review.flags import Flag, first_lines, structures_of
from ..review.log_format import Verdict
from ..review.reviews import Review, disagreements
from .pictures import CASING, REGION_LINE, REVIEWED_LINES, PlanePicture
from .render import render
from .tables import (
    case_facts,
    hash_facts,
    other_regions_table,
    reviews_table,
    structures_table,
    trail_table,
    versions_facts,
)

MOST_NAMED = 60
"""Structures in the legend."""
MOST_LISTED = 100
"""Regions on which reviewers disagree that are listed."""


@dataclass(frozen=True)
class Report:
    """Content of the page.

    Attributes:
        case: the content of `case.json`.
        flags: why the case needs a look.
        regions: of the case, by rank.
        shown: those with pictures, in this order.
        pictures: three cuts of each shown region by its id; empty if there is no image.
        overview: three cuts of the whole segmentation.
        top: error probability of the strongest tint.
        reviews: of each reviewer.
        reviewed: reviewers whose contours are drawn, in the order of their line styles.
        notes: what could not be read or drawn, one sentence each.
        no_flag: why there is no flag, where there is none.
        ranks: how the case compares with the calibration cases of its model, one sentence each.
    """

    case: Mapping[str, Any]
    flags: Sequence[Flag]
    regions: Sequence[Region]
    shown: Sequence[Region]
    pictures: Mapping[int, Sequence[PlanePicture]]
    overview: Sequence[PlanePicture]
    top: float
    reviews: Sequence[Review]
    reviewed: Sequence[str]
    notes: Sequence[str]
    no_flag: str = ""
    ranks: Sequence[str] = ()


@dataclass(frozen=True)
class _Card:
    """A region with pictures.

    Attributes:
        why: why it is worth a look, one sentence.
        numbers: its size and where its peak lies.
        verdicts: reviewer, verdict and comment.
    """

    region: Region
    why: str
    numbers: str
    pictures: Sequence[PlanePicture]
    verdicts: Sequence[tuple[str, str, str]]


def in_order_of_need(regions: Sequence[Region], reviews: Sequence[Review]) -> list[Region]:
    """Sort regions that a reviewer rejected or wants a second reader for first, then by expected wrong volume."""
    urgent = {
        id_
        for review in reviews
        for id_, verdict in review.verdicts(regions).items()
        if verdict in (Verdict.REJECTED, Verdict.SECOND_READER)
    }
    return sorted(regions, key=lambda region: (region.id not in urgent, region.rank))


def report_page(report: Report) -> str:
    """Render the whole page."""
    case, shown = report.case, {region.id for region in report.shown}
    hashes = hash_facts(case)
    return render(
        "case.html",
        heading=str(case["name"]),
        title=f"{case['name']}: segmentation report",
        alerts=[_typeset(sentence) for sentence in first_lines(report.flags)],
        lead=[_lead(report)],
        flags=_flags(report),
        no_flag=report.no_flag,
        ranks=report.ranks,
        structures=structures_table(case),
        named=[(str(entry["name"]), _colours(case)[int(entry["value"])]) for entry in structures_of(case)][:MOST_NAMED],
        overview=report.overview,
        reviewed=report.reviewed,
        calibrated=case.get("regions") is not None,
        top=report.top,
        cards=[_card(report, region) for region in report.shown],
        regions=len(report.regions),
        others=other_regions_table([r for r in report.regions if r.id not in shown], report.reviews),
        reviews=reviews_table(report.regions, report.reviews),
        disagreements=_disagreements(report),
        trails=[trail_table(review, bool(case.get("anonymous"))) for review in report.reviews],
        facts=case_facts(case),
        versions=[*versions_facts(case), *hashes],
        hashes=[name for name, _ in hashes],
        CASING=CASING,
        COLOURS=_colours(case),
        REGION_LINE=REGION_LINE,
        REVIEWED_LINES=REVIEWED_LINES,
        TINT_FROM=TINT_FROM,
        TINT_STOPS=tint_stops(),
    )


def _colours(case: Mapping[str, Any]) -> dict[int, str]:
    """Return the colour of each structure by label value."""
    parts = {
        int(entry["value"]): [min(255, max(0, int(part))) for part in entry["color"][:3]]
        for entry in structures_of(case)
    }
    return {value: "#" + "".join(f"{part:02x}" for part in colour) for value, colour in parts.items()}


def _lead(report: Report) -> str:
    model, found = report.case["model"], report.case.get("regions")
    if found is None:
        return f"{model['task']} The model is not calibrated: nothing says how much may be wrong."
    inside, total = found["expected_wrong_in_regions_mm3"], found["expected_wrong_mm3"]
    return (
        f"{model['task']} {len(report.regions)} regions are worth a look; they hold {inside:.0f} of the {total:.0f} "
        "mm³ that are expected to be wrong."
    )


def _flags(report: Report) -> list[tuple[str, str]]:
    """Kind and sentence of each flag, each warning that is no flag, and each note."""
    warnings = (report.case.get("fingerprint") or {}).get("warnings") or []
    flagged = {flag.sentence for flag in report.flags}
    items = [(flag.rule.value, _typeset(flag.sentence)) for flag in report.flags]
    items += [
        (str(warning["severity"]), _typeset(str(warning["sentence"])))
        for warning in warnings
        if warning["sentence"] not in flagged
    ]
    return [*items, *(("note", note) for note in report.notes)]


def _typeset(text: str) -> str:
    """Write units as print has them: a number and its per cent stay together."""
    return text.replace("mm3", "mm³").replace(" %", "\u00a0%")


def _card(report: Report, region: Region) -> _Card:
    r, a, s = region.peak_ras_mm
    numbers = (
        f"{region.expected_wrong_mm3:.0f} mm³ expected wrong of {region.volume_mm3:.0f} mm³ · "
        f"highest error probability {region.peak:.2f} at R {r:.1f}, A {a:.1f}, S {s:.1f} mm"
    )
    reason = why(region, report.case.get("region_of_interest") is not None)
    sentence = f"{_typeset(reason[:1].upper() + reason[1:])}."
    return _Card(region, sentence, numbers, report.pictures.get(region.id, ()), _verdicts(report, region))


def _verdicts(report: Report, region: Region) -> list[tuple[str, str, str]]:
    given = []
    for review in report.reviews:
        verdict, comment = review.state.verdict_of(region.id), review.state.comment_of(region.id)
        if verdict is not None or comment:
            given.append((review.reviewer, verdict.value if verdict else "no verdict", comment or ""))
    return given


def _disagreements(report: Report) -> str:
    """Ranks of the regions on which reviewers disagree."""
    differing = disagreements(report.regions, report.reviews)
    return ", ".join(f"{row.region.rank}" for row in differing[:MOST_LISTED]) or "none"
