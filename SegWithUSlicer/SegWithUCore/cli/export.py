"""`segwithu export` and `export-dicom`: cases in one folder that is opened elsewhere; `merge-reviews`: and back."""

import argparse
from pathlib import Path
from typing import Any

from ..case.case_file import read_case
from ..case.case_folders import deeper_cases
from ..regions.region import Region
from ..review.merge import merge_reviews
from ..review.reviews import Review, agreement_csv, disagreements, read_reviews, unseen_regions
from ..review.worklist_files import path_outside, read_worklist
from ..util.atomic_files import atomic_file
from ..util.errors import SegWithUError, UsageError
from ..util.failures import failure_sentence
from ..util.paths import stored_path
from .arguments import add_flag_options, asked_cases, check_rules, flag_rules
from .console import Console, table

_MOST_ROWS = 30


def _add_merge(commands: Any) -> None:
    command = commands.add_parser(
        "merge-reviews",
        examples=("merge-reviews back_from_colleague --into results --table agreement.csv",),
        help="merge reviews that came back into your cases",
        description="Put the reviews of exported cases into your own case folders. Cases are known by image, model and "
        "regions, so renamed and anonymous ones find home. Logs only grow; what does not fit is kept beside.",
    )
    command.add_argument("sources", nargs="+", type=Path, metavar="FROM",
                         help="folders that came back, and files *.segwithu.json that pages saved")  # fmt: skip
    command.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help="your case folder, or a folder of them"
    )
    command.add_argument("--table", type=Path, metavar="FILE", help="also write the verdicts of all reviewers (CSV)")
    command.set_defaults(run=run_merge)


def _add_export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        examples=(
            "export results --output for_colleague",
            "export results --output for_colleague --flagged --anonymous",
            "export results --output pages --page",
        ),
        help="put cases into one folder that a colleague opens elsewhere",
        description="Write one folder with the cases, their images, maps, regions and reviews, a report of each and a "
        "worklist. It opens offline and without torch.",
    )
    command.add_argument("cases", nargs="*", type=Path, metavar="CASES", help="case folders, or folders of them")
    command.add_argument("--list", type=Path, metavar="FILE", dest="worklist",
                         help="cases of a worklist.json; its rows may name a moved \"image\"")  # fmt: skip
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to be made")
    command.add_argument("--flagged", action="store_true", help="only cases that the rules flag")
    command.add_argument(
        "--anonymous",
        action="store_true",
        help="without names, dates, identifiers, paths and comments; who is who is kept in DIR-names.json beside DIR",
    )
    command.add_argument("--keep-comments", action="store_true", help="with --anonymous: keep the comments as they are")
    command.add_argument("--page", action="store_true", help="instead one HTML file a case and an index, anonymous, "
                         "in which cases are reviewed offline in any browser")  # fmt: skip
    image = command.add_mutually_exclusive_group()
    image.add_argument("--with-image", action="store_true", help="with --page: put the image in, as far as 20 mm "
                       "around what was assessed; a face can be recognised in the image of a head")  # fmt: skip
    image.add_argument("--without-image", action="store_true", help="with --page: contours and maps alone")
    command.add_argument(
        "--own-list",
        action="store_true",
        help="FILE of --list is yours: also follow paths in it that lead out of its folder and that another user wrote",
    )
    command.add_argument("--image", type=Path, help="where the image of the one CASE lies now, if it was moved")
    command.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders that hold images which are neither in their case folders nor where you segmented them; known by "
        "their names and voxels",
    )
    add_flag_options(command)
    command.set_defaults(run=run_export)


