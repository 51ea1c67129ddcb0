#!/usr/bin/env python3
"""Let simulated readers review cases: regions, Dice and volume error by structure.

    python Testing/Benchmarks/run.py simulated-readers --cache FOLDER

Cases: the five decision brains (structures that the model proposes to measure, as far as the reference has them), and
the test hippocampi of the split by scan. A reader goes through the first regions of each structure and makes every
voxel of a region right, as far as the structure is concerned. Three readers: *perfect*; *one in five wrong* takes the
runner-up for all voxels of a region in one of five; *half a voxel* follows a reference that lies half a voxel off along
each axis. *One list* is the design before: regions of any structure, the largest expected wrong volume first, none
joined; its reader looks at as many regions of a case in all. Figures are means over the sides of all cases.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
from brain import brains
from brain_training import IGNORED, without_side
from placement import DATA

from SegWithUCore.case.case_file import asked_structures, read_case
from SegWithUCore.case.case_regions import ijk_to_ras
from SegWithUCore.io.volume import read_image, read_labels, reorient
from SegWithUCore.metrics.overlap import dice_of
from SegWithUCore.regions import find_regions as regions_module
from SegWithUCore.regions.find_regions import Assessed, RegionSettings
from SegWithUCore.regions.region import Region
from SegWithUCore.util.strict_json import to_json
from SegWithULab.training.dataset import find_cases

RESULTS = Path(__file__).resolve().parent / "results" / "simulated_readers.json"
STEPS = (5, 10, 20)
READERS = ("perfect", "one in five wrong", "half a voxel")
WRONG_SHARE = 0.2


@dataclass(frozen=True)
class Reviewed:
    """A segmented case with its reference; arrays (z, y, x) along RAS axes.

    Attributes:
        truth: label values of the model; `IGNORED` is not scored.
        asked: label value by name.
        patient: each head is one; a scan for hippocampi.
    """

    assessed: Assessed
    truth: np.ndarray
    asked: Mapping[str, int]
    patient: str


def cases(cache: Path, group: str, part: str = "") -> Iterator[Reviewed]:
    """Segment the cases of a group, where that is not done yet, and read them with their references.

    Args:
        part: of the brains (default: decision), or role of the hippocampi (default: test).
    """
    if group == "brain":
        listed = brains(part or "decision")
        found = {name: (DATA / "brains" / "images" / f"brain_{name}.nii.gz", name, read) for name, read in listed}
    else:
        sides = find_cases(f"{DATA / 'hippocampus' / 'split_by_scan.csv'}:{part or 'test'}")
        found = {each.name: (each.channels[0], each.patient, lambda each=each: each) for each in sides}
    call = [sys.executable, "-m", "SegWithUCore.cli", "segment", *(str(image) for image, *_ in found.values())]
    subprocess.run([*call, "-m", group, "-o", str(cache / group), "--resume", "--quiet"], check=True)
    for image, patient, read in found.values():
        folder = cache / group / image.name.removesuffix(".nii.gz")
        case, given = read_case(folder), read()
        reference = given.truth if group == "brain" else reorient(read_labels(given.reference), "RAS")
        maps = [reorient(read_image(folder / f"{name}.nii.gz"), "RAS")
                for name in ("error_probability", "segmentation", "runner_up")]  # fmt: skip
        error, drawn, runner_up = map(sitk.GetArrayFromImage, maps)
        names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
        truth, asked = sitk.GetArrayFromImage(reference), asked_structures(case)
        values = {name: value for value, name in names.items() if name in asked and (truth == value).any()}
        assessed = Assessed(
            error, drawn.astype(np.uint8), runner_up.astype(np.uint8), names, ijk_to_ras(maps[0]),
            asked=list(values.values()),
        )  # fmt: skip
        yield Reviewed(assessed, truth, values, patient)


def shifted(mask: np.ndarray) -> np.ndarray:
    """Move a mask by half a voxel along each axis: where most of a voxel's eight parts are inside."""
    parts = np.pad(mask.astype(np.uint8), ((0, 1),) * 3)
    for axis in range(3):
        ahead = np.take(parts, range(1, parts.shape[axis]), axis)
        parts = np.take(parts, range(parts.shape[axis] - 1), axis) + ahead
    return parts >= 4


