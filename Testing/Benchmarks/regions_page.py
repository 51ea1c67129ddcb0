"""The page about the proof: what came out in sentences, then the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = (1, 2, 3, 5, 10)
ENTROPY, PATCHES = "entropy, connected components", "thickest boundary, uncertain voxels"
SHELL, GROUPED = "thickest boundary, whole shell", "entropy, grouped as our regions"
VOXELS, OURS_CUT = "single voxels, error probability", "our regions, cut likewise"
ENOUGH = 10
"""Regions of a kind for a figure in the sentences."""
VOLUME, LOOKS, LARGER = "equal volume", "equal looks", "equal looks, larger views"
Result = Mapping[str, Any]


def page(result: Result) -> str:
    """The page, in Markdown."""
    lines = ["# `python Testing/Benchmarks/regions_proof.py --choose`", "", *_method(result), "", *_headlines(result)]
    lines += ["", "![Share of the wrong voxels seen](regions.png)", ""]
    titles = {
        VOLUME: "Equal volume, any number of looks",
        LOOKS: f"Equal looks, groups of baselines cut to {result['settings']['extent_mm']:.0f} mm, no more volume",
        LARGER: f"Equal looks, groups cut to {result['questions'][LARGER]['view_mm']:.0f} mm, no more volume",
    }
    for name, title in titles.items():
        lines += [f"## {title}", "", *_shares(result, name), "", *_differences(result, name), ""]
        if name == VOLUME:
            lines += [*_looks_taken(result), ""]
    lines += ["## What the regions are like (*test*)", "", *_facts(result["regions"]), ""]
    lines += ["## Settings (*select*)", "", *_settings(result)]
    return "\n".join(lines) + "\n"


def _method(result: Result) -> list[str]:
    cases = result["cases"]
    return [
        f"Model {result['model']}. Parameters of baselines chosen on {cases['select']} *select* cases (largest mean "
        "share",
        "over k = 1 to 10, anew for each table), entropy calibrated (isotonic) and refitted by direction on",
        f"{cases['calibration']} *calibration* cases as our own score is, figures of {cases['test']} *test* cases.",
        "Share: of the truly wrong voxels of a case that lie in what was looked at, mean over cases. The volume is",
        "what our first k regions of that very case hold. A group that the volume cuts off counts in proportion: one",
        "who looks at a place sees it as it lies (in the order of its score, a component that spans the structure",
        "would only be another name for single voxels). Brackets: paired 95 % bootstrap interval over cases.",
    ]


def _headlines(result: Result) -> list[str]:
    return [*_first_regions(result), *_per_mm3(result), *_per_look(result), *_expected(result["regions"])]


def _first_regions(result: Result) -> list[str]:
    ours, count = result["ours"], result["regions"]["regions_a_case"]["mean"]
    at = [f"{ours['share'][k - 1]:.0%} in {k} ({ours['mm3'][k - 1]:.0f} mm³)" for k in (1, 3, 5, 10)]
    return [f"- **What they show.** Of what is wrong, the first of {count:.1f} regions a case hold {', '.join(at)}."]


def _per_mm3(result: Result) -> list[str]:
    question, groups = result["questions"][VOLUME], result["regions"]["groups"]
    inside, first = (groups[name]["precision"] for name in ("all", "first 1 of a case"))
    return [
        f"- **Per mm³ the regions do not win.** Mean share at equal volume {result['ours']['mean_share']:.3f}; "
        + "; ".join(_against(question, name) for name in (ENTROPY, PATCHES, SHELL, VOXELS))
        + ".",
        "- *Why.* Single voxels by a calibrated probability are the bound by construction: no other set of as many"
        " voxels holds more expected errors. From place to place the uncertain voxels of this model hardly differ"
        f" ({inside:.0%} are wrong inside regions, {first:.0%} inside the first of each case); they differ inside a"
        " place, which a look takes in whole. So any grouping of them shows about the same per mm³; only what takes in"
        " certain voxels too (the whole shell) is clearly worse.",
    ]


def _per_look(result: Result) -> list[str]:
    of, ours, extent = result["questions"], result["ours"]["share"], result["settings"]["extent_mm"]
    places, pieces = of[VOLUME]["baselines"][VOXELS]["looks"][2], of[LOOKS]["baselines"][VOXELS]["share"]
    overtaken = next((k for k, (we, they) in enumerate(zip(ours, pieces, strict=True), 1) if they > we), None)
    until = f" From k = {overtaken} on, where so many voxels all touch, the voxels are ahead." if overtaken else ""
    first = result["regions"]["groups"]["first 1 of a case"]["median_diagonal_mm"]
    at, larger = (
        "; ".join(_against(of[name], baseline) for baseline in (ENTROPY, GROUPED, PATCHES)) for name in (LOOKS, LARGER)
    )
    return [
        "- **Per look they beat single voxels,** which nobody can look at one by one: as many voxels as 3 regions hold"
        f" lie in {places:.0f} places; the 3 largest of these, cut to {extent:.0f} mm, show {pieces[2]:.0%} instead of"
        f" {ours[2]:.0%}.{until}",
        "- **Against groups of entropy or of thick boundary it depends on what one look is.** Cut to"
        f" {extent:.0f} mm: {at}. But our own blobs may be larger than that (the first region of a case: median"
        f" {first:.0f} mm); cut likewise, ours would show {of[LOOKS]['baselines'][OURS_CUT]['mean_share']:.3f}."
        f" Cut to {of[LARGER]['view_mm']:.0f} mm, as large as our largest on *select*: {larger}.",
    ]


def _expected(facts: Result) -> list[str]:
    groups = facts["groups"]
    kinds = [
        f"{name} {row['expected_by_wrong']:.2f}"
        for name, row in groups.items()
        if row["regions"] >= ENOUGH and not name.startswith(("all", "first"))
    ]
    return [
        "- **What sets the regions apart is not how much they show but that each comes with a figure that holds:**"
        f" expected / truly wrong volume {groups['all']['expected_by_wrong']:.2f} over all {groups['all']['regions']}"
        f" regions ({', '.join(kinds)}); {groups['all']['regions_without_error']:.1%} hold no error at all. And each is"
        " about one pair of structures.",
        f"- **What no list shows:** {facts['share_of_errors_in_haze']:.0%} of what is wrong lies in boundary haze that"
        f" is left out (as often wrong, {facts['haze_precision']:.0%}, but thin), and"
        f" {facts['share_of_errors_below_threshold']:.0%} below the threshold.",
    ]


def _against(question: Result, name: str) -> str:
    row = question["baselines"][name]
    mean, low, high = row["ours_better_by_mean"]
    word = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{name} {row['mean_share']:.3f} (ours {word}: {mean:+.3f}, {low:+.3f} to {high:+.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _shares(result: Result, question: str) -> list[str]:
    ours, them = result["ours"], result["questions"][question]["baselines"]
    head = ["share of wrong voxels after k regions' volume" if question == VOLUME else "share after k looks"]
    rows = [["reviewed mm³ (regions)", *(f"{value:.0f}" for value in ours["mm3"]), ""]]
    rows.append(["**regions**", *(f"**{value:.3f}**" for value in ours["share"]), f"**{ours['mean_share']:.3f}**"])
    for name, row in them.items():
        label = name + _parameters(row["parameters"])
        rows.append([label, *(f"{value:.3f}" for value in row["share"]), f"{row['mean_share']:.3f}"])
    return _table([*head, *(str(k) for k in result["looks"]), "mean"], rows)


def _parameters(values: Result) -> str:
    units = {"threshold": "above {}", "patch_mm2": "{} mm²", "reach_mm": "within {} mm"}
    told = [text.format(values[name]) for name, text in units.items() if name in values]
    return f" ({', '.join(told)})" if told else ""


def _differences(result: Result, question: str) -> list[str]:
    rows = []
    for name, row in result["questions"][question]["baselines"].items():
        each = [row["ours_better_by"][k - 1] for k in SHOWN] + [row["ours_better_by_mean"]]
        rows.append([name, *(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" for mean, low, high in each)])
    return _table(["regions better by, k =", *(str(k) for k in SHOWN), "mean of 1 to 10"], rows)


def _looks_taken(result: Result) -> list[str]:
    them = result["questions"][VOLUME]["baselines"]
    rows = [[name, *(f"{value:.1f}" for value in row["looks"])] for name, row in them.items()]
    head = ["places that have to be looked at for it", *(str(k) for k in result["looks"])]
    note = "Whole components of entropy are few because one spans the structure: such a place is no single look."
    return [*_table(head, rows), "", note]


def _facts(facts: Result) -> list[str]:
    head = ["regions", "number", "median mm³", "median / longest diagonal mm", "wrong voxels inside"]
    head += ["expected wrong mm³", "truly wrong mm³", "expected / true", "without any error"]
    rows = []
    for name, row in facts["groups"].items():
        size = f"{row['median_diagonal_mm']:.0f} / {row['longest_diagonal_mm']:.0f}"
        figures = [f"{row['regions']}", f"{row['median_mm3']:.0f}", size, f"{row['precision']:.1%}"]
        figures += [f"{row[key]:.0f}" for key in ("expected_wrong_mm3", "wrong_mm3")]
        rows.append([name, *figures, f"{row['expected_by_wrong']:.2f}", f"{row['regions_without_error']:.1%}"])
    count = facts["regions_a_case"]
    return [
        *_table(head, rows),
        "",
        f"{count['mean']:.1f} regions a case ({count['least']} to {count['most']}). Of all wrong voxels"
        f" {facts['share_of_errors_in_regions']:.1%} lie in regions, {facts['share_of_errors_in_haze']:.1%} in haze,"
        f" {facts['share_of_errors_below_threshold']:.1%} below the threshold.",
    ]


def _settings(result: Result) -> list[str]:
    rows = []
    for entry in result["settings_on_select"]:
        values = [f"{value:g}" for value in entry["settings"].values()]
        figures = [f"{entry['regions_a_case']:.1f}", f"{entry['longest_diagonal_mm']:.0f}", f"{entry['share']:.3f}"]
        mean, low, high = entry["better_within_shipped_limits"]
        within = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append([*values, *figures, f"{entry['mm3']:.0f}", f"{entry['of_single_voxels']:.3f}", within])
    head = [*result["settings"], "regions a case", "longest diagonal mm", "mean share, k = 1 to 10", "mean mm³"]
    return [
        "First row: as shipped. More share a look is bought with volume (a lower threshold) or with larger looks",
        "(extent); the last column holds both to what the shipped settings take, case by case.",
        "",
        *_table([*head, "of single voxels at that volume", "better within the shipped looks and volume"], rows),
    ]
