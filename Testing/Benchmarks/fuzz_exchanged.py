"""Case folders whose files were changed after the run, for fuzz.py: what passes a case on must say so.

Volumes, tables and pictures of another patient, mirrored, emptied, with other values; an edited `case.json`. A command
that does not use what was changed writes what it writes of the unchanged case.
"""

import gzip
import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_phantoms import write_series
from fuzz import Ended, Maker, Try, export, said_more, segment_hippocampi, unchanged
from fuzz_contrasts import of_modality
from fuzz_images import CASE, as_json
from fuzz_moved import said_in_itself
from fuzz_references import elsewhere, of_voxels
from fuzz_reviews import with_header

SAME_GRID = "hippocampus_023"
EXPORTS = ("export", "export", "export --anonymous", "export --bids", "export --bids", "export --page",
           "export --nnunet")  # fmt: skip
COMMANDS = ("check", "check", "worklist", "report", "report", *EXPORTS, "merge-reviews", "export-dicom")
LABELS = ("segmentation.nii.gz", "segmentation.nii.gz", "segmentation.seg.nrrd", "runner_up.nii.gz", "regions.nii.gz")
MAPS = ("error_probability.nii.gz", "error_probability.nii.gz", "ranking.nii.gz", "calibration.nii.gz",
        "model_percentile.nii.gz", "data_percentile.nii.gz")  # fmt: skip
WHOLE = (*LABELS[:3], "regions.nii.gz", *MAPS[:4])
"""Without which a case is not whole."""
OUTPUT = "Dataset101_Output"


def prepare(data: Path, folder: Path) -> Maker:
    """Segment two hippocampi on one grid, as files and as series, have one reviewed, and keep what is made of it."""
    from exchanged_cases import judged

    from SegWithUCore.case.region_files import read_regions
    from SegWithUCore.review.log_format import Verdict

    (folder / "images").mkdir(parents=True)
    for name in (CASE, SAME_GRID):
        image = sitk.ReadImage(str(data / "hippocampus" / "images" / f"{name}.nii.gz"))
        image[:, :, -3:] = 0  # blank, for a warning
        sitk.WriteImage(image, str(folder / "images" / f"{name}.nii.gz"))
        series = folder / "series" / name
        write_series(sitk.Cast(image, sitk.sitkInt16), series, f"1.2.3.{int(name[-3:])}", change=of_modality("MR"))
        segment_hippocampi([series], folder / "of series", "--name", name)
    segment_hippocampi(sorted((folder / "images").iterdir()), folder / "of files", "--include-image")
    shutil.copytree(folder / "of files", folder / "ours")
    case = folder / "of files" / CASE
    judged(case, "eve", {region.rank: Verdict.ACCEPTED for region in read_regions(case)})
    if '"severity": "warning"' not in (case / "case.json").read_text("utf-8"):
        raise RuntimeError("the case has no warning that could be removed")
    controls = {command: _control(command, folder) for command in dict.fromkeys(COMMANDS)}

    def make(rng: random.Random, work: Path) -> Try:
        command = rng.choice(COMMANDS)
        call, case, other = _call(command, folder, work)
        what, same = rng.choice([_volume] * 6 + [_beside, _description, _description])(rng, case, other)
        outputs = [work / OUTPUT] if command.startswith("export") else []
        accepts = _accepts(command, work, *controls[command], same)
        # In other axes, and of regions in other bytes, it may be refused.
        right = same and not re.search("axes|regions", what)
        return Try("exchanged", f"{command}: {what}", [call], [CASE], accepts, outputs, right=right)

    return make


def _call(command: str, folder: Path, work: Path) -> tuple[list[str], Path, Path]:
    """Copy the case and what the command needs besides; returns the call, the case and the other patient's."""
    source, case, output = folder / "of files", work / "cases" / CASE, work / OUTPUT
    options = ["--output", str(output), "--json"]
    if command == "merge-reviews":
        shutil.copytree(folder / "ours", output)
        options[0] = "--into"
    elif command == "report":
        output.mkdir(parents=True)
        options[1] += "/report.html"
    elif command == "check":
        options = options[2:]
    elif command == "export-dicom":
        source = folder / "of series"
        options += ["--source", str(folder / "series" / CASE)]
    shutil.copytree(source / CASE, case)
    call = export(command, case, output) if command in EXPORTS else [command, str(case), *options]
    return call, case, source / SAME_GRID


def _control(command: str, folder: Path) -> tuple[Ended, dict[str, str]]:
    """Return what is said and written of the unchanged case, which must be the same each time."""
    works = [folder / "controls" / command / number for number in "12"]
    runs = [unchanged(_call(command, folder, work)[0], work) for work in works]
    files, again = (_written(work) for work in works)
    if files != again or bool(files) == (command == "check"):
        raise RuntimeError(f"{command} writes nothing, or something else each time: {sorted(files)}")
    return runs[0], files


def _accepts(
    command: str, work: Path, control: Ended, files: dict[str, str], same: bool
) -> Callable[[Sequence[Ended]], bool]:
    """Accept what is right, what is remarked, and what is written as of the unchanged case."""

    def accepts(runs: Sequence[Ended]) -> bool:
        told = said_more(control)(runs) or said_in_itself(work / OUTPUT / "report.html")
        return same or told or (command != "check" and _written(work) == files)

    return accepts


