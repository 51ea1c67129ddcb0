"""`segwithu demo`: the shipped model on both sides of the shipped image, with a picture of each."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..case.case_file import read_case
from ..util.errors import InputError
from ..util.strict_json import read_json_object
from .arguments import add_command, opened_model
from .case_summary import summary
from .console import Console


def add_commands(commands: Any) -> None:
    """Add `demo`."""
    command = add_command(commands, "demo", run)
    command.add_shared("--output", required=False, default=Path("demo"), help="folder to write (default: demo)")
    command.add_shared("--engine", "--threads")


def run(options: argparse.Namespace, console: Console) -> int:
    """Segment the shipped brain image and draw a picture.

    Segment both hippocampi of the MNI152 average with the shipped model, and write a case folder of each with a
    picture, and the image itself as brain.nii.gz. Uses no network.

    Examples:
    demo --output demo
    """
    from ..inference.segment import Job, segment
    from ..io.roi import RegionOfInterest
    from ..models.installed import resolve_model
    from ..util.paths import resources_folder

    folder = (resources_folder() or Path("Resources")) / "SampleData"
    if not (folder / "sample.json").is_file():
        raise InputError(f"{folder} has no sample.json: run the demo from a checkout or an installed extension.")
    sample = read_json_object(folder / "sample.json")
    model = opened_model(resolve_model(sample["model"]), options.engine, console, "cpu")
    for side, box in zip(("left", "right"), sample["regions"], strict=True):
        target = options.output / side
        roi = RegionOfInterest(tuple(box["centre_ras_mm"]), tuple(box["size_mm"]))
        with console.progress(side) as progress:
            result = segment(Job(side, [folder / sample["file"]], target, roi, overwrite=True), model, progress)
        structures = [each.to_json() for each in result.structures]
        console.result(summary(read_case(target), target), {"case": str(target), "structures": structures})
    shutil.copyfile(folder / sample["file"], options.output / "brain.nii.gz")
    console.note(f"Each folder in {options.output} has a picture, and opens in 3D Slicer or any NIfTI viewer.")
    return 0