def run_export(options: argparse.Namespace, console: Console) -> int:
    """Export; 1 if a case could not be exported."""
    from ..export.case_export import ExportSettings, NothingExportedError, export_cases

    console.started()
    _check_options(options)
    folders, images, troubles = _asked(options, console)
    if options.image and len(folders) > 1:
        raise UsageError("--image goes with one CASE.")
    if options.with_image:
        console.note(f"The pages hold the image: {_FACE}. Names, dates, identifiers and paths are left out.")
    for sentence in troubles:
        console.error(sentence)
    if not folders:
        return 1
    rules = flag_rules(options)
    check_rules(folders, rules, console)
    given = (options.flagged, options.anonymous, options.keep_comments)
    settings = ExportSettings(*given, rules, images, options.images)
    with console.progress("export") as progress:
        try:
            if options.page:
                from ..web.single_file import PageSettings, export_pages

                found = export_pages(folders, options.output, PageSettings(settings, options.with_image), progress)
            else:
                found = export_cases(folders, options.output, settings, progress)
        except NothingExportedError as error:
            for sentence in error.troubles:
                console.error(sentence)
            raise
        progress("done", 1.0)
    for sentence in found.troubles:
        console.error(sentence)
    for sentence in found.left_out[:_MOST_ROWS]:
        console.note(f"Left out: {sentence}")
    if len(found.left_out) > _MOST_ROWS:
        console.note(f"Left out: {len(found.left_out) - _MOST_ROWS} more files; --json lists all.")
    for note in found.notes:
        console.note(note)
    if options.keep_comments:
        console.note("The comments are in the export as they were written: read them before you send it.")
    failed = len(found.troubles) + len(troubles)
    data = {"exported": sorted(found.names), "not_flagged": found.skipped, "failed": failed}
    data |= {"left_out": found.left_out, "notes": found.notes}
    text = f"{len(found.names)} of {len(folders) + len(troubles)} cases are in {options.output}."
    if found.names_file is not None:
        text += f" Who is who is in {found.names_file}: keep that file to yourself."
    console.result(text, {**data, "output": str(options.output)})
    return 1 if failed else 0


