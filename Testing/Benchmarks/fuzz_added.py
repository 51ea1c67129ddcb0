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
from fuzz_references import alike, turned

PATIENTS = {"hippocampus_001": "anna", "hippocampus_003": "bert", "hippocampus_004": "bert", "hippocampus_006": "cleo"}
"""Both sides of one scan are one patient's."""
COMMANDS = ("check-calibration", "check-calibration", "check-calibration", "calibrate")
COPIES = ("equal", "equal", "one voxel changed", "in another format", "rescaled", "smoothed", "noisy", "in other axes",
          "elsewhere")  # fmt: skip
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
    source, way, count = rng.choice(list(PATIENTS)), rng.choice(COPIES), rng.choice([1, 1, 2])
    alone = rng.random() < 0.3
    patients = {source: PATIENTS[source]} if alone else dict(PATIENTS)
    for number in range(count + 2 * alone):
        patients[f"copy_{number}"] = f"patient {number}"
        for kind in ("images", "labels"):
            file = given / kind / f"{source}.nii.gz"
            copy = file.with_name(f"copy_{number}{'.nrrd' if way == 'in another format' else '.nii.gz'}")
            image = sitk.ReadImage(str(file))
            if way == "elsewhere":
                image.SetOrigin([30.0 * (number + 1)] * 3)
            elif way == "in other axes":
                image = turned(image, (1, 2, 0), (False, True, False))
            elif kind == "images":
                image = _altered(rng, image, way)
            sitk.WriteImage(image, str(copy))
    _table(given, patients)
    return (
        f"{len(patients) - (1 if alone else len(PATIENTS))} copies {way} of {'one scan alone' if alone else 'a scan'}"
    )


def _altered(rng: random.Random, image: sitk.Image, way: str) -> sitk.Image:
    """Other grey values of the same scan."""
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    if way == "one voxel changed":
        array[tuple(rng.randrange(n) for n in array.shape)] += 1
    elif way == "rescaled":
        array = array * rng.choice([0.5, 1.7, 30.0]) + 3
    elif way == "smoothed":
        array = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(array), 0.05))
    elif way == "noisy":
        array += np.random.default_rng(rng.randrange(99)).normal(0, 0.01 * array.std(), array.shape).astype(np.float32)
    altered = sitk.GetImageFromArray(array)
    altered.CopyInformation(image)
    return altered


def _poisoned(rng: random.Random, given: Path) -> str:
    """References of every case that are not those of its image."""
    way = rng.choice(REFERENCES)
    arrays = {name: sitk.GetArrayFromImage(sitk.ReadImage(str(given / "labels" / f"{name}.nii.gz")))
              for name in PATIENTS}  # fmt: skip
    for name, following in zip(PATIENTS, [*list(PATIENTS)[1:], next(iter(PATIENTS))], strict=True):
        file = given / "labels" / f"{name}.nii.gz"
        image, array = sitk.ReadImage(str(file)), arrays[name]
        if way == "labels exchanged":
            array = np.where(array > 0, 3 - array, 0)
        elif way == "emptied":
            array = array * 0
        elif way == "of the next patient":
            other = arrays[following]
            array = np.zeros_like(array)
            corner = tuple(slice(0, min(sizes)) for sizes in zip(array.shape, other.shape, strict=True))
            array[corner] = other[corner]
        elif way == "merged":
            array = np.where(array > 0, 1, 0)
        elif way == "moved":
            array = np.roll(array, 9, rng.choice([1, 2]))
        else:
            array = np.flip(array, 1)
        changed = sitk.GetImageFromArray(np.ascontiguousarray(array).astype(np.uint8))
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(file))
    return f"references {way}"


def _right(rng: random.Random, given: Path) -> str:
    """The same cases in another format, or in another order of the rows."""
    way = rng.choice(["in another format", "with other names of patients"])
    if way == "in another format":
        for file in [*(given / "images").iterdir(), *(given / "labels").iterdir()]:
            sitk.WriteImage(sitk.ReadImage(str(file)), str(file).replace(".nii.gz", ".nrrd"))
            file.unlink()
    else:
        _table(given, {name: f"{patient} smith" for name, patient in PATIENTS.items()})
    return f"the cases {way}"
