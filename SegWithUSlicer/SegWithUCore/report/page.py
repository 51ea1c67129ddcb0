"""The report of a case as one HTML page: nothing is loaded from elsewhere, and it prints on A4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..regions.region import Region, why
from ..review.flags import Flag
from ..review.log_format import Verdict
from ..review.reviews import Review, disagreements
from .pictures import MODEL_LINE, REGION_LINE, REVIEWED_LINES, PlanePicture, colour_bar_svg, line_svg, picture_svg
from .tables import case_table, rows_table, structures_table, trail_tables, versions_table

MOST_LISTED = 100
"""Regions without pictures that are listed; the rest is in `regions.csv`."""
NOT_FOR_CLINICAL_USE = (
    "For research, not for clinical use. A low error probability does not mean that the segmentation is correct."
)


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Attributes:
        case: the content of `case.json`.
        flags: why the case needs a look.
        regions: of the case, by rank.
        shown: those with pictures, in this order.
        pictures: three cuts of each shown region by its id; empty where there is no image.
        overview: three cuts of the whole segmentation.
        top: error probability of the strongest tint.
        reviews: of each reviewer.
        reviewed: reviewers whose contours are drawn, in the order of their line styles.
        notes: what could not be read or drawn, one sentence each.
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


def in_order_of_need(regions: Sequence[Region], reviews: Sequence[Review]) -> list[Region]:
    """Regions that a reviewer rejected or wants a second reader for first, then by expected wrong volume."""
    wished = {
        id_
        for review in reviews
        for id_, verdict in review.verdicts(regions).items()
        if verdict in (Verdict.REJECTED, Verdict.SECOND_READER)
    }
    return sorted(regions, key=lambda region: (region.id not in wished, region.rank))


def report_page(report: Report) -> str:
    """The whole page."""
    name = escape(str(report.case["name"]))
    parts = [
        f"<header><h1>{name}</h1><p class=lead>{_lead(report)}</p><p class=note>{NOT_FOR_CLINICAL_USE}</p></header>",
        _flags(report),
        f"<section><h2>Structures</h2>{structures_table(report.case)}</section>",
        _overview(report),
        _regions(report),
        _others(report),
        _reviews(report),
        f"<section class=facts><h2>Case and model</h2>{case_table(report.case)}{versions_table(report.case)}</section>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: segmentation report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _lead(report: Report) -> str:
    model, found = report.case["model"], report.case.get("regions")
    said = [escape(str(model["task"]))]
    if found is None:
        said.append("The model is not calibrated: nothing says how much may be wrong.")
    else:
        inside, total = found["expected_wrong_in_regions_mm3"], found["expected_wrong_mm3"]
        said.append(
            f"{len(report.regions)} regions are worth a look; they hold {inside:.0f} of the {total:.0f} mm³ that are "
            "expected to be wrong."
        )
    return " ".join(said)


def _flags(report: Report) -> str:
    warnings = (report.case.get("fingerprint") or {}).get("warnings") or []
    flagged = {flag.sentence for flag in report.flags}
    items = [f"<li><b>{escape(flag.rule.value)}</b> {_sentence(flag.sentence)}</li>" for flag in report.flags]
    items += [
        f"<li><b>{escape(str(warning['severity']))}</b> {_sentence(str(warning['sentence']))}</li>"
        for warning in warnings
        if warning["sentence"] not in flagged
    ]
    items += [f"<li><b>note</b> {escape(note)}</li>" for note in report.notes]
    body = f"<ul class=flags>{''.join(items)}</ul>" if items else "<p>No rule flags this case.</p>"
    return f"<section><h2>Flags and warnings</h2>{body}</section>"


def _sentence(text: str) -> str:
    """A sentence with its units as print has them: a figure and its per cent stay together."""
    return escape(text).replace("mm3", "mm³").replace(" %", "\u00a0%")


def _overview(report: Report) -> str:
    if not report.overview:
        return ""
    return (
        f"<section><h2>Overview</h2>{_legend(report)}"
        f"{_planes(report.overview, 'the segmentation through its middle')}</section>"
    )


def _legend(report: Report) -> str:
    keys = [f"<span>{line_svg(MODEL_LINE)} model</span>"]
    for (colour, dashes), reviewer in zip(REVIEWED_LINES, report.reviewed, strict=False):
        keys.append(f"<span>{line_svg(colour, dashes)} {escape(reviewer)}, where changed</span>")
    if report.case.get("regions") is not None:
        keys.append(f"<span>{line_svg(REGION_LINE)} the region</span>")
        keys.append(f"<span>{colour_bar_svg(report.top)} error probability</span>")
    keys.append("<span>R right, L left, A anterior, P posterior, S superior, I inferior of the patient</span>")
    return f"<p class=legend>{''.join(keys)}</p>"


def _planes(pictures: Sequence[PlanePicture], name: str) -> str:
    figures = "".join(
        f"<figure>{picture_svg(picture, name)}<figcaption>{picture.title}</figcaption></figure>" for picture in pictures
    )
    return f"<div class=planes>{figures}</div>"


def _regions(report: Report) -> str:
    if not report.shown:
        return ""
    cards = "".join(_card(report, region) for region in report.shown)
    count = f"{len(report.shown)} of {len(report.regions)}"
    return f"<section><h2>Regions worth a look <small>{count}, most needed first</small></h2>{cards}</section>"


def _card(report: Report, region: Region) -> str:
    r, a, s = region.peak_ras_mm
    figures = (
        f"{region.expected_wrong_mm3:.0f} mm³ expected wrong of {region.volume_mm3:.0f} mm³ · "
        f"highest error probability {region.peak:.2f} at R {r:.1f}, A {a:.1f}, S {s:.1f} mm"
    )
    pictures = report.pictures.get(region.id)
    drawn = _planes(pictures, f"region {region.id}") if pictures else ""
    said = why(region, report.case.get("region_of_interest") is not None)
    return (
        f"<article><h3>{region.rank}. {escape(region.structure)}: {escape(region.kind.value)} "
        f"<small>region {region.id}</small></h3><p>{_sentence(said[:1].upper() + said[1:])}.</p>"
        f"<p class=figures>{figures}</p>{drawn}{_verdicts(report, region)}</article>"
    )


def _verdicts(report: Report, region: Region) -> str:
    items = []
    for review in report.reviews:
        verdict, comment = review.state.verdict_of(region.id), review.state.comment_of(region.id)
        if verdict is not None or comment:
            given = verdict.value if verdict else "no verdict"
            said = f" <q>{escape(comment)}</q>" if comment else ""
            items.append(f"<li>{escape(review.reviewer)}: <b>{given}</b>{said}</li>")
    return f"<ul class=verdicts>{''.join(items)}</ul>" if items else ""


def _others(report: Report) -> str:
    shown = {region.id for region in report.shown}
    others = [region for region in report.regions if region.id not in shown]
    if not others:
        return ""
    rows = []
    for region in others[:MOST_LISTED]:
        given = [review.state.verdict_of(region.id) for review in report.reviews]
        told = [f"{r.reviewer}: {v.value}" for r, v in zip(report.reviews, given, strict=True) if v is not None]
        wrong, volume = f"{region.expected_wrong_mm3:.0f}", f"{region.volume_mm3:.0f}"
        rows.append([str(region.rank), region.structure, region.kind.value, wrong, volume, "; ".join(told)])
    left = len(others) - len(rows)
    more = f"<p>{left} more are in regions.csv.</p>" if left else ""
    header = ["rank", "structure", "what may be wrong", "expected wrong mm³", "mm³", "verdicts"]
    return f"<section><h2>Other regions</h2>{rows_table(header, rows, numbers=(0, 3, 4))}{more}</section>"


def _reviews(report: Report) -> str:
    if not report.reviews:
        return "<section><h2>Reviews</h2><p>Nobody has reviewed this case yet.</p></section>"
    rows = []
    for review in report.reviews:
        own = list(review.verdicts(report.regions).values())
        counts = [str(own.count(verdict)) for verdict in Verdict]
        rows.append([review.reviewer, f"{len(own)} of {len(report.regions)}", *counts])
    table = rows_table(["reviewer", "regions", *(verdict.value for verdict in Verdict)], rows, numbers=range(1, 6))
    differing = disagreements(report.regions, report.reviews)
    if len(report.reviews) > 1:
        listed = ", ".join(f"{row.region.rank}" for row in differing[:MOST_LISTED]) or "none"
        table += f"<p>Regions on which the reviewers disagree (rank): {listed}.</p>"
    anonymous = bool(report.case.get("anonymous"))
    return f"<section><h2>Reviews</h2>{table}{trail_tables(report.reviews, anonymous)}</section>"


STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:#1a1a1a;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
"Noto Sans","Liberation Sans",Arial,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.5rem 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .7rem;padding-bottom:.25rem;border-bottom:2px solid #1a1a1a}
h3{font-size:1.02rem;margin:0 0 .25rem}
small{font-weight:400;color:#555;font-size:.85em}
p{margin:.25rem 0 .6rem}
.lead{font-size:1.05rem;max-width:46rem}
.note{color:#555;border-left:3px solid #888;padding-left:.7rem;max-width:46rem}
ul{margin:.3rem 0;padding-left:0;list-style:none}
.flags li{border-left:4px solid #d55e00;background:#fdf3ec;padding:.35rem .8rem;margin:.35rem 0}
.flags b{display:block;font-size:.8rem;color:#8a3c00;text-transform:capitalize}
table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem;font-size:.92rem}
th{text-align:left;font-weight:600;border-bottom:1px solid #1a1a1a;padding:.3rem .8rem .3rem 0;vertical-align:bottom}
td{border-bottom:1px solid #ddd;padding:.3rem .8rem .3rem 0;vertical-align:top;overflow-wrap:break-word}
.n{text-align:right;font-variant-numeric:tabular-nums;}
td.n{white-space:nowrap}
td small{display:block}
.facts th{border-bottom:1px solid #ddd;width:12rem;font-weight:400;color:#555;vertical-align:top}
code{font:.85em ui-monospace,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
.planes{display:grid;grid-template-columns:repeat(3,1fr);gap:.6rem;margin:.5rem 0}
figure{margin:0}
figure svg{display:block;width:100%;background:#000}
figcaption{font-size:.8rem;color:#555;text-align:center}
.side{fill:#fff;stroke:#000;stroke-width:2.5px;paint-order:stroke;font-weight:600;font-family:inherit}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;font-size:.85rem;align-items:center}
.legend span{display:inline-flex;align-items:center;gap:.45rem}
.key{width:2.2rem}.bar{width:9rem}.bar text{font-size:9px;fill:#1a1a1a}
article{border-top:1px solid #bbb;padding:1rem 0 .6rem;break-inside:avoid}
article:first-of-type{border-top:0;padding-top:.2rem}
.figures{color:#444;font-variant-numeric:tabular-nums;font-size:.92rem}
.verdicts li{padding:.15rem 0 .15rem .7rem;border-left:3px solid #56b4e9;margin:.2rem 0}
q{font-style:italic;overflow-wrap:anywhere;white-space:pre-line}
.trail{font-size:.8rem}
.trail td:first-child{white-space:nowrap}
@media screen and (max-width:45rem){
main{padding:1.2rem 1rem 2rem}
section{overflow-x:auto}
th,td{padding-right:.45rem}
td.n{white-space:normal}
}
@page{size:A4;margin:15mm 14mm}
@media print{
html{font-size:9.5pt}
body{font-size:9.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:none;padding:0}
h1{font-size:18pt}h2{font-size:12.5pt;margin-top:14pt;break-after:avoid}h3{break-after:avoid}
tr,li,figure,.legend{break-inside:avoid}
thead{display:table-header-group}
.planes{max-width:132mm}
article{padding:.6rem 0 .3rem;display:grid;grid-template-columns:132mm 1fr;column-gap:5mm}
article>*{grid-column:1/-1}
article>p,article>.planes{margin:.1rem 0 .25rem}
article>.planes{grid-column:1}
article>.planes+.verdicts{grid-column:2;align-self:start}
}
"""