def figures(drawn: np.ndarray, truth: np.ndarray, scored: np.ndarray) -> tuple[float, float]:
    """Return the Dice of a structure and the error of its volume, a share of the true one."""
    one, other = drawn & scored, truth & scored
    return dice_of(one, other), abs(float(one.sum()) - float(other.sum())) / float(other.sum())


def voxels_of(labels: np.ndarray) -> Callable[[int], np.ndarray]:
    """Return what gives the flat indices of the voxels of a region."""
    places = np.flatnonzero(labels)
    places = places[np.argsort(labels.ravel()[places], kind="stable")]
    numbers = labels.ravel()[places]
    return lambda number: places[slice(*np.searchsorted(numbers, [number, number + 1]))]


def corrected(
    case: Reviewed,
    voxels: Callable[[int], np.ndarray],
    regions: Sequence[Region],
    value: int,
    reader: str,
    seed: int = 0,
) -> np.ndarray:
    """Return the mask of a structure after a reader has gone through regions."""
    dice = np.random.default_rng([value, seed] if seed else value)
    mask, truth = (case.assessed.segmentation == value).ravel(), case.truth == value
    truth = (shifted(truth) if reader == "half a voxel" else truth).ravel()
    runner_up, truth_shape = np.asarray(case.assessed.runner_up).ravel(), case.truth.shape
    for region in regions:
        here = voxels(region.id)
        is_wrong = reader == "one in five wrong" and dice.random() < WRONG_SHARE
        mask[here] = runner_up[here] == value if is_wrong else truth[here]
    return mask.reshape(truth_shape)


def row(case: Reviewed) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each structure of a case: as drawn, and after the first regions, in both designs."""
    scored = case.truth != IGNORED
    now = regions_module.find_regions(case.assessed)
    with mock.patch.object(regions_module, "_looks", lambda _assessed, _voxels, basin, _settings: basin):
        before = regions_module.find_regions(case.assessed, RegionSettings())
    voxels, one_list = voxels_of(now.labels), voxels_of(before.labels)
    for name, value in case.asked.items():
        truth = case.truth == value
        own = [region for region in now.regions if region.is_about((name,))]
        found: dict[str, Any] = {
            "regions": len(own),
            "drawn": figures(case.assessed.segmentation == value, truth, scored),
        }
        for reader in READERS:
            for step in STEPS:
                mask = corrected(case, voxels, own[:step], value, reader)
                found[f"{reader}, {step}"] = figures(mask, truth, scored)
        for step in STEPS:
            mask = corrected(case, one_list, before.regions[: step * len(case.asked)], value, "perfect")
            found[f"one list, {step}"] = figures(mask, truth, scored)
        yield without_side(name), found


def mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the rows of a structure."""
    return {
        key: round(float(np.mean([each[key] for each in rows])), 1)
        if key == "regions"
        else [round(float(number), 4) for number in np.mean([each[key] for each in rows], axis=0)]
        for key in rows[0]
    }


def table(found: Mapping[str, Any]) -> str:
    """Write Markdown: Dice and volume error in percent."""
    columns = ["drawn", *(f"perfect, {step}" for step in STEPS), *(f"{reader}, 10" for reader in READERS[1:])]
    columns += [f"one list, {step}" for step in STEPS]
    lines = ["| structure | regions | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for group, rows in found.items():
        for name, own in rows.items():
            cells = [f"{own[each][0]:.3f}, {100 * own[each][1]:.0f} %" for each in columns]
            lines.append(f"| {name} ({group}) | {own['regions']:g} | " + " | ".join(cells) + " |")
    return re.sub(r"\b0\.", ".", "\n".join(lines))


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    cache = parser.parse_args().cache
    found: dict[str, dict[str, Any]] = {}
    for group in ("brain", "hippocampus"):
        rows: dict[str, list[dict[str, Any]]] = {}
        for case in cases(cache, group):
            for name, each in row(case):
                rows.setdefault(name, []).append(each)
        found[group] = {name: mean(own) for name, own in sorted(rows.items())}
        found[group]["all of these"] = mean([each for own in rows.values() for each in own])
        RESULTS.write_text(to_json(found), "utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
