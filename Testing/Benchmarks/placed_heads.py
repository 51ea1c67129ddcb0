#!/usr/bin/env python3
"""Segment whole heads, turned, cut and coarsened, and count those that are found, refused, or wrong in silence.

    python Testing/Benchmarks/placed_heads.py found [--head ch2.nii.gz aal.nii.gz 37 38]   # resumes where it stopped
    python Testing/Benchmarks/placed_heads.py component     # is only the component at a box's centre better?

Heads are the 15 of `brains/` (5 for decisions, 10 for figures), MeshNet's T1, the sample brain, and those named by
`--head`: image, label map and the values of the left and right hippocampus. "Turned" changes the head's coordinates
(an oblique image); "tilted" resamples it, so that the head is tilted within straight axes. A result that is not refused
is wrong if the centre of a box lies more than 12 mm from that of the reference. Every other head is turned to the other
side, and of every four heads two are turned and two tilted.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from placement import DATA, DECISION_BRAINS, HEAD, SIZE_MM, centres, changed

from SegWithUCore.api import load_model, segment_image
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.placed_case import NotPlacedError
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import read_json

RESULT = Path(__file__).resolve().parent / "results" / "placed_heads.json"
COMPONENT = RESULT.with_name("placed_component.json")
WRONG_MM = 12.0
DEGREES = (30, 20, 10)
TURNS = [f"turn{axis}+{degrees}" for degrees in DEGREES for axis in range(3)]
OTHER_WAYS = ["top", "bottom", "thick", "coarse", "inverted"]
WAYS = ["asis", *TURNS, *OTHER_WAYS]
MESHNET_LPS = {"left": (22.0, 22.0, -13.0), "right": (-22.0, 22.0, -12.0)}
"""Centres of the hippocampi in MeshNet's T1, read from the preview of its case."""


@dataclass(frozen=True)
class Head:
    """An image of a head with what is known of its hippocampi.

    Attributes:
        group: "decision", "figures" or "other".
        centres: LPS in mm, by side.
        labels: reference; None where there is none of this protocol.
    """

    name: str
    group: str
    image: sitk.Image
    centres: Mapping[str, np.ndarray]
    labels: sitk.Image | None = None


def heads(further: list[list[str]]) -> Iterator[tuple[str, Callable[[], Head]]]:
    """Name each head, with how to read it."""

    def brain(name: str) -> Head:
        image = sitk.ReadImage(str(DATA / "brains" / "images" / name), sitk.sitkFloat32)
        labels = sitk.ReadImage(str(DATA / "brains" / "labels" / name))
        group = "decision" if name[6:10] in DECISION_BRAINS else "figures"
        return Head(name, group, image, centres(labels, 48, 47), labels)

    def other(name: str, path: Path, at: Callable[[], Mapping[str, Any]]) -> Head:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        return Head(name, "other", image, {side: np.array(point) for side, point in at().items()})

    def template_centres() -> dict[str, tuple[float, float, float]]:
        placement = load_model("hippocampus").bundle.placement
        assert placement is not None
        return {box.side: (-box.centre_ras_mm[0], -box.centre_ras_mm[1], box.centre_ras_mm[2])
                for box in placement.boxes}  # fmt: skip

    for path in sorted((DATA / "brains" / "images").glob("brain_*.nii.gz")):
        yield path.name, lambda name=path.name: brain(name)
    yield "meshnet", lambda: other("meshnet", DATA / "meshnet" / "t1_crop.nii.gz", lambda: MESHNET_LPS)
    yield "sample", lambda: other("sample", HEAD, template_centres)
    for image, labels, left, right in further:
        name = Path(image).name
        at = lambda file=labels, one=int(left), two=int(right): centres(sitk.ReadImage(file), one, two)  # noqa: E731
        yield name, lambda name=name, image=image, at=at: other(name, Path(image), at)


def altered(head: Head, how: str) -> Head:
    """Change a head: `tilt<axis><degrees>` here, everything else as `placement.changed`."""
    if not how.startswith(("rot", "tilt")):
        image, labels = changed(head.image, how), head.labels
        if labels is not None:
            labels = sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor)
        return Head(head.name, head.group, image, head.centres, labels)
    turn = "rot" + how.removeprefix("rot").removeprefix("tilt")
    image = changed(head.image, turn)
    labels = None if head.labels is None else changed(head.labels, turn)
    moved = {
        side: np.array(image.TransformContinuousIndexToPhysicalPoint(
            head.image.TransformPhysicalPointToContinuousIndex(point.tolist())))
        for side, point in head.centres.items()
    }  # fmt: skip
    if how.startswith("tilt"):
        grid = (head.image, sitk.Transform())
        image = sitk.Resample(image, *grid, sitk.sitkLinear)
        labels = None if labels is None else sitk.Resample(labels, *grid, sitk.sitkNearestNeighbor)
    return Head(head.name, head.group, image, moved, labels)


