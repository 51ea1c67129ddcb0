"""Labelled cases that count as more than they are or are not labelled, for fuzz.py: calibrate --add, check-calibration.

One scan under the names of several patients, and references that are not those of their images, are refused or named;
no model is written of them.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from fuzz import Ended, Maker, Try, unchanged
from fuzz_references import alike, of_voxels, turned
from scipy.ndimage import gaussian_filter

PATIENTS = {"hippocampus_001": "anna", "hippocampus_003": "bert", "hippocampus_004": "bert", "hippocampus_006": "cleo"}
"""Both sides of one scan are one patient's."""
COMMANDS = (*["check-calibration"] * 3, "calibrate")
REFERENCES = ("labels exchanged", "emptied", "merged", "moved", "mirrored", "of the next patient")
ALIKE = "hippocampi of two patients overlap by half or more: a poor model would agree no better"


def prepare(data: Path, folder: Path) -> Maker:
    """Write the table, and measure it as it is."""
    for kind in ("images", "labels"):
        (folder / "whole" / kind).mkdir(parents=True)
        for name in PATIENTS:
            shutil.copy(data / "hippocampus" / kind / f"{name}.nii.gz", folder / "whole" / kind)
    _table(folder / "whole", PATIENTS)
    controls = {command: unchanged(_call(command, folder / "whole", folder / "out"), folder) for command in COMMANDS}

    def make(rng: random.Random, work: Path) -> Try:
        command, given = rng.choice(COMMANDS), work / "given"
        shutil.copytree(folder / "whole", given)
        change = rng.choice([_copies] * 5 + [_poisoned] * 5 + [_right])
        what = change(rng, given)
        accepts = _accepts(change, given, controls[command])
        call = _call(command, given, work / "model")
        names = [*PATIENTS, "table.csv", "copy_"]
        right, why = change is _right, ALIKE if "next patient" in what else ""
        outputs = [work / "model"]
        return Try("added", f"{command}: {what}", [call], names, accepts, outputs, right=right, unknowable=why)

    return make


def _call(command: str, given: Path, output: Path) -> list[str]:
    from segwithu_command import MODEL

    cases = ["--add" if command == "calibrate" else "--cases", f"{given / 'table.csv'}:test", "--allow-seen-cases"]
    more = ["--output", str(output), "--no-graphs"] if command == "calibrate" else []
    return [command, "--model", str(MODEL), *cases, *more, "--json"]


def _accepts(change: Callable[..., str], given: Path, control: Ended) -> Callable[[Sequence[Ended]], bool]:
    """Accept what names the fault, if no model was made of it; of right cases the same figures."""

    def accepts(runs: Sequence[Ended]) -> bool:
        new = runs[-1].notes - control.notes
        if change is _right:
            return not new and alike(runs, control)
        named = any(("reference" if change is _poisoned else "patient") in note for note in new)
        return named and not (given.parent / "model" / "bundle.json").exists()

    return accepts


def _table(given: Path, patients: dict[str, str]) -> None:
    rows = [f"{name},test,{patient}\n" for name, patient in patients.items()]
    (given / "table.csv").write_text("".join(["case,role,patient\n", *rows]))


def _copies(rng: random.Random, given: Path) -> str:
    """One scan under the names of other patients, beside the others or alone."""
    source, way, alone = rng.choice(list(PATIENTS)), rng.choice(COPIES), rng.random() < 0.3
    copies = [f"copy_{number}" for number in range(3 if alone else rng.choice([1, 1, 2]))]
    for kind in ("images", "labels"):
        file = given / kind / f"{source}.nii.gz"
        for number, name in enumerate(copies):
            image = sitk.ReadImage(str(file))
            if way == "elsewhere":
                image.SetOrigin([30.0 * (number + 1)] * 3)
            elif way == "in other axes":
                image = turned(image, (1, 2, 0), (False, True, False))
            elif kind == "images" and way in ALTERED:
                array = sitk.GetArrayFromImage(image).astype(np.float32)
                image = of_voxels(image, ALTERED[way](array, np.random.default_rng(rng.randrange(99))))
            sitk.WriteImage(image, str(given / kind / f"{name}{'.nrrd' if way == 'in another format' else '.nii.gz'}"))
    _table(given, {**({source: "anna"} if alone else PATIENTS), **{name: f"patient {name}" for name in copies}})
    return f"{len(copies)} copies {way} of {'one scan alone' if alone else 'a scan'}"


def _one_voxel(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    array[tuple(rng.integers(array.shape))] += 1
    return array


ALTERED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "one voxel changed": _one_voxel,
    "rescaled": lambda array, rng: array * np.float32(rng.choice([0.5, 1.7, 30.0])) + 3,
    "smoothed": lambda array, rng: gaussian_filter(array, 0.3),
    "noisy": lambda array, rng: array + rng.normal(0, 0.01 * array.std(), array.shape).astype(np.float32),
}
COPIES = ("equal", "equal", *ALTERED, "in another format", "in other axes", "elsewhere")


def _poisoned(rng: random.Random, given: Path) -> str:
    """References of every case that are not those of its image."""
    way = rng.choice(REFERENCES)
    files = [given / "labels" / f"{name}.nii.gz" for name in PATIENTS]
    images = [sitk.ReadImage(str(file)) for file in files]
    arrays = [sitk.GetArrayFromImage(image) for image in images]
    for file, image, array, following in zip(files, images, arrays, [*arrays[1:], arrays[0]], strict=True):
        changed = {
            "labels exchanged": np.where(array > 0, 3 - array, 0),
            "merged": np.where(array > 0, 1, 0),
            "moved": np.roll(array, 9, 1),
            "mirrored": np.flip(array, 1),
        }.get(way, array * 0)
        if way == "of the next patient":
            corner = tuple(slice(0, min(sizes)) for sizes in zip(array.shape, following.shape, strict=True))
            changed[corner] = following[corner]
        sitk.WriteImage(of_voxels(image, changed.astype(np.uint8)), str(file))
    return f"references {way}"


def _right(rng: random.Random, given: Path) -> str:
    """The same cases in another format, or with other names."""
    if rng.random() < 0.5:
        _table(given, {name: f"{patient} smith" for name, patient in PATIENTS.items()})
        return "patients of other names"
    for file in [*(given / "images").iterdir(), *(given / "labels").iterdir()]:
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file).replace(".nii.gz", ".nrrd"))
        file.unlink()
    return "cases in another format"
