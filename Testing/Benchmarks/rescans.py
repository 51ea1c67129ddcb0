#!/usr/bin/env python3
"""Make pairs of scans without change, and measure how well volumes repeat.

    python Testing/Benchmarks/run.py rescans draw --cache FOLDER      # draws and segments, a folder a group; an hour
    python Testing/Benchmarks/run.py rescans measure --cache FOLDER   # fits and measures; writes the table

There are no real pairs. Groups:

- `brain-synthesised`: four anatomies of each head map that the network was not trained with (17 to 20), warped once,
  then scanned three times in the T1 protocol of the recipe. What a brain bundle ships is fitted on these.
- `brain-real`: the five decision brains, each perturbed twice. They measure; nothing is fitted on them.
- `hippocampus-calibration`, `hippocampus-test`: hippocampi of these roles, each perturbed twice. The first fit.

Two scans differ in position (up to 5 degrees and 6 mm in a head, 3 degrees and 1 mm in a crop), noise, part of the bias
field, a little blur and contrast: `Protocol` holds what both have. They cannot contain motion, distortion by gradients,
another scanner or sequence, and what changes in a body from day to day.
"""

import argparse
import itertools
import math
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
import torch
from brain_training import RECIPE, SETTINGS, SHARED, VALUES
from placement import DATA, DECISION_BRAINS
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from SegWithUCore.calibration.change import PERTURBED, SYNTHESISED, ChangeInterval
from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.io.plane_writer import write_image_planes
from SegWithUCore.io.volume import image_on_grid, read_image, read_labels, reorient
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.input_spec import InputSpec, without_side
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.model_card import write_description
from SegWithUCore.review.changes import volumes_by_name
from SegWithUCore.util.atomic_files import write_text
from SegWithUCore.util.csv_files import write_csv
from SegWithUCore.util.strict_json import to_json
from SegWithULab.calibration.fit_changes import fit_change_intervals
from SegWithULab.training import synthesis
from SegWithULab.training.dataset import LabelMap, find_cases
from SegWithULab.training.synthesis import PARTS, UNIT, Synthesiser

GROUPS = ("brain-synthesised", "brain-real", "hippocampus-calibration", "hippocampus-test")
FITTED = {"brain-synthesised": SYNTHESISED, "hippocampus-calibration": PERTURBED}
"""Groups that intervals are fitted on, and how they were scanned."""
MEASURED = {"brain-synthesised": "brain-real", "hippocampus-calibration": "hippocampus-test"}
"""Groups of real images in which it is counted how often the intervals held."""
RESULTS = Path(__file__).resolve().parent / "results" / "rescans.json"
MAPS, ANATOMIES, SCANS = (17, 18, 19, 20), 4, 3
"""Of a map there are so many anatomies, each scanned so often."""
HEAD, CROP = (5.0, 6.0), (3.0, 1.0)
"""Largest turn in degrees and shift in mm between two scans."""
BIAS, GREY, GAMMA = 0.1, 0.01, 0.05
"""What differs between two scans: log bias field, grey value of a label, log exponent of the grey value curve."""


@dataclass(frozen=True)
class Protocol:
    """What two scans of a patient have in common: blur in voxels, noise and bias as shares of the brightest value."""

    blur: float
    noise: float
    bias: np.ndarray

    @classmethod
    def of(cls, patient: np.random.Generator) -> "Protocol":
        """Draw the protocol of a patient."""
        field = patient.standard_normal((1, 4, 4, 4), np.float32) * patient.uniform(0, 0.3)
        return cls(patient.uniform(0.4, 0.7), patient.uniform(0.01, 0.04), field.astype(np.float32))


def acquired(grey: np.ndarray, protocol: Protocol, scan: np.random.Generator) -> np.ndarray:
    """Return what a scanner makes of grey values (z, y, x) whose brightest are about 1."""
    blurred = gaussian_filter(grey, protocol.blur + scan.normal(0, 0.05), truncate=2.0)
    knots = protocol.bias + BIAS * scan.standard_normal(protocol.bias.shape, np.float32)
    field = synthesis._grown(torch.from_numpy(knots.astype(np.float32)), grey.shape)[0].numpy()
    noisy = blurred * np.exp(field) + protocol.noise * scan.standard_normal(grey.shape, np.float32)
    return np.maximum(noisy, 0) ** math.exp(scan.normal(0, GAMMA))


