"""`segwithu judge`, `review`, `agree`: masks made elsewhere, with a model, without one, and of two readers."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ..case.case_image import voxel_hash
from ..inference.engines import AUTO
from ..inference.given_mask import MaskedImage, MaskFile, listed, named_volumes, read_mask
from ..io.grid import VoxelGrid
from ..io.inputs import GivenCase, case_name, cases_in, find_input, read_channel
from ..metrics.overlap import Agreement, agreement_of
from ..util.csv_files import read_user_table, write_csv
from ..util.errors import InputError, UsageError
from ..util.progress import in_turn
from .arguments import add_command, named_labels, refuse_if
from .console import Console, table
from .segment import Call, add_options, add_settings, run_call

AGREEMENT_FILE = "agreement.csv"
_COLUMNS = ("case", "structure", "dice", "mean_distance_mm", "distance_95_mm", "first_mm3", "second_mm3")


def add_commands(commands: Any) -> None:
    """Add the three commands."""
    command = add_command(commands, "judge", run_judge)
    command.add_argument("image", type=Path, help="an image as for segment, or TABLE.csv with the columns image and "
        "mask, and case for other names than the files'")  # fmt: skip
    command.add_argument("mask", nargs="?", type=Path, help="the segmentation: a label map on the image's grid (NIfTI, "
        "NRRD, MHA, MGZ, .seg.nrrd, DICOM SEG), or a folder with one file per structure")  # fmt: skip
    command.add_shared("--labels")
    add_options(command)
    command = add_command(commands, "review", run_review)
    command.add_argument("image", type=Path, metavar="IMAGES", help="an image as for segment, a folder of images, or "
        "TABLE.csv with the columns image and mask")  # fmt: skip
    command.add_argument("mask", nargs="?", type=Path, metavar="MASKS", help="its segmentation as for judge, or a "
        "folder of masks with the names of the images (or BIDS derivatives)")  # fmt: skip
    command.add_shared("--labels", "--output")
    _add_run(command)
    command = add_command(commands, "agree", run_agree)
    command.add_argument("first", type=Path, metavar="FIRST", help="the mask of a reader, or a folder of masks")
    command.add_argument("second", type=Path, metavar="SECOND", help="that of another, of the same name or the image's")
    command.add_argument("--images", type=Path, metavar="IMAGES", help="their image, or folder of images: also make "
        "cases whose regions are the places where both differ")  # fmt: skip
    command.add_shared("--labels")
    command.add_shared("--output", required=False, help=f"folder for {AGREEMENT_FILE}, and for the cases")
    _add_run(command)


def _add_run(command: Any) -> None:
    """Add the settings of a run without a model."""
    add_settings(command)
    command.set_defaults(model=None, head=None, device="cpu", engine=AUTO, network=None, threads=None, roi=None,
                         unlike_training=False, workers=None, scheduler=None, channel=[], part=None)  # fmt: skip


def run_judge(options: argparse.Namespace, console: Console) -> int:
    """Judge a segmentation that was made elsewhere.

    Run the model on IMAGE, and write OUTPUT/<name>/ as segment does, with MASK as the segmentation and the probability
    that it is wrong: its disagreement with the model. Review, worklist, report and export work as after segment.

    Examples:
    judge head.nii.gz mask.nii.gz -m hippocampus -o judged --labels "17=left hippocampus" "53=right hippocampus"
    judge ct.nii.gz total_segmentator_output -m my_model -o judged --labels liver=liver
    judge TABLE.csv -m hippocampus -o judged --resume
    """
    names = named_labels(options.labels)
    rows = _masks_of(options.image, options.mask, console)
    masks = {case.name: MaskFile(mask, names) for case, mask in rows}
    tables = {options.image: [case for case, _ in rows]}
    return run_call(Call.of(options, paths=[options.image], tables=tables, masks=masks), console)


def run_review(options: argparse.Namespace, console: Console) -> int:
    """Review masks that were made elsewhere, without a model.

    Write OUTPUT/<name>/ for each image and its mask: structures, volumes, and the regions that the shape of the mask
    gives (parts that lie apart or on the wrong side, holes, jumps between slices). From eight masks on, volumes and
    asymmetries that are unusual among them are flagged. Review, worklist, report and export work as after segment.
    There is no error probability: an even outline at the wrong place is not found.

    Examples:
    review head.nii.gz aseg.mgz -o reviewed
    review images masks --labels freesurfer -o reviewed
    review TABLE.csv --labels structures.csv -o reviewed
    """
    named = named_labels(options.labels)
    rows = _masks_of(options.image, options.mask, console)
    return _run_without_model(options, console, [(case, [MaskFile(mask, named)]) for case, mask in rows], options.image)


def _run_without_model(
    options: argparse.Namespace, console: Console, rows: Sequence[tuple[GivenCase, list[MaskFile]]], place: Path
) -> int:
    """Make the case folders of masks, or of two readers' masks; `place` is where the images were found.

    Raises:
        InputError, UsageError: no mask can be read.
    """
    from ..inference.mask_review import model_of_masks, structure_labels

    found, volumes, masks = list[dict[str, str]](), list[dict[str, float]](), {}
    trouble: InputError | UsageError | None = None
    with console.progress("review") as progress:
        for case, given in in_turn(rows, "reading the masks", progress, lambda row: row[0].name):
            try:
                image = _masked_image(case)
                named = [named_volumes(mask, image) for mask in given]
            except (InputError, UsageError) as error:  # reported for its own case, if another can be read
                trouble, named = trouble or error, []
            found += [names for names, _ in named]
            volumes += [own for _, own in named[:1]]
            if named:  # spelled out, so that all have the same structures
                given = [replace(mask, names=own) for mask, (own, _) in zip(given, named, strict=True)]
            masks[case.name] = replace(given[0], other=given[-1] if given[1:] else None)
    if trouble and not found:
        raise trouble
    call = Call.of(options, paths=[place], tables={place: [case for case, _ in rows]}, masks=masks)
    return run_call(call, console, model_of_masks(structure_labels(found), volumes))


def run_agree(options: argparse.Namespace, console: Console) -> int:
    """Compare the masks of two readers.

    Print for each structure the Dice, the mean and the 95th percentile of the distances between both surfaces (mm), and
    both volumes; of several cases the means. With --images and --output also write cases as review does, with the masks
    of FIRST, whose regions are the places where both differ, the largest first.

    Examples:
    agree ana.nii.gz ben.seg.nrrd
    agree ana ben --labels structures.csv -o agreement
    agree ana ben --images images -o agreement
    """
    refuse_if((options.images and not options.output, "--images goes with --output, the folder of the cases."))
    named, images = named_labels(options.labels), options.images or options.first
    first, second = ({case.name: (case, MaskFile(mask, named)) for case, mask in _masks_of(images, given, console)}
                     for given in (options.first, options.second))  # fmt: skip
    if alone := sorted(first.keys() ^ second.keys()):
        console.note(f"Of one reader only, and left out ({len(alone)}): {listed(alone)}.")
    rows: list[tuple[GivenCase, list[MaskFile]]] = []
    cells: list[list[Any]] = []
    with console.progress("agree") as progress:
        for name in in_turn(sorted(first.keys() & second.keys()), "comparing", progress, str):
            case, both = first[name][0], [first[name][1], second[name][1]]
            with console.case_by_case():
                found = _agreements(case, both, not options.images)
                cells += [[name, structure, *astuple(each)] for structure, each in found]
                rows.append((case, both))
    if options.output and cells:
        options.output.mkdir(parents=True, exist_ok=True)
        write_csv(options.output / AGREEMENT_FILE, _COLUMNS, cells)
    data = [dict(zip(_COLUMNS, row, strict=True)) for row in cells]
    console.result(_agreement_table(cells), {"agreement": data})
    status = _run_without_model(options, console, rows, images) if options.images and rows else 0
    return 1 if console.failures else status


def _agreements(case: GivenCase, both: Sequence[MaskFile], is_mask: bool) -> Iterator[tuple[str, Agreement]]:
    """Compare two masks structure by structure, where one of them has it; raises as `read_mask`."""
    from ..inference.mask_review import mask_classes, structure_labels

    image = _masked_image(case, is_mask)
    names = [named_volumes(mask, image)[0] for mask in both]
    labels = structure_labels(names)
    one, other = (mask_classes(read_mask(replace(mask, names=own), image, labels, True), labels)
                  for mask, own in zip(both, names, strict=True))  # fmt: skip
    for index, label in enumerate(labels[1:], 1):
        if (one == index).any() or (other == index).any():
            yield label.name, agreement_of(one == index, other == index, image.grid.spacing[::-1])


def _agreement_table(cells: Sequence[Sequence[Any]]) -> str:
    """Show the means over cases of each structure."""
    rows = []
    for structure in dict.fromkeys(row[1] for row in cells):
        own = [row[2:] for row in cells if row[1] == structure]
        columns = [[value for value in column if value is not None] for column in zip(*own, strict=True)]
        digits = zip(columns, (3, 2, 2, 0, 0), strict=True)
        rows.append([structure, str(len(own)), *(f"{fmean(known):.{n}f}" if known else "-" for known, n in digits)])
    header = ["structure", "cases", "Dice", "mean mm", "95 % mm", "first mm3", "second mm3"]
    return table(header, rows) if rows else "No structure could be compared."


def _masked_image(case: GivenCase, is_mask: bool = False) -> MaskedImage:
    """Read the image that masks are compared on; without any, one of the masks is."""
    image = read_channel(file := case.numbered.get(0, case.source), None).image
    return MaskedImage(file, VoxelGrid.of(image), "" if is_mask else voxel_hash(image))


def _masks_of(image: Path, mask: Path | None, console: Console) -> list[tuple[GivenCase, Path]]:
    """Return each case with its mask: of one image, of a folder of images, or of the rows of a table.

    Raises:
        UsageError: there is no mask.
        InputError: as `with_masks`; the table lacks a column or a cell, or a file is missing.
    """
    from ..cohort.jobs import with_masks

    if mask is not None:
        if not image.is_dir() or (cases_in(image).paths == [image] and len(find_input(image).cases) == 1):
            return [(find_input(image).cases[0], mask)]
        if not mask.is_dir():
            raise UsageError(f"{image} holds images, but {mask} is one mask: give a folder of masks, or a table.")
        pairs, without = with_masks(image, mask)
        if without:
            console.note(f"Without a mask, and left out ({len(without)}): {listed(without)}.")
        return pairs
    wanted = "give IMAGE MASK, or a CSV table with the columns image and mask"
    if image.suffix.lower() != ".csv":
        raise UsageError(f"There is no mask for {image}: {wanted}.")
    found = []
    rows = read_user_table(image, ("image", "mask"), wanted)
    if not rows:
        raise UsageError(f"{image} has no rows: {wanted}.", "no-data-set")
    for number, row in enumerate(rows, 2):
        if not row["image"] or not row["mask"]:
            raise InputError(f"{image}: row {number} lacks image or mask: {wanted}.")
        file, own = (image.parent / row[key] for key in ("image", "mask"))
        found.append((GivenCase(row.get("case") or case_name(file), file), own))
    if len({case.name for case, _ in found}) < len(found):
        raise InputError(f"{image} names two cases alike: add a column case with different names.")
    return found
