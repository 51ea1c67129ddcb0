"""A tiny recipe, a few real cases in a folder of their own, and runs through the command line."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hippocampi import write_split
from repository import ROOT
from safetensors.torch import load_file

from SegWithUCore.cli.__main__ import main


def tiny_recipe(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped recipe made small; `changes` are merged into its blocks."""
    recipe: dict[str, Any] = json.loads(
        (ROOT / "Resources" / "Recipes" / "hippocampus.json").read_text(encoding="utf-8")
    )
    recipe["input"]["window"] = [32, 44, 32]
    recipe["backbone"]["filters"] = [4, 8, 16]
    recipe["head"] |= {"taps": ["upsamples.0.conv_block", "output_block"], "feature_channels": 4}
    common = {"precision": "float32", "seed": 3}
    recipe["backbone_training"] = {"epochs": 12, "batch_size": 1, "learning_rate": 0.03, "warmup_steps": 2, **common}
    recipe["backbone_training"] |= {"average_decay": 0.8, "validate_every": 4, "deep_supervision_heads": 0}
    recipe["head_training"] = {"epochs": 4, "batch_size": 1, "learning_rate": 0.03, **common}
    for block, values in changes.items():
        recipe[block] = {**recipe[block], **values}
    return recipe


def small_data_set(data: Path, target: Path) -> list[str]:
    """Write eight cases with a split table: six to train, one to select, one to calibrate; returns their names.

    From the checkout's six they come with noise; of the full data they are the first of each role.
    """
    with (data / "hippocampus" / "split.csv").open(newline="", encoding="utf-8") as file:
        by_role: dict[str, list[str]] = {}
        for row in csv.DictReader(file):
            by_role.setdefault(row["role"], []).append(row["case"])
    if "select" not in by_role:
        table = write_split(data, target, train=6, select=1, calibration=1)
        return [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    chosen = {"train": by_role["train"][:6], "select": by_role["select"][:1], "calibration": by_role["calibration"][:1]}
    names = [name for names in chosen.values() for name in names]
    for part in ("images", "labels"):
        (target / part).mkdir(parents=True)
        for name in names:
            shutil.copy(data / "hippocampus" / part / f"{name}.nii.gz", target / part)
    rows = [f"{name},{role}" for role, members in chosen.items() for name in members]
    (target / "split.csv").write_text("\n".join(["case,role", *rows]) + "\n", encoding="utf-8")
    return names


class Workshop:
    """Runs training commands on one small data set."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = folder
        self.table = folder / "data" / "split.csv"
        self.names = small_data_set(data, folder / "data")

    def train(self, part: str, run: str, *more: str, recipe: dict[str, Any] | None = None, cases: str = "train") -> int:
        """`segwithu train-PART`; returns the exit code."""
        arguments = [f"train-{part}", "--run", str(self.folder / run), "--cases", f"{self.table}:{cases}"]
        arguments += [
            "--select",
            f"{self.table}:select",
            "--threads",
            "1",
            *more,
        ]  # as fast as 2 for so small a network
        if part == "backbone" and "--resume" not in more:
            path = self.folder / f"recipe-{run}.json"
            path.write_text(json.dumps(recipe or tiny_recipe()), encoding="utf-8")
            arguments += ["--recipe", str(path)]
        return main(arguments)

    def log(self, run: str, part: str) -> list[dict[str, str]]:
        """Rows of the log without the seconds."""
        with (self.folder / run / f"{part}_log.csv").open(newline="", encoding="utf-8") as file:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]

    def weights(self, run: str, part: str) -> dict[str, bytes]:
        """Best weights, bit for bit."""
        tensors = load_file(self.folder / run / f"{part}_best.safetensors")
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