def generator(*names: str) -> np.random.Generator:
    """Return the generator of a patient, or of a scan of one."""
    return np.random.default_rng([zlib.crc32(name.encode()) for name in names])


def warped(maker: Synthesiser, image: sitk.Image, patient: np.random.Generator) -> LabelMap:
    """Return the anatomy of a patient: a label map whose structures have grown or shrunk, stretched and warped."""
    shape, given = image.GetSize()[::-1], maker.label_map(image)
    grown = synthesis._regrown(given, patient)
    places = maker._places(shape, given.spacing_mm, False, patient)
    for axis, place in enumerate(places):
        place.div_(given.spacing_mm[axis]).add_((shape[axis] + 1) / 2)
    indices = synthesis._indices(grown, places, np.zeros(3)).numpy()
    return replace(grown, indices=np.pad(indices.astype(given.indices.dtype), 1), growths=[])


def positions(shape: Sequence[int], limits: tuple[float, float], scan: np.random.Generator) -> torch.Tensor:
    """Return where each voxel (z, y, x) of a scan lies in a label map of 1 mm, (3, z, y, x)."""
    turn, shift = limits
    matrix = Rotation.from_euler("zyx", scan.uniform(-turn, turn, 3), degrees=True).as_matrix()
    moved = scan.uniform(-shift, shift, 3) + (np.array(shape) + 1) / 2
    z, y, x = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in shape)
    rows = [z[:, None, None] * a + y[:, None] * b + x * c + float(by)
            for (a, b, c), by in zip(matrix.tolist(), moved, strict=True)]  # fmt: skip
    return torch.stack(rows)


def synthesised() -> Iterator[tuple[str, sitk.Image]]:
    """Scan warped head maps three times, three of four stripped; yields name and image."""
    settings = replace(SETTINGS, mirrored=0.0, grey_values_share=1.0, rotation_degrees=5.0, shift_mm=3.0)
    maker = Synthesiser(settings, InputSpec.from_json(RECIPE["input"]), VALUES)
    for number, anatomy in itertools.product(MAPS, range(ANATOMIES)):
        name = f"map{number}{'abcd'[anatomy]}"
        patient = generator(name)
        image = reorient(read_labels(SHARED / "data" / "head_maps" / f"head_{number}.nii.gz"), "RAS")
        head, protocol, shape = warped(maker, image, patient), Protocol.of(patient), image.GetSize()[::-1]
        mean, deviation = maker._grey_values(head.labels, patient)
        mean[head.labels.index(0)] = deviation[head.labels.index(0)] = 0.0
        kept = np.isin(head.labels, settings.stripped_to) | (anatomy == 0)
        for number_of_scan in range(1, SCANS + 1):
            scan = generator(name, str(number_of_scan))
            at = positions(shape, HEAD, scan)
            greys = torch.from_numpy(mean + GREY * scan.standard_normal(len(mean)) * (mean > 0)).float()
            found = synthesis._indices(head, at, np.zeros(3))
            grey = torch.stack([greys[synthesis._indices(head, at, part)] for part in PARTS]).mean(0)
            grey += torch.from_numpy(deviation).float()[found] * synthesis._normal(shape, scan)
            voxels = acquired(grey.numpy(), protocol, scan) * kept[found.numpy()]
            voxels = np.clip(UNIT(voxels.astype(np.float32)), 0, synthesis.BRIGHTEST)
            yield f"{name}_{number_of_scan}", image_on_grid(np.rint(voxels * 1000).astype(np.int16), image)


def perturbed(name: str, path: Path, limits: tuple[float, float]) -> Iterator[tuple[str, sitk.Image]]:
    """Scan a real image twice more; yields name and image."""
    image, protocol = sitk.Cast(read_image(path), sitk.sitkFloat32), Protocol.of(generator(name))
    own = replace(protocol, blur=0.05, noise=min(protocol.noise, 0.02))
    array = sitk.GetArrayViewFromImage(image)
    there, brightest = array.min() < array, float(np.percentile(array[array > array.min()], 99.5))
    centre = image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])
    for scan in (1, 2):
        drawn = generator(name, str(scan))
        turns, shifts = (drawn.uniform(-limit, limit, 3) for limit in limits)
        moved = sitk.Euler3DTransform(centre, *np.radians(turns).tolist(), shifts.tolist())
        resampler = sitk.ResampleImageFilter()
        resampler.SetReferenceImage(image)
        resampler.SetTransform(moved)
        resampler.SetInterpolator(sitk.sitkBSpline)
        resampler.UseNearestNeighborExtrapolatorOn()
        grey = np.maximum(sitk.GetArrayFromImage(resampler.Execute(image)) / brightest, 0)
        inside = grey > 0.02 if there.mean() < 0.7 else np.ones(grey.shape, bool)
        voxels = acquired(grey.astype(np.float32), own, drawn) * inside
        yield f"{name}_{scan}", image_on_grid(np.rint(voxels * 1000).astype(np.int16), image)


