#!/usr/bin/env python3
"""How well `segwithu judge` finds what is wrong with masks of sources that nobody tuned.

    python Testing/Benchmarks/run.py judge masks --cache DIR         # MeshNet's masks of the 15 brains, once (an hour)
    python Testing/Benchmarks/run.py judge brains --cache DIR        # judges them: 5 for decisions, 10 for figures

*MeshNet*: brainchop's network of 18 classes (MIT), run around the boxes of both hippocampi; sides are merged, as it has
one label for both. The truth is the reference, an error a voxel whose label differs from it. `results/judge.json` also
has edited masks of hippocampi, by model 1.4.0.

Scores of a voxel: the product's probability; *simple* (q where mask and model agree, 1 - q where the mask has the
runner-up, .99 elsewhere); *distance* to the mask's surface and *entropy* of the model's softmax, each made a
probability by isotonic regression on the other cases of the same source, which the product never sees. Writes
`results/judge.json`.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score

from SegWithUCore.api import load_model
from SegWithUCore.inference.case_result import CaseResult, Job
from SegWithUCore.inference.given_mask import MaskFile
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.segment import compute_case
from SegWithUCore.inference.settings import RunSettings
from SegWithUCore.io.roi import VoxelBox
from SegWithUCore.util.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).resolve().parent / "results" / "judge.json"
DECISION = ("1000", "1001", "1002", "1006", "1007")
REFERENCE = (47, 48)
"""Right and left hippocampus."""
MESHNET_HIPPOCAMPUS = 14
MARGIN_MM = 8
QUANTILES = (5, 95)
"""Of the intensities of 256^3 voxels, which become 0 and 1: as brainchop scales them."""


def run(image: Path, model: Model, mask: sitk.Image | None = None, names: dict[str, str] | None = None) -> CaseResult:
    """Run the product on an image, with a mask or without."""
    with tempfile.TemporaryDirectory() as folder:
        file = None
        if mask is not None:
            file = MaskFile(Path(folder) / "mask.nii.gz", names or {})
            sitk.WriteImage(mask, str(file.path))
        return compute_case(
            Job("case", [image], Path(folder) / "case", RunSettings(unlike_training=True), mask=file), model
        )


def on_grid(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Make an image of an array (z, y, x)."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


# --- MeshNet ----------------------------------------------------------------------------------------------------------


def meshnet_masks(data: Path, cache: Path, only: str) -> None:
    """Segment the hippocampi of each brain with brainchop's network; a file that is there is kept."""
    import torch

    sys.path.insert(0, str(ROOT / "examples" / "brainchop"))
    from convert import read_tfjs_meshnet

    from SegWithUCore.network.backbones.meshnet import MeshNet, receptive_radius

    arguments, state = read_tfjs_meshnet(data / "meshnet" / "model30chan18cls" / "model.json")
    network = MeshNet(arguments["in_channels"], arguments["layers"]).eval()
    network.load_state_dict(state)
    reach, model = receptive_radius(arguments["layers"]), load_model("hippocampus")
    for path in sorted((data / "brains" / "images").glob(f"brain_{only}.nii.gz")):
        target = cache / "meshnet" / path.name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        boxes = run(path, model).parts
        numbers = sitk.Image(image.GetSize(), sitk.sitkUInt8)
        numbers.CopyInformation(image)
        inside = sitk.GetArrayFromImage(numbers)
        for box in boxes:
            inside[box.slices_zyx] = 1
        turned, near = (sitk.DICOMOrient(each, "LIA") for each in (image, on_grid(inside, image)))
        grey = sitk.GetArrayFromImage(turned)
        whole = np.concatenate([np.zeros(max(0, 256**3 - grey.size), np.float32), grey.ravel()])
        low, high = np.percentile(whole, QUANTILES)
        where = np.argwhere(sitk.GetArrayFromImage(near) > 0)
        first, last = where.min(0) - MARGIN_MM, where.max(0) + 1 + MARGIN_MM
        padded = np.pad((grey - low) / (high - low), reach + MARGIN_MM, constant_values=-low / (high - low))
        cut = padded[tuple(slice(a + MARGIN_MM, b + MARGIN_MM + 2 * reach) for a, b in zip(first, last, strict=True))]
        values = torch.from_numpy(np.ascontiguousarray(cut, np.float32))[None, None]
        with torch.inference_mode():
            found = network(values).argmax(1)[0].numpy()[(slice(reach, -reach),) * 3] == MESHNET_HIPPOCAMPUS
        mask = np.zeros(grey.shape, np.uint8)
        low_, high_ = np.maximum(first, 0), np.minimum(last, grey.shape)
        part = tuple(slice(a, b) for a, b in zip(low_ - first, high_ - first, strict=True))
        mask[tuple(slice(a, b) for a, b in zip(low_, high_, strict=True))] = found[part]
        back = sitk.Resample(on_grid(mask, turned), image, sitk.Transform(), sitk.sitkNearestNeighbor)
        sitk.WriteImage(back, str(target))
        truth = np.isin(sitk.GetArrayFromImage(sitk.ReadImage(str(data / "brains" / "labels" / path.name))), REFERENCE)
        print(path.name, f"Dice {dice(sitk.GetArrayFromImage(back) > 0, truth):.3f}", flush=True)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


