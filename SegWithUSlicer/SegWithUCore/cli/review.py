"""`segwithu regions`, `worklist`, `compare`, `web`, `correct`, `merge-reviews`: what to review, where, and reviews."""

import argparse
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.case_file import CASE_FILE, read_case
from ..case.case_folders import case_folders, deeper_cases
from ..case.case_image import trusted_source
from ..models.installed import resolve_model
from ..regions.region import UNCERTAIN, Region, competition_text, expected_wrong
from ..report.render import render
from ..review.changes import CHANGED, DOUBTFUL, HEADER, NO_CHANGE, UNKNOWN, Comparison, compare
from ..review.changes import COLUMNS as CHANGE_COLUMNS
from ..review.columns import Table, columns_of
from ..review.merge import merge_reviews
from ..review.reviews import Review, agreement_csv, disagreements, read_reviews, unseen_regions
from ..review.worklist import PACE, SORTS, WORST_FIRST, Worklist, counts_text, make_worklist
from ..review.worklist_files import WORKLIST_CSV, WORKLIST_JSON, write_worklist
from ..util.atomic_files import write_text
from ..util.csv_files import write_csv
from ..util.errors import InputError
from .arguments import PROGRAM, CommandParser, add_command, asked_cases, finite_number, int_between, refuse_if
from .case_summary import asked_regions
from .console import Console, table

if TYPE_CHECKING:
    from ..regions.find_regions import FoundRegions

_MOST_ROWS = 30
PORT = 8091
CHANGES_FILE, CHANGES_PAGE = "changes.csv", "changes.html"


def add_commands(commands: Any) -> None:
    """Add the six commands."""
    regions = add_command(commands, "regions", run_regions)
    regions.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="case folder that segment wrote")
    regions.add_argument("--threshold", type=finite_number, default=UNCERTAIN, help="error probability above which a "
                         f"voxel is uncertain ({UNCERTAIN:g})")  # fmt: skip
    regions.add_flag("--overwrite", "also if the existing regions were reviewed")
    worklist = add_command(commands, "worklist", run_worklist)
    worklist.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    worklist.add_shared("--output", metavar="DIR", help="folder for the worklist")
    worklist.add_argument("--sort", choices=list(SORTS), default=WORST_FIRST, help="the order (default: %(default)s)")
    compared = add_command(commands, "compare", run_compare)
    compared.add_argument("scans", nargs="+", type=Path, metavar="SCAN", help="case folders that segment wrote, or "
        "images, of one patient, oldest first")  # fmt: skip
    compared.add_shared("--model", required=False, help="the model that segments images, or that segmented the cases "
        "and has intervals of change of your own (default: the one that the cases name)")  # fmt: skip
    compared.add_shared("--output", required=False, help=f"folder for {CHANGES_FILE} and {CHANGES_PAGE}, and for the "
        "cases of images")  # fmt: skip
    _add_web(commands)
    correct = add_command(commands, "correct", run_correct)
    correct.add_argument("case", type=Path, metavar="CASE", help="case folder that segment wrote")
    correct.add_argument("mask", type=Path, metavar="MASK", help="label volume with the values of the case, or "
                         ".seg.nrrd with the names of its structures, on the grid of its image")  # fmt: skip
    correct.add_argument("--reviewer", required=True, metavar="NAME", help="whose version it becomes")
    correct.add_flag("--overwrite", "also if this reviewer has a version, which is lost")
    merge = add_command(commands, "merge-reviews", run_merge)
    merge.add_argument("sources", nargs="+", type=Path, metavar="FROM", help="returned folders, and files "
                       "*.segwithu.json that pages saved")  # fmt: skip
    merge.add_argument("--into", type=Path, required=True, metavar="DIR", help="your case folder, or a folder of them")
    merge.add_argument("--table", type=Path, metavar="FILE", help="also write the verdicts of all reviewers (CSV)")