def scans(group: str) -> Iterator[tuple[str, sitk.Image]]:
    """Draw the scans of a group; yields name and image."""
    if group == "brain-synthesised":
        yield from synthesised()
    elif group == "brain-real":
        for name in DECISION_BRAINS:
            yield from perturbed(f"brain{name}", DATA / "brains" / "images" / f"brain_{name}.nii.gz", HEAD)
    else:
        for case in find_cases(f"{DATA / 'hippocampus' / 'split_by_scan.csv'}:{group.partition('-')[2]}"):
            yield from perturbed(case.name.replace("_", ""), Path(case.channels[0]), CROP)


def volumes_of(folder: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Read the volumes of segmented scans, and the patient of each."""
    folders = case_folders([folder])
    names = [each.name for each in folders]
    return [volumes_by_name(read_case(each)) for each in folders], [name.rpartition("_")[0] for name in names]


def measured(fitted: Mapping[str, ChangeInterval], folder: Path) -> dict[str, Any]:
    """Count, by structure, in how many pairs the interval held no change; with the spread of the pairs in percent."""
    volumes, patients = volumes_of(folder)
    counts: dict[str, list[tuple[bool, float]]] = {}
    pairs_of = [itertools.combinations(scans, 2) for scans in by_patient(patients).values()]
    for first, second in itertools.chain(*pairs_of):
        for name, before in volumes[first].items():
            after, interval = volumes[second].get(name, 0.0), fitted.get(without_side(name))
            if before > 0 and after > 0 and interval is not None:
                _, low, high = interval(before, after)
                counts.setdefault(without_side(name), []).append((low <= 0 <= high, math.log(after / before)))
    return {
        name: {
            "half_width_percent": round(100 * fitted[name].half_width, 2),
            "held": sum(held for held, _ in pairs),
            "pairs": len(pairs),
            "rms_percent": round(100 * float(np.sqrt(np.mean([change**2 for _, change in pairs]))), 2),
        }
        for name, pairs in counts.items()
    }


def main() -> int:
    """Draw and segment the scans of groups, or fit and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("draw", "measure"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--groups", nargs="+", default=GROUPS, choices=GROUPS)
    parser.add_argument("--ship", action="store_true", help="write the intervals into the models of this checkout")
    options = parser.parse_args()
    if options.what == "draw":
        for group in options.groups:
            images = options.cache / "images" / group
            images.mkdir(parents=True, exist_ok=True)
            for name, image in scans(group):
                write_image_planes(images / f"{name}.nii.gz", image)
            call = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(images), "--each", "--resume", "--quiet"]
            # Heads whose outer tissues have odd grey values are not placed: they are left out.
            subprocess.run([*call, "-m", group.partition("-")[0], "-o", str(options.cache / group)], check=False)
        return 0
    found = {}
    for fit_on, scanned in FITTED.items():
        fitted = fit_change_intervals(*volumes_of(options.cache / fit_on), scanned)
        rows = [[str(each), each.name.rpartition("_")[0]] for each in case_folders([options.cache / fit_on])]
        write_csv(options.cache / f"{fit_on}.csv", ["case", "patient"], rows)
        for group in options.groups:
            if group.partition("-")[0] == fit_on.partition("-")[0]:
                found[f"{group} by {fit_on}"] = measured(fitted, options.cache / group)
        if options.ship:
            bundle, judge = resolve_model(fit_on.partition("-")[0]), found[f"{MEASURED[fit_on]} by {fit_on}"]
            counts = {name: {"held": each["held"], "held_of": each["pairs"]} for name, each in judge.items()}
            held = {name: replace(each, **counts.get(name, {})) for name, each in fitted.items()}
            write_description(replace(bundle, changes=held), cast(Path, bundle.folder))
    write_text(RESULTS, to_json(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
