#!/usr/bin/env python3
"""How well a model that `segwithu fit-judge` fits finds errors, by the number of patients that it was fitted on.

    python Testing/Benchmarks/run.py fitted-judge masks --cache DIR    # each source's masks
    python Testing/Benchmarks/run.py fitted-judge measure --cache DIR

Sources: *MeshNet* (brainchop's network, sides merged) and *brain* (the masks of the model brain) of 15 brains, both cut
to seven deep structures; *hippocampus*, the masks of the model hippocampus. The reference is the manual one, an error a
voxel whose label differs from it. Of `DRAWS` random orders of the 15 brains the first 3, 5, 8 and 12 are fitted on, the
rest is measured, so nobody is in both; of hippocampi one side of 3, 5, 8 and 12 calibration scans is fitted on, and all
test cases are measured. Voxels: those that the fitted model assesses, within 12 voxels of the mask.

Beside it on the same voxels: the distance to the mask's surface, made a probability on the same patients (isotonic
regression), and `judge` with the model, which needs no patient; of its own masks that is its own error probability.
Writes `results/fitted_judge.json`, after each fit.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk
from brain import MERGED, brains, on_grid
from judge import run
from placement import DATA
from scipy.ndimage import distance_transform_edt
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score

from SegWithUCore.api import load_model
from SegWithUCore.inference.model import Model
from SegWithUCore.metrics.overlap import boundary_voxels
from SegWithUCore.models.bundle import read_bundle
from SegWithULab.calibration.fit_judge import fit_judge
from SegWithULab.training.dataset import Case

RESULT = Path(__file__).resolve().parent / "results" / "fitted_judge.json"
DEEP = {4: "lateral ventricle", 10: "thalamus", 11: "caudate", 12: "putamen", 13: "pallidum", 17: "hippocampus",
        18: "amygdala"}  # fmt: skip
HIPPOCAMPUS = "hippocampus"
NAMES = {str(value): name for value, name in DEEP.items()}
NAMES_OF = {"MeshNet": NAMES, "brain": NAMES, HIPPOCAMPUS: {"1": "anterior", "2": "posterior"}}
MODELS = {"MeshNet": "brain", "brain": "brain", HIPPOCAMPUS: HIPPOCAMPUS}
SIZES, DRAWS = (3, 5, 8, 12), 2
REGIONS = 20
SAMPLED = 200_000
"""Voxels of a patient that the isotonic regression of the distance sees."""
ABOUT = {"name": "fitted", "version": "1.0.0", "task": "Judges masks.", "licence_weights": "not shipped",
         "licence_data": "CC BY-NC", "data": "OASIS", "citation": "none"}  # fmt: skip


def write(array: np.ndarray, grid: sitk.Image, path: Path) -> None:
    """Write the deep structures of labels with merged sides."""
    merged = MERGED[array]
    image = sitk.GetImageFromArray(np.where(np.isin(merged, list(DEEP)), merged, 0).astype(np.uint8))
    image.CopyInformation(grid)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def hippocampi() -> tuple[list[str], list[str]]:
    """Return one calibration case of each scan, and the test cases."""
    with (DATA / HIPPOCAMPUS / "split_by_scan.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first = {row["patient"]: row["case"] for row in reversed(rows) if row["role"] == "calibration"}
    return sorted(first.values()), [row["case"] for row in rows if row["role"] == "test"]


def draw_mask(image: Path, model: Model) -> tuple[np.ndarray, sitk.Image]:
    """Return the labels (z, y, x) that a model draws, and the grid of the image."""
    result, grid = run(image, model), sitk.ReadImage(str(image))
    values = np.array([label.value for label in result.labels], np.uint8)
    drawn = np.zeros(grid.GetSize()[::-1], np.uint8)
    drawn[result.assessed.box.slices_zyx] = values[np.asarray(result.maps.classes[:])]
    return drawn, grid


def make_masks(cache: Path) -> None:
    """Write references and the masks of all sources; a file that is there is kept."""
    from brain_meshnet import read_meshnet, segmented

    hippocampus = load_model(HIPPOCAMPUS)
    for name in [case for part in hippocampi() for case in part]:
        path = cache / HIPPOCAMPUS / f"{name}.nii.gz"
        if not path.exists():
            drawn, grid = draw_mask(DATA / HIPPOCAMPUS / "images" / path.name, hippocampus)
            image = sitk.GetImageFromArray(drawn)
            image.CopyInformation(grid)
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(path), True)
    model, network = load_model("brain"), read_meshnet()
    for name, read in brains("all"):
        paths = {kind: cache / kind / f"{name}.nii.gz" for kind in ("reference", "MeshNet", "brain")}
        brain, image = read(), DATA / "brains" / "images" / f"brain_{name}.nii.gz"
        grid = sitk.ReadImage(str(image))
        if not paths["reference"].exists():
            write(on_grid(brain.truth, grid), grid, paths["reference"])
        if not paths["MeshNet"].exists():
            write(on_grid(segmented(network, brain.image, is_cut=True), grid), grid, paths["MeshNet"])
        if not paths["brain"].exists():
            write(*draw_mask(image, model), paths["brain"])


def case_of(cache: Path, source: str, name: str) -> Case:
    """Describe a patient for `fit_judge`."""
    if source == HIPPOCAMPUS:
        image, reference = (DATA / source / part / f"{name}.nii.gz" for part in ("images", "labels"))
        return Case(name, (image,), reference, name, mask=cache / source / f"{name}.nii.gz")
    image = DATA / "brains" / "images" / f"brain_{name}.nii.gz"
    return Case(name, (image,), cache / "reference" / f"{name}.nii.gz", name, mask=cache / source / f"{name}.nii.gz")


def array_of(path: Path) -> np.ndarray:
    """Read a volume (z, y, x)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def distance_of(mask: np.ndarray) -> np.ndarray:
    """Return minus the distance to the surface of a mask in voxels of 1 mm, float32."""
    return -distance_transform_edt(~boundary_voxels(mask)).astype(np.float32)


