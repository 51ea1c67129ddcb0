#!/usr/bin/env python3
"""Make the template that finds both hippocampi in whole heads, and measure how well it does.

    python Testing/Benchmarks/placement.py build FILE.nii.gz       # brain mask and centres, from 20 label maps
    python Testing/Benchmarks/placement.py add FILE.nii.gz MODEL   # let a bundle find its boxes by this template
    python Testing/Benchmarks/placement.py judge FILE.nii.gz asis rot0+30 top thick   # errors on the 5 decision brains
    python Testing/Benchmarks/placement.py dice FILE asis       # Dice of the shipped model on the 15 brains
    python Testing/Benchmarks/placement.py wrong FILE.nii.gz       # similarity where there is no head

The template is the shipped MNI152 at 4 mm. Its brain mask and the centres of the hippocampi are averages over the label
maps of whole heads (Apache-2.0), each registered as an image of T1-like grey values.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from brain_training import SHARED, SIDES, T1

from SegWithUCore.api import load_model, segment_image
from SegWithUCore.inference.placement import FINE_MM, INSIDE, Template, _resampled, _scaled, place, register
from SegWithUCore.models.bundle import (
    CARD_FILE,
    TEMPLATE_FILE,
    BoxInTemplate,
    Placement,
    file_sha256,
    read_bundle,
    write_bundle_json,
)
from SegWithUCore.models.model_card import model_card
from SegWithUCore.util.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
HEAD = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
DATA = SHARED / "data"
DECISION_BRAINS = ("1000", "1001", "1002", "1006", "1007")
OUTSIDE = {502: 0.25, 506: 0.5, 507: 0.6, 508: 0.7, 509: 0.35, 511: 0.15, 512: 0.15, 514: 0.2, 515: 0.5, 516: 0.6,
           530: 0.5}  # fmt: skip
"""Grey values of the labels outside the brain, white matter 1."""
OUTSIDE_BRAIN, CSF_OUTSIDE = 500, 24
SIZE_MM = (36.0, 50.0, 36.0)


def write_template(template: Template, path: Path) -> None:
    """Write a template as bundles hold it, its axes along those of the world (LPS)."""
    image, mask = (sitk.DICOMOrient(each, "LPS") for each in (template.image, template.mask))
    grey = sitk.GetArrayFromImage(image)
    grey = np.clip(np.round(grey * ((INSIDE - 1) / max(float(grey.max()), 1e-6))), 0, INSIDE - 1).astype(np.uint8)
    both = sitk.GetImageFromArray(grey + INSIDE * (sitk.GetArrayFromImage(mask) > 0).astype(np.uint8))
    both.CopyInformation(image)
    sitk.WriteImage(both, str(path), useCompression=True)


def template_of(image: sitk.Image, brain: sitk.Image) -> Template:
    """Make the coarse template of a head and its brain mask."""
    return Template(_scaled(_resampled(image, FINE_MM)), sitk.Cast(_resampled(brain, FINE_MM) > 0.5, sitk.sitkUInt8))


def centres(labels: sitk.Image, left: int, right: int) -> dict[str, np.ndarray]:
    """Return the centre of each hippocampus' bounding box, LPS in mm."""
    found = {}
    for side, value in (("left", left), ("right", right)):
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(sitk.Cast(labels == value, sitk.sitkUInt8))
        box = shape.GetBoundingBox(1)
        middle = [box[axis] + (box[axis + 3] - 1) / 2 for axis in range(3)]
        found[side] = np.array(labels.TransformContinuousIndexToPhysicalPoint(middle))
    return found


def like_t1(labels: sitk.Image) -> sitk.Image:
    """Give each label of a head map its grey value in T1."""
    table = np.zeros(600, np.float32)
    for value, grey in {**OUTSIDE, **T1}.items():
        table[[value, SIDES.get(value, value)]] = grey
    image = sitk.GetImageFromArray(table[sitk.GetArrayFromImage(labels).astype(int)])
    image.CopyInformation(labels)
    return image


def head_maps() -> list[sitk.Image]:
    """Read the label maps of whole heads."""
    return [sitk.ReadImage(str(path)) for path in sorted((DATA / "head_maps").glob("head_*.nii.gz"))]


