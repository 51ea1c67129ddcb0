"""Images whose headers were changed after they were segmented, for fuzz.py: check, report, export, pages.

The voxels are still those that were segmented, but what is passed on would show the segmentation beside the image.
"""

import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_phantoms import decimals, write_series
from fuzz import Ended, Maker, Try, export, segment_hippocampi, unchanged
from fuzz_contrasts import of_modality
from fuzz_images import CASE
from fuzz_references import OTHER, elsewhere

SUFFIXES = (".nii.gz", ".nrrd", ".mha")


def prepare(data: Path, folder: Path) -> Maker:
    """Segment one hippocampus as a file of each format and as a series, and write down what is said of each."""
    from segwithu_command import write

    image, other = (sitk.ReadImage(str(data / "hippocampus" / "images" / f"{name}.nii.gz")) for name in (CASE, OTHER))
    for suffix in SUFFIXES:
        write(image, folder / "images" / f"image{suffix}")
    write_series(sitk.Cast(image, sitk.sitkInt16), folder / "images" / "series", change=of_modality("MR"))
    kinds = [*(f"image{suffix}" for suffix in SUFFIXES), "series", "inside"]
    for kind in kinds:
        source = folder / "images" / (kind if kind != "inside" else "image.nii.gz")
        more = ["--include-image"] if kind == "inside" else []
        segment_hippocampi([source], folder / "cases", "--name", kind, "--unlike-training", *more)
    controls: dict[tuple[str, str], Ended] = {}
    for kind in ("series", "inside", "image.nii.gz"):
        for command in dict.fromkeys(COMMANDS):
            (folder / "controls" / kind / command).mkdir(parents=True)
            call = _call(
                command, folder / "cases" / kind, folder / "images" / kind, folder / "controls" / kind / command
            )
            controls[command, kind] = unchanged(call, folder)

    def make(rng: random.Random, work: Path) -> Try:
        kind, command = rng.choice(kinds), rng.choice(COMMANDS)
        case, output = work / kind, work / "output"
        output.mkdir()
        shutil.copytree(folder / "cases" / kind, case)
        if kind == "series":
            given = work / "given" / "series"
            shutil.copytree(folder / "images" / "series", given)
            what, same = _moved_series(rng, sorted(given.iterdir()))
        else:
            given = case / "image.nii.gz" if kind == "inside" else work / "given" / kind
            given.parent.mkdir(exist_ok=True)
            what, moved, same = elsewhere(rng, image, other)
            write(moved, given)
        control = controls[command, kind if kind in ("series", "inside") else "image.nii.gz"]
        accepts = _accepts(command, output, control, same)
        call = _call(command, case, given, output)
        names = [given.name, case.name]
        return Try("moved", f"{command}: {kind} {what}", [call], names, accepts, [output], right="rounded" in what)

    return make


COMMANDS = ("check", "check", "report", "export", "export --page")


def _call(command: str, case: Path, image: Path, output: Path) -> list[str]:
    inside = (case / "image.nii.gz").is_file()
    if command == "check":
        return ["check", str(case), *([] if inside else ["--images", str(image.parent)]), "--json"]
    where = [] if inside else ["--image", str(image)]
    if command == "report":
        return ["report", str(case), *where, "--output", str(output / "report.html"), "--json"]
    where = [] if inside else ["--images", str(image.parent)]
    return export(command, case, output / "out", *where, *(["--with-image"] if "--page" in command else []))


def _moved_series(rng: random.Random, files: Sequence[Path]) -> tuple[str, bool]:
    """Change the place of a whole series."""
    way, by, axis = (
        rng.choice(["rounded", "shifted", "shifted", "spacing", "mirrored"]),
        rng.choice([1, -20, 50]),
        rng.randrange(3),
    )
    by = 1e-6 if way == "rounded" else by
    factor = rng.choice([2.0, 1.1, 1.02])
    for file in files:
        dataset = pydicom.dcmread(file)
        if way in {"rounded", "shifted"}:
            place = np.array(dataset.ImagePositionPatient, float) + by * np.eye(3)[axis]
            dataset.ImagePositionPatient = [f"{value:.9g}" for value in place]
        elif way == "spacing":
            dataset.PixelSpacing = decimals(np.array(dataset.PixelSpacing, float) * factor)
        else:
            turned = np.array(dataset.ImageOrientationPatient, float) * ([-1] * 3 + [1] * 3)
            dataset.ImageOrientationPatient = decimals(turned)
        dataset.save_as(file)
    words = {"shifted": f"by {by} mm along {'xyz'[axis]}", "spacing": f"times {factor}"}
    return f"{way} {words.get(way, '')}", way == "rounded"


def _accepts(command: str, output: Path, control: Ended, same: bool) -> Callable[[Sequence[Ended]], bool]:
    """Accept an image at its place, or a remark; never an export whose two volumes lie apart."""

    def accepts(runs: Sequence[Ended]) -> bool:
        if command == "export":
            folder = next((output / "out").glob("*/segmentation.nii.gz")).parent
            image, labels = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("image", "segmentation"))
            if not np.allclose(corners(image), corners(labels), atol=0.01):
                return False
        return same or said_in_itself(output / "report.html") or bool(runs[-1].notes - control.notes)

    return accepts


def said_in_itself(report: Path) -> bool:
    """Whether a report names the error for which it has no pictures."""
    return report.is_file() and bool(re.search(r"\[[a-z]+(-[a-z]+)+\]", report.read_text("utf-8")))


def corners(image: sitk.Image) -> np.ndarray:
    """Where the first voxel, and the last one along each axis, lie (4, 3)."""
    ends = [[n - 1 if axis == other else 0 for other, n in enumerate(image.GetSize())] for axis in range(3)]
    return np.array([image.TransformIndexToPhysicalPoint(end) for end in [[0, 0, 0], *ends]])
