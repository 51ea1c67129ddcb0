"""References and further channels on other grids, for fuzz.py: calibrate, check-calibration, evaluate, plan, segment.

Stored in another order of the axes at the same place they must give the same figures; elsewhere they are refused.
"""

import json
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from fuzz import Ended, Maker, Try, unchanged
from fuzz_images import CASE
from phantoms import AXIS_ORDERS

OTHER = "hippocampus_003"
SUFFIXES = (".nii.gz", ".nrrd", ".mha")


ABOUT_MIDDLE = "header mirrored about its middle"


def elsewhere(rng: random.Random, image: sitk.Image, other: sitk.Image) -> tuple[str, sitk.Image, bool]:
    """Put an image on another grid; returns in words how, and whether every voxel stays where it was."""
    moved = sitk.Image(image)
    origin, spacing = np.array(image.GetOrigin()), np.array(image.GetSpacing())
    direction = np.reshape(image.GetDirection(), (3, 3))
    way = rng.choice(
        ["turned", "turned", "rounded", "mirrored", "shifted", "shifted", "spacing", "size", "other", "rotated"]
    )
    if way == "turned":
        order, flips = rng.choice(AXIS_ORDERS[1:])
        return f"axes stored as {tuple(order)}, reversed {tuple(flips)}", turned(image, order, flips), True
    if way == "rounded":
        moved.SetOrigin((origin + rng.uniform(-1e-5, 1e-5)).tolist())
        return "rounded by less than 1e-5 mm", moved, True
    if way == "mirrored":
        axis = rng.randrange(3)
        flip = np.diag([-1.0 if axis == n else 1.0 for n in range(3)])
        moved.SetDirection((direction @ flip).ravel().tolist())
        if rng.random() < 0.5:
            shift = direction[:, axis] * spacing[axis] * (image.GetSize()[axis] - 1)
            moved.SetOrigin((origin + shift).tolist())
            return f"{ABOUT_MIDDLE} along axis {axis}", moved, False
        return f"header mirrored along axis {axis}", moved, False
    if way == "shifted":
        by, axis = rng.choice([1.0, 2.0, -1.0, 20.0, -20.0, 50.0, 300.0]), rng.randrange(3)
        moved.SetOrigin((origin + by * np.eye(3)[axis]).tolist())
        return f"shifted by {by:g} mm along {'xyz'[axis]}", moved, False
    if way == "spacing":
        factor, axes = rng.choice([2.0, 0.5, 1.1, 1.02, 1.7]), rng.sample(range(3), rng.choice([1, 3]))
        moved.SetSpacing([mm * factor if axis in axes else mm for axis, mm in enumerate(spacing)])
        return f"voxels {factor:g} times as long along {axes}", moved, False
    if way == "size":
        axis, by = rng.randrange(3), rng.choice([1, 2, 5])
        bounds = [by if axis == n else 0 for n in range(3)]
        if rng.random() < 0.5:
            return f"{by} slices less along {axis}", sitk.Crop(image, bounds, [0, 0, 0]), False
        moved = sitk.ConstantPad(image, bounds, [0, 0, 0], 0.0)
        if rng.random() < 0.5:  # as one that forgets where the first voxel now lies
            moved.SetOrigin(image.GetOrigin())
        return f"{by} slices more along {axis}", moved, False
    if way == "rotated":
        turn = np.reshape(sitk.Euler3DTransform((0, 0, 0), 0.0, 0.0, rng.choice([0.05, 0.3])).GetMatrix(), (3, 3))
        moved.SetDirection((turn @ direction).ravel().tolist())
        return "header rotated", moved, False
    return "that of another case", other, False


def of_voxels(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    """Other voxels at the places of an image's."""
    changed = sitk.GetImageFromArray(np.ascontiguousarray(array))
    changed.CopyInformation(image)
    return changed


def turned(image: sitk.Image, order: Sequence[int], flips: Sequence[bool]) -> sitk.Image:
    """The same voxels at the same places in another order."""
    return sitk.Flip(sitk.PermuteAxes(image, list(order)), list(flips))


def alike(runs: Sequence[Ended], control: Ended) -> bool:
    """Whether the results hold the same figures and words."""
    texts = [json.dumps(ended.event("result"), sort_keys=True) for ended in (runs[-1], control)]
    words = [re.sub(r"[\d.e-]+|/\S+", "", text) for text in texts]
    numbers = [re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text) for text in texts]
    same = words[0] == words[1] and len(numbers[0]) == len(numbers[1])
    return same and np.allclose(np.array(numbers[0], float), np.array(numbers[1], float), rtol=1e-3, atol=1e-6)


