"""Count false alarms and detections of the OOD check on images like the training cases and on others.

    python Testing/Benchmarks/ood.py [--model hippocampus] [--data ../shared/data]

Writes `results/ood.json`. *Before the run*: what is said of the image alone. *After*: also of what was found
in it. Every limit was fitted on train and select cases; the test cases are used here only.
"""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "Benchmarks")]

import ood_trials as trials  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402

from SegWithUCore.inference.deviation import NOTE, Deviation, is_refused  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.ood_check import deviations  # noqa: E402
from SegWithUCore.inference.segment import segment_images  # noqa: E402
from SegWithUCore.inference.structures import (  # noqa: E402
    structure_deviations,
    structure_metrics,
)
from SegWithUCore.io.volume import read_image  # noqa: E402
from SegWithUCore.models.installed import resolve_model  # noqa: E402
from SegWithULab.training.dataset import find_cases  # noqa: E402

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "ood.json"
CROPS = 40
SEGMENTED = 12
"""Images of a group that are also segmented, where not all are: a network pass takes a second."""


def main() -> int:
    """Measure, write the results, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    model = Model(resolve_model(arguments.model), torch.device("cpu"))
    cases = find_cases(f"{arguments.data / 'hippocampus' / 'split.csv'}:test")
    images = [(case.name, read_image(case.channels[0])) for case in cases]
    results = {}
    for title, group in _groups(images, arguments.data).items():
        results[title] = _measured(group, model, len(group) if "legit" in title else SEGMENTED)
        print(f"{title:45} {_line(results[title])}", flush=True)
    facts = {
        "model": model.bundle.name,
        "fitted_on": model.bundle.ood_reference and model.bundle.ood_reference["cases"],
    }
    RESULTS.write_text(json.dumps({**facts, "groups": results, "speed_s": _speed()}, indent=1) + "\n", encoding="utf-8")
    return 0


def _groups(images: Sequence[trials.Trial], data: Path) -> dict[str, list[trials.Trial]]:
    def each(change: Callable[[sitk.Image], sitk.Image]) -> list[trials.Trial]:
        return [(name, change(image)) for name, image in images]

    ct = data / "ct_abdomen" / "images"
    return {
        "test cases as they are (legitimate: false alarms)": list(images),
        "mirrored side (legitimate: trained with it)": each(trials.mirrored),
        "MNI152 average, hippocampi (an average brain)": trials.sample_hippocampi(SAMPLE),
        "CT crops at 1 mm": trials.ct_crops([ct / "example_ct.nii.gz", ct / "example_ct_sm.nii.gz"], CROPS),
        "whole head without region": [("MNI152", read_image(SAMPLE))],
        "other places of the MNI152 average": trials.other_places(SAMPLE, CROPS),
        "spacing header twice too large": each(partial(trials.respaced, factor=2.0)),
        "spacing header twice too small": each(partial(trials.respaced, factor=0.5)),
        "inverted intensities": each(trials.inverted),
        "noise of 10 % of the contrast": each(partial(trials.noisy, share=0.1)),
        "noise of 30 % of the contrast": each(partial(trials.noisy, share=0.3)),
        "blurred, 2 mm": each(partial(trials.smoothed, deviation_mm=2.0)),
        "empty crop": list(trials.empty_crops(images[0][1])),
        "header exchanges anterior and posterior": each(partial(trials.misdirected, letters="RPS")),
        "header exchanges superior and inferior": each(partial(trials.misdirected, letters="RAI")),
        "header exchanges the axes A and S": each(partial(trials.misdirected, letters="RSA")),
        "header exchanges the axes R and A": each(partial(trials.misdirected, letters="ARS")),
    }


def _measured(group: Sequence[trials.Trial], model: Model, segmented: int) -> dict[str, Any]:
    """Shares over the group; `after_the_run` over evenly spread `segmented` images of it."""
    examples: dict[str, str] = {}
    before = [deviations([image], model.bundle) for _, image in group]
    chosen = range(0, len(group), max(1, len(group) // segmented))
    found = {i: [] if is_refused(before[i]) else _found_in(group[i][1], model) for i in chosen}
    for number, (name, _) in enumerate(group):
        for entry in [*before[number], *found.get(number, [])]:
            examples.setdefault(entry.kind, f"{name}: {entry.message}")
    return {
        "images": len(group),
        "before_the_run": _shares(before) | {"by_check": _by_check(before)},
        "segmented": len(found),
        "after_the_run": _shares([[*before[i], *found[i]] for i in found]) | {"by_check": _by_check(found.values())},
        "examples": examples,
    }


def _by_check(found: Collection[Sequence[Deviation]]) -> dict[str, float]:
    counts = Counter(kind for said in found for kind in {entry.kind for entry in said})
    return {kind: number / len(found) for kind, number in sorted(counts.items())}


def _found_in(image: sitk.Image, model: Model) -> list[Deviation]:
    maps, _ = segment_images([image], model)
    structures = structure_metrics(maps, model.bundle.labels, math.prod(image.GetSpacing()), model.case_level)
    return structure_deviations(structures, model.bundle, model.case_level)


def _shares(found: Sequence[Sequence[Deviation]]) -> dict[str, Any]:
    """Share of images with anything said, with at least a warning, and refused."""
    count = len(found)
    return {
        "any": sum(bool(said) for said in found) / count,
        "warning": sum(any(entry.severity != NOTE for entry in said) for said in found) / count,
        "refused": sum(is_refused(said) for said in found) / count,
    }


def _line(result: dict[str, Any]) -> str:
    parts = [f"n {result['images']:3}"]
    for stage in ("before_the_run", "after_the_run"):
        shares = result[stage]
        parts.append(
            f"{stage}: any {shares['any']:.2f} warning {shares['warning']:.2f} refused {shares['refused']:.2f}"
        )
        parts.append(str({kind: round(share, 2) for kind, share in shares["by_check"].items()}))
    return "  ".join(parts)


def _speed() -> dict[str, float]:
    """Seconds for the checks of the image alone, on a 256^3 volume of noise."""
    from SegWithUCore.inference.image_features import image_features

    image = sitk.AdditiveGaussianNoise(sitk.Image((256,) * 3, sitk.sitkFloat32), 1.0, 0.0, 0)
    array = sitk.GetArrayViewFromImage(image)
    begun = time.perf_counter()
    image_features(array)
    return {"256^3": round(time.perf_counter() - begun, 3)}


if __name__ == "__main__":
    sys.exit(main())
