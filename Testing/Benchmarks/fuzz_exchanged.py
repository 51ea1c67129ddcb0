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
from typing import Any, NamedTuple

import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_phantoms import write_series
from fuzz import Ended, Maker, Try, export, said_more, segment_hippocampi, unchanged
from fuzz_contrasts import of_modality
from fuzz_images import CASE, as_json
from fuzz_moved import said_in_itself
from fuzz_references import elsewhere

SAME_GRID = "hippocampus_023"
COMMANDS = ("check", "check", "worklist", "report", "report", "export", "export", "export --anonymous",
            "export --bids", "export --bids", "export --page", "export --nnunet", "merge-reviews",
            "export-dicom")  # fmt: skip
LABELS = ("segmentation.nii.gz", "segmentation.nii.gz", "segmentation.seg.nrrd", "runner_up.nii.gz", "regions.nii.gz")
MAPS = ("error_probability.nii.gz", "error_probability.nii.gz", "ranking.nii.gz", "calibration.nii.gz",
        "model_percentile.nii.gz", "data_percentile.nii.gz")  # fmt: skip
NAMED = (*LABELS[:3], "regions.nii.gz", *MAPS[:4])
"""Without which a case is not whole."""


class Change(NamedTuple):
    """What became of a case: in words; whether it holds the same at the same places; why nobody can tell."""

    what: str
    same: bool = False
    unknowable: str = ""


def prepare(data: Path, folder: Path) -> Maker:
    """Segment two hippocampi on one grid, as files and as series, have one reviewed, and keep what is made of it."""
    from exchanged_cases import judged

    from SegWithUCore.case.region_files import read_regions
    from SegWithUCore.review.log_format import Verdict

    for name in (CASE, SAME_GRID):
        image = sitk.ReadImage(str(data / "hippocampus" / "images" / f"{name}.nii.gz"))
        image[:, :, -3:] = 0  # blank, for a warning
        (folder / "images").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / "images" / f"{name}.nii.gz"))
        series = folder / "series" / name
        write_series(sitk.Cast(image, sitk.sitkInt16), series, f"1.2.3.{int(name[-3:])}", change=of_modality("MR"))
        segment_hippocampi([series], folder / "of series", "--name", name)
    segment_hippocampi(sorted((folder / "images").iterdir()), folder / "of files", "--include-image")
    shutil.copytree(folder / "of files", folder / "ours")
    if not json.loads((folder / "ours" / CASE / "case.json").read_text("utf-8"))["ood"]["warnings"]:
        raise RuntimeError("the case has no warning that could be removed")
    case = folder / "of files" / CASE
    judged(case, "eve", {region.rank: Verdict.ACCEPTED for region in read_regions(case)})
    controls = {command: _Control.of(command, folder) for command in dict.fromkeys(COMMANDS)}

    def make(rng: random.Random, work: Path) -> Try:
        command = rng.choice(COMMANDS)
        call, case, other = _call(command, folder, work)
        change = rng.choice([_volume] * 6 + [_beside, _description, _description])(rng, case, other)
        what = f"{command}: {change.what}"
        outputs = [] if command in ("check", "worklist", "merge-reviews", "report") else [call.output]
        accepts = controls[command].accepts(command, work, change.same)
        right, why = change.same and "axes" not in what, change.unknowable  # in other axes it may be refused
        return Try("exchanged", what, [call.words], [CASE], accepts, outputs, right=right, unknowable=why)

    return make


class _Call(NamedTuple):
    words: list[str]
    output: Path