# --- Scores and figures -----------------------------------------------------------------------------------------------


def scores(image: Path, model: Model, mask: sitk.Image, truth: np.ndarray, names: dict[str, str]) -> dict[str, Any]:
    """Judge a mask, and score its voxels in all ways.

    Args:
        truth: label of each voxel, as the mask's.

    Returns:
        Arrays (voxels,) of the judged part, and the Dice of each structure, expected and true.
    """
    result = run(image, model, mask, names)
    assert result.mask is not None
    grid = sitk.ReadImage(str(image), sitk.sitkFloat32)
    values = np.array([label.value for label in result.labels])
    own, parts = values[result.mask.indices], result.assessed.parts or [result.assessed.box]
    boundary = np.zeros(own.shape, bool)
    for axis in range(3):
        differs = np.diff(own, axis=axis) != 0
        before, after = ([slice(None)] * 3 for _ in range(2))
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        boundary[tuple(before)] |= differs
        boundary[tuple(after)] |= differs
    distance = ndimage.distance_transform_edt(~boundary, grid.GetSpacing()[::-1])
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("error", "product", "simple", "distance", "entropy")}
    classes = len(model.bundle.labels)
    for number, box in enumerate(parts):
        judged = result.mask if not result.assessed.parts else result.mask.for_side(number, classes)
        seen, index = predict([box.crop(grid)], model), judged.indices[box.slices_zyx]
        first, second, q = judged.label_of[seen.classes], judged.label_of[seen.runner_up], seen.error_probability
        shares = np.exp(seen.logits - seen.logits.max(0))
        shares = np.stack([shares[judged.label_of == label].sum(0) for label in range(len(values))]) / shares.sum(0)
        inner = VoxelBox(tuple(np.subtract(box.index, result.assessed.box.index).tolist()), box.size).slices_zyx
        found["error"].append((own != truth)[box.slices_zyx].ravel())
        found["product"].append(np.asarray(result.maps.error_probability)[inner].ravel())
        found["simple"].append(np.where(first == index, q, np.where(second == index, 1 - q, 0.99)).ravel())
        found["distance"].append(-distance[box.slices_zyx].ravel())
        found["entropy"].append(-(shares * np.log(np.maximum(shares, 1e-12))).sum(0).ravel())
    true = [dice(own == value, truth == value) for value in values[1:]]
    expected = [entry.dice_estimate for entry in result.assessed.structures[1:]]
    return {**{name: np.concatenate(each) for name, each in found.items()}, "dice": (expected, true)}