_FACE = "a face can be recognised in the image of a head, and writing may be burnt into it"


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, and ask whether an image may leave the house before it is written.

    Raises:
        UsageError: which and why.
    """
    said = options.with_image or options.without_image
    missing = not options.cases and options.worklist is None
    refusals = [
        (missing, "There is nothing to export: give CASES, or a worklist with --list."),
        (options.own_list and options.worklist is None, "--own-list goes with --list."),
        (said and not options.page, "--with-image and --without-image go with --page."),
        (
            options.page and not said,
            f"A page holds the image around what was assessed, and {_FACE}: say --with-image if it may be sent, or "
            "--without-image for contours and maps alone.",
        ),
    ]
    if options.keep_comments:
        refusals += [
            (options.page, "--keep-comments does not go with --page: pages hold no reviews of others."),
            (not options.anonymous, "--keep-comments goes with --anonymous."),
        ]
    for folder in options.images:
        refusals.append((not folder.is_dir(), f"--images {folder} is no folder: give one that holds images of cases."))
    for is_wrong, sentence in refusals:
        if is_wrong:
            raise UsageError(sentence)


def _asked(options: argparse.Namespace, console: Console) -> tuple[list[Path], dict[Path, Path], list[str]]:
    """Find the case folders, where their images lie now as far as they were moved, and why others are not opened."""
    images: dict[Path, Path] = {}
    folders = asked_cases(options.cases, console) if options.cases else []
    troubles = []
    for row, folder in read_worklist(options.worklist) if options.worklist is not None else []:
        outside = None if options.own_list else path_outside(options.worklist, row)
        if outside is not None:
            troubles.append(
                f"{options.worklist} leads to {outside}, outside its folder, and this user did not write so: name the "
                "cases themselves, or say with --own-list that the list is yours."
            )
            continue
        folders.append(folder)
        if row.get("image"):
            images[folder] = stored_path(options.worklist.parent, row["image"])
    folders = list({folder.resolve(): folder for folder in folders}.values())
    if options.image:
        images.update(dict.fromkeys(folders, options.image))
    return folders, images, troubles


def run_merge(options: argparse.Namespace, console: Console) -> int:
    """Merge and print where reviewers disagree; 1 where something could not be merged."""
    done, troubles = merge_reviews(options.sources, options.into)
    for sentence in deeper_cases(options.sources):
        console.note(sentence)
    for note in (merged.note for merged in done if merged.note):
        console.note(note)
    for sentence in troubles:
        console.error(sentence)
    cases = _reviewed_cases(options.into, console)
    if options.table is not None:
        with atomic_file(options.table) as work:
            work.write_text(agreement_csv(cases), encoding="utf-8", newline="")
    rows = []
    for name, regions, reviews in cases:
        for row in disagreements(regions, reviews):
            given = zip(reviews, row.verdicts, strict=True)
            verdicts = "; ".join(f"{review.reviewer}: {v.value}" for review, v in given if v is not None)
            rows.append([name, str(row.region.rank), row.region.structure, verdicts])
    lines = [merged.sentence for merged in done] or ["No reviews came back."]
    if rows:
        lines += ["", table(["case", "rank", "structure", "verdicts"], rows[:_MOST_ROWS], words=(0, 2, 3))]
    if len(rows) > _MOST_ROWS:
        lines.append(f"... and {len(rows) - _MOST_ROWS} more: write them with --table.")
    lines.append(f"Reviewers disagree on {len(rows)} regions.")
    unseen = [region for _name, regions, reviews in cases for region in unseen_regions(regions, reviews)]
    if unseen:
        wrong = sum(region.expected_wrong_mm3 for region in unseen)
        lines.append(f"{len(unseen)} regions were taken without a look: {wrong:.0f} mm3 of expected error.")
    merged = [{"case": str(m.folder), "file": m.file, "change": m.change, "note": m.note} for m in done]
    counts = {"disagreements": len(rows), "not_looked_at": len(unseen), "failed": len(troubles)}
    console.result("\n".join(lines), {"merged": merged, **counts})
    return 1 if troubles else 0


def _reviewed_cases(into: Path, console: Console) -> list[tuple[str, tuple[Region, ...], list[Review]]]:
    cases = []
    for folder in asked_cases([into], console):
        try:
            found = read_reviews(folder, read_case(folder))
        except SegWithUError as error:
            console.error(failure_sentence(error))
            continue
        if found.reviews:
            cases.append((folder.resolve().name, found.regions, list(found.reviews)))
    return cases


def _add_dicom(commands: Any) -> None:
    command = commands.add_parser(
        "export-dicom",
        examples=("export-dicom results/case_1 --output dicom --source STUDY",),
        help="write results of cases that were made from DICOM as DICOM objects",
        description="Write DICOM Segmentations (the model's, and each reviewer's version) and the error probability as "
        "a Parametric Map, which refer to the series that was segmented. They carry its patient, and the reviewer's "
        "name. Needs the package highdicom: pip install 'highdicom>=0.27'.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to be made")
    command.add_argument(
        "--source",
        type=Path,
        metavar="FOLDER",
        help="where the DICOM series of the one CASE lies now, if it was moved; its voxels must be the same",
    )
    command.add_argument("--anonymous", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=run_dicom)


def run_dicom(options: argparse.Namespace, console: Console) -> int:
    """Write the objects; 1 if a case could not be exported."""
    from ..export.dicom import export_dicom

    if options.anonymous:
        raise UsageError(
            "DICOM objects name the patient of their series, so --anonymous cannot be kept: de-identify the series "
            "with your archive's tool and give it with --source, or use 'segwithu export --anonymous'."
        )
    folders = asked_cases(options.cases, console)
    if options.source and len(folders) > 1:
        raise UsageError("--source goes with one CASE.")
    with console.progress("export-dicom") as progress:
        found = export_dicom(folders, options.output, options.source, progress)
        progress("done", 1.0)
    for note in found.notes:
        console.note(note)
    for sentence in found.troubles:
        console.error(sentence)
    lines = [f"{name}: {', '.join(files)}" for name, files in found.files.items()]
    lines.append(f"{len(found.files)} of {len(folders)} cases are in {options.output}.")
    data = {"exported": found.files, "failed": len(found.troubles), "output": str(options.output)}
    console.result("\n".join(lines), data)
    return 1 if found.troubles else 0


def add_commands(commands: Any) -> None:
    """Add `export`, `merge-reviews` and `export-dicom`."""
    _add_export(commands)
    _add_merge(commands)
    _add_dicom(commands)