def _call(command: str, folder: Path, work: Path) -> tuple[_Call, Path, Path]:
    """Copy the case and what the command needs besides; returns the call, the case and the other patient's."""
    source = folder / ("of series" if command == "export-dicom" else "of files")
    case, output = work / "cases" / CASE, work / "output"
    shutil.copytree(source / CASE, case)
    if command == "export --nnunet":
        output = work / "Dataset101_Hippocampus"
    if command == "merge-reviews":
        output = work / "ours"
        shutil.copytree(folder / "ours", output)
        words = ["merge-reviews", str(work / "cases"), "--into", str(output), "--json"]
    elif command == "check":
        words = ["check", str(case), "--json"]
    elif command == "report":
        output.mkdir()
        words = ["report", str(case), "--output", str(output / "report.html"), "--json"]
    elif command == "export-dicom":
        series = str(folder / "series" / CASE)
        words = ["export-dicom", str(case), "--source", series, "--output", str(output), "--json"]
    elif command == "worklist":
        words = ["worklist", str(case), "--output", str(output), "--json"]
    else:
        words = export(command, case, output)
    return _Call(words, output), case, source / SAME_GRID


class _Control(NamedTuple):
    """What comes of the unchanged case: what is said, and the files that are written."""

    ended: Ended
    files: dict[str, str]

    @classmethod
    def of(cls, command: str, folder: Path) -> "_Control":
        """Run the command twice: what differs then is not compared."""
        found = []
        for number in range(2):
            work = folder / "controls" / command / str(number)
            call, *_ = _call(command, folder, work)
            found.append((unchanged(call.words, work), _written(call.output, work)))
        (ended, files), (_, again) = found
        if files != again or (command != "check" and not files):
            raise RuntimeError(f"{command} writes nothing, or something else each time: {sorted(files)}")
        return cls(ended, files)

    def accepts(self, command: str, work: Path, same: bool) -> Callable[[Sequence[Ended]], bool]:
        """Accept what is right, what is remarked, and what is written as of the unchanged case."""
        output = work / {"merge-reviews": "ours", "export --nnunet": "Dataset101_Hippocampus"}.get(command, "output")

        def accepts(runs: Sequence[Ended]) -> bool:
            if same or said_more(self.ended)(runs) or said_in_itself(output / "report.html"):
                return True
            return command != "check" and _written(output, work) == self.files

        return accepts


def _written(output: Path, work: Path) -> dict[str, str]:
    """The hash of each file's content, without times, identifiers and where the folder lies."""
    found = {}
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif content[128:132] == b"DICM":
            dataset = pydicom.dcmread(path)
            voxels = [bytes(dataset.get(name, b"")) for name in ("PixelData", "FloatPixelData")]
            content = re.sub(r"\d+(\.\d+){4,}|\d{6,}(\.\d+)?", "", str(dataset)).encode() + b"".join(voxels)
        elif path.suffix != ".png":
            changing = rb'\d{4}-\d\d-\d\d([T ][\d:.+]+Z?)?|_mac": "\w+'
            content = re.sub(changing, b"", content.replace(str(work).encode(), b""))
        name = re.sub(r"(\d+\.){4,}\d+", "", path.relative_to(output).as_posix())
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _volume(rng: random.Random, case: Path, other: Path) -> Change:
    """A volume that is not the one that was made, or is it in other bytes."""
    file = case / rng.choice([*LABELS, *MAPS])
    image, foreign = sitk.ReadImage(str(file)), sitk.ReadImage(str(other / file.name))
    array = sitk.GetArrayFromImage(image)
    labels = file.name in LABELS
    ways = ["other", "other", "header", "mirrored", "emptied", "values", "values", "recompressed"]
    way = rng.choice([*ways, *(["gone", "link to nothing"] if file.name in NAMED else [])])
    if way == "header":
        what, moved, same = elsewhere(rng, image, foreign)
        _write(moved, file, foreign if what == "that of another case" else image)
        return Change(f"{file.name} {what}", same)
    if way in ("gone", "link to nothing"):
        file.unlink()
        if way != "gone":
            file.symlink_to(case.parent / "annex" / file.name)
        return Change(f"{file.name} {way}")
    if way == "other":
        shutil.copy(other / file.name, file)
        return Change(f"{file.name} of another case on the same grid")
    axis = rng.randrange(3)
    changes: dict[str, Callable[[], np.ndarray]] = {
        f"mirrored along axis {axis}": lambda: np.flip(array, axis),
        "emptied": lambda: array * 0,
        "recompressed": lambda: array,
    }
    if labels:
        changes["labels exchanged"] = lambda: np.where((array == 1) | (array == 2), 3 - array, array)
        changes["a label that no structure has"] = lambda: np.where(array == array.max(), 9, array)
    else:
        value = rng.choice([7.0, -0.5, np.nan])
        changes[f"{value:g} instead of 1000 values"] = lambda: np.where(_some(rng, array), value, array)
        changes["1 minus its values"] = lambda: 1 - array
    what = next((name for name in changes if name.startswith(way)), None) or rng.choice(list(changes)[3:])
    voxels = np.ascontiguousarray(changes[what]()).astype(array.dtype)
    moved = sitk.GetImageFromArray(voxels)
    moved.CopyInformation(image)
    _write(moved, file, image)
    # The regions' hash is that of the file's bytes.
    return Change(f"{file.name} {what}", np.array_equal(voxels, array) and not file.name.startswith("regions"))


