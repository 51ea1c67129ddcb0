#!/usr/bin/env python3
"""Measure the whole-brain model on real brains: Dice, changed images, another network, its uncertainty.

    python Testing/Benchmarks/run.py brain dice             # Dice and volume ratio, 8 kinds of images; cost of one case
    python Testing/Benchmarks/run.py brain meshnet          # the same, sides merged, beside brainchop's MeshNet
    python Testing/Benchmarks/run.py brain uncertainty      # calibration as it is, and with 3 and 5 patients
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

Score: labels of the reference without a counterpart are left out; unlabelled voxels are background. The uncertainty is
measured on voxels chosen by prediction alone: drawn class and runner-up have a label in the reference (which has none
for fluid), and one without a label counts as wrong. A brain is a patient.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from brain_training import CSF, IGNORED, NAMES, SIDES, TEN, VALUES, recipe_values, with_means, without_side
from crossed_over import crossed_over
from placement import DATA, DECISION_BRAINS, changed
from scipy.special import softmax
from totals import with_held

from SegWithUCore.api import SegmentationResult, load_model, segment_image
from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.inference.deviation import NOTE
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.structures import ASYMMETRIES, TOTALS
from SegWithUCore.io.volume import read_image, read_labels, reorient
from SegWithUCore.metrics.error_detection import average_precision, score_groups
from SegWithUCore.metrics.overlap import dice_of
from SegWithUCore.models.bundle import CARD_FILE, fitted_now, read_bundle, write_bundle_json
from SegWithUCore.models.model_card import model_card
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import read_json
from SegWithULab.calibration.cases import CalibrationCase, PredictedCases
from SegWithULab.calibration.prior import CaseSummary, summary_of

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
    except InputError as error:
        said = {"refused": error.code}
        if error.code == "not-placed":
            return None, said
        try:
            result = segment_image(image, model, unlike_training=True)
        except InputError as again:
            return None, {"refused": again.code}
    boxes = (result._case.placement or {}).get("boxes", [{}])  # a bundle before its calibration has no placement
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


def assess(brain: Brain, model: Model) -> tuple[CalibrationCase, SegmentationResult]:
    """Predict a brain inside the box that the model places.

    The classes that its reference has a label for are known: neither fluid nor the background, which holds it.
    """
    result, _ = outcome(brain.image, model)
    if result is None:
        raise SystemExit(f"{brain.name} is refused.")
    part = result._case.assessed.box.crop(brain.image)
    values = [label.value for label in model.bundle.labels]
    known = np.zeros(256, np.int16)
    known[values] = np.arange(len(values))
    known[IGNORED] = 0  # another structure is not what was drawn
    truth = known[on_grid(brain.truth, part)]
    labelled = np.isin(np.arange(len(values)), np.unique(truth))
    labelled[0] = False
    return CalibrationCase(predict([part], model), truth, brain.name, labelled), result


def unsure(case: CalibrationCase) -> np.ndarray:
    """Return 1 - maximum softmax, float32 (z, y, x), plane by plane."""
    logits = case.prediction.logits
    return np.stack([1 - softmax(logits[:, z], 0).max(0) for z in range(logits.shape[1])]).astype(np.float32)


def figures(case: CalibrationCase, result: SegmentationResult) -> dict[str, Any]:
    """Measure the error probability of a brain on the clean voxels, and its predicted Dice."""
    wrong, found = case.wrong[case.clean], dict[str, Any]()
    for name, chance in (("", case.prediction.error_probability), ("_softmax", unsure(case))):
        chances = chance[case.clean].astype(np.float64)
        found[f"auprc{name}"] = round(average_precision(score_groups(chances, wrong)), 4)
        found[f"brier{name}"] = round(float(np.mean((chances - wrong) ** 2)), 6)
    drawn, index = case.prediction.classes, {each.label.value: n for n, each in enumerate(result.structures)}
    gaps = [
        abs(each.predicted_dice - dice_of(drawn == n, case.truth == n))
        for value, n in index.items()
        if (each := result.structures[n]).predicted_dice is not None and case.known[n]
    ]
    return {"voxels": int(case.clean.sum()), "wrong": int(wrong.sum()), **found,
            "predicted_dice_error": float(np.mean(gaps))}  # fmt: skip


def measure_uncertainty(options: argparse.Namespace) -> None:
    """Measure the calibration as it is, and after 3, 5 and 10 patients were added."""
    model = load_model(options.model)
    block = model.bundle.calibration
    if block is None:
        raise SystemExit(f"{options.model} is not calibrated.")
    kept = Rows(options.results / "brain_uncertainty.json", model, ("brain",))
    table, scale = ErrorProbability.from_json(block["error_probability"]), float(block["tempering_scale"])
    summaries: dict[str, CaseSummary] = {}
    for name, read in brains(options.brains, options.only):
        case, result = assess(brain := read(), model)
        summaries[name] = summary_of(case, table, scale, model.bundle.labels)
        if not kept.has(name):
            kept.add(brain=name, group=brain.group, **figures(case, result))
        print(name, kept.rows[-1], flush=True)
        del case, result
    cases = list(summaries.values())
    for wanted in (0, 3, 5, 10):
        if wanted < len(cases) > 3:
            kept.content[f"{options.brains}, {wanted} added"] = crossed_over(cases, model.bundle.labels, block, wanted)
    own = PredictedCases(numbers=[case.numbers for case in cases], patients=[case.patient for case in cases])
    counted = with_held(model.bundle, own).calibration or {}
    kept.content[f"{options.brains}, held"] = {
        name: {key: [each["held"], each["held_of"]] for key, each in counted.get(name, {}).items() if "held" in each}
        for name in ("volume_interval", TOTALS, ASYMMETRIES)
    }
    kept.write()
    print(json.dumps({key: value for key, value in kept.content.items() if key != "rows"}, indent=1))


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


CROSSED = {"abs_log_ratio": "mean abs. log of expected over true, by structure",
           "within_20_percent": "structures of a brain within 20 %", "auprc": "AUPRC",
           "auprc_within": "AUPRC within structures, mean", "intervals_held": "volume intervals that hold",
           "lowest_held": "of the structure where fewest hold", "width": "full width, share of the volume",
           "lines taken": "error probability refitted"}  # fmt: skip


def uncertainty_table(rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> str:
    """Lay out how the calibration holds, whole and by structure, as it is and after patients were added."""
    group = "decision" if rows[0]["group"] == "decision" else "figures"
    ways = {
        key.split(", ")[1]: found
        for key, found in content.items()
        if key.startswith(f"{group}, ") and key.endswith("added")
    }
    lines = [[title, *(f"{way[name]:.3f}" for way in ways.values())] for name, title in CROSSED.items()]
    softmax_too = [
        [title, *(f"{np.mean([row[name + tail] for row in rows]):.4f}" for tail in ("", "_softmax"))]
        for name, title in (("auprc", "AUPRC"), ("brier", "Brier score"))
    ]
    parts = []
    for name in next(iter(ways.values()))["structures"]:
        found = [way["structures"][name] for way in ways.values()]
        ratios = [f"{each['expected'] / each['wrong']:.2f}" if each["wrong"] else "" for each in found]
        parts.append([name, *ratios, *(f"{each['held']:.1f} of {each['of']:.0f}" for each in found)])
    heads = ["drawn as", *(f"expected over true, {way}" for way in ways), *(f"held, {way}" for way in ways)]
    compared = markdown(["clean voxels", "error probability", "1 - maximum softmax"], softmax_too)
    return f"{markdown(['', *ways], lines)}\n\n{compared}\n\n{markdown(heads, parts)}"


def write_card(options: argparse.Namespace) -> None:
    """Write what the brains for figures say into the bundle of a model, and its card."""
    folder = Path(options.model)
    bundle = read_bundle(folder)
    dice, found = (read_json(options.results / f"brain_{name}.json") for name in ("dice", "uncertainty"))
    if not all(str(bundle.weights_sha256).startswith(each["model"]["weights_sha256"]) for each in (dice, found)):
        raise SystemExit(f"The results in {options.results} are of other weights.")
    dices = [row["means"]["MEAN"] for row in dice["rows"]
             if row["change"] == "asis" and row["brain"] not in DECISION_BRAINS]  # fmt: skip
    kind, rows = "brains of another cohort (OASIS), another protocol; Dice and within 20 %: by structure", []
    for wanted in (0, 3):
        way = found[f"figures, {wanted} added"]
        sums = np.sum([(each["expected"], each["wrong"]) for each in way["structures"].values()], 0)
        rows.append({"images": kind if not wanted else f"{kind}; calibrated on {wanted} patients",
                     "patients": way["patients"], "dice": float(np.mean(dices)),
                     "expected_over_true": float(sums[0] / sums[1]), "auprc": way["auprc"],
                     "within_20_percent": way["within_20_percent"]})  # fmt: skip
    as_is = found["figures, 0 added"]
    ratios = {name: each["expected"] / each["wrong"] for name, each in as_is["structures"].items() if each["wrong"]}
    least, most = (choice(ratios, key=ratios.__getitem__) for choice in (min, max))
    held = {name: each for name, each in as_is["structures"].items() if each["of"]}
    block, counts = dict(bundle.calibration or {}), found["figures, held"]
    sides = {str(label.value): held.get(without_side(label.name)) for label in bundle.labels[1:]}
    counts["volume_interval"] = {key: [round(each["held"]), round(each["of"])] for key, each in sides.items() if each}
    for name, pairs in counts.items():  # of a structure both sides together
        block[name] = {
            key: {**each, **dict(zip(("held", "held_of"), pairs.get(key, ()), strict=False))}
            for key, each in block.get(name, {}).items()
        }
    notes = (
        "All images of its training and calibration were synthesised from label maps, none is real; those of "
        f"calibration from four heads. In {as_is['patients']} real brains the volume intervals held "
        f"{sum(each['held'] for each in held.values()):.0f} of {sum(each['of'] for each in held.values()):.0f} volumes "
        "that experts had drawn by another protocol. Errors are counted where the drawn structure and its runner-up "
        f"both have a label there: by structure, the expected ones are {ratios[least]:.2f} ({least}) to "
        f"{ratios[most]:.2f} ({most}) times the true ones; calibrate on three patients of your own."
    )
    made = replace(bundle, about={**bundle.about, "notes": notes}, away={"rows": rows}, calibration=fitted_now(block))
    write_bundle_json(made, folder)
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
