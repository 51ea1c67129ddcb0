"""`segwithu demo`: the shipped model of the whole brain on the shipped image, with a picture."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..case.case_file import read_case
from ..case.structures_table import WHOLES
from ..models.installed import resolve_model
from ..util.errors import InputError
from ..util.strict_json import read_json_object
from .arguments import add_command, opened_model
from .case_summary import next_steps, summary
from .console import Console


def add_commands(commands: Any) -> None:
    """Add `demo`."""
    command = add_command(commands, "demo", run)
    command.add_shared("--output", required=False, default=Path("demo"), help="folder to write (default: demo)")
    command.add_shared("--engine", "--threads")


def run(options: argparse.Namespace, console: Console) -> int:
    """Segment the shipped head and draw a picture.

    Segment the MNI152 average with the shipped model of the whole brain, and write its case folder, brain, with a
    picture, and the image itself as brain.nii.gz. Uses no network.

    Examples:
    demo --output demo
    """
    from ..inference.case_result import Job
    from ..inference.segment import segment
    from ..util.paths import resources_folder

    folder = (resources_folder() or Path("Resources")) / "SampleData"
    if not (folder / "sample.json").is_file():
        raise InputError(f"{folder} has no sample.json: run the demo from a checkout or an installed extension.")
    sample = read_json_object(folder / "sample.json")
    model = opened_model(resolve_model(sample["model"]), options.engine, console, "cpu")
    target = options.output / "brain"
    with console.progress(target.name) as progress:
        result = segment(Job(target.name, [folder / sample["file"]], target, overwrite=True), model, progress)
    shutil.copyfile(folder / sample["file"], options.output / "brain.nii.gz")
    structures, case = [each.to_json() for each in result.assessed.structures], read_case(target)
    text = summary(case, target) + next_steps(case, target)
    console.result(text, {"case": str(target), "structures": structures, **{name: case[name] for name in WHOLES}})
    return 0
