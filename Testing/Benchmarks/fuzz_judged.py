"""Masks to judge, for fuzz.py: exchanged, emptied, moved, of others, partly without a name, and right ones.

A mask that is not of its image, or of which a part is not judged, is refused or makes a warning or another status than
the model's own segmentation gets. What was drawn well gets neither.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from fuzz import Ended, Maker, Try, unchanged
from fuzz_empty import STRUCTURES
from fuzz_exchanged import SAME_GRID
from fuzz_images import CASE
from fuzz_links import WAYS, spoil
from fuzz_references import ABOUT_MIDDLE, OTHER, elsewhere, of_voxels
from fuzz_reviews import on_lattice

FORMS = (".nii.gz", ".nrrd", ".mha", ".seg.nrrd", "")
"""The last is a folder with one file per structure."""
DEEP = ("hippocampus", "thalamus", "putamen", "amygdala", "ventral diencephalon")
"""Structures that the model of the brain is sure of in a small part of a head; a whole one takes half a minute."""
ALIKE = "the same structure of another patient may lie as this one's does"
DRAWN = "its voxels all lie on voxels of the image: it may be what was drawn"
PART = ("--roi=0,-20,-5,90,90,70", "--unlike-training")


class Base(NamedTuple):
    """An image, how it is judged, and the model's own segmentation of it.

    Attributes:
        voxels, status, warnings: of the case when this segmentation is judged.
    """

    image: Path
    options: Sequence[str]
    labels: sitk.Image
    values: dict[str, int]
    voxels: dict[str, int]
    status: str
    warnings: set[str]

    def call(self, mask: Sequence[str], output: Path) -> list[str]:
        """Judge a mask, or the masks of a table."""
        given = list(mask) if mask[0].endswith(".csv") else [str(self.image), *mask, "--name", "case"]
        return ["judge", *given, *self.options, "--output", str(output), "--json"]


class Mask(NamedTuple):
    """A mask: what was done, arguments of the call, the voxels of each structure if it is known what it means.

    Attributes:
        right: neither a refusal nor a warning is due.
    """

    what: str
    call: Sequence[str]
    voxels: dict[str, int] | None = None
    right: bool = False
    unknowable: str = ""


def prepare(data: Path, folder: Path) -> Maker:
    """Segment a crop, a head and a part of it, and judge what comes of it."""
    from segwithu_command import MODEL, SAMPLE

    crops = {name: data / "hippocampus" / "images" / f"{name}.nii.gz" for name in (CASE, SAME_GRID, OTHER)}
    hippocampus, brain = ["--model", str(MODEL)], ["--model", str(MODEL.with_name("brain"))]
    bases = {name: _base(image, hippocampus, folder / name) for name, image in crops.items()}
    head = _base(SAMPLE, hippocampus, folder / "head")
    part = _base(SAMPLE, [*brain, *PART], folder / "part")
    if bases[CASE].status != "not flagged":
        raise RuntimeError(f"The model's own segmentation is: {bases[CASE].status}")

    def make(rng: random.Random, work: Path) -> Try:
        given, output = work / "given", work / "output"
        given.mkdir()
        place, base = rng.choices([("", bases[CASE]), ("head: ", head), ("brain: ", part)], [8, 1, 1])[0]
        if place:
            mask = _drawn(rng, base, None, given, ".nii.gz")
        else:
            kind = rng.choice([*[_drawn] * 4, *[_on_grid] * 2, *[_segments] * 3, *[_folder] * 2, _table, _named])
            mask = kind(rng, base, bases[OTHER if kind is _on_grid else SAME_GRID].labels, given, rng.choice(FORMS))
        accepts = _accepts(base, mask, output)
        more: dict[str, Any] = {"right": mask.right, "unknowable": mask.unknowable}
        what, call = f"{place}{mask.what}", base.call(mask.call, output)
        return Try("judged", what, [call], ["drawn"], accepts, [output], **more)

    return make


def _base(image: Path, options: Sequence[str], folder: Path) -> Base:
    unchanged(["segment", str(image), *options, "--output", str(folder), "--name", "own", "--json"], folder)
    labels = sitk.ReadImage(str(folder / "own" / "segmentation.nii.gz"))
    case = json.loads((folder / "own" / "case.json").read_text("utf-8"))
    values = {entry["name"]: entry["value"] for entry in case["structures"][1:]}
    base = Base(image, options, labels, values, {}, "", set())
    sitk.WriteImage(labels, str(folder / "drawn.nii.gz"))
    unchanged(base.call([str(folder / "drawn.nii.gz")], folder), folder)
    return Base(*base[:4], *_said(folder / "case" / "case.json"))


def _said(file: Path) -> tuple[dict[str, int], str, set[str]]:
    """Voxels by structure, status and warnings of a case; numbers are left out of these."""
    case = json.loads(file.read_text("utf-8"))
    warnings = [entry["message"] for entry in case["ood"]["warnings"] if entry["severity"] != "note"]
    voxels = {entry["name"]: entry["voxels"] for entry in case["structures"][1:]}
    return voxels, case["light"]["level"], {"".join(c for c in text if not c.isdigit()) for text in warnings}


def _accepts(base: Base, mask: Mask, output: Path) -> Callable[[Sequence[Ended]], bool]:
    """Accept a new warning or status, or the voxels that the mask means; of a right one nothing but these."""

    def accepts(runs: Sequence[Ended]) -> bool:
        if not (output / "case" / "case.json").is_file():
            return bool(runs[-1].notes)
        voxels, status, warnings = _said(output / "case" / "case.json")
        told = bool(warnings - base.warnings) or status != base.status
        return voxels == mask.voxels and not told if mask.right else voxels == mask.voxels or told

    return accepts


def _write(labels: sitk.Image, values: dict[str, int], folder: Path, form: str) -> Path:
    """Write labels in one of the forms."""
    path = folder / f"drawn{form}"
    if not form:
        path.mkdir()
        for name, value in values.items():
            sitk.WriteImage(labels == value, str(path / f"{name}.nii.gz"))
        return path
    if form == ".seg.nrrd":
        labels = sitk.Image(labels)
        for number, (name, value) in enumerate(values.items()):
            for key, text in {"ID": f"S{number}", "Name": name, "LabelValue": str(value), "Layer": "0"}.items():
                labels.SetMetaData(f"Segment{number}_{key}", text)
    sitk.WriteImage(labels, str(path), useCompression=True)
    return path


def _drawn(rng: random.Random, base: Base, foreign: sitk.Image | None, folder: Path, form: str) -> Mask:
    """Labels that were drawn elsewhere, or nearly where they belong."""
    own = sitk.GetArrayFromImage(base.labels)
    array = own.copy()
    known = [name for name in base.values if len(base.values) < 9 or name.split(" ", 1)[-1] in DEEP]
    pairs = [(name, name.replace("left", "right")) for name in known if name.startswith("left")] or [STRUCTURES]
    one = base.values[rng.choice(known)]
    axis, by = rng.randrange(3), rng.choice([-9, -7, 7, 9])
    ways = ["exchanged", "exchanged", "one emptied", "one moved", "untouched", "some voxels changed"]
    if foreign is not None:
        ways += ["all moved", "mirrored", "of another patient"]
    way, why = rng.choice(ways), ""
    if way == "exchanged":
        chosen = rng.choice([pairs, [rng.choice(pairs)]])
        for names in chosen:
            for name, other in zip(names, names[::-1], strict=True):
                array[own == base.values[name]] = base.values[other]
        way = f"{len(chosen)} of {len(pairs)} pairs of structures exchanged"
    elif way == "one emptied":
        array[own == one] = 0
    elif way == "one moved":
        array[own == one] = 0
        array[np.roll(own == one, by, axis)] = one
        way = f"structure {one} moved by {by} along axis {axis}"
    elif way == "some voxels changed":
        array.ravel()[rng.sample(np.flatnonzero(own == one).tolist(), 5)] = 0
    elif way == "all moved":
        way, array = f"moved by {by} along axis {axis}", np.roll(array, by, axis)
    elif way == "mirrored":
        way, array = f"mirrored along axis {axis}", np.flip(array, axis)
    elif foreign is not None and way == "of another patient":
        array, why = sitk.GetArrayFromImage(foreign), ALIKE
    path = _write(of_voxels(base.labels, array), base.values, folder, form)
    voxels = {name: int(np.count_nonzero(array == value)) for name, value in base.values.items()}
    right = way in ("untouched", "some voxels changed")
    return Mask(f"{form or 'folder'} {way}", [str(path)], voxels if right else None, right, why)


def _on_grid(rng: random.Random, base: Base, foreign: sitk.Image, folder: Path, form: str) -> Mask:
    """The same labels on another grid, or on this one in another order."""
    what, labels, same = elsewhere(rng, base.labels, foreign)
    path = _write(labels, base.values, folder, form)
    why = DRAWN if ABOUT_MIDDLE in what or on_lattice(labels, base.labels) else ""
    return _of_two(f"{form or 'folder'} {what}", [str(path)], base, same, why)


def _segments(rng: random.Random, base: Base, foreign: sitk.Image, folder: Path, form: str) -> Mask:
    """A segmentation of Slicer whose header is not of its voxels, or not of this image."""
    values = dict(rng.sample(list(base.values.items()), 2))  # in either order
    path = _write(base.labels, values, folder, ".seg.nrrd")
    image, number = sitk.ReadImage(str(path)), rng.randrange(2)
    name, value = list(values.items())[number]
    other, fields = STRUCTURES[value % 2], [key for key in image.GetMetaDataKeys() if key.startswith("Segment1_")]
    changed = {
        "a value with a point": {"LabelValue": f"{value}.0"}, "a value with a sign": {"LabelValue": f"-{value}"},
        "a value with a blank": {"LabelValue": f" {value}"}, "no value": {"LabelValue": ""},
        "a value of no voxel": {"LabelValue": "9"}, "the other's value": {"LabelValue": str(base.values[other])},
        "a layer that is not there": {"Layer": "5"}, "a layer in words": {"Layer": "first"},
        "the other's name": {"Name": other}, "another name": {"Name": "left thumb"}, "no name": {"Name": ""}
    }  # fmt: skip
    ways = [*changed, "one without a name", "a gap in the numbers", "of another image", "of another image", "whole"]
    way = rng.choice(ways)
    for key, text in changed.get(way, {}).items():
        image.SetMetaData(f"Segment{number}_{key}", text)
    if way in ("one without a name", "a gap in the numbers"):
        for key in fields:
            if "gap" in way:
                image.SetMetaData(key.replace("1", "2", 1), image.GetMetaData(key))
            image.EraseMetaData(key)
    if way == "of another image":
        image.SetMetaData("SegWithU_ImageSHA256", "0" * 64)
    sitk.WriteImage(image, str(path), useCompression=True)
    known = way.startswith("a value with") or way in ("a gap in the numbers", "whole", "a layer in words", "no value")
    what = f".seg.nrrd: {name}: {way}" if way in changed else f".seg.nrrd: {way}"
    return Mask(what, [str(path)], base.voxels if known else None, way == "whole")


def _folder(rng: random.Random, base: Base, foreign: sitk.Image, folder: Path, form: str) -> Mask:
    """A folder with one file per structure, of which one cannot be opened, is hidden or of another name."""
    path = _write(base.labels, base.values, folder, "")
    one, other = (path / f"{name}.nii.gz" for name in rng.sample(STRUCTURES, 2))
    way = rng.choice([*WAYS, "junk", "gone", "twice", "exchanged", "of another image"])
    if way == "gone":
        one.unlink()
    elif way == "twice":
        sitk.WriteImage(sitk.ReadImage(str(one)), str(one).replace(".nii.gz", ".nrrd"))
    elif way == "exchanged":
        one.rename(path / "third.nii.gz")
        other.rename(one)
        (path / "third.nii.gz").rename(other)
    elif way == "of another image":
        sitk.WriteImage(foreign == base.values[one.name.split(".")[0]], str(one))
    else:
        spoil(way, one, folder)
    why = ALIKE if way == "of another image" else ""
    known = base.voxels if way in ("junk", "linked", "hidden") else None  # a hidden file may be read
    return Mask(f"folder: {one.name} {way}", [str(path)], known, way in ("junk", "linked"), why)


def _table(rng: random.Random, base: Base, foreign: sitk.Image, folder: Path, form: str) -> Mask:
    """A table of images and masks."""
    mask, table = _write(base.labels, base.values, folder, form), folder / "drawn.csv"
    rows = {"of its header alone": [], "of one case": [f"case,{base.image},{mask}"],
            "without a mask": [f"case,{base.image},"], "of one name twice": [f"case,{base.image},{mask}"] * 2,
            "of a mask that is not there": [f"case,{base.image},{mask}", f"two,{base.image},drawn_2.nii"]}  # fmt: skip
    way = rng.choice(list(rows))
    table.write_text("\n".join(["case,image,mask", *rows[way]]) + "\n", "utf-8")
    return _of_two(f"table {way}", [str(table)], base, way == "of one case")


def _named(rng: random.Random, base: Base, foreign: sitk.Image, folder: Path, form: str) -> Mask:
    """Labels whose meaning is given."""
    path, (one, two) = _write(base.labels, base.values, folder, ".nii.gz"), STRUCTURES
    ways = {"right": [f"1={one}", f"2={two}"], "exchanged": [f"1={two}", f"2={one}"], "one of two": [f"1={one}"],
            "of a value of no voxel": [f"1={one}", f"7={two}"], "twice the same": [f"1={one}", f"2={one}"]}  # fmt: skip
    way = rng.choice(list(ways))
    return _of_two(f"--labels {way}", [str(path), "--labels", *ways[way]], base, way == "right")


def _of_two(what: str, call: Sequence[str], base: Base, right: bool, why: str = "") -> Mask:
    """The model's own segmentation, whole if `right`."""
    return Mask(what, call, base.voxels if right else None, right, why)