def prepare(data: Path, folder: Path) -> Maker:
    """Write the data sets, and measure them as they are."""
    from segwithu_command import MODEL, tiny_bundle

    two = tiny_bundle(folder / "two", ("T1", "T2"))
    for kind in ("images", "labels"):
        for place in ("one", "several"):
            (folder / place / kind).mkdir(parents=True, exist_ok=True)
        for name in (CASE, OTHER):
            source = data / "hippocampus" / kind / f"{name}.nii.gz"
            shutil.copy(source, folder / "one" / kind / source.name)
            image = sitk.ReadImage(str(source))
            if kind == "images":
                sitk.WriteImage(image, str(folder / "several" / kind / f"{name}_0000.nii.gz"))
                second = sitk.Median(image, [1, 1, 1])
                sitk.WriteImage(second, str(folder / "several" / kind / f"{name}_0001.nii.gz"))
            else:
                sitk.WriteImage(image, str(folder / "several" / kind / source.name))
    for place in ("one", "several"):
        rows = [f"{name},test,{name}\n" for name in (CASE, OTHER)]
        (folder / place / "split.csv").write_text("case,role,patient\n" + "".join(rows))
        (folder / place / "first.csv").write_text("case,role,patient\n" + rows[0])
    _many(folder / "many")
    controls: dict[str, Ended] = {}
    for command in dict.fromkeys(COMMANDS):
        kept = folder / "controls" / command / PLACES[command]
        shutil.copytree(folder / PLACES[command], kept)
        controls[command] = unchanged(_calls(command, str(MODEL), str(two))(kept), folder)

    def make(rng: random.Random, work: Path) -> Try:
        command = rng.choice(COMMANDS)
        place, call = PLACES[command], _calls(command, str(MODEL), str(two))
        given = work / place
        shutil.copytree(folder / place, given)
        file, what, same = _changed(rng, given, command)
        names = [file.name, *({given.name} if command == "plan" else set())]
        accepts = _accepts(command, given, folder / "controls" / command / place, controls[command], same)
        right = same and command in {"check-calibration", "calibrate", "evaluate", "plan"}
        why = "mirrored about the middle of the image it is like one stored in another order, with other voxels"
        why = why if ABOUT_MIDDLE in what else ""
        return Try("references", f"{command}: {what}", [call(given)], names, accepts, right=right, unknowable=why)

    return make


COMMANDS = (*["check-calibration"] * 8, "calibrate", "evaluate", *["plan"] * 3, *["two: segment"] * 3,
            *["two: evaluate"] * 3)  # fmt: skip
PLACES = {
    command: "several" if command.startswith("two") else {"plan": "many"}.get(command, "one") for command in COMMANDS
}
"""Data set of each command."""


def _many(folder: Path) -> None:
    """Twelve small patients, for plan."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(3)
    rows = []
    for number, role in enumerate(["train"] * 6 + ["select"] * 2 + ["calibration"] * 2 + ["test"] * 2):
        array = rng.normal(100, 20, (16, 20, 18)).astype(np.float32)
        labels = np.zeros(array.shape, np.uint8)
        labels[4:9, 5:12, 6 + number % 3 : 13] = 1
        for kind, voxels in (("images", array + 80 * labels), ("labels", labels)):
            image = sitk.GetImageFromArray(voxels)
            image.SetOrigin((5.0, -7.0, 9.0))
            sitk.WriteImage(image, str(folder / kind / f"p{number:02d}.nii.gz"))
        rows.append(f"p{number:02d},{role},p{number:02d}\n")
    (folder / "split.csv").write_text("case,role,patient\n" + "".join(rows))


def _calls(command: str, model: str, two: str) -> Callable[[Path], list[str]]:
    words = command.removeprefix("two: ")

    def call(given: Path) -> list[str]:
        table = f"{given / ('first.csv' if words == 'evaluate' else 'split.csv')}:test"
        bundle = two if command.startswith("two") else model
        if words == "plan":
            return ["plan", str(given / "split.csv"), "--output", str(given / "plan"), "--modality", "MR", "--json"]
        if words == "segment":
            image, second = (str(given / "images" / f"{CASE}_000{n}.nii.gz") for n in range(2))
            found = [str(path) for path in (given / "images").glob(f"{CASE}_0001.*")]
            return ["segment", image, "--channel", f"T2={(found or [second])[0]}", "--model", bundle, "--output",
                    str(given / "out"), "--name", "case", "--unlike-training", "--json"]  # fmt: skip
        more = ["--output", str(given / "out"), "--no-graphs"] if words == "calibrate" else []
        more += ["--unlike-training"] if words == "evaluate" else []
        cases = ["--add" if words == "calibrate" else "--cases", table]
        return [words, "--model", bundle, *cases, *more, "--allow-seen-cases", "--json"]

    return call


def _changed(rng: random.Random, given: Path, command: str) -> tuple[Path, str, bool]:
    """Put the reference or the second channel of a case elsewhere."""
    from segwithu_command import write

    name, other = ("p03", "p04") if command == "plan" else (CASE, OTHER)
    channel = command.startswith("two") and (command == "two: segment" or rng.random() < 0.7)
    file = given / ("images" if channel else "labels") / f"{name}{'_0001' if channel else ''}.nii.gz"
    second = sitk.ReadImage(str(file.with_name(file.name.replace(name, other))))
    if second.GetSize() == sitk.ReadImage(str(file)).GetSize():
        second = sitk.ConstantPad(second, [1, 0, 0], [0, 2, 0], 0.0)
    what, image, same = elsewhere(rng, sitk.ReadImage(str(file)), second)
    file.unlink()
    suffix = rng.choice(SUFFIXES)
    file = file.with_name(file.name.replace(".nii.gz", suffix))
    write(image, file)
    return file, f"{'second channel' if channel else 'reference'} {suffix} {what}", same


def _accepts(
    command: str, given: Path, unchanged: Path, control: Ended, same: bool
) -> Callable[[Sequence[Ended]], bool]:
    """Accept the figures of the unchanged data set where all lies where it did, else a remark alone."""

    def accepts(runs: Sequence[Ended]) -> bool:
        if runs[-1].notes - control.notes:
            return True
        if not same:
            return False
        if command == "two: segment":
            found, wanted = (sitk.GetArrayFromImage(sitk.ReadImage(str(place / "out" / "case" / "segmentation.nii.gz")))
                             for place in (given, unchanged))  # fmt: skip
            return bool(np.array_equal(found, wanted))
        return command == "plan" or alike(runs, control)

    return accepts
