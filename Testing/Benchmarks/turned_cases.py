"""Dice of models on cases as they are, turned by 90 degrees within slices, and enlarged twice within slices.

    python Testing/Benchmarks/turned_cases.py MODEL... --cases TABLE.csv:select [--only frame01] --output FILE.json

Says how much a backbone relies on images lying alike and having pixels of one size. For models that keep each case's
own grid (`spacing_mm` null); of others enlarging changes nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import zoom

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

from SegWithUCore.metrics.overlap import class_dice  # noqa: E402
from SegWithUCore.models.registry import resolve_model  # noqa: E402
from SegWithULab.benchmark.baselines import frozen_backbone  # noqa: E402
from SegWithULab.evaluation.frozen_backbone import FrozenBackbone  # noqa: E402
from SegWithULab.training.case_reading import read_assessed  # noqa: E402
from SegWithULab.training.dataset import Case, find_cases  # noqa: E402

Change = Callable[[np.ndarray, int], np.ndarray]
"""Of an array (z, y, x) and the order of interpolation."""
CHANGES: dict[str, Change] = {
    "as it is": lambda array, order: array,
    "turned by 90 degrees": lambda array, order: np.rot90(array, 1, (1, 2)),
    "enlarged twice": lambda array, order: zoom(array, (1, 2, 2), order=order),
}


def main() -> int:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--cases", required=True)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in find_cases(options.cases) if options.only in case.name]
    record = {}
    for model in options.models:
        backbone = frozen_backbone(resolve_model(model))
        record[Path(model).name] = {name: mean_dice(backbone, cases, change) for name, change in CHANGES.items()}
        print(Path(model).name, record[Path(model).name], flush=True)
    options.output.write_text(json.dumps({"cases": len(cases), "dice": record}, indent=1) + "\n", encoding="utf-8")
    return 0


def mean_dice(backbone: FrozenBackbone, cases: list[Case], change: Change) -> dict[str, float]:
    """Mean over changed cases of each structure's Dice, and of all structures (see `class_dice`)."""
    names = [label.name for label in backbone.bundle.labels[1:]]
    found = []
    for case in cases:
        read = read_assessed(case, backbone.bundle)
        images = [changed(image, change) for image in read.images]
        seen = backbone.of_images(case.name, case.group, images, np.ascontiguousarray(change(read.truth, 0)))
        found.append(class_dice(seen.classes, seen.truth, len(names) + 1))
    means = np.nanmean(found, 0)
    return {**dict(zip(names, means.tolist(), strict=True)), "mean": float(means.mean())}


def changed(image: sitk.Image, change: Change) -> sitk.Image:
    """The image of a changed array, with spacing that covers the same ground."""
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    new = sitk.GetImageFromArray(np.ascontiguousarray(change(array, 1)))
    finer = new.GetNumberOfPixels() / image.GetNumberOfPixels()
    x, y, z = image.GetSpacing()
    new.SetSpacing((x / np.sqrt(finer), y / np.sqrt(finer), z))
    return new


if __name__ == "__main__":
    sys.exit(main())