def _add_web(commands: Any) -> None:
    command = add_command(commands, "web", run_web)
    add = command.add_argument
    add("place", type=Path, metavar="CASES", help="folder of cases, a case folder, or worklist.json")
    add("--port", type=int_between(0, 65535), default=PORT, help=f"port (default: {PORT}; 0: any free port)")
    command.add_flag("--open", "open the page in the default browser")
    add("--reviewer", default="", metavar="NAME", help="reviewer name that the page suggests")
    add("--images", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders that hold moved images")
    add("--host", default="127.0.0.1", help="address to listen at, for a proxy elsewhere; with --behind-proxy")
    add("--behind-proxy", metavar="ADDRESS", help="https address of the page behind your proxy")


def run_regions(options: argparse.Namespace, console: Console) -> int:
    """List the regions to review of a segmented case.

    Group the uncertain voxels of case folders into regions to review, write regions.csv and regions.nii.gz into
    them and print the list. segment does this with the default settings.

    Examples:
    regions results/case_1
    regions results/case_1 --threshold 0.4
    """
    from ..case.case_regions import make_regions_again
    from ..regions.find_regions import RegionSettings

    refuse_if((not 0 < options.threshold < 1, f"--threshold {options.threshold} is not between 0 and 1."))
    settings = RegionSettings(threshold=options.threshold)
    for folder in options.cases:
        with console.case_by_case():
            found = make_regions_again(folder, settings, options.overwrite)
            data = {"case": str(folder), **found.summary(settings), "regions": list(map(asdict, found.regions))}
            console.result(_regions_text(folder, found), data)
    return 1 if console.failures else 0


def _regions_text(folder: Path, found: "FoundRegions") -> str:
    lines, rows = [str(folder)], []
    regions = asked_regions(read_case(folder), folder)
    for region in regions[:_MOST_ROWS]:
        place = ", ".join(f"{value:.1f}" for value in region.peak_ras_mm)
        numbers = [f"{region.expected_wrong_mm3:.0f}", f"{region.volume_mm3:.0f}", f"{region.peak:.2f}", place]
        likely = competition_text(region.competing[0], region.structure)
        rows.append([str(region.rank), str(region.id), region.structure, region.kind.value, *numbers, likely])
    if rows:
        header = ["rank", "id", "structure", "kind", "wrong mm3", "mm3", "peak", "at RAS mm", "most likely"]
        lines.append(table(header, rows, words=(2, 3, 8)))
    if len(found.regions) > len(rows):
        lines.append(f"... and {len(found.regions) - len(rows)} more in regions.csv")
    inside, total = expected_wrong(regions), found.expected_wrong_mm3 or 0.0
    lines.append(f"{len(regions)} regions hold {inside:.0f} of the {total:.0f} mm³ that may be wrong in the image.")
    return "\n".join([*lines, *([found.left_out_sentence] if found.left_out else [])])


def run_worklist(options: argparse.Namespace, console: Console) -> int:
    """Sort segmented cases, worst first, and say of each whether to look at it.

    Write worklist.csv and worklist.json, which list cases in an order, and volumes.csv, the volumes of the structures
    to be measured with who signed them. Orders: predicted-dice, by the predicted Dice, mean of
    the structures, lowest first; share, by the expected wrong volume, missed tissue included, relative to the segmented
    volume, largest first; benefit, by the expected wrong volume (mm3) in the regions without a verdict, per minute of
    review (20 s for each region, 15 s for the case). Cases that must not be used come before all others, then those to
    look at. Reads case.json, regions.csv and review logs only.

    Examples:
    worklist results --output results
    worklist results --output results --sort benefit
    """
    worklist = make_worklist(asked_cases(options.cases, console), options.sort)
    write_worklist(worklist, options.output)
    console.warn(*worklist.warnings)
    for entry in worklist.entries:
        for note in entry.notes:
            console.note(f"{entry.name}: {note}")
        if entry.trouble:
            console.error(entry.trouble)
    flagged, broken = (sum(bool(getattr(e, what)) for e in worklist.entries) for what in ("is_flagged", "trouble"))
    data = {"cases": len(worklist.entries), "flagged": flagged, "unreadable": broken, "output": str(options.output)}
    text = f"{_worklist_table(worklist)}\n{counts_text(worklist.entries)}. {worklist.order} "
    text += f"{PACE[0].upper()}{PACE[1:]}. Written to {options.output}."
    console.result(text, {**data, "warnings": worklist.warnings})
    return 1 if broken else 0


def _worklist_table(worklist: Worklist) -> str:
    entries = [entry for entry in worklist.entries if not entry.trouble]
    if not entries:
        return "No case could be read."
    columns = columns_of(Table.TERMINAL, entries)
    rows = [[column.shown(entry) for column in columns] for entry in entries[:_MOST_ROWS]]
    words = [place for place, column in enumerate(columns) if column.digits is None]
    text = table([f"{column.title[:1].lower()}{column.title[1:]}" for column in columns], rows, words)
    more = len(entries) - _MOST_ROWS
    return f"{text}\n... and {more} more in {WORKLIST_CSV}" if more > 0 else text


def run_compare(options: argparse.Namespace, console: Console) -> int:
    """Compare scans of one patient: did a structure change?

    Print the volume of each structure to be measured in the first scan and in each later one, the change, and its
    90 % interval, from pairs of scans in which nothing changed: a change whose interval leaves out 0 is called changed.
    Of ten structures without a change about one is called so by chance. What a reader edited has no interval. All scans
    must be segmented by the same model and be of one contrast. Images are segmented into OUTPUT/cases first.

    Examples:
    compare scan_2021.nii.gz scan_2024.nii.gz -m brain --output changes
    compare results/scan_2021 results/scan_2024
    compare results/scan_2021 results/scan_2024 results/scan_2026 --output changes
    """
    found = compare(_scans(options, console), resolve_model(options.model) if options.model else None)
    console.warn(*found.warnings)
    if options.output:
        title, lead = f"Changes since {found.scans[0]}", (found.basis,)
        page = render("changes.html", title=title, heading=title, lead=lead, alerts=found.warnings, found=found)
        options.output.mkdir(parents=True, exist_ok=True)
        write_csv(options.output / CHANGES_FILE, CHANGE_COLUMNS, found.rows())
        write_text(options.output / CHANGES_PAGE, page)
    verdicts = [each.verdict for each in found.changes]
    counts = {verdict: verdicts.count(verdict) for verdict in (CHANGED, DOUBTFUL, NO_CHANGE, UNKNOWN)}
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    data = {"scans": found.scans, "changes": [dict(zip(CHANGE_COLUMNS, row, strict=True)) for row in found.rows()]}
    written = f"\nWritten to {options.output}." if options.output else ""
    console.result(f"{_changes_table(found)}\n{text}. {found.basis}{written}", data | {"warnings": found.warnings})
    return 0


def _scans(options: argparse.Namespace, console: Console) -> list[Path]:
    """Return the case folders that a call names; images are segmented into OUTPUT/cases first, or found there.

    Raises:
        UsageError: there is an image, but no model or no output.
        InputError: a path does not exist, an image was not segmented, or a case is damaged.
    """
    images = [path for path in options.scans if not (path / CASE_FILE).is_file()]
    if not images:
        return list(options.scans)
    if lost := [str(path) for path in images if not path.exists()]:
        raise InputError(f"{lost[0]} does not exist: check the path.", "missing-file")
    missing = f"{images[0]} is not a case folder: give --model and --output, and it is segmented first."
    refuse_if((not options.model or not options.output, missing))
    from . import segment

    parser = CommandParser(prog=PROGRAM)
    segment.add_commands(parser.add_subparsers(dest="command"))
    words = ["segment", *map(str, images), "--model", options.model, "--output", str(options.output / "cases")]
    given = parser.parse_args([*words, "--resume", "--quiet"])
    if given.run(given, console):
        raise InputError("A scan was not segmented, so nothing is compared: see above.", "not-segmented")
    made = {
        trusted_source(folder, read_case(folder)).resolve(): folder
        for folder in case_folders([options.output / "cases"])
    }
    return [made[path.resolve()] if path in images else path for path in options.scans]


def _changes_table(found: Comparison) -> str:
    rows = [[each.structure, each.scan, *each.cells()] for each in found.changes]
    return table(HEADER, rows, words=(0, 1, len(HEADER) - 1))


def run_web(options: argparse.Namespace, console: Console) -> int:
    """Review cases in a browser.

    Show segmented cases in a browser and record verdicts in the same logs as 3D Slicer. The page is served to
    this computer only unless --host is given, and only with the printed link. Ends with
    Ctrl-C.

    Examples:
    web results --open
    """
    from ..web.case_store import CaseStore
    from ..web.reviews import OpenReviews
    from ..web.routes import Routes
    from ..web.server import PageServer, is_local, public_address

    if options.behind_proxy:
        public_address(options.behind_proxy)
    refuse_if(
        (
            not is_local(options.host) and not options.behind_proxy,
            f"--host {options.host} would accept unencrypted connections from other computers: give --behind-proxy "
            "with the address of an encrypting proxy, or use ssh -L for one colleague.",
        ),
        *((not folder.is_dir(), f"--images {folder} is not a folder.") for folder in options.images),
        (options.place.suffix == ".csv", f"{options.place} is a table: give {WORKLIST_JSON}, in the same folder."),
    )
    console.started()
    store = CaseStore(options.place, options.images)
    console.note(*deeper_cases([store.place]))
    routes = Routes(store, OpenReviews(), options.reviewer)
    server = PageServer((options.host, options.port), options.behind_proxy, routes, console.error)
    cases, gate = len(store.folders), server.gate
    text = f"Cases of {options.place} in the browser ({cases}):\n  {gate.link}\n"
    text += "Everybody who has this link sees and reviews them. Ctrl-C ends it."
    console.step(text, {"event": "ready", "url": gate.link, "cases": cases, "port": server.server_port})
    if options.open and not webbrowser.open(gate.link_for_once()):
        console.note("Cannot start a browser: open the link manually.")
    left = server.run()
    console.error(*left)
    text = "The page is closed." if left else "The page is closed; every verdict is in its case folder."
    console.result(text, {"closed": True, "not_stored": len(left)})
    return 1 if left else 0


def run_correct(options: argparse.Namespace, console: Console) -> int:
    """Take a corrected mask from another editor into the review of a case.

    Make a mask that was corrected in ITK-SNAP or any other editor the named reviewer's version of the segmentation of a
    case, with a line in the review, and print the volumes of the structures that it changes. The segmentation of the
    model stays as it is.

    Examples:
    correct results/case_1 corrected.nii.gz --reviewer "A. Smith"
    """
    from ..review.corrections import take_as_edit

    console.started()
    version, volumes = take_as_edit(options.case, options.reviewer, options.mask, options.overwrite)
    rows = [[name, *(f"{volume:.0f}" for volume in pair)] for name, pair in volumes.items()]
    text = f"{table(['structure', 'mm3 before', 'mm3 after'], rows)}\nKept as {version}."
    console.result(text, {"case": str(options.case), "file": str(version), "volumes_mm3": volumes})
    return 0


def run_merge(options: argparse.Namespace, console: Console) -> int:
    """Merge returned reviews into your cases.

    Put the reviews of exported cases into your own case folders. Cases are known by image, model and regions, so
    renamed and anonymous ones are found. Logs are only extended; contradicting reviews are kept in separate files.

    Examples:
    merge-reviews back_from_colleague --into results --table agreement.csv
    """
    done, troubles = merge_reviews(options.sources, options.into)
    console.note(*deeper_cases(options.sources), *(merged.note for merged in done if merged.note))
    console.error(*troubles)
    cases = _reviewed_cases(options.into, console)
    if options.table is not None:
        write_text(options.table, agreement_csv(cases))
    split = sum(len(disagreements(regions, reviews)) for _, regions, reviews in cases)
    unseen = sum(len(unseen_regions(regions, reviews)) for _, regions, reviews in cases)
    lines = [merged.message for merged in done] or ["There are no reviews."]
    regions = "1 region" if split == 1 else f"{split} regions"
    lines.append(f"Reviewers disagree on {regions} (--table lists all); {unseen} taken without a look.")
    merged = [{"case": str(m.folder), "file": m.file, "change": m.change, "note": m.note} for m in done]
    counts = {"disagreements": split, "not_looked_at": unseen, "failed": len(troubles)}
    console.result("\n".join(lines), {"merged": merged, **counts})
    return 1 if troubles else 0


def _reviewed_cases(into: Path, console: Console) -> list[tuple[str, Sequence[Region], list[Review]]]:
    cases: list[tuple[str, Sequence[Region], list[Review]]] = []
    for folder in asked_cases([into], console):
        with console.case_by_case():
            found = read_reviews(folder, read_case(folder))
            if found.reviews:
                cases.append((folder.resolve().name, found.regions, list(found.reviews)))
    return cases
