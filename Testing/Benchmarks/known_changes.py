#!/usr/bin/env python3
"""Change structures of real images by a known amount, and measure how much of it a model finds.

    python Testing/Benchmarks/run.py known-changes draw --cache FOLDER      # draws and segments: 25 minutes
    python Testing/Benchmarks/run.py known-changes measure --cache FOLDER   # writes the table

Each image is deformed so that the boundary of one structure of its reference moves evenly inwards or outwards, until
the structure has 10 % less or more volume; the deformation fades out within some millimetres. All else stays as it is,
noise, bias field and position, so that what is missing of the change is missed by the model. Groups: the five decision
brains (model `brain`), and hippocampi of the test role, changed as a whole (model `hippocampus`). Nothing is fitted.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
from brain_training import NEURO
from placement import DATA, DECISION_BRAINS
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from SegWithUCore.case.case_file import read_case
from SegWithUCore.io.plane_writer import write_image_planes
from SegWithUCore.io.volume import image_on_grid, read_image, read_labels
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.model_card import write_description
from SegWithUCore.util.atomic_files import write_text
from SegWithUCore.util.strict_json import to_json
from SegWithULab.training.dataset import find_cases

RESULTS = Path(__file__).resolve().parent / "results" / "known_changes.json"
STRUCTURES = {"hippocampus": (17, 53), "amygdala": (18, 54), "thalamus": (10, 49), "caudate": (11, 50),
              "putamen": (12, 51), "pallidum": (13, 52), "lateral ventricle": (4, 43)}  # fmt: skip
"""Values of the left and right structure in the model `brain`."""
OF = {"whole hippocampus": "hippocampus", "hippocampus, both sides": "hippocampus",
      "lateral ventricles": "lateral ventricle"}  # fmt: skip
"""Totals of one structure, which change by no larger share than their parts."""
CHANGES = (-0.1, 0.1)
HIPPOCAMPI = 20
FADES_MM = 5.0


@dataclass(frozen=True)
class Deformation:
    """Moves the boundary of a structure along its normals.

    Attributes:
        inside: the structure, (z, y, x).
        steps: where a voxel takes its value from if the boundary moves inwards by 1 mm, in voxels, (3, z, y, x).
    """

    inside: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, inside: np.ndarray, spacing: np.ndarray) -> "Deformation":
        """Compute the normals of a structure; spacing in mm along (z, y, x)."""
        away = distance_transform_edt(~inside, spacing) - distance_transform_edt(inside, spacing)
        smooth = gaussian_filter(away, 1 / spacing)
        normals = np.stack(np.gradient(smooth, *spacing))
        normals /= np.maximum(np.linalg.norm(normals, axis=0), 1.0)
        return cls(inside, normals * np.exp(-((away / FADES_MM) ** 2)) / spacing[:, None, None, None])

    def moved(self, values: np.ndarray, by_mm: float, order: int) -> np.ndarray:
        """Return values of which the boundary has moved inwards."""
        places = np.indices(values.shape) + by_mm * self.steps
        return map_coordinates(values, places, np.float32, order, mode="nearest")

    def distance_for(self, change: float) -> float:
        """Return by how many mm the boundary has to move for a change of the volume, such as -0.1."""
        low, high, volume = -2.0, 2.0, float(self.inside.sum())
        for _ in range(14):
            middle = (low + high) / 2
            grown = float(self.moved(self.inside.astype(np.float32), middle, 1).sum()) > volume * (1 + change)
            low, high = (middle, high) if grown else (low, middle)
        return (low + high) / 2


def changed(image: sitk.Image, labels: np.ndarray, wanted: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Yield the image itself, and with each structure changed, by the end of its name."""
    array, spacing = sitk.GetArrayFromImage(image).astype(np.float32), np.array(image.GetSpacing()[::-1])
    yield "same", image_on_grid(array, image)
    for name, values in wanted.items():
        deformation = Deformation.of(np.isin(labels, values), spacing)
        for change in CHANGES:
            new = deformation.moved(array, deformation.distance_for(change), 3)
            sign = "less" if change < 0 else "more"
            yield f"{name.replace(' ', '-')}_{sign}", image_on_grid(np.clip(new, array.min(), array.max()), image)