def probability_of(cache: Path, source: str, name: str, model: Model) -> np.ndarray:
    """Return the error probability of a mask by a model, float32 (z, y, x); negative where not assessed."""
    case = case_of(cache, source, name)
    assert case.mask is not None
    mask = sitk.ReadImage(str(case.mask))
    result = run(case.channels[0], model, mask, NAMES_OF[source])
    found = np.full(mask.GetSize()[::-1], -1, np.float32)
    assert result.maps.error_probability is not None
    found[result.assessed.box.slices_zyx] = result.maps.error_probability[:]
    return found


def scores(chance: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Score the probabilities (voxels,) of a mask's errors."""
    return {
        "AUPRC": float(average_precision_score(wrong, chance)),
        "Brier e-3": 1000 * float(np.mean((chance - wrong) ** 2)),
        "expected over true": float(chance.sum(dtype=np.float64) / wrong.sum()),
    }


def measured(cache: Path, source: str, fitted: Sequence[str], others: Sequence[str], judge: Path) -> dict[str, Any]:
    """Fit on some cases, one a patient, and measure others."""
    names, began = NAMES_OF[source], time.process_time()
    cases = [replace(case_of(cache, source, name), labels=names) for name in fitted]
    with TemporaryDirectory() as work:
        fit_judge(cases, names, ABOUT, "MR", Path(work) / "model")
        seconds = time.process_time() - began
        model = Model(read_bundle(Path(work) / "model"))
        random, distances, errors = np.random.default_rng(0), list[np.ndarray](), list[np.ndarray]()
        for case in cases:
            assert case.mask is not None
            mask = array_of(case.mask)
            places = random.choice(mask.size, min(mask.size, SAMPLED), replace=False)
            distances.append(distance_of(mask).ravel()[places])
            errors.append((mask != array_of(case.reference)).ravel()[places])
        isotonic = IsotonicRegression(out_of_bounds="clip").fit(np.concatenate(distances), np.concatenate(errors))
        rows: list[dict[str, Any]] = []
        for name in others:
            case = case_of(cache, source, name)
            assert case.mask is not None
            mask, image = sitk.ReadImage(str(case.mask)), case.channels[0]
            result = run(image, model, mask, names)
            drawn, truth, part = array_of(case.mask), array_of(case.reference), result.assessed.box.slices_zyx
            wrong = (drawn != truth)[part]
            assert result.maps.error_probability is not None and result.regions is not None
            chance = np.asarray(result.maps.error_probability[:])
            inside = chance >= 0
            own = judge / source / f"{name}.npy"
            known = np.load(own)[part]
            first = [region.id for region in result.regions.regions[:REGIONS]]
            listed = np.isin(result.regions.labels, first)
            rows.append({
                "patient": name,
                "wrong": int(wrong.sum()), "wrong outside": int((drawn != truth).sum() - wrong.sum()),
                "of wrong in first regions": float((listed & wrong).sum() / wrong.sum()),
                "volume of first regions": int(listed.sum()),
                "fitted": scores(chance[inside], wrong[inside]),
                "distance": scores(isotonic.predict(distance_of(drawn)[part][inside]), wrong[inside]),
                "judge": scores(np.clip(known, 0, 1)[inside], wrong[inside]),
            })  # fmt: skip
    return {
        "source": source,
        "fitted on": list(fitted),
        "patients": len(fitted),
        "fit_cpu_s": round(seconds),
        "rows": rows,
    }


def measure(cache: Path) -> None:
    """Measure all sources."""
    content: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"fits": []}
    judge, models = cache / "judge", {name: load_model(name) for name in set(MODELS.values())}
    content["models"] = [f"{model.bundle.name} {model.bundle.about['version']}" for model in models.values()]
    for source, model_name in MODELS.items():
        names, always = hippocampi() if source == HIPPOCAMPUS else ([name for name, _ in brains("all")], [])
        for name in always or names:
            path = judge / source / f"{name}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, probability_of(cache, source, name, models[model_name]).astype(np.float16))
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(names).tolist()
            for size in SIZES:
                if any((each["source"], each["draw"], each["patients"]) == (source, draw, size)
                       for each in content["fits"]):  # fmt: skip
                    continue
                found = measured(cache, source, order[:size], always or order[size:], judge)
                content["fits"].append({"draw": draw, **found})
                RESULT.write_text(json.dumps(content) + "\n", encoding="utf-8")
                print(summary(content["fits"][-1:]), flush=True)
    print(summary(content["fits"]))


def summary(fits: Sequence[dict[str, Any]]) -> str:
    """Make the table of the results, Markdown."""
    head = "| masks of | patients | measured | fitted | distance | judge | Brier e-3 | expected over true .8 to 1.25 | "
    lines = [f"{head}of the errors in 20 regions |", "|---" * 9 + "|"]
    for source, size in sorted({(each["source"], each["patients"]) for each in fits}):
        rows = [row for each in fits if (each["source"], each["patients"]) == (source, size) for row in each["rows"]]
        auprc = [f"{np.mean([row[way]['AUPRC'] for row in rows]):.3f}" for way in ("fitted", "distance", "judge")]
        ratios = [row["fitted"]["expected over true"] for row in rows]
        brier = "/".join(f"{np.mean([row[way]['Brier e-3'] for row in rows]):.2f}" for way in ("fitted", "distance"))
        held = sum(0.8 <= ratio <= 1.25 for ratio in ratios)
        found = np.mean([row["of wrong in first regions"] for row in rows])
        cells = [source, size, len(rows), *auprc, brier, f"{held} of {len(rows)}", f"{100 * found:.0f} %"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["masks", "measure"])
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    (make_masks if options.part == "masks" else measure)(options.cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