def _written(work: Path) -> dict[str, str]:
    """The hash of each written file's content, without times, identifiers and where the folder lies."""
    found = {}
    for path in sorted(path for path in (work / OUTPUT).rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif content[128:132] == b"DICM":
            dataset = pydicom.dcmread(path)
            voxels = [bytes(dataset.get(name, b"")) for name in ("PixelData", "FloatPixelData")]
            content = re.sub(r"\(0002,.*|\d+(\.\d+){4,}|\d{6,}(\.\d+)?", "", str(dataset)).encode() + b"".join(voxels)
        elif path.suffix != ".png":
            changing = rb'\d{4}-\d\d-\d\d([T ][\d:.+]+Z?)?|_mac": "\w+'
            content = re.sub(changing, b"", content.replace(str(work).encode(), b""))
        name = re.sub(r"(\d+\.){4,}\d+", "", path.relative_to(work).as_posix())
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _volume(rng: random.Random, case: Path, other: Path) -> tuple[str, bool]:
    """Change a volume; returns in words how, and whether each voxel's value is at its place still."""
    file = case / rng.choice([*LABELS, *MAPS])
    image, foreign = sitk.ReadImage(str(file)), sitk.ReadImage(str(other / file.name))
    array, axis = sitk.GetArrayFromImage(image), rng.randrange(3)
    ways = [
        *["of another case on this grid", "values"] * 2,
        "header",
        f"mirrored along {axis}",
        "emptied",
        "recompressed",
    ]
    way = rng.choice([*ways, *(["gone", "link to nothing"] if file.name in WHOLE else [])])
    if way == "header":
        way, moved, same = elsewhere(rng, image, foreign)
        _write(moved, file, foreign if way == "that of another case" else image)
        return f"{file.name} {way}", same
    if way.startswith("of another"):
        shutil.copy(other / file.name, file)
        return f"{file.name} {way}", False
    if way in ("gone", "link to nothing"):
        file.unlink()
        if way != "gone":
            file.symlink_to(case.parent / "annex" / file.name)
        return f"{file.name} {way}", False
    voxels = np.flip(array, axis) if way.startswith("mirrored") else array * 0 if way == "emptied" else array
    if way == "values" and file.name in LABELS:
        way = rng.choice(["labels exchanged", "a label that no structure has"])
        pair = (array == 1) | (array == 2)
        voxels = np.where(pair, 3 - array, array) if way[0] == "l" else np.where(array == array.max(), 99, array)
    elif way == "values":
        value = rng.choice([7.0, -0.5, np.nan, 0.0])
        voxels, way = array.copy(), f"{value:g} instead of 1000 values"
        voxels.ravel()[rng.sample(range(array.size), 1000)] = value
    _write(of_voxels(image, voxels.astype(array.dtype)), file, image)
    return f"{file.name} {way}", np.array_equal(voxels, array)


def _write(image: sitk.Image, file: Path, source: sitk.Image) -> None:
    """Write in other bytes than the product does, with the names of segments that `source` has."""
    sitk.WriteImage(with_header(image, source, "Seg"), str(file), useCompression=True, compressionLevel=1)


def _beside(rng: random.Random, case: Path, other: Path) -> tuple[str, bool]:
    """Change the table of structures, or take a table or the picture of another case."""
    file = case / rng.choice(["structures.csv", "structures.csv", "preview.png", "regions.csv"])
    if file.name != "structures.csv" or rng.random() < 0.4:
        shutil.copy(other / file.name, file)
        return f"{file.name} of another case", False
    rows = [row.split(",") for row in file.read_text("utf-8").splitlines()]
    column = rng.choice(["structure", "voxels", "volume_mm3", "expected_wrong_mm3"])
    at = rows[0].index(column)
    rows[1][at], rows[2][at] = rows[2][at], rows[1][at]
    file.write_text("".join(",".join(row) + "\n" for row in rows), "utf-8")
    return f"{file.name}: {column} of two structures exchanged", False


def _description(rng: random.Random, case: Path, other: Path) -> tuple[str, bool]:
    """Edit `case.json`."""
    file = case / "case.json"
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    one, two = content["structures"][1:]
    exchanged = {"names": ["name"], "values": ["value"], "numbers": ["voxels", "volume_mm3", "expected_wrong_mm3"]}
    way = rng.choice([*exchanged, "volumes doubled", "of another case", "warnings removed", "status changed"])
    for key in exchanged.get(way, []):
        one[key], two[key] = two[key], one[key]
    if way == "volumes doubled":
        for structure in (one, two):
            structure |= {key: 2 * structure[key] for key in ("voxels", "volume_mm3", "expected_volume_mm3")}
    elif way == "of another case":
        content = json.loads((other / file.name).read_text("utf-8")) | {"name": content["name"]}
    elif way == "warnings removed":
        content["ood"]["warnings"], content["light"]["level"] = [], "not flagged"
    elif way == "status changed":
        content["light"]["level"] = "not flagged"
    file.write_text(as_json(content), "utf-8")
    return f"case.json: {way}{' exchanged' if way in exchanged else ''}", False
