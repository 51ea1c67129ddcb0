"""`segwithu demo`: the shipped model on the shipped image, both sides, with a picture."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError
from ..util.strict_json import read_json_object
from .arguments import add_engine_option, add_threads_option, opened_model
from .cohort import summary
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.evaluation.pictures import Tile

    from ..inference.case_writer import CaseResult
    from ..inference.model import Model

CAPTION = (
    "Orange and blue: what the model calls anterior and posterior hippocampus. Bright: here the label is likely wrong, "
    "look first.\nDark or clear: the model sees no reason for doubt, which is not the same as being correct. "
    "For research, not for clinical use."
)


@dataclass(frozen=True)
class DemoCase:
    """One run of the demo: a name, the words of its row, the image file and the region."""

    name: str
    title: str
    file: Path
    region: dict[str, Any]


def add_commands(commands: Any) -> None:
    """Add `demo`."""
    command = commands.add_parser(
        "demo",
        examples=("demo", "demo --output demo"),
        help="segment the shipped brain image and draw a picture",
        description="Segment both hippocampi of the MNI152 average with the shipped model: the left one, the mirrored "
        "right one, and the right one as it is. Writes case folders and a picture. Uses no network.",
    )
    command.add_argument("--output", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    add_engine_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the demo."""
    from ..models.registry import resolve_model

    sample, folder = _sample()
    model = opened_model(resolve_model(sample["model"]), options, console, "cpu")
    image = folder / sample["file"]
    mirrored = _mirrored_file(image, options.output)
    left, right = sample["regions"]
    cases = [
        DemoCase("left", "left", image, left),
        DemoCase("right_mirrored", "right, image mirrored", mirrored, left),
        DemoCase("right", "right, as it is", image, right),
    ]
    results = [_segment(case, model, options.output, console) for case in cases]
    picture = options.output / "montage.png"
    from SegWithULab.evaluation.pictures import draw_montage

    tiles = [_tile(case, result) for case, result in zip(cases, results, strict=True)]
    draw_montage(tiles, model.bundle.labels, picture, CAPTION)
    console.result(_agreement(results[1], results[2]), {"picture": str(picture)})
    console.note(f"Look at {picture}; the case folders beside it open in 3D Slicer or any NIfTI viewer.")
    return 0


def _sample() -> tuple[dict[str, Any], Path]:
    from ..util.paths import resources_folder

    resources = resources_folder()
    description = resources / "SampleData" / "sample.json" if resources else Path("Resources/SampleData/sample.json")
    if not description.is_file():
        raise InputError(f"{description} is missing: run the demo from a source checkout or an installed extension.")
    return read_json_object(description), description.parent


def _mirrored_file(image: Path, output: Path) -> Path:
    """Return the sample with left and right exchanged (its grid is symmetric about the midline)."""
    import SimpleITK as sitk

    from ..inference.preprocessing import mirrored_copy
    from ..io.volume import read_image
    from ..util.atomic_files import atomic_file

    target = output / "mirrored_image.nii.gz"
    with atomic_file(target) as work:
        sitk.WriteImage(sitk.Cast(mirrored_copy(read_image(image)), sitk.sitkUInt8), str(work))
    return target


def _segment(case: DemoCase, model: "Model", output: Path, console: Console) -> "CaseResult":
    from ..inference.cohort import case_facts
    from ..inference.segment import Job, segment
    from ..io.roi import RegionOfInterest

    region = RegionOfInterest(tuple(case.region["centre_ras_mm"]), tuple(case.region["size_mm"]))
    target = output / case.name
    with console.progress(case.name) as progress:
        result = segment(Job(case.name, [case.file], target, region, overwrite=True), model, progress)
    facts = case_facts(result)
    console.result(summary(case.name, facts, target), {"case": str(target), "structures": facts["structures"]})
    return result


def _tile(case: DemoCase, result: "CaseResult") -> "Tile":
    import numpy as np
    import SimpleITK as sitk

    from SegWithULab.evaluation.pictures import ORIENTATION, Tile

    from ..case.case_regions import label_values
    from ..io.volume import image_on_grid, read_image

    part = result.box.crop(read_image(case.file))
    maps = result.maps
    if maps.error_probability is not None:
        risk = np.asarray(maps.error_probability)
    else:
        ranking = np.asarray(maps.ranking)
        risk = (ranking - ranking.min()) / (float(ranking.max() - ranking.min()) or 1.0)
    labels = label_values(np.asarray(maps.classes), result.bundle.labels)
    arrays = [sitk.GetArrayFromImage(part), labels, risk]
    turned = [sitk.GetArrayFromImage(sitk.DICOMOrient(image_on_grid(array, part), ORIENTATION)) for array in arrays]
    return Tile(case.title, *turned)


def _agreement(mirrored: "CaseResult", plain: "CaseResult") -> str:
    """Say how far the two ways of segmenting the right side agree, and whether the maps show the difference."""
    import numpy as np

    from ..metrics.overlap import dice_of

    masks = []
    for result in (mirrored, plain):
        mask = np.zeros(result.grid.shape_zyx, bool)
        mask[result.box.slices_zyx] = np.asarray(result.maps.classes) > 0
        masks.append(mask)
    overlap = dice_of(masks[0][:, :, ::-1], masks[1])
    wrong = [sum(f.expected_wrong_mm3 or 0.0 for f in result.structures) for result in (mirrored, plain)]
    return (
        f"right hippocampus, mirrored against as it is: Dice {overlap:.3f}; expected wrong volume {wrong[0]:.0f} mm3 "
        f"mirrored, {wrong[1]:.0f} mm3 as it is"
    )
