"""Models that draw nothing, or never one of their structures, for fuzz.py: segment must say so.

Where nothing at all was drawn the worklist must flag the case; one structure may be absent, as far as a model knows.
"""

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz import Ended, Maker, Try, run_command

STRUCTURES = ("anterior hippocampus", "posterior hippocampus")


def prepare(data: Path, folder: Path) -> Maker:
    """Write tiny models that draw all, none, or one of their structures, with and without a calibration."""
    from safetensors.torch import load_file, save_file
    from segwithu_command import changed_description, tiny_bundle

    from SegWithUCore.models.bundle import file_sha256

    for calibrated in (True, False):
        for absent in (None, 0, 1, 2):
            bundle = tiny_bundle(folder / f"{calibrated}-{absent}", calibrated=calibrated, absent=absent or None)
            if absent != 0:
                continue
            weights = bundle / "weights.safetensors"  # of no class but the background
            tensors = load_file(weights)
            name = next(name for name in tensors if name.endswith("output_block.conv.conv.bias"))
            tensors[name][0] = 1e3
            save_file(tensors, weights)
            changed_description(bundle, "weights_sha256", file_sha256(weights))
    images = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[:12]

    def make(rng: random.Random, work: Path) -> Try:
        image, calibrated, absent = rng.choice(images), rng.random() < 0.7, rng.choice([0, 0, 1, 2])
        control = [
            run_command(call, 120, work) for call in _calls(image, folder / f"{calibrated}-None", work / "control")
        ]
        calls = _calls(image, folder / f"{calibrated}-{absent}", work / "output")
        drawn = "nothing" if absent == 0 else f"no {STRUCTURES[absent - 1]}"
        what = f"draws {drawn}, {'calibrated' if calibrated else 'not calibrated'}"
        accepts = _warned_and_flagged(work, control, absent)
        return Try("empty", what, calls, [image.name, "output"], accepts)

    return make


def _calls(image: Path, bundle: Path, output: Path) -> list[list[str]]:
    segment = ["segment", str(image), "--model", str(bundle), "--output", str(output), "--unlike-training", "--json"]
    return [segment, ["worklist", str(output), "--output", str(output), "--json"]]


def _warned_and_flagged(work: Path, control: Sequence[Ended], absent: int) -> Callable[[Sequence[Ended]], bool]:
    def accepts(runs: Sequence[Ended]) -> bool:
        rows = [_row(work / folder / "worklist.csv") for folder in ("output", "control")]
        found, usual = (re.sub(r"[\d.]+", "", row["reasons"]) for row in rows)
        case = next((work / "output").glob("*/case.json"))
        metrics = json.dumps(json.loads(case.read_text("utf-8"))["structures"])
        drawn = [int(entry) for entry in re.findall(r'"voxels": (\d+)', metrics)]
        if 0 not in drawn:
            raise RuntimeError(f"the model draws all of its structures after all: {drawn}")
        said = runs[0].notes - control[0].notes
        if absent:
            return any(STRUCTURES[absent - 1] in note for note in said)
        return bool(said) and bool(rows[0]["flags"]) and found != usual

    return accepts


def _row(table: Path) -> dict[str, str]:
    with table.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))
