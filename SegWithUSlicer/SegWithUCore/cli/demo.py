"""`segwithu demo`: the shipped model on both sides of the shipped image, with a picture of each."""

import argparse
from pathlib import Path
from typing import Any

from ..case.pictures import PREVIEW_FILE
from ..util.errors import InputError
from ..util.strict_json import read_json_object
from .arguments import add_engine_option, add_threads_option, opened_model
from .cohort import summary
from .console import Console

SIDES = ("left", "right")


def add_commands(commands: Any) -> None:
    """Add `demo`."""
    command = commands.add_parser(
        "demo",
        examples=("demo", "demo --output demo"),
        help="segment the shipped brain image and draw a picture",
        description="Segment both hippocampi of the MNI152 average with the shipped model, and write a case folder of "
        "each with a picture. Uses no network.",
    )
    command.add_argument("--output", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    add_engine_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the demo."""
    from ..cohort.one_case import case_facts
    from ..inference.segment import Job, segment
    from ..io.roi import RegionOfInterest
    from ..models.installed import resolve_model
    from ..util.paths import resources_folder

    folder = (resources_folder() or Path("Resources")) / "SampleData"
    if not (folder / "sample.json").is_file():
        raise InputError(
            f"{folder / 'sample.json'} is missing: run the demo from a source checkout or an installed extension."
        )
    sample = read_json_object(folder / "sample.json")
    model = opened_model(resolve_model(sample["model"]), options.engine, console, "cpu")
    for side, box in zip(SIDES, sample["regions"], strict=True):
        target = options.output / side
        roi = RegionOfInterest(tuple(box["centre_ras_mm"]), tuple(box["size_mm"]))
        with console.progress(side) as progress:
            result = segment(Job(side, [folder / sample["file"]], target, roi, overwrite=True), model, progress)
        facts = case_facts(result)
        console.result(summary(side, facts, target), {"case": str(target), "structures": facts["structures"]})
    pictures = " and ".join(str(options.output / side / PREVIEW_FILE) for side in SIDES)
    console.note(f"Look at {pictures}; the case folders open in 3D Slicer or any NIfTI viewer.")
    return 0
