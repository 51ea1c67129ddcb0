"""`segwithu regions` and `worklist`: the regions to review of segmented cases, and the order of cases."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regions.region import UNCERTAIN, Region, in_words
from ..review.flags import WITHOUT_LIMITS
from ..review.worklist import BENEFIT, SORTS, Worklist, WorklistEntry, make_worklist
from ..review.worklist_files import WORKLIST_CSV, write_worklist
from ..util.errors import SegWithUError, UsageError
from ..util.failures import failure_sentence
from .arguments import add_flag_options, asked_cases, finite_number, flag_rules
from .console import Console, table
from .workers import add_share_option, own_share

if TYPE_CHECKING:
    from ..regions.find_regions import FoundRegions, RegionSettings


_MOST_ROWS = 30
_MOST_CASES = 30


def _add_regions(commands: Any) -> None:
    """Add `regions`."""
    command = commands.add_parser(
        "regions",
        examples=("regions results/case_1", "regions results/case_1 --threshold 0.4"),
        help="list the regions to review of a segmented case",
        description="Group the uncertain voxels of case folders into regions to review, write regions.csv and "
        "regions.nii.gz into them and print the list. segment has done so already with the standard settings.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="case folder that segment wrote")
    command.add_argument(
        "--threshold", type=finite_number, help=f"error probability above which a voxel is uncertain ({UNCERTAIN:g})"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="also where a review belongs to the regions that are there"
    )
    add_share_option(command)
    command.set_defaults(run=run_regions)


def run_regions(options: argparse.Namespace, console: Console) -> int:
    """Make and print regions; a case that fails does not stop the others."""
    from ..case.case_regions import make_regions_again

    settings = _region_settings(options)
    folders = own_share(options, options.cases)
    failed = 0
    for folder in folders:
        try:
            found = make_regions_again(folder, settings, options.overwrite)
        except SegWithUError as error:
            console.error(failure_sentence(error))
            failed += 1
            continue
        data = {"case": str(folder), **found.summary(settings), "regions": [asdict(region) for region in found.regions]}
        console.result(_regions_text(folder, found.regions, found), data)
    return 1 if failed else 0


def _region_settings(options: argparse.Namespace) -> "RegionSettings":
    from ..regions.find_regions import RegionSettings

    if options.threshold is not None and not 0 < options.threshold < 1:
        raise UsageError(f"--threshold {options.threshold}: give an error probability between 0 and 1.")
    return RegionSettings() if options.threshold is None else RegionSettings(threshold=options.threshold)


def _regions_text(folder: Path, regions: Sequence[Region], found: "FoundRegions") -> str:
    lines = [str(folder)]
    if regions:
        rows = [_region_row(region) for region in regions[:_MOST_ROWS]]
        lines.append(table(list(rows[0]), [list(row.values()) for row in rows], words=(2, 3, 10)))
    if len(regions) > _MOST_ROWS:
        lines.append(f"... and {len(regions) - _MOST_ROWS} more in regions.csv")
    inside, thin = sum(region.expected_wrong_mm3 for region in regions), sum(found.low_density_mm3.values())
    lines.append(
        f"{len(regions)} regions hold {inside:.0f} of the {found.expected_wrong_mm3:.0f} mm3 that are expected to be "
        f"wrong; {thin:.0f} mm3 are spread thin along boundaries, the rest over voxels that are hardly uncertain."
    )
    if found.left_out:
        lines.append(found.left_out_sentence)
    return "\n".join(lines)


def _region_row(region: Region) -> dict[str, str]:
    confusion = region.competing[0]
    return {
        "rank": str(region.rank),
        "id": str(region.id),
        "structure": region.structure,
        "kind": region.kind.value,
        "wrong mm3": f"{region.expected_wrong_mm3:.0f}",
        "mm3": f"{region.volume_mm3:.0f}",
        "peak": f"{region.peak:.2f}",
        **{letter: f"{value:.1f}" for letter, value in zip("RAS", region.peak_ras_mm, strict=True)},
        "most likely": f"{100 * confusion.share:.0f} %: {in_words(confusion, region.structure)}",
    }


def _add_worklist(commands: Any) -> None:
    """Add `worklist`."""
    command = commands.add_parser(
        "worklist",
        examples=(
            "worklist results --output results",
            "worklist results --output results --sort share",
            "worklist results --output results --sort predicted-dice --flag-soft-dice 0.88",
        ),
        help="sort segmented cases by what a look at them buys, or by how bad they may be",
        description="Write worklist.csv and worklist.json, which list cases in an order: "
        + "; ".join(f"{name}, by {words}" for name, words in SORTS.items())
        + ". Reads case.json, regions.csv and the reviews' logs only.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the worklist")
    command.add_argument("--sort", choices=list(SORTS), default=BENEFIT, help="the order (default: %(default)s)")
    add_flag_options(command)
    command.set_defaults(run=run_worklist)


def run_worklist(options: argparse.Namespace, console: Console) -> int:
    """Write and print the worklist; 1 if a case could not be read."""
    worklist = make_worklist(asked_cases(options.cases, console), flag_rules(options), options.sort)
    write_worklist(worklist, options.output)
    for warning in worklist.warnings:
        console.note(f"Warning: {warning}")
    for note in worklist.notes:
        console.note(note)
    for entry in worklist.entries:
        for note in entry.notes:
            console.note(f"{entry.name}: {note}")
        if entry.trouble:
            console.error(entry.trouble)
    flagged, broken = (sum(bool(getattr(e, what)) for e in worklist.entries) for what in ("flags", "trouble"))
    data = {"cases": len(worklist.entries), "flagged": flagged, "unreadable": broken, "output": str(options.output)}
    data["warnings"] = worklist.warnings
    console.result(_worklist_text(worklist, flagged, options.output), data)
    return 1 if broken else 0


def _worklist_text(worklist: Worklist, flagged: int, output: Path) -> str:
    shown = [entry for entry in worklist.entries if not entry.trouble]
    lines = [_worklist_table(shown[:_MOST_CASES])] if shown else []
    if len(shown) > _MOST_CASES:
        lines.append(f"... and {len(shown) - _MOST_CASES} more in {WORKLIST_CSV}")
    lines += [f"Sorted by {SORTS[worklist.sort]}.", *_KEY]
    if any(entry.triage.ranks for entry in shown):
        lines.append("share > and Dice <: larger, or lower, than in so many of the calibration cases of its model.")
    inactive = sum(not entry.triage.rules_active for entry in shown)
    flags = f"{flagged} of {len(worklist.entries)} cases are flagged"
    if inactive:
        whose = "this model" if inactive == len(shown) else f"the model of {inactive} of them"
        flags += f" (no rule is active for {whose}: only {WITHOUT_LIMITS} flag)"
    lines.append(f"{flags}; {worklist.pace}. Written to {output}.")
    return "\n".join(lines)


_KEY = (
    "wrong mm3: expected wrong volume, missed tissue included; share: of the segmented volume; pred. Dice: the lowest.",
    "open: regions that nobody has accepted, corrected or taken; min: to look at them; mm3/min: expected wrong volume "
    "that a minute shows.",
)


def _worklist_table(entries: Sequence[WorklistEntry]) -> str:
    rows = [_worklist_row(entry) for entry in entries]
    kept = [name for name in rows[0] if name == "case" or any(row[name] for row in rows)]
    words = [place for place, name in enumerate(kept) if name in ("case", "worst structure", "reviewed")]
    return table(kept, [[row[name] for name in kept] for row in rows], words=words)


def _worklist_row(entry: WorklistEntry) -> dict[str, str]:
    triage, known = entry.triage, entry.regions is not None

    def text(value: float | None, form: str) -> str:
        return format(value, form) if known and value is not None else ""

    def rank(name: str) -> str:
        return triage.ranks[name].text if known and name in triage.ranks else ""

    share = "" if triage.wrong_share is None or not known else f"{100 * triage.wrong_share:.0f} %"
    return {
        "case": entry.name,
        "flags": str(len(entry.flags)) if entry.flags else "",
        "worst structure": (entry.worst_structure or "") if known else "not calibrated",
        "wrong mm3": text(triage.wrong_mm3, ".0f"),
        "share": "no volume" if known and triage.is_empty else share,
        "share >": rank("wrong_share"),
        "pred. Dice": text(triage.predicted_dice, ".2f"),
        "Dice <": rank("predicted_dice"),
        "open": f"{entry.open_regions} of {entry.regions}" if known else "",
        "min": text(entry.minutes, ".1f"),
        "mm3/min": text(entry.benefit, ".0f"),
        "reviewed": "; ".join(
            f"{r.reviewer} {r.decided}/{r.regions}" + (f" ({r.unseen} not looked at)" if r.unseen else "")
            for r in entry.reviews
        ),
    }


def add_commands(commands: Any) -> None:
    """Add `regions` and `worklist`."""
    _add_regions(commands)
    _add_worklist(commands)
