"""A data set of balls in noise that a tiny network learns in seconds, with a split table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

ROLES = {"train": 4, "select": 2, "calibration": 2, "test": 2}
SIZE = 16


def write_ball(folder: Path, name: str, seed: int, size: int = SIZE) -> None:
    """Write image and reference of one case: a ball, brighter than the noise around it."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform(6, size - 6, 3), rng.uniform(3, 5)
    distance = np.linalg.norm(np.indices((size,) * 3).T - centre, axis=-1).T
    labels = (distance < radius).astype(np.uint8)
    image = (labels * 60 + rng.normal(100, 25, labels.shape)).astype(np.float32)
    for part, array in (("images", image), ("labels", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / part / f"{name}.nii.gz"))


def write_data_set(folder: Path, roles: Mapping[str, int] | None = None, with_table: bool = True) -> Path:
    """Write cases and their split table; returns the table."""
    rows = []
    for role, count in (roles or ROLES).items():
        for number in range(count):
            name = f"{role}{number}"
            write_ball(folder, name, seed=len(rows))
            rows.append(f"{name},{role}")
    table = folder / "split.csv"
    if with_table:
        table.write_text("\n".join(["case,role", *rows]) + "\n", encoding="utf-8")
    return table


def ball_recipe(**changes: Any) -> dict[str, Any]:
    """A recipe whose training takes a second."""
    about = dict.fromkeys(("version", "task", "licence_weights", "licence_data", "citation"), "toy")
    common = {"epochs": 2, "batch_size": 2, "mirror": False, "seed": 1}
    recipe: dict[str, Any] = {
        "about": {"name": "balls", **about},
        "input": {
            "channels": ["MR"],
            "modality": "MR",
            "orientation": "LPS",
            "spacing_mm": [1, 1, 1],
            "window": [16, 16, 16],
            "normalisation": {"kind": "volume", "low": 0.5, "high": 99.5},
        },
        "labels": [
            {"value": 0, "name": "background", "color": [0, 0, 0]},
            {"value": 1, "name": "ball", "color": [230, 159, 0]},
        ],
        "backbone": {"kind": "dynunet", "filters": [4, 8, 16]},
        "head": {
            "variant": "paper",
            "taps": ["upsamples.0.conv_block", "output_block"],
            "feature_channels": 4,
            "probes": 2,
            "aleatoric": True,
        },
        "backbone_training": {**common, "learning_rate": 0.03, "warmup_steps": 1, "deep_supervision_heads": 0},
        "head_training": {**common, "learning_rate": 0.03},
    }
    for block, values in changes.items():
        recipe[block] = {**recipe[block], **values}
    return recipe


def write_recipe(path: Path, **changes: Any) -> Path:
    """Write `ball_recipe` into a file."""
    path.write_text(json.dumps(ball_recipe(**changes)), encoding="utf-8")
    return path
