"""Train and measure the uncertainty head on a backbone that was trained elsewhere (MeshNet).

brainchop's small MeshNet (5 filters) is the frozen backbone; the segmentation of its large one (20 filters) stands for
the truth. One T1 volume is cut by space: the right half trains, parts of the left half select, calibrate and test, with
gaps of 8 voxels between them. Run from the project's root, with the package installed:

    python Testing/Benchmarks/meshnet.py --data ../shared/data/meshnet --work runs/meshnet

It takes about half an hour on 2 CPU cores and writes Testing/Benchmarks/results/meshnet.json.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
BRAINCHOP = ROOT / "examples" / "brainchop"
RECIPES = BRAINCHOP / "recipes"
sys.path.insert(0, str(BRAINCHOP))
from convert import convert  # noqa: E402

from SegWithUCore.cli.__main__ import main as segwithu  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "meshnet.json"
WINDOW = [80, 88, 72]
RIGHT, LEFT = slice(47, 125), slice(133, 211)
"""Halves of the head along x (towards the left); the middle of the brain is at 129."""
TRAIN = [
    (RIGHT, y, z) for z in (slice(16, 116), slice(70, 170), slice(139, 239)) for y in (slice(49, 149), slice(112, 212))
]
OTHERS = {"select": slice(16, 86), "test": slice(94, 164), "calibration": slice(172, 239)}
"""Along z (towards the front), all of the head along y."""
CONFORMED = {"kind": "fixed", "low": 0, "high": 255, "mean": 0, "std": 255}
"""The same as the range of the whole volume, whose voxels span 0 to 255; a crop's own range would differ."""
TITLES = [
    "auroc whole ranking",
    "auprc whole ranking",
    "aurc whole ranking",
    "nll plain",
    "nll tempered by the map alone",
]
RIVALS = [
    "auroc whole softmax",
    "auprc whole softmax",
    "aurc whole softmax",
    "error rate",
    "dice white matter",
    "dice grey matter",
]


def run(*arguments: str | Path) -> None:
    """One `segwithu` command, which must succeed."""
    words = [str(argument) for argument in arguments]
    print("segwithu", *words, flush=True)
    if segwithu(words) != 0:
        raise SystemExit(f"failed: segwithu {' '.join(words)}")


def import_model(data: Path, name: str, recipe: Path, target: Path) -> None:
    """Convert and import one of brainchop's networks."""
    weights, completed = convert(data / name / "model.json", recipe, target.with_name(f"{target.name}-converted"))
    call = ["import-checkpoint", weights, "--kind", "weights", "--recipe", completed]
    run(*call, "--licence", data / "LICENSE", "--output", target, "--overwrite")


def write_cases(image: sitk.Image, truth: sitk.Image, target: Path) -> Path:
    """Cut volume and pseudo-labels into cases with a split table; returns the table."""
    pieces = [("train", *place) for place in TRAIN] + [(role, LEFT, slice(49, 212), z) for role, z in OTHERS.items()]
    rows = []
    for number, (role, x, y, z) in enumerate(pieces):
        name = f"{role}_{number}"
        rows.append(f"{name},{role}")
        for folder, volume in (("images", image), ("labels", truth)):
            (target / folder).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(volume[x, y, z], str(target / folder / f"{name}.nii.gz"))
    table = target / "split.csv"
    table.write_text("\n".join(["case,role", *rows]) + "\n", encoding="utf-8")
    return table


def changed_recipe(target: Path, **blocks: Any) -> Path:
    """The small network's recipe with the volume's own intensities and small windows, and further blocks."""
    data = json.loads((RECIPES / "meshnet_tissue_light.json").read_text(encoding="utf-8"))
    data["input"] |= {"window": WINDOW, "normalisation": CONFORMED}
    target.write_text(json.dumps(data | blocks, indent=1), encoding="utf-8")
    return target


def figures(model: Path, table: Path, target: Path) -> dict[str, float]:
    """`evaluate` on the test part, by title."""
    run("evaluate", "--model", model, "--cases", f"{table}:test", "--output", target)
    return {
        row["title"]: row["mean"] for row in json.loads(target.read_text(encoding="utf-8"))["table"] if row["cases"]
    }


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of brainchop's files and t1_crop.nii.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles, cases and the run")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    data, work = options.data, options.work
    work.mkdir(parents=True, exist_ok=True)
    image = data / "t1_crop.nii.gz"
    if not (work / "truth" / "t1_crop").exists():
        import_model(data, "model20chan3cls", RECIPES / "meshnet_tissue.json", work / "large")
        run("segment", image, "--model", work / "large", "--output", work / "truth")
    truth = sitk.ReadImage(str(work / "truth" / "t1_crop" / "segmentation.nii.gz"))
    table = write_cases(sitk.ReadImage(str(image)), truth, work / "cases")
    import_model(data, "model5_gw_ae", changed_recipe(work / "small.json"), work / "small")
    settings = {"epochs": options.epochs, "batch_size": 2, "augment": True, "precision": "bfloat16", "seed": 1}
    path = changed_recipe(work / "head.json", backbone={"model": str(work / "small")}, head_training=settings)
    call = ["train-head", "--recipe", path, "--run", work / "run", "--cases", f"{table}:train"]
    run(*call, "--select", f"{table}:select", "--restart")
    bundle = work / "trained"
    run("calibrate", "--run", work / "run", "--cases", f"{table}:calibration", "--output", bundle, "--overwrite")
    before = figures(work / "small", table, work / "before.json")
    after = figures(bundle, table, work / "after.json")
    facts = json.loads((work / "run" / "run.json").read_text(encoding="utf-8"))["facts"]
    case = json.loads((work / "truth" / "t1_crop" / "case.json").read_text(encoding="utf-8"))
    write_result(before, after, facts, case)


def write_result(
    before: dict[str, float], after: dict[str, float], facts: dict[str, Any], case: dict[str, Any]
) -> None:
    """The figures before and after training, those that training does not change, and how they were made.

    Args:
        case: of the whole volume, segmented by the large network.
    """
    result = {
        "what": " ".join(str(__doc__).split()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "large network on the whole volume": {
            "size": case["input"]["grid"]["size_ijk"],
            "peak memory MB": case["peak_memory_mb"],
            "calibrated": case["model"]["calibrated"],
            "volumes mm3": {entry["name"]: entry["volume_mm3"] for entry in case["structures"][1:]},
        },
        "voxels": {role: int(np.prod([78, 163, z.stop - z.start])) for role, z in OTHERS.items()},
        "best epoch": facts["head_best"],
        "untrained head": {title: before[title] for title in TITLES},
        "trained head": {title: after[title] for title in TITLES},
        "the same for both": {title: after[title] for title in RIVALS},
        "with calibration": {title: value for title, value in after.items() if title.startswith("error probability")},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