def outcome(head: Head, model: Model) -> dict[str, Any]:
    """Segment a head; returns what came of it, errors of the centres in mm, and Dice where there is a reference."""
    try:
        result = segment_image(head.image, model)
    except InputError as error:
        found = {"refused": error.code, "message": str(error)}
        if isinstance(error, NotPlacedError):
            found["error_mm"] = {side: _distance(roi.centre_ras_mm, head.centres[side])
                                 for side, roi in error.rois.items()}  # fmt: skip
        return found
    facts = result._case.placed.facts
    if facts is None:  # taken for a crop
        return {"refused": None, "error_mm": {}}
    found = {
        "refused": None,
        "error_mm": {box["side"]: _distance(box["centre_ras_mm"], head.centres[box["side"]]) for box in facts["boxes"]},
        "expected_dice": {box["side"]: box["expected_dice"] for box in facts["boxes"]},
        "shifted": [box["side"] for box in facts["boxes"] if box["shifted"]],
        "similarity": facts["similarity"],
    }
    if head.labels is not None:
        drawn, truth = result.array("segmentation"), sitk.GetArrayViewFromImage(head.labels)
        found["dice"] = {side: dice(np.isin(drawn, values), truth == value)
                         for side, value, values in (("left", 48, (1, 2)), ("right", 47, (3, 4)))}  # fmt: skip
    return found


def _distance(ras: Any, lps: np.ndarray) -> float:
    return round(float(np.linalg.norm(np.array([-ras[0], -ras[1], ras[2]]) - lps)), 2)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two masks."""
    return round(float(2 * (one & other).sum() / max(int(one.sum() + other.sum()), 1)), 4)


def found(output: Path, ways: list[str], further: list[list[str]]) -> None:
    """Segment every head in every way that the file does not hold yet; write it after each, and print the table."""
    rows: list[dict[str, Any]] = read_json(output)["heads"] if output.exists() else []
    done, model = {(row["head"], row["way"]) for row in rows}, load_model("hippocampus")
    about = f"{model.bundle.name} {model.bundle.about['version']}"
    readers = list(heads(further))
    for way in ways:
        for number, (name, read) in enumerate(readers):
            how = way.replace("+", "-") if number % 2 else way
            how = how.replace("turn", "tilt" if number % 4 >= 2 else "rot")
            if (name, how) in done:
                continue
            head, begun = altered(read(), how), time.process_time()
            row = {"head": name, "group": head.group, "way": how, **outcome(head, model),
                   "cpu_s": round(time.process_time() - begun, 1)}  # fmt: skip
            rows.append(row)
            content = json.dumps({"model": about, "heads": rows}, indent=1)
            output.with_suffix(".part").write_text(content + "\n", encoding="utf-8")
            output.with_suffix(".part").replace(output)
    print(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Count outcomes for each group of heads and kind of change."""
    kinds = {"as it is": ["asis"]}
    for kind, prefix in (("turned", "rot"), ("tilted", "tilt")):
        for degrees in DEGREES:
            kinds[f"{kind} by {degrees} degrees"] = [f"{prefix}{axis}{by:+}" for axis in range(3)
                                                     for by in (degrees, -degrees)]  # fmt: skip
    kinds |= {way: [way] for way in OTHER_WAYS}
    lines = ["| heads | change | tried | found | refused | wrong | error mean, at most (mm) | Dice mean, lowest |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for group in ("decision", "figures", "other"):
        for kind, ways in kinds.items():
            own = [row for row in rows if row["group"] == group and row["way"] in ways]
            if not own:
                continue
            kept = [row for row in own if row["refused"] is None]
            wrong = [row for row in kept if not row["error_mm"] or max(row["error_mm"].values()) > WRONG_MM]
            errors = [value for row in kept for value in row["error_mm"].values()]
            overlaps = [value for row in kept for value in row.get("dice", {}).values()]
            far = f"{np.mean(errors):.1f}, {max(errors):.1f}" if errors else ""
            scores = f"{np.mean(overlaps):.3f}, {min(overlaps):.3f}" if overlaps else ""
            counts = f"{len(own)} | {len(kept) - len(wrong)} | {len(own) - len(kept)} | {len(wrong)}"
            lines.append(f"| {group} | {kind} | {counts} | {far} | {scores} |")
    return "\n".join(lines)


def component(output: Path, name: str, seen: set[str]) -> None:
    """Measure what keeping the component at the centre of a box does, and print the table.

    Args:
        output: written after each box; what it holds already is not segmented again.
        name: of the model.
        seen: roles in `split.csv` of calibration and validation cases that the model was trained with.
    """
    model = load_model(name)
    about = f"{model.bundle.name} {model.bundle.about['version']}"
    content = read_json(output) if output.exists() else {"model": about, "boxes": []}
    if content["model"] != about:
        raise SystemExit(f"{output} is of {content['model']}: give another file.")
    rows = content["boxes"]
    done = {(row["set"], row["case"]) for row in rows}
    for kind, case, drawn, truth, centre in chain(_brain_boxes(model, done), _crops(model, seen, done)):
        kept = central_part(drawn > 0, centre)
        parts = {"whole": [value for value in np.unique(truth) if value]}
        parts |= {str(value): [value] for value in parts["whole"] if len(parts["whole"]) > 1}
        pairs = {part: (np.isin(drawn, [1, 2, 3, 4] if part == "whole" else values), np.isin(truth, values))
                 for part, values in parts.items()}  # fmt: skip
        rows.append({
            "set": kind, "case": case, "removed": int((drawn > 0).sum() - kept.sum()),
            "dice": {part: dice(own, true) for part, (own, true) in pairs.items()},
            "dice_kept": {part: dice(own & kept, true) for part, (own, true) in pairs.items()},
        })  # fmt: skip
        output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{about}\n| boxes | n | Dice | Dice, component kept | better | worse | voxels removed: mean, most |")
    print("|---|---|---|---|---|---|---|")
    for kind in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == kind]
        before, after = (np.array([row[key]["whole"] for row in own]) for key in ("dice", "dice_kept"))
        removed = [row["removed"] for row in own]
        worse = sum(min(row["dice_kept"][part] - row["dice"][part] for part in row["dice"]) < 0 for row in own)
        scores = f"{before.mean():.4f} | {after.mean():.4f} | {(after > before).sum()} | {worse}"
        print(f"| {kind} | {len(own)} | {scores} | {np.mean(removed):.0f}, {max(removed)} |")


