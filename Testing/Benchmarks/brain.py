#!/usr/bin/env python3
"""Measure the whole-brain model on real brains: Dice, changed images, another network, its uncertainty.

    python Testing/Benchmarks/run.py brain dice             # Dice and volume ratio, 8 kinds of images; cost of one case
    python Testing/Benchmarks/run.py brain meshnet          # the same, sides merged, beside brainchop's MeshNet
    python Testing/Benchmarks/run.py brain uncertainty      # calibration as it is, with 3 patients, with added cases
    python Testing/Benchmarks/run.py brain table            # Markdown of the three results
    python Testing/Benchmarks/run.py brain card --model FOLDER    # writes what the 10 for figures say into its card
    python Testing/Benchmarks/run.py brain picture --changes tilt0+20 t2 --only 1000     # slices, to be looked at

Brains: the 5 for decisions unless `--brains` says otherwise; **the 10 for figures are read once**. Each part writes
after each image and goes on where it stopped; a file of other weights is refused.

Images: as they are; slices of 3 and 5 mm, each the mean of its voxels; tilted within straight axes (nodding) and turned
in their coordinates (an oblique image), by 20 degrees; other contrasts. A contrast gives each structure a grey value,
with texture, blur and noise; what carries no label of the recipe (5 to 6 % of the foreground, most of it outer fluid)
gets its grey value by where its T1 lies between fluid, grey and white matter. Its edges are those of the reference, so
it says what a contrast does, not how exact the model is in real images of it. Results are brought to the grid of the
reference (nearest neighbour).

Score: labels of the reference without a counterpart are left out; unlabelled voxels are background. For the uncertainty
unlabelled foreground is left out, since nobody knows what it is; `unlabelled counted` takes it for background, which
fluid may be called, too. A brain is a patient.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from added_cases import factors_of
from brain_training import CSF, IGNORED, NAMES, SIDES, TEN, VALUES, recipe_values, with_means, without_side
from placement import DATA, DECISION_BRAINS, changed
from scipy.special import softmax

from SegWithUCore.api import SegmentationResult, load_model, segment_image
from SegWithUCore.calibration.error_counts import ErrorCounts, count_errors
from SegWithUCore.inference.deviation import NOTE
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.placed_case import NotPlacedError
from SegWithUCore.inference.prediction import error_probability, predict
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.io.volume import read_image, read_labels, reorient
from SegWithUCore.metrics.error_detection import average_precision, score_groups
from SegWithUCore.models.bundle import CARD_FILE, read_bundle, write_bundle_json
from SegWithUCore.models.model_card import model_card
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import read_json
from SegWithULab.calibration.cases import CalibrationCase
from SegWithULab.calibration.fit import fit
from SegWithULab.calibration.fit_second_stage import LEAST_PATIENTS

RESULTS = Path(__file__).resolve().parent / "results"
GROUPS = {"decision": ("decision",), "figures": ("figures",), "all": ("decision", "figures")}
CHANGES = {"asis": "as it is", "slices3": "slices of 3 mm", "slices5": "slices of 5 mm", "tilt0+20": "tilted 20°",
           "rot2+20": "turned 20°", "t2": "like T2", "flair": "like FLAIR", "pd": "like PD"}  # fmt: skip
PAD = 24
"""Voxels round a brain, so that its corners stay inside when it is tilted."""
STRUCTURES = {value: name for value, name in zip(VALUES, NAMES, strict=True) if value not in (0, CSF)}
MERGED = np.arange(256, dtype=np.uint8)
MERGED[list(SIDES.values())] = list(SIDES)
TISSUES = {"fluid": (4, 43, 14, 15), "grey": (3, 42), "white": (2, 41), "cerebellar white": (7, 46),
           "cerebellar grey": (8, 47), "thalamus": (10, 49), "caudate": (11, 50), "putamen": (12, 51),
           "pallidum": (13, 52), "brainstem": (16,), "limbic": (17, 53, 18, 54), "accumbens": (26, 58),
           "ventral DC": (28, 60)}  # fmt: skip
CONTRASTS = {"t2": (1.0, 0.5, 0.35, 0.36, 0.5, 0.42, 0.46, 0.43, 0.3, 0.38, 0.54, 0.47, 0.37),
             "flair": (0.12, 0.7, 0.52, 0.52, 0.66, 0.6, 0.66, 0.62, 0.5, 0.56, 0.74, 0.68, 0.54),
             "pd": (0.8, 0.92, 0.7, 0.71, 0.9, 0.8, 0.9, 0.86, 0.7, 0.74, 0.93, 0.9, 0.72)}  # fmt: skip
"""Grey values of `TISSUES`, the order of what radiologists see at 1.5 T; written down by hand."""
TEXTURE, NOISE, BLUR = 0.03, 0.03, 0.6
"""Standard deviations: within a structure before blurring, after it, and of the blur in voxels."""
WITHIN = 0.2
MOST_DRAWS = 100
BLANK = 30.0
"""Logit of voxels that are certain."""


@dataclass(frozen=True)
class Brain:
    """A real brain.

    Attributes:
        group: "decision" or "figures".
        truth: values of the recipe, 255 is not scored; axes along RAS.
    """

    name: str
    group: str
    image: sitk.Image
    truth: sitk.Image


def brains(which: str, only: Sequence[str] = ()) -> list[tuple[str, Callable[[], Brain]]]:
    """Name the brains of a choice of `GROUPS`, with how to read each."""
    found = []
    for path in sorted((DATA / "brains" / "images").glob("brain_*.nii.gz")):
        name = path.name[6:10]
        group = "decision" if name in DECISION_BRAINS else "figures"
        if group in GROUPS[which] and name in (only or [name]):
            found.append((name, lambda path=path, name=name, group=group: read_brain(path, name, group)))
    return found


def read_brain(path: Path, name: str, group: str) -> Brain:
    """Read a brain with its reference."""
    labels = reorient(read_labels(path.parents[1] / "labels" / path.name), "RAS")
    values = recipe_values(sitk.GetArrayFromImage(labels).T).T
    return Brain(name, group, read_image(path), like(np.ascontiguousarray(values), labels))


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """Make an image on the grid of another."""
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def on_grid(labels: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """Return labels (z, y, x) on another grid, nearest neighbour; 0 outside."""
    return sitk.GetArrayFromImage(sitk.Resample(labels, grid, sitk.Transform(), sitk.sitkNearestNeighbor))


# ---------------------------------------------------------------- images


def change(brain: Brain, how: str) -> tuple[sitk.Image, sitk.Image]:
    """Change an image; returns it, and the grid (with the reference's voxels) that its result is brought to."""
    if how == "asis":
        return brain.image, brain.truth
    if how.startswith("slices"):
        return in_slices(brain.image, int(how.removeprefix("slices"))), brain.truth
    if how.startswith("rot"):
        return changed(brain.image, how), changed(brain.truth, how)
    if how.startswith("tilt"):
        turn = how.replace("tilt", "rot")
        padded = sitk.ConstantPad(sitk.Cast(brain.image, sitk.sitkFloat32), [PAD] * 3, [PAD] * 3)
        image = sitk.Resample(changed(padded, turn), padded, sitk.Transform(), sitk.sitkLinear)
        return image, changed(brain.truth, turn)
    return in_contrast(brain, how), brain.truth


def in_slices(image: sitk.Image, voxels: int) -> sitk.Image:
    """Average so many voxels along the axis that runs most nearly upwards."""
    up = int(np.abs(np.reshape(image.GetDirection(), (3, 3))[2]).argmax())
    factors, more = [1, 1, 1], [0, 0, 0]
    factors[up], more[up] = voxels, -image.GetSize()[up] % voxels
    return sitk.BinShrink(sitk.ConstantPad(sitk.Cast(image, sitk.sitkFloat32), [0, 0, 0], more), factors)


def in_contrast(brain: Brain, contrast: str) -> sitk.Image:
    """Draw an image of another contrast from a brain's labels."""
    random = np.random.default_rng(zlib.crc32(f"{brain.name} {contrast}".encode()))
    t1 = sitk.GetArrayFromImage(sitk.Resample(brain.image, brain.truth, sitk.Transform(), sitk.sitkNearestNeighbor))
    truth, inside = sitk.GetArrayViewFromImage(brain.truth), t1 > 0
    greys = dict(zip(TISSUES, CONTRASTS[contrast], strict=True))
    main = [name for name in TISSUES if name in ("fluid", "grey", "white")]
    middles = [float(np.median(t1[np.isin(truth, TISSUES[name])])) for name in main]
    image = np.interp(t1, middles, [greys[name] for name in main])
    table, known = np.zeros(256), np.zeros(256, bool)
    for name, values in TISSUES.items():
        table[list(values)], known[list(values)] = greys[name], True
    image = np.where(known[truth], table[truth], image) + random.normal(0, TEXTURE, image.shape)
    smooth = sitk.SmoothingRecursiveGaussian(like((image * inside).astype(np.float32), brain.truth), BLUR)
    noisy = sitk.GetArrayFromImage(smooth) + random.normal(0, NOISE, image.shape)
    return like((1000 * np.clip(noisy, 0, None) * inside).astype(np.float32), brain.truth)


# ---------------------------------------------------------------- scores


def overlaps(drawn: np.ndarray, truth: np.ndarray, names: Mapping[int, str] = STRUCTURES) -> dict[str, dict[str, Any]]:
    """Return Dice, and drawn over true volume, of each structure that the reference has.

    Args:
        drawn, truth: values, of one shape; where `truth` is 255 nothing is scored.
    """
    pairs = np.bincount(np.ravel(truth).astype(np.int64) * 256 + np.ravel(drawn), minlength=1 << 16).reshape(256, 256)
    pairs = np.delete(pairs, IGNORED, 0)
    own, true = pairs.sum(0), pairs.sum(1)
    there = {value: name for value, name in names.items() if true[value]}
    return {
        "dice": {name: round(2 * int(pairs[n, n]) / int(own[n] + true[n]), 4) for n, name in there.items()},
        "ratio": {name: round(int(own[n]) / int(true[n]), 4) for n, name in there.items()},
    }


def means(by_name: Mapping[str, float]) -> dict[str, float]:
    """Average both sides of each structure; with the means over all and over the ten of gate 3."""
    sides: dict[str, list[float]] = {}
    for name, value in by_name.items():
        sides.setdefault(without_side(name), []).append(value)
    return with_means({name: float(np.mean(values)) for name, values in sides.items()})


def merged_names() -> dict[int, str]:
    """Return the names without sides by the value of the left one."""
    return {value: without_side(name) for value, name in STRUCTURES.items() if MERGED[value] == value}


def outcome(image: sitk.Image, model: Model) -> tuple[SegmentationResult | None, dict[str, Any]]:
    """Segment an image, insisting where it is refused for its looks; returns also what the program said."""
    said: dict[str, Any] = {"refused": None}
    try:
        result = segment_image(image, model)
    except NotPlacedError as error:
        return None, {"refused": error.code}
    except InputError as error:
        said = {"refused": error.code}
        try:
            result = segment_image(image, model, unlike_training=True)
        except InputError as again:
            return None, {"refused": again.code}
    boxes = result._case.placed.facts.get("boxes", [{}])
    said["expected_dice"] = boxes[0].get("expected_dice")
    said["warned"] = sorted({each.kind for each in result.warnings if each.severity != NOTE})
    return result, said


# ---------------------------------------------------------------- results


class Rows:
    """A result file of one model, written after each row."""

    def __init__(self, path: Path, model: Model, keys: Sequence[str]) -> None:
        about = {"name": model.bundle.name, "version": model.bundle.about["version"],
                 "weights_sha256": model.bundle.weights_sha256[:16]}  # fmt: skip
        self.path, self._keys = path, keys
        self.content: dict[str, Any] = read_json(path) if path.exists() else {"model": about, "rows": []}
        if self.content["model"] != about:
            raise SystemExit(f"{path} is of {self.content['model']}: remove it, or give another --results.")
        self.rows: list[dict[str, Any]] = self.content["rows"]

    def has(self, *key: str) -> bool:
        """Whether there is a row of this key."""
        return any(tuple(row[name] for name in self._keys) == key for row in self.rows)

    def add(self, **row: Any) -> None:
        """Add a row, and write."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content) + "\n", encoding="utf-8")
        part.replace(self.path)


def cost(model: str) -> dict[str, float]:
    """Segment a brain by the command in a fresh process; returns its time and memory, all its processes together."""
    image = DATA / "brains" / "images" / f"brain_{DECISION_BRAINS[0]}.nii.gz"
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "SegWithUCore.cli", "segment", str(image), "--model", model, "--output", folder]
        begun = time.monotonic()
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"segment ended with {process.returncode}")
    seconds = {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.monotonic() - begun}
    return {**{name: round(value, 1) for name, value in seconds.items()}, "peak_mb": round(used.ru_maxrss / 1024)}


def measure_dice(options: argparse.Namespace) -> None:
    """Segment each brain in each way, and a case in a fresh process."""
    model = load_model(options.model)
    kept = Rows(options.results / "brain_dice.json", model, ("brain", "change"))
    for how in options.changes:
        for name, read in brains(options.brains, options.only):
            if kept.has(name, how):
                continue
            brain = read()
            image, grid = change(brain, how)
            begun = time.process_time()
            result, said = outcome(image, model)
            row = {"brain": name, "group": brain.group, "change": how, **said,
                   "cpu_s": round(time.process_time() - begun, 1)}  # fmt: skip
            if result is not None:
                truth = sitk.GetArrayViewFromImage(brain.truth)
                row |= overlaps(on_grid(result.segmentation, grid), truth)
                row["means"] = means(row["dice"])
            kept.add(**row)
            print(name, how, said, row.get("means", {}).get("TEN"), flush=True)
    if "cost" not in kept.content:
        kept.content["cost"] = cost(options.model)
        kept.write()
    print(kept.content["cost"])


def measure_meshnet(options: argparse.Namespace) -> None:
    """Segment each brain with both networks, sides merged."""
    import torch
    from brain_meshnet import read_meshnet, segmented

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model, network = load_model(options.model), read_meshnet()
    kept = Rows(options.results / "brain_meshnet.json", model, ("brain", "network"))
    ways: dict[str, Callable[[sitk.Image], sitk.Image | None]] = {
        model.bundle.name: lambda image: result.segmentation if (result := outcome(image, model)[0]) else None,
        "MeshNet": lambda image: segmented(network, image),
        "MeshNet, cut": lambda image: segmented(network, image, is_cut=True),
    }
    for name, read in brains(options.brains, options.only):
        for way, run in ways.items():
            if kept.has(name, way):
                continue
            brain, begun = read(), time.process_time()
            drawn = run(brain.image)
            row = {"brain": name, "group": brain.group, "network": way,
                   "cpu_s": round(time.process_time() - begun, 1)}  # fmt: skip
            if drawn is not None:
                truth = MERGED[sitk.GetArrayViewFromImage(brain.truth)]
                row |= overlaps(MERGED[on_grid(drawn, brain.truth)], truth, merged_names())
                row["means"] = means(row["dice"])
            kept.add(**row)
            print(name, way, row["cpu_s"], row.get("means", {}).get("TEN"), flush=True)


# ---------------------------------------------------------------- uncertainty


@dataclass(frozen=True)
class Assessed:
    """What the model says of a brain, inside the box that it places; arrays (z, y, x).

    Attributes:
        case: where nothing is known, the truth is what was drawn.
        scored: where the reference has a label of the recipe, or where there is no brain.
        wrong_counted: errors with unlabelled foreground taken for background, which fluid may be called, too.
        counted: where these count.
        numbers: how well its numbers of structures hold, by `numbers_of`.
    """

    case: CalibrationCase
    scored: np.ndarray
    wrong_counted: np.ndarray
    counted: np.ndarray
    numbers: Mapping[str, Any]


def numbers_of(result: SegmentationResult, brain: Brain) -> dict[str, Any]:
    """Count volume intervals that hold the true volume, and measure the error of the predicted Dice."""
    truth, voxel = sitk.GetArrayViewFromImage(brain.truth), float(np.prod(brain.truth.GetSpacing()))
    true = overlaps(on_grid(result.segmentation, brain.truth), truth)["dice"]
    held, gaps = [], []
    for each in result.structures:
        if each.label.name in true and each.expected_interval_mm3 is not None:
            low, high = each.expected_interval_mm3
            held.append(low <= voxel * np.count_nonzero(truth == each.label.value) <= high)
        if each.label.name in true and each.predicted_dice is not None:
            gaps.append(abs(each.predicted_dice - true[each.label.name]))
    return {"intervals": len(held), "intervals_held": int(sum(held)), "predicted_dice_error": float(np.mean(gaps))}


def assess(brain: Brain, model: Model) -> tuple[Assessed, float]:
    """Predict a brain; returns also the largest difference from the maps of `segment_image`."""
    result, _ = outcome(brain.image, model)
    if result is None:
        raise SystemExit(f"{brain.name} is refused.")
    part = result._case.assessed.box.crop(brain.image)
    prediction = predict([part], model)
    maps = np.asarray(result._case.maps.error_probability)
    gap = float(np.abs(maps - prediction.error_probability).max())
    values = [label.value for label in model.bundle.labels]
    known = np.zeros(256, np.int16)
    known[values] = np.arange(len(values))
    truth = on_grid(brain.truth, part)
    foreground = sitk.GetArrayViewFromImage(part) > 0
    counted = truth != IGNORED
    scored = counted & ((truth > 0) | ~foreground)
    drawn = prediction.classes
    is_right = (known[truth] == drawn) | ((truth == 0) & (drawn == values.index(CSF)))
    case = CalibrationCase(prediction, np.where(scored, known[truth], drawn).astype(np.int16), brain.name)
    return Assessed(case, scored, ~is_right & counted, counted, numbers_of(result, brain)), gap


def blanked(seen: Assessed) -> Assessed:
    """Make what is not scored certain background, so that a fit on all voxels counts no errors there, nor expects any.

    Taken as drawn, these voxels would be expected wrong and never be: every fit would learn too few errors.
    """
    given, out = seen.case.prediction, ~seen.scored
    logits = given.logits.copy()
    logits[:, out], logits[0, out] = 0, BLANK
    names = ("calibration", "ranking", "epistemic", "aleatoric")
    maps = {name: np.where(out, each.min(), each) for name in names if (each := getattr(given, name)) is not None}
    maps["classes"] = np.where(out, given.classes.dtype.type(0), given.classes)
    maps["error_probability"] = np.where(out, np.float32(0), given.error_probability)
    prediction = replace(given, logits=logits, **maps)
    truth = np.where(out, seen.case.truth.dtype.type(0), seen.case.truth)
    return replace(seen, case=CalibrationCase(prediction, truth, seen.case.patient))


def unsure(case: CalibrationCase) -> np.ndarray:
    """Return 1 - maximum softmax, float32 (z, y, x), plane by plane."""
    logits = case.prediction.logits
    return np.stack([1 - softmax(logits[:, z], 0).max(0) for z in range(logits.shape[1])]).astype(np.float32)


def figures(seen: Assessed, chance: np.ndarray, labels: Sequence[Any]) -> dict[str, Any]:
    """Measure an error probability of a brain: whole, and sums of expected and wrong voxels by what was drawn."""
    case, scored = seen.case, seen.scored
    wrong, chances = case.wrong[scored], chance[scored].astype(np.float64)
    drawn = case.prediction.classes[scored]
    sums = zip(np.bincount(drawn, chances, len(labels)), np.bincount(drawn, wrong, len(labels)), strict=True)
    return {
        "voxels": int(scored.sum()),
        "expected": round(float(chances.sum()), 1),
        "wrong": int(wrong.sum()),
        "auprc": round(average_precision(score_groups(chances, wrong)), 4),
        "brier": round(float(np.mean((chances - wrong) ** 2)), 6),
        "by_structure": {label.name: [round(float(a), 1), int(b)] for label, (a, b) in zip(labels, sums, strict=True)},
    }


def orders_of(patients: int, wanted: int) -> list[np.ndarray]:
    """Return orders of patients that begin with each choice of so many, or with random ones where there are many."""
    if comb(patients, wanted) <= MOST_DRAWS:
        chosen = [list(each) for each in combinations(range(patients), wanted)]
        return [np.array([*each, *(n for n in range(patients) if n not in each)]) for each in chosen]
    random = np.random.default_rng(0)
    return [random.permutation(patients) for _ in range(MOST_DRAWS)]


def measure_uncertainty(options: argparse.Namespace) -> None:
    """Measure the calibration as it is, after 3 patients, and after added cases."""
    model = load_model(options.model)
    if model.bundle.calibration is None:
        raise SystemExit(f"{options.model} is not calibrated.")
    kept = Rows(options.results / "brain_uncertainty.json", model, ("brain",))
    counts: dict[str, ErrorCounts] = {}
    with tempfile.TemporaryDirectory(dir=options.cache) as folder:
        for name, read in brains(options.brains, options.only):
            seen, gap = assess(brain := read(), model)
            chance = seen.case.prediction.error_probability
            counts[name] = count_errors(chance[seen.scored], seen.case.wrong[seen.scored])
            if options.brains == "all":
                (Path(folder) / name).write_bytes(pickle.dumps(blanked(seen), pickle.HIGHEST_PROTOCOL))
            if not kept.has(name):
                found, other = figures(seen, chance, model.bundle.labels), unsure(seen.case)[seen.scored]
                found["auprc_softmax"] = round(average_precision(score_groups(other, seen.case.wrong[seen.scored])), 4)
                counted = float(chance[seen.counted].sum(dtype=np.float64))
                found["unlabelled counted"] = [round(counted, 1), int(seen.wrong_counted.sum())]
                found["brier_softmax"] = round(float(np.mean((other - seen.case.wrong[seen.scored]) ** 2)), 6)
                found |= seen.numbers
                kept.add(brain=name, group=brain.group, difference_from_segment=round(gap, 6), **found)
                print(name, {key: value for key, value in found.items() if key != "by_structure"}, flush=True)
            del seen, chance
        if len(counts) > 3:
            after = factors_of(counts, orders_of(len(counts), 3), 3)
            kept.content[f"factor, {options.brains}"] = {"patients": len(counts), **after}
        if options.brains == "all" and len(counts) > LEAST_PATIENTS:
            kept.content["added"] = added(model, Path(folder), list(counts))
    kept.write()
    print(json.dumps({key: value for key, value in kept.content.items() if key != "rows"}, indent=1))


def added(model: Model, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Add ten brains or more as `calibrate --add` does, and measure the others; each brain is among these once."""
    order = np.random.default_rng(0).permutation(len(names))
    parts = np.array_split(order, -(-len(names) // (len(names) - LEAST_PATIENTS)))
    rows, messages = [], []

    def read(name: str) -> Assessed:
        return pickle.loads((folder / name).read_bytes())

    for part in parts:
        held = [names[n] for n in part]
        fitted = (read(name).case for name in names if name not in held)
        found = fit(fitted, model.bundle.labels, prior=model.bundle.calibration)
        stage = found.second_stage or model.fitted.second_stage
        if stage is not None and found.second_stage is None:
            stage = replace(stage, line=tuple(found.block["second_stage"].get("line", (1.0, 0.0))))
        after = FittedCalibration.from_json(found.block, stage)
        messages.append({"measured on": held, "messages": list(found.messages)})
        for name in held:
            seen = read(name)
            given = seen.case.prediction
            chance = error_probability(after, seen.case.view, given.logits, given)
            rows.append({"brain": name, **figures(seen, chance, model.bundle.labels)})
            print("added", name, rows[-1]["expected"], rows[-1]["wrong"], flush=True)
    return {"rows": rows, "fits": messages}


# ---------------------------------------------------------------- table


def tables(folder: Path) -> Iterator[str]:
    """Yield what the results hold as Markdown tables."""
    for name, make in (("dice", dice_table), ("meshnet", meshnet_table), ("uncertainty", uncertainty_table)):
        path = folder / f"brain_{name}.json"
        if path.exists():
            content = read_json(path)
            about = content["model"]
            yield f"{about['name']} {about['version']} (weights {about['weights_sha256'][:8]})"
            for group in ("decision", "figures"):
                rows = [row for row in content["rows"] if row["group"] == group]
                if rows:
                    count = len({row["brain"] for row in rows})
                    yield f"Brains {'for decisions' if group == 'decision' else 'for figures'}: {count}"
                    yield make(rows, content)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Mean over brains of a structure's Dice, sides averaged."""
    found = [row["means"][name] for row in rows if name in row.get("means", {})]
    return f"{np.mean(found):.3f}" if found else ""


def order_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the lines of a table of Dice: means first."""
    there = {name for row in rows for name in row.get("means", {})}
    names = [name for name in dict.fromkeys(map(without_side, STRUCTURES.values())) if name in there]
    lead = {"TEN": "**mean over ten**", "MEAN": f"**mean over all {len(names)}**"}
    return lead | {name: name if name in TEN or "cerebellar" in name else f"*{name}*" for name in names}


def dice_table(rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> str:
    """Lay out Dice of each structure and change, volume ratio as it is, what was refused or warned of, and the cost."""
    ways = [how for how in CHANGES if any(row["change"] == how for row in rows)]
    of = {how: [row for row in rows if row["change"] == how] for how in ways}
    sides: dict[str, list[float]] = {}
    for row in of.get("asis", []):
        for name, value in row.get("ratio", {}).items():
            sides.setdefault(without_side(name), []).append(value)
    lines = [
        [title, *(mean_of(of[how], name) for how in ways), f"{np.mean(sides[name]):.2f}" if name in sides else ""]
        for name, title in order_of(rows).items()
    ]
    for title, said in (("refused", lambda row: row["refused"]), ("warned", lambda row: row.get("warned"))):
        lines.append([title, *(f"{sum(bool(said(row)) for row in of[how])} of {len(of[how])}" for how in ways), ""])
    text = markdown(["Dice", *(CHANGES[how] for how in ways), "volume ratio"], lines)
    if "cost" in content:
        used = content["cost"]
        text += f"\n\nOne brain in a fresh process: {used['cpu_s']:.0f} s of processor time, {used['peak_mb']} MB."
    return text


def meshnet_table(rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> str:
    """Lay out Dice of each structure for both networks."""
    ways = list(dict.fromkeys(row["network"] for row in content["rows"]))
    of = {way: [row for row in rows if row["network"] == way] for way in ways}
    lines = [[title, *(mean_of(of[way], name) for way in ways)] for name, title in order_of(rows).items()]
    seconds = [f"{np.mean([row['cpu_s'] for row in of[way]]):.0f}" for way in ways]
    return markdown(["Dice, sides merged", *ways], [*lines, ["processor seconds", *seconds]])


def expected_over_true(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return expected over wrong voxels of all brains together, and the share of brains within 20 %."""
    sums = np.array([(row["expected"], row["wrong"]) for row in rows])
    near = np.abs(sums[:, 0] / sums[:, 1] - 1) < WITHIN
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(near.mean())


def uncertainty_table(rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> str:
    """Lay out how the calibration holds, whole and by structure, and after 3 patients and added cases."""
    ratio, near = expected_over_true(rows)
    loose = np.sum([row["unlabelled counted"] for row in rows], 0)
    held, count = (sum(row[name] for row in rows) for name in ("intervals_held", "intervals"))
    gap = np.mean([row["predicted_dice_error"] for row in rows])
    heads = ["", "expected over true", "brains within 20 %", "AUPRC", "Brier score"]

    def scores(of: Sequence[Mapping[str, Any]], tail: str = "") -> list[str]:
        return [f"{np.mean([row[name + tail] for row in of]):.4f}" for name in ("auprc", "brier")]

    lines = [["error probability", f"{ratio:.2f}", f"{near:.0%}", *scores(rows)],
             ["1 - maximum softmax", "", "", *scores(rows, "_softmax")],
             ["volume intervals of 90 % that hold", f"{held / count:.0%}", "", "", ""],
             ["error of the predicted Dice", f"{gap:.3f}", "", "", ""],
             ["unlabelled voxels counted", f"{loose[0] / loose[1]:.2f}", "", "", ""]]  # fmt: skip
    for key, found in content.items():
        if key.startswith("factor, "):
            middle, low, high = found["expected over true, rest"]
            title = f"3 patients known (of {found['patients']}, {key.removeprefix('factor, ')}), on the others"
            spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            lines.append([title, spread, f"{found['patients within 20 %']:.0%}", "", ""])
    own = {row["brain"] for row in rows}
    after = [row for row in content.get("added", {}).get("rows", []) if row["brain"] in own]
    if after:
        ratio, near = expected_over_true(after)
        lines.append(["cases added, on the others", f"{ratio:.2f}", f"{near:.0%}", *scores(after)])
    sums: dict[str, np.ndarray] = {}
    for row in rows:
        for name, pair in row["by_structure"].items():
            name = without_side(name)
            sums[name] = sums.get(name, np.zeros(2)) + pair
    parts = [[name, f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}" if b else ""] for name, (a, b) in sums.items()]
    heads_of_parts = ["drawn as (both sides)", "expected wrong voxels", "wrong voxels", "expected over true"]
    return f"{markdown(heads, lines)}\n\n{markdown(heads_of_parts, parts)}"


def write_card(options: argparse.Namespace) -> None:
    """Write what the brains for figures say into the bundle of a model, and its card."""
    folder = Path(options.model)
    bundle = read_bundle(folder)
    dice, found = (read_json(options.results / f"brain_{name}.json") for name in ("dice", "uncertainty"))
    if not all(str(bundle.weights_sha256).startswith(each["model"]["weights_sha256"]) for each in (dice, found)):
        raise SystemExit(f"The results in {options.results} are of other weights.")

    def figures_of(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [row for row in rows if row["brain"] not in DECISION_BRAINS]

    overlap = [row["means"]["MEAN"] for row in figures_of(dice["rows"]) if row["change"] == "asis"]
    kind, rows, own = "brains of another cohort (OASIS), another protocol", [], figures_of(found["rows"])
    factor = found["factor, figures"]
    middle, near = factor["expected over true, rest"][0], factor["patients within 20 %"]
    auprc = float(np.mean([row["auprc"] for row in own]))
    added_cases = figures_of(found["added"]["rows"])
    for what, ratio, share, precision in (
        (f"{kind}; Dice: mean over structures", *expected_over_true(own), auprc),
        (f"{kind}, calibrated on 3 patients", middle, near, auprc),
        (f"{kind}, with {LEAST_PATIENTS} cases added", *expected_over_true(added_cases),
         float(np.mean([row["auprc"] for row in added_cases]))),
    ):  # fmt: skip
        rows.append({"images": what, "patients": len(own), "dice": float(np.mean(overlap)),
                     "expected_over_true": ratio, "within_20_percent": share, "auprc": precision})  # fmt: skip
    sums: dict[str, np.ndarray] = {}
    for row in own:
        for name, pair in row["by_structure"].items():
            sums[without_side(name)] = sums.get(without_side(name), np.zeros(2)) + pair
    ratios = {name: expected / wrong for name, (expected, wrong) in sums.items()}
    least, most = (choice(ratios, key=ratios.__getitem__) for choice in (min, max))
    held, count = (sum(row[name] for row in own) for name in ("intervals_held", "intervals"))
    gap = np.mean([row["predicted_dice_error"] for row in own])
    notes = (
        "All images of its training and calibration were drawn from label maps, none is real; those of calibration "
        f"from three heads. In {len(own)} real brains the volume intervals of 90 % held {held} of {count} volumes that "
        f"experts had drawn by another protocol, and the predicted Dice erred by {gap:.3f}. Their expected errors hold "
        f"as a sum (below), but by structure they are {ratios[least]:.2f} ({least}) to {ratios[most]:.2f} ({most}) "
        "times the true ones."
    )
    write_bundle_json(replace(bundle, about={**bundle.about, "notes": notes}, away={"rows": rows}), folder)
    (folder / CARD_FILE).write_text(model_card(read_bundle(folder)), encoding="utf-8")


def picture(options: argparse.Namespace) -> None:
    """Write slices of changed images: image, reference, and result of the model (on the reference's grid)."""
    from PIL import Image

    model, colours = load_model(options.model), np.zeros((256, 3), np.uint8)
    for label in model.bundle.labels:
        colours[label.value] = label.color
    colours[IGNORED] = 90
    for name, read in brains(options.brains, options.only):
        brain = read()
        for how in options.changes:
            image, grid = change(brain, how)
            result, said = outcome(image, model)
            own = sitk.GetArrayFromImage(image).astype(np.float32)
            over = sitk.GetArrayViewFromImage(result.segmentation) if result else np.zeros(own.shape, np.uint8)
            back = on_grid(result.segmentation, grid) if result else np.zeros(grid.GetSize()[::-1], np.uint8)
            grey = np.repeat(np.clip(own * 255 / np.percentile(own, 99.5), 0, 255).astype(np.uint8)[..., None], 3, -1)
            rows = []
            for axis in range(3):
                mixed = np.where(over[..., None] > 0, 0.5 * grey + 0.5 * colours[over], grey).astype(np.uint8)
                shown = [grey, mixed, colours[back], colours[sitk.GetArrayViewFromImage(brain.truth)]]
                slices = [np.take(each, each.shape[axis] // 2, axis)[::-1] for each in shown]
                rows.append(slices)
            size = 240
            sheet = Image.new("RGB", (4 * size, 3 * size))
            for y, slices in enumerate(rows):
                for x, each in enumerate(slices):
                    sheet.paste(Image.fromarray(np.ascontiguousarray(each)).resize((size, size)), (x * size, y * size))
            path = options.results / f"brain_{name}_{how}.png"
            sheet.save(path)
            print(path, said)


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["dice", "meshnet", "uncertainty", "table", "picture", "card"])
    parser.add_argument("--model", default="brain", help="name of an installed model, or a bundle's folder")
    parser.add_argument("--brains", choices=list(GROUPS), default="decision", help="figures are read once")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="of these brains, such as 1000")
    parser.add_argument("--changes", nargs="+", choices=list(CHANGES), default=list(CHANGES), help="of dice, picture")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of brain_*.json")
    parser.add_argument("--cache", type=Path, help="uncertainty of all: folder with 15 GB free (default: temporary)")
    options = parser.parse_args()
    parts = {"dice": measure_dice, "meshnet": measure_meshnet, "uncertainty": measure_uncertainty, "picture": picture,
             "card": write_card}  # fmt: skip
    if options.part in parts:
        parts[options.part](options)
    else:
        print("\n\n".join(tables(options.results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