def build(file: Path) -> None:
    """Register the template with each label map; keep the mean brain and the median centres."""
    head = sitk.ReadImage(str(HEAD), sitk.sitkFloat32)
    template = template_of(head, sitk.Cast(head > 20, sitk.sitkUInt8))
    total, points = np.zeros(sitk.GetArrayViewFromImage(head).shape), []
    maps = head_maps()
    for labels in maps:
        values = sitk.GetArrayFromImage(labels).astype(int)
        transform, _ = register(template, like_t1(labels))
        brain = sitk.GetImageFromArray(
            ((values > 0) & (values < OUTSIDE_BRAIN) & (values != CSF_OUTSIDE)).astype(np.uint8)
        )
        brain.CopyInformation(labels)
        total += sitk.GetArrayFromImage(sitk.Resample(brain, head, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32))
        back = transform.GetInverse()
        points.append({side: list(back.TransformPoint(at.tolist())) for side, at in centres(labels, 17, 53).items()})
    mean = sitk.GetImageFromArray((total / len(maps) > 0.5).astype(np.uint8))
    mean.CopyInformation(head)
    write_template(template_of(head, sitk.BinaryDilate(mean, [3, 3, 3])), file)
    boxes = []
    for side in ("left", "right"):
        x, y, z = np.median([point[side] for point in points], 0)
        boxes.append({"side": side, "centre_ras_mm": [round(-x, 1), round(-y, 1), round(z, 1)], "size_mm": SIZE_MM})
    _boxes_file(file).write_text(json.dumps(boxes, indent=1) + "\n", encoding="utf-8")


def add(file: Path, folder: Path) -> None:
    """Give a calibrated bundle the template, the boxes and the limits of the shipped model."""
    shipped, bundle = load_model("hippocampus").bundle, read_bundle(folder)
    if shipped.placement is None:
        raise SystemExit("The shipped model places no boxes: it has no limits to take over.")
    boxes = tuple(BoxInTemplate(**entry) for entry in json.loads(_boxes_file(file).read_text(encoding="utf-8")))
    shutil.copyfile(file, folder / TEMPLATE_FILE)
    placement = replace(shipped.placement, sha256=file_sha256(file), boxes=boxes)
    written = write_bundle_json(replace(bundle, placement=placement), folder)
    (folder / CARD_FILE).write_text(model_card(written), encoding="utf-8")


def _boxes_file(template: Path) -> Path:
    return template.with_name(f"{template.name.split('.')[0]}.json")


def changed(image: sitk.Image, how: str) -> sitk.Image:
    """Turn (`rot<axis><degrees>`), cut (`top`, `bottom`), coarsen, invert an image, or add noise."""
    count, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    up = int(np.argmax(np.abs(direction[2])))
    if how.startswith("rot"):
        turn = sitk.Euler3DTransform()
        turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint(((count - 1) / 2).tolist()))
        turn.SetRotation(*(np.eye(3)[int(how[3])] * np.radians(float(how[4:]))).tolist())
        result = sitk.Image(image)
        result.SetDirection((np.array(turn.GetMatrix()).reshape(3, 3) @ direction).ravel().tolist())
        result.SetOrigin(turn.TransformPoint(image.GetOrigin()))
        return result
    if how in ("thick", "coarse"):
        new = np.where(np.arange(3) == up, 3.0, spacing) if how == "thick" else np.full(3, 1.75)
        size = np.ceil(count * spacing / new).astype(int)
        smooth = sitk.SmoothingRecursiveGaussian(image, (0.4 * new).tolist())
        grid = (image.GetOrigin(), new.tolist(), image.GetDirection(), 0.0, sitk.sitkFloat32)
        return sitk.Resample(smooth, size.tolist(), sitk.Transform(), sitk.sitkLinear, *grid)
    if how in ("top", "bottom"):
        low, high = [0, 0, 0], [0, 0, 0]
        amount = int(count[up] / 3) if how == "top" else round(25 / spacing[up])
        (high if (how == "top") == (direction[2, up] > 0) else low)[up] = amount
        return sitk.Crop(image, low, high)
    grey = sitk.GetArrayFromImage(image)
    if how == "inverted":
        grey = np.where(grey > 0, grey.max() - grey, 0)
    elif how == "noise":
        grey = grey + np.random.default_rng(0).normal(0, 0.1 * np.percentile(grey, 99), grey.shape)
    elif how == "bias":
        grey = grey * np.exp(np.linspace(-0.8, 0.8, grey.shape[1]))[None, :, None]
    elif how != "asis":
        raise SystemExit(f"no such way: {how}")
    result = sitk.GetImageFromArray(grey.astype(np.float32))
    result.CopyInformation(image)
    return result