Segmented = tuple[str, str, np.ndarray, np.ndarray, list[float]]
"""Set and name of a box, what was drawn and the reference (z, y, x), and the centre of the box as an index."""


def _brain_boxes(model: Model, done: set[tuple[str, str]]) -> Iterator[Segmented]:
    """Segment boxes around the labels of the decision brains, enlarged, and those that the model places."""
    for name in DECISION_BRAINS:
        image = sitk.ReadImage(str(DATA / "brains" / "images" / f"brain_{name}.nii.gz"), sitk.sitkFloat32)
        labels = sitk.ReadImage(str(DATA / "brains" / "labels" / f"brain_{name}.nii.gz"))
        truth, middles = sitk.GetArrayFromImage(labels), centres(labels, 48, 47)
        for side, value in (("left", 48), ("right", 47)):
            x, y, z = middles[side].tolist()
            middle = list(image.TransformPhysicalPointToContinuousIndex((x, y, z)))[::-1]
            for larger in (0, 4, 8):
                kind = f"around the label, {larger} mm larger"
                if (kind, f"{name} {side}") not in done:
                    found = segment_image(image, model, roi=(-x, -y, z, *(mm + larger for mm in SIZE_MM)))
                    yield kind, f"{name} {side}", found.array("segmentation"), truth == value, middle
        if ("placed", f"{name} right") in done:
            continue
        result = segment_image(image, model)
        for box, value, own in zip(result._case.placed.facts["boxes"], (48, 47), ((1, 2), (3, 4)), strict=True):
            drawn = result.array("segmentation")
            middle = [low + (size - 1) / 2 for low, size in zip(box["index_ijk"], box["size_ijk"], strict=True)][::-1]
            yield "placed", f"{name} {box['side']}", np.where(np.isin(drawn, own), drawn, 0), truth == value, middle


def _crops(model: Model, seen: set[str], done: set[tuple[str, str]]) -> Iterator[Segmented]:
    """Segment calibration and validation cases of the Decathlon, as they are cut."""
    folder = DATA / "hippocampus"
    old = {row["case"]: row["role"] for row in read_user_table(folder / "split.csv", ("case", "role"), "restore it")}
    for row in read_user_table(folder / "split_by_scan.csv", ("case", "role"), "restore it"):
        case = row["case"]
        if row["role"] in ("calibration", "select") and old.get(case) not in seen and ("Decathlon", case) not in done:
            image = sitk.ReadImage(str(folder / "images" / f"{case}.nii.gz"), sitk.sitkFloat32)
            truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labels" / f"{case}.nii.gz")))
            drawn = segment_image(image, model).array("segmentation")
            yield "Decathlon", case, drawn, np.rint(truth).astype(int), [(size - 1) / 2 for size in drawn.shape]


def central_part(mask: np.ndarray, centre_zyx: list[float]) -> np.ndarray:
    """Return the connected component (26 neighbours) of a mask that comes nearest to a point."""
    from scipy.ndimage import label

    found, count = label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    voxels = np.argwhere(mask)
    nearest = voxels[np.linalg.norm(voxels - np.array(centre_zyx), axis=1).argmin()]
    return found == found[tuple(nearest)]


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["found", "table", "component"])
    parser.add_argument("--output", type=Path, help="default: placed_heads.json or placed_component.json in results/")
    parser.add_argument("--model", default="hippocampus", help="name or folder; component only")
    parser.add_argument(
        "--seen", nargs="*", default=["train"], help="roles of split.csv that the model was trained with"
    )
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--head", nargs=4, action="append", default=[], metavar=("IMAGE", "LABELS", "LEFT", "RIGHT"))
    options = parser.parse_args()
    output = options.output or (COMPONENT if options.part == "component" else RESULT)
    if options.part == "found":
        found(output, options.ways, options.head)
    elif options.part == "component":
        component(output, options.model, set(options.seen))
    else:
        print(table(read_json(output)["heads"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