def images(group: str) -> Iterator[tuple[str, sitk.Image]]:
    """Draw the images of a group; yields name and image."""
    if group == "brain":
        for number in DECISION_BRAINS:
            image, file = (DATA / "brains" / kind / f"brain_{number}.nii.gz" for kind in ("images", "labels"))
            labels = sitk.GetArrayFromImage(read_labels(file))
            wanted = {name: tuple(code for value in pair for code in NEURO[value]) for name, pair in STRUCTURES.items()}
            yield from ((f"brain{number}_{end}", new) for end, new in changed(read_image(image), labels, wanted))
    else:
        for case in find_cases(f"{DATA / 'hippocampus' / 'split_by_scan.csv'}:test")[:HIPPOCAMPI]:
            labels = sitk.GetArrayFromImage(read_labels(case.reference))
            name = case.name.replace("_", "")
            found = changed(read_image(Path(case.channels[0])), labels, {"hippocampus": (1, 2)})
            yield from ((f"{name}_{end}", new) for end, new in found)


def volumes(folder: Path, values: tuple[int, ...], key: str) -> np.ndarray:
    """Read volumes of structures of a case in mm3."""
    found = {entry["value"]: entry[key] for entry in read_case(folder)["structures"]}
    return np.array([found[value] for value in values], float)


def recovered(group: str, folder: Path) -> dict[str, Any]:
    """Compare measured with true changes, by structure."""
    intervals = resolve_model(group).changes
    wanted = STRUCTURES if group == "brain" else {"hippocampus": (1, 2)}
    found: dict[str, Any] = {}
    for name, values in wanted.items():
        rows: dict[str, list[float]] = {"measured": [], "expected": [], "true": [], "called": []}
        for same in sorted(folder.glob("*_same")):
            for change in CHANGES:
                sign = "less" if change < 0 else "more"
                after = same.with_name(same.name.replace("same", f"{name.replace(' ', '-')}_{sign}"))
                for row, key in (("measured", "volume_mm3"), ("expected", "expected_volume_mm3")):
                    pair = [volumes(case, values, key) for case in (same, after)]
                    pair = [each.sum(keepdims=True) for each in pair] if group == "hippocampus" else pair
                    rows[row] += np.log(pair[1] / pair[0]).tolist()
                    if row == "measured":
                        rows["true"] += [float(np.log(1 + change))] * len(pair[0])
                        limit = intervals["whole hippocampus" if group == "hippocampus" else name]
                        limits = [limit(float(a), float(b))[1:] for a, b in zip(*pair, strict=True)]
                        rows["called"] += [float(low > 0 if change > 0 else high < 0) for low, high in limits]
        true = np.array(rows["true"])
        shares = {key: np.array(rows[key]) / true for key in ("measured", "expected")}
        found[name] = {"changes": len(true), "called_changed": int(sum(rows["called"]))} | {
            f"{key}_share{end}": round(float(value), 3)
            for key, share in shares.items()
            for end, value in (("", share.mean()), ("_sd", share.std(ddof=1)))
        }
    return found


def main() -> int:
    """Draw and segment images, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("draw", "measure"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--ship", action="store_true", help="write the shares into the models of this checkout")
    options = parser.parse_args()
    for group in ("hippocampus", "brain"):
        if options.what == "draw":
            place = options.cache / "images" / group
            place.mkdir(parents=True, exist_ok=True)
            for name, image in images(group):
                write_image_planes(place / f"{name}.nii.gz", image)
            call = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(place), "--each", "--resume", "--quiet"]
            subprocess.run([*call, "-m", group, "-o", str(options.cache / group)], check=True)
    if options.what == "measure":
        found = {group: recovered(group, options.cache / group) for group in ("brain", "hippocampus")}
        write_text(RESULTS, to_json(found) + "\n")
        for group, shares in found.items() if options.ship else ():
            bundle = resolve_model(group)
            new = {name: replace(each, recovered=shares[own]["measured_share"])
                   for name, each in bundle.changes.items() if (own := OF.get(name, name)) in shares}  # fmt: skip
            write_description(replace(bundle, changes={**bundle.changes, **new}), cast(Path, bundle.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