def _some(rng: random.Random, array: np.ndarray) -> np.ndarray:
    return np.isin(np.arange(array.size), rng.sample(range(array.size), 1000)).reshape(array.shape)


def _write(image: sitk.Image, file: Path, source: sitk.Image) -> None:
    """Write with the names of segments that `source` has."""
    for key in source.GetMetaDataKeys():
        if key.startswith("Seg"):
            image.SetMetaData(key, source.GetMetaData(key))
    sitk.WriteImage(image, str(file), useCompression=True, compressionLevel=1)


def _beside(rng: random.Random, case: Path, other: Path) -> Change:
    """The table of structures, that of regions, or the picture of another case, or of other numbers."""
    file = case / rng.choice(["structures.csv", "structures.csv", "preview.png", "regions.csv"])
    if file.name == "structures.csv" and rng.random() < 0.6:
        text = file.read_text("utf-8")
        rows = [row.split(",") for row in text.splitlines()]
        column = rng.choice(["structure", "voxels", "volume_mm3", "expected_wrong_mm3"])
        at = rows[0].index(column)
        rows[1][at], rows[2][at] = rows[2][at], rows[1][at]
        file.write_text("".join(",".join(row) + "\n" for row in rows), "utf-8")
        return Change(f"{file.name}: {column} of two structures exchanged")
    shutil.copy(other / file.name, file)
    return Change(f"{file.name} of another case")


def _description(rng: random.Random, case: Path, other: Path) -> Change:
    """A `case.json` that somebody edited."""
    file = case / "case.json"
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    one, two = content["structures"][1:]
    way = rng.choice(["volumes doubled", "names exchanged", "values exchanged", "numbers exchanged", "of another case",
                      "warnings removed", "status changed"])  # fmt: skip
    if way == "volumes doubled":
        for structure in (one, two):
            structure |= {key: 2 * structure[key] for key in ("voxels", "volume_mm3", "expected_volume_mm3")}
    elif way in ("names exchanged", "values exchanged"):
        key = way.split()[0][:-1]
        one[key], two[key] = two[key], one[key]
    elif way == "numbers exchanged":
        for key in ("voxels", "volume_mm3", "expected_wrong_mm3"):
            one[key], two[key] = two[key], one[key]
    elif way == "of another case":
        content = json.loads((other / file.name).read_text("utf-8")) | {"name": content["name"]}
    elif way == "warnings removed":
        content["ood"]["warnings"] = []
        content["light"] = {**content["light"], "level": "no sign of trouble"}
    else:
        content["light"]["level"] = "no sign of trouble"
    file.write_text(as_json(content), "utf-8")
    why = (
        "no other file of a case holds its warnings and its status" if way.split()[0] in ("warnings", "status") else ""
    )
    return Change(f"case.json {way}", unknowable=why)