def judge(file: Path, ways: list[str], heads: bool) -> None:
    """Print the errors of the centres on the decision brains (or T1-like label maps), changed in these ways."""
    template = Template.read(file, file_sha256(file))
    boxes = tuple(BoxInTemplate(**entry) for entry in json.loads(_boxes_file(file).read_text(encoding="utf-8")))
    spec = Placement("", 0.0, 0.0, boxes)
    if heads:
        cases = [(like_t1(labels), labels, (17, 53)) for labels in head_maps()[::4]]
    else:
        cases = []
        for name in DECISION_BRAINS:
            image = sitk.ReadImage(str(DATA / "brains" / "images" / f"brain_{name}.nii.gz"), sitk.sitkFloat32)
            cases.append((image, sitk.ReadImage(str(DATA / "brains" / "labels" / f"brain_{name}.nii.gz")), (48, 47)))
    for how in ways:
        errors, seen, begun = [], [], time.process_time()
        for image, labels, (left, right) in cases:
            placed = place(spec, template, changed(image, how))
            seen.append((placed.similarity, placed.overlap))
            true = centres(changed(labels, how) if how.startswith("rot") else labels, left, right)
            for side, roi in placed.rois.items():
                x, y, z = roi.centre_ras_mm
                errors.append(float(np.linalg.norm(np.array([-x, -y, z]) - true[side])))
        seconds = (time.process_time() - begun) / len(cases)
        low, high = np.min(seen, 0), np.max(seen, 0)
        print(
            f"{how}: error {np.mean(errors):.1f} mm, at most {max(errors):.1f}; "
            f"similarity {low[0]:.2f} to {high[0]:.2f}, "
            f"overlap from {low[1]:.2f}; {seconds:.1f} s of one thread",
            flush=True,
        )


def dice(ways: list[str], only_decision: bool) -> None:
    """Print the Dice of each whole hippocampus as the shipped model finds it, and with boxes around the reference."""
    model, folder = load_model("hippocampus"), DATA / "brains"
    names = sorted(path.name for path in (folder / "images").glob("brain_*.nii.gz"))
    names = [name for name in names if not only_decision or name[6:10] in DECISION_BRAINS]
    for how in ways:
        found, around, expected, refused = [], [], [], 0
        for name in names:
            image = changed(sitk.ReadImage(str(folder / "images" / name), sitk.sitkFloat32), how)
            labels = sitk.ReadImage(str(folder / "labels" / name))
            if how in ("thick", "coarse"):
                labels = sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor)
            elif how[:3] in ("rot", "top", "bot"):
                labels = changed(labels, how)
            truth, places = sitk.GetArrayFromImage(labels), centres(labels, 48, 47)
            try:
                result = segment_image(image, model)
            except InputError as error:
                refused += 1
                print(f"{how} {name}: {error.code}")
                continue
            drawn = result.array("segmentation")
            expected += [box["expected_dice"] for box in result._case.placement["boxes"]]
            for side, value, values in (("left", 48, (1, 2)), ("right", 47, (3, 4))):
                found.append(_dice(np.isin(drawn, values), truth == value))
                x, y, z = places[side]
                one = segment_image(image, model, roi=(-x, -y, z, *SIZE_MM)).array("segmentation") > 0
                around.append(_dice(one, truth == value))
        if found:
            print(
                f"{how}: {len(found)} sides, Dice {np.mean(found):.4f}, lowest {min(found):.3f}; with boxes around the "
                f"reference {np.mean(around):.4f}; expected {min(expected):.3f} to {max(expected):.3f}; "
                f"{refused} heads refused",
                flush=True,
            )


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def wrong(file: Path) -> None:
    """Print similarity and overlap of images that are no heads."""
    template = Template.read(file, file_sha256(file))
    paths = [*sorted((DATA / "ct_abdomen" / "images").glob("*.nii.gz"))]
    paths += [*sorted((DATA / "acdc" / "images").glob("*.nii.gz"))[:4]]
    paths += [*sorted((DATA / "hippocampus" / "images").glob("*.nii.gz"))[:4]]
    for path in paths:
        placed = place(Placement("", 0.0, 0.0, ()), template, sitk.ReadImage(str(path), sitk.sitkFloat32))
        print(f"{path.name}: similarity {placed.similarity:.2f}, overlap {placed.overlap:.2f}", flush=True)


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["build", "add", "judge", "heads", "wrong", "dice", "dice-decision"])
    parser.add_argument("file", type=Path)
    parser.add_argument("ways", nargs="*", default=["asis"])
    options = parser.parse_args()
    if options.part == "build":
        build(options.file)
    elif options.part == "add":
        add(options.file, Path(options.ways[0]))
    elif options.part.startswith("dice"):
        dice(options.ways, options.part == "dice-decision")
    elif options.part == "wrong":
        wrong(options.file)
    else:
        judge(options.file, options.ways, options.part == "heads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