def figures(cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the masks of one source, for each score."""
    found: dict[str, Any] = {"masks": len(cases)}
    errors = {name: case["error"] for name, case in cases.items()}
    found["errors of 1000 voxels"] = round(1000 * float(np.mean([each.mean() for each in errors.values()])), 2)
    for score in ("product", "simple", "distance", "entropy"):
        rows = []
        for name, case in cases.items():
            values = case[score]
            if score in ("distance", "entropy"):
                others = [other for other in cases if other != name]
                fitted = IsotonicRegression(out_of_bounds="clip").fit(
                    np.concatenate([cases[other][score] for other in others]),
                    np.concatenate([errors[other] for other in others]),
                )
                probability = fitted.predict(values)
            else:
                probability = values
            wrong = errors[name]
            ranked = average_precision_score(wrong, values) if wrong.any() else np.nan
            rows.append((ranked, ((probability - wrong) ** 2).mean(), probability.sum(), wrong.sum()))
        table = np.array(rows, float)
        ratio = table[:, 2] / np.maximum(table[:, 3], 1)
        found[score] = {
            "mean AUPRC": round(float(np.nanmean(table[:, 0])), 3) if not np.isnan(table[:, 0]).all() else None,
            "Brier e-3": round(1000 * float(table[:, 1].mean()), 2),
            "expected": round(float(table[:, 2].mean())),
            "true": round(float(table[:, 3].mean())),
            "expected over true, 5 to 95 % of cases": [round(x, 2) for x in np.quantile(ratio, [0.05, 0.95]).tolist()],
        }
    pairs = np.array([pair for case in cases.values() for pair in zip(*case["dice"], strict=True)], float)
    found["Dice, expected and true"] = [round(float(x), 3) for x in pairs.mean(0)]
    found["Dice, mean absolute difference"] = round(float(np.abs(pairs[:, 0] - pairs[:, 1]).mean()), 3)
    return found


def printed(source: str, entry: dict[str, Any]) -> None:
    """Print the figures of a source."""
    print(f"{source}: {entry['masks']} masks, {entry['errors of 1000 voxels']} of 1000 voxels wrong", flush=True)
    for score in ("product", "simple", "distance", "entropy"):
        one = entry[score]
        ends = one["expected over true, 5 to 95 % of cases"]
        print(f"  {score:9} AUPRC {one['mean AUPRC']}  Brier {one['Brier e-3']}e-3  expected {one['expected']} of "
              f"{one['true']}; {ends[0]} to {ends[1]}", flush=True)  # fmt: skip
    print(f"  Dice expected, true {entry['Dice, expected and true']}, off by {entry['Dice, mean absolute difference']}")


def brains(data: Path, cache: Path, model: Model) -> dict[str, Any]:
    """Judge MeshNet's masks of whole brains, as far as they are in the cache."""
    found: dict[str, dict[str, Any]] = {"5 brains for decisions": {}, "10 brains": {}}
    for path in sorted((cache / "meshnet").glob("brain_*.nii.gz")):
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "brains" / "labels" / path.name)))
        truth = np.isin(labels, REFERENCE).astype(np.uint8)
        image = data / "brains" / "images" / path.name
        try:
            case = scores(image, model, sitk.ReadImage(str(path)), truth, {"1": "hippocampus"})
        except InputError as error:
            print(f"{path.name}: {error.code}", flush=True)
            continue
        found["5 brains for decisions" if path.name[6:10] in DECISION else "10 brains"][path.name[:10]] = case
    return {f"MeshNet, {name}": figures(cases) for name, cases in found.items() if len(cases) > 1}


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["masks", "brains"])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--only", default="*", help="brains, a pattern of their numbers")
    options = parser.parse_args()
    if options.part == "masks":
        meshnet_masks(options.data, options.cache, options.only)
        return 0
    model = load_model(options.model)
    part = brains(options.data, options.cache, model)
    for source, entry in part.items():
        printed(source, entry)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    known |= {"model": f"{model.bundle.name} {model.bundle.about['version']}", **part}
    RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
