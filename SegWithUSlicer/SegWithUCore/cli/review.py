"""`segwithu regions` and `worklist`: the regions of segmented cases that are worth a look, and the order of cases."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regions.region import UNCERTAIN, Region, in_words
from ..review.flags import WITHOUT_LIMITS
from ..review.worklist import BENEFIT, SORTS, Worklist, WorklistEntry, make_worklist
from ..review.worklist_files import WORKLIST_CSV, write_worklist
from ..util.errors import UsageError
from .arguments import add_flag_options, asked_cases, finite_number, flag_rules
from .console import Console, table
from .workers import add_share_option, add_worker_options, each_case, own_share

if TYPE_CHECKING:
    from ..cluster.on_worker import Context
    from ..regions.find_regions import FoundRegions, RegionSettings


_MOST_ROWS = 30
_MOST_CASES = 30


def _add_regions(commands: Any) -> None:
    """Add `regions`."""
    command = commands.add_parser(
        "regions",
        examples=("regions results/case_1", "regions results/case_1 --threshold 0.4"),
        help="list the regions of a segmented case that are worth a look",
        description="Group the uncertain voxels of case folders into regions worth a look each, write regions.csv and "
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
    add_worker_options(command)
    command.set_defaults(run=run_regions)


def run_regions(options: argparse.Namespace, console: Console) -> int:
    """Make and print regions; a case that fails does not stop the others."""
    from ..cluster.tasks import Task

    settings = _region_settings(options)
    folders = own_share(options, options.cases)
    tasks = [Task(str(folder), (folder.absolute(), settings, options.overwrite)) for folder in folders]
    shown, failed = {str(folder): folder for folder in folders}, 0
    for answer in each_case(tasks, regions_of_case, options, console):
        if answer.value is None:
            console.error(answer.reason)
            failed += 1
            continue
        found, folder = answer.value["found"], shown[answer.task.name]
        regions = found.regions
        data = {"case": str(folder), **found.summary(settings), "regions": [asdict(region) for region in regions]}
        console.result(_regions_text(folder, regions, found), data)
    return 1 if failed else 0


def regions_of_case(_context: "Context", folder: Path, settings: "RegionSettings", overwrite: bool) -> dict[str, Any]:
    """Make the regions of one case, here or on a worker."""
    from ..case.case_regions import make_regions_again

    return {"found": make_regions_again(folder, settings, overwrite)}


def _region_settings(options: argparse.Namespace) -> "RegionSettings":
    from ..regions.find_regions import RegionSettings

    if options.threshold is not None and not 0 < options.threshold < 1:
        raise UsageError(f"--threshold {options.threshold}: give an error probability between 0 and 1.")
    return RegionSettings() if options.threshold is None else RegionSettings(threshold=options.threshold)


def _regions_text(folder: Path, regions: Sequence[Region], found: "FoundRegions") -> str:
    lines = [str(folder)]
    if regions:
        header = ["rank", "id", "structure", "kind", "wrong mm3", "mm3", "peak", "R", "A", "S", "most likely"]
        lines.append(table(header, [_region_row(region) for region in regions[:_MOST_ROWS]], words=(2, 3, 10)))
    if len(regions) > _MOST_ROWS:
        lines.append(f"... and {len(regions) - _MOST_ROWS} more in regions.csv")
    inside, thin = (
        sum(region.expected_wrong_mm3 for region in regions),
        sum(found.low_density_mm3.values()),
    )
    lines.append(
        f"{len(regions)} regions hold {inside:.0f} of the {found.expected_wrong_mm3:.0f} mm3 that are expected to be "
        f"wrong; {thin:.0f} mm3 are spread thin along boundaries, the rest over voxels that are hardly uncertain."
    )
    if found.left_out:
        lines.append(found.left_out_sentence)
    return "\n".join(lines)


def _region_row(region: Region) -> list[str]:
    confusion = region.competing[0]
    return [
        str(region.rank),
        str(region.id),
        region.structure,
        region.kind.value,
        f"{region.expected_wrong_mm3:.0f}",
        f"{region.volume_mm3:.0f}",
        f"{region.peak:.2f}",
        *(f"{value:.1f}" for value in region.peak_ras_mm),
        f"{100 * confusion.share:.0f} %: {in_words(confusion, region.structure)}",
    ]


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
    header = [
        "case",
        "flags",
        "worst structure",
        "wrong mm3",
        "share",
        "share >",
        "pred. Dice",
        "Dice <",
        "open",
        "min",
    ]
    header += ["mm3/min", "reviewed"]
    rows = [_worklist_row(entry) for entry in entries]
    empty = {number for number in range(len(header)) if number and not any(row[number] for row in rows)}
    kept = [number for number in range(len(header)) if number not in empty]
    words = [place for place, number in enumerate(kept) if number in (0, 2, 11)]
    return table([header[n] for n in kept], [[row[n] for n in kept] for row in rows], words=words)


def _worklist_row(entry: WorklistEntry) -> list[str]:
    flags = str(len(entry.flags)) if entry.flags else ""
    reviewed = "; ".join(
        f"{r.reviewer} {r.decided}/{r.regions}" + (f" ({r.unseen} not looked at)" if r.unseen else "")
        for r in entry.reviews
    )
    if entry.regions is None:
        return [entry.name, flags, "not calibrated", *[""] * 8, reviewed]
    triage = entry.triage
    wrong = "" if triage.wrong_mm3 is None else f"{triage.wrong_mm3:.0f}"
    share = "" if triage.wrong_share is None else f"{100 * triage.wrong_share:.0f} %"
    share = "no volume" if triage.is_empty else share
    dice = "" if triage.predicted_dice is None else f"{triage.predicted_dice:.2f}"
    ranks = [triage.ranks[name].text if name in triage.ranks else "" for name in ("wrong_share", "predicted_dice")]
    look = [f"{entry.open_regions} of {entry.regions}", f"{entry.minutes:.1f}", f"{entry.benefit:.0f}", reviewed]
    return [entry.name, flags, entry.worst_structure or "", wrong, share, ranks[0], dice, ranks[1], *look]


def add_commands(commands: Any) -> None:
    """Add `regions` and `worklist`."""
    _add_regions(commands)
    _add_worklist(commands)
