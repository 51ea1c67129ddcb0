#!/usr/bin/env python3
"""Segment whole heads, turned, cut and coarsened, and count those that are found, refused, or wrong in silence.

    python Testing/Benchmarks/placed_heads.py found [--head ch2.nii.gz aal.nii.gz 37 38]   # resumes where it stopped
    python Testing/Benchmarks/placed_heads.py table

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
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from placement import DATA, DECISION_BRAINS, HEAD, centres, changed

from SegWithUCore.api import load_model, segment_image
from SegWithUCore.inference.model import Model
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import read_json

RESULT = Path(__file__).resolve().parent / "results" / "placed_heads.json"
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
        return {"refused": error.code, "message": str(error)}
    facts = result._case.placement
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
            lines = ",\n".join(map(json.dumps, rows))
            content = f'{{"model": "{about}", "heads": [\n{lines}\n]}}\n'
            output.with_suffix(".part").write_text(content, encoding="utf-8")
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


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["found", "table"])
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--head", nargs=4, action="append", default=[], metavar=("IMAGE", "LABELS", "LEFT", "RIGHT"))
    options = parser.parse_args()
    if options.part == "found":
        found(options.output, options.ways, options.head)
    else:
        print(table(read_json(options.output)["heads"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
