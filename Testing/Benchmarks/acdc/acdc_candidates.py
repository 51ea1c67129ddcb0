"""Compare candidates for the ACDC backbone on *select* and *calibration*, patient by patient.

    python Testing/Benchmarks/acdc/acdc_candidates.py --output Testing/Benchmarks/results/acdc_candidates

Each candidate with weights segments the 44 volumes of 22 patients in its input's windows, in one pass without
mirroring. For the first volume of each patient (end-diastole) it does so again with copies that are turned by 90
degrees, mirrored, and enlarged twice within slices; copies keep the nominal voxel sizes, for true ones are lost in this
data set. `--without-copies NAME` leaves them out (nnU-Net's network takes 40 s a volume). A volume that is scored once
stays in `RUNS/NAME.scores.json` until the weights change. *test* is never read.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import zoom
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "SegWithUSlicer"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from trainings import CANDIDATES, ROOT, planned, progress_of, sha256, weights_of

from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows
from SegWithUCore.inference.preprocessing import assessed_box, network_input
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.metrics.bootstrap import mean_interval, paired_bootstrap
from SegWithUCore.metrics.overlap import class_dice
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.models.nnunet_import import read_nnunet_folder
from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.weights import load_state
from SegWithUCore.util.atomic_files import atomic_file
from SegWithULab.training.backbone import spec_of
from SegWithULab.training.case_reading import read_case
from SegWithULab.training.dataset import Case, find_cases
from SegWithULab.training.run_folder import RunFolder

STRUCTURES = ("right ventricle", "myocardium", "left ventricle")
AS_IT_IS = "as it is"
Change = Callable[[np.ndarray, int], np.ndarray]
"""Of an array (z, y, x) and the order of interpolation."""
CHANGES: dict[str, Change] = {
    AS_IT_IS: lambda array, order: array,
    "turned": lambda array, order: np.rot90(array, 1, (1, 2)),
    "mirrored": lambda array, order: array[:, :, ::-1],
    "enlarged": lambda array, order: zoom(array, (1, 2, 2), order=order),
}
Scores = dict[str, dict[str, list[float]]]
"""Dice of each structure, by change and case."""


@dataclass(frozen=True)
class Candidate:
    """A network and what it is fed."""

    name: str
    spec: InputSpec
    network: nn.Module
    sha256: str


def main() -> int:
    """Score what has weights, write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = ROOT.parent
    parser.add_argument("--runs", type=Path, default=beside / "runs" / "acdc")
    parser.add_argument("--data", type=Path, default=beside / "shared" / "data" / "acdc")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=CANDIDATES)
    parser.add_argument("--without-copies", nargs="+", choices=CANDIDATES, default=[], metavar="NAME")
    parser.add_argument("--output", type=Path, required=True, help="path without its suffix: .md and .json are written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for role in ("select", "calibration") for case in find_cases(f"{options.data / 'split.csv'}:{role}")]
    trainings = [training for training in planned(None) if training.name in options.only]
    found: dict[str, Any] = {}
    for training in trainings:
        if weights_of(training, options.runs).is_file():
            at = progress_of(training, options.runs)
            candidate = read_candidate(training.name, options.runs, weights_of(training, options.runs))
            changes = [AS_IT_IS] if training.name in options.without_copies else list(CHANGES)
            scores = scored(candidate, cases, options.runs / f"{training.name}.scores.json", changes)
            hours = round(sum(at.seconds) / 3600, 2)
            found[training.name] = {"epochs": at.epochs, "of": at.of, "hours": hours, **summary(scores, cases)}
    options.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(table(found), encoding="utf-8")
    print(table(found))
    return 0


def read_candidate(name: str, runs: Path, weights: Path) -> Candidate:
    """A candidate with its weights."""
    if weights.suffix == ".pth":
        read = read_nnunet_folder(weights.parents[1], weights.parent.name.removeprefix("fold_"), orientation="LPS")
        spec, backbone, state = read.model.input, read.model.backbone, dict(read.weights)
    else:
        run = RunFolder(runs / name)
        recipe = run.recipe()
        spec, backbone, state = recipe.input, spec_of(recipe), run.load_best("backbone")
    network = build_backbone(backbone)
    load_state(network, state, str(weights))
    return Candidate(name, spec, network.eval(), sha256(weights))


def scored(candidate: Candidate, cases: list[Case], kept: Path, changes: list[str]) -> Scores:
    """Dice of all cases as they are, then of the first of each patient changed; goes on with what `kept` holds."""
    state = hashlib.sha256(f"{candidate.sha256} {candidate.spec.to_json()}".encode()).hexdigest()
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    scores: Scores = known["scores"] if known.get("of") == state else {}
    first = {case.group: case for case in reversed(cases)}
    for name in changes:
        of_change = scores.setdefault(name, {})
        for case in cases if name == AS_IT_IS else [case for case in cases if first[case.group] is case]:
            if case.name not in of_change:
                of_change[case.name] = dice(candidate, case, CHANGES[name])
                with atomic_file(kept) as work:
                    work.write_text(json.dumps({"of": state, "scores": scores}, indent=1), encoding="utf-8")
                print(candidate.name, name, case.name, np.round(of_change[case.name], 3), flush=True)
    return {name: scores[name] for name in changes}


def dice(candidate: Candidate, case: Case, change: Change) -> list[float]:
    """Of each structure, on the grid of the changed image."""
    read = read_case(case)
    image = changed(read.images[0], change, 1)
    truth = sitk.GetArrayFromImage(changed(read.reference, change, 0)).astype(np.int16)
    box = assessed_box([image], candidate.spec)
    part = box.crop(image)
    array, working = network_input([part], candidate.spec)
    raw = stitched(TorchWindows(BackboneAlone(candidate.network)), array, candidate.spec)
    found = np.zeros(truth.shape, np.int16)
    found[box.slices_zyx] = resample_to_grid(raw, working, part).argmax(0)
    return class_dice(found, truth, len(STRUCTURES) + 1)


def changed(image: sitk.Image, change: Change, order: int) -> sitk.Image:
    """The image of a changed array at the same nominal spacing."""
    array = change(sitk.GetArrayFromImage(image).astype(np.float32), order)
    new = sitk.GetImageFromArray(np.ascontiguousarray(array))
    new.SetSpacing(image.GetSpacing())
    return new


def by_patient(scores: dict[str, list[float]], cases: Iterable[Case]) -> dict[str, list[float]]:
    """Mean Dice of each patient's volumes, by structure."""
    groups: dict[str, list[list[float]]] = {}
    for case in cases:
        if case.name in scores:
            groups.setdefault(case.group, []).append(scores[case.name])
    return {group: np.nanmean(values, 0).tolist() for group, values in groups.items()}


def summary(scores: Scores, cases: list[Case]) -> dict[str, Any]:
    """Means over patients: each structure as it is, the mean of all under each change, intervals, the worst patient."""
    whole = by_patient(scores[AS_IT_IS], cases)
    means = {group: float(np.nanmean(values)) for group, values in whole.items()}
    interval = mean_interval(list(means.values()))
    worst = min(means, key=lambda group: means[group])
    per_change = {
        name: float(np.nanmean([np.nanmean(values) for values in by_patient(found, cases).values()]))
        for name, found in scores.items()
    }
    return {
        "patients": len(means),
        "structures": dict(zip(STRUCTURES, np.nanmean(list(whole.values()), 0).tolist(), strict=True)),
        "mean": [interval.mean, interval.low, interval.high],
        "worst": [worst, means[worst]],
        "by_change": per_change,
        "by_patient": means,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown, best mean Dice first, with the paired difference to the best."""
    changes = [name for name in CHANGES if name != AS_IT_IS]
    head = ["candidate", "epochs", "hours", *STRUCTURES, "mean (95 %)", "against the best (95 %)", "worst patient"]
    lines = [
        "# Candidates for the ACDC backbone",
        "",
        "Dice on *select* and *calibration* (44 volumes of 22 patients), means over patients, by "
        "`acdc/acdc_candidates.py`; turned, mirrored and enlarged: end-diastole only, – where it was left out.",
        "",
        "| " + " | ".join([*head, *changes]) + " |",
        "|" + "---|" * (len(head) + len(changes)),
    ]
    names = sorted(found, key=lambda name: -found[name]["mean"][0])
    for name in names:
        entry, best = found[name], found[names[0]]
        mean, low, high = entry["mean"]
        of = list(entry["by_patient"])
        gap = paired_bootstrap([entry["by_patient"][p] for p in of], [best["by_patient"][p] for p in of])
        cells = [name, f"{entry['epochs']} of {entry['of']}", f"{entry['hours']:.1f}"]
        cells += [f"{value:.3f}" for value in entry["structures"].values()]
        cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
        cells.append("" if name == names[0] else f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
        cells.append(f"{entry['worst'][1]:.3f} ({entry['worst'][0]})")
        cells += [f"{entry['by_change'][change]:.3f}" if change in entry["by_change"] else "–" for change in changes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
