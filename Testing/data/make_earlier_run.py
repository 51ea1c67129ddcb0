"""Make `earlier_run.tar.xz` with an earlier checkout, whose modules had other names.

python Testing/data/make_earlier_run.py CHECKOUT_OF_B1506C7 FOLDER; then `tar cJf earlier_run.tar.xz -C FOLDER .`
"""

import json
import sys
from pathlib import Path
from typing import Any

CHECKOUT, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(CHECKOUT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from SegWithULab.training.backbone_training import BackboneTrainer  # noqa: E402
from SegWithULab.training.cases import PreparedCase  # noqa: E402
from SegWithULab.training.head_training import HeadTrainer  # noqa: E402
from SegWithULab.training.recipe import recipe_from_json  # noqa: E402
from SegWithULab.training.run_folder import RunFolder  # noqa: E402


def case(seed: int, shape: tuple[int, ...] = (12, 18, 14)) -> PreparedCase:
    """See `toy_case` in test_earlier_runs.py."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=shape), 1.5)
    image = (image / image.std()).astype(np.float32)
    labels = ((image > 0).astype(np.int16) + (image > 1)).astype(np.int16)
    shown = (image + 0.3 * rng.normal(size=shape).astype(np.float32))[None]
    return PreparedCase(f"case{seed}", shown, labels, (1.0, 1.0, 1.0), tuple(map(float, shape[::-1])))


def recipe() -> dict[str, Any]:
    """The shipped recipe made tiny."""
    data = json.loads((CHECKOUT / "Resources" / "Recipes" / "hippocampus.json").read_text())
    data["input"]["window"] = [8, 8, 8]
    data["backbone"]["filters"] = [1, 2, 2]
    taps = ["upsamples.0.conv_block", "output_block"]
    data["head"] |= {"variant": "paper", "taps": taps, "feature_channels": 3, "probes": 4}
    common = {"epochs": 3, "batch_size": 2, "learning_rate": 0.03, "precision": "float32", "seed": 3}
    data["backbone_training"] = {**common, "warmup_steps": 4, "average_decay": 0.5, "validate_every": 2}
    data["backbone_training"] |= {"deep_supervision_heads": 0, "mirror": True}
    data["head_training"] = {**common, "augment": True, "validate_every": 1}
    return data


class Stopped(Exception):  # noqa: N818
    """Raised after the epoch that a training is to end with."""


def train(name: str, backbone_epochs: int, head_epochs: int) -> None:
    """Train in a folder of that name, each part for so many of its epochs."""
    run = RunFolder(FOLDER / name)
    run.path.mkdir(parents=True)
    settings = recipe_from_json(recipe(), "toy")
    run.start(settings, {})
    save = run.save_state
    for kind, epochs in ((BackboneTrainer, backbone_epochs), (HeadTrainer, head_epochs)):

        def saved(part: str, state: Any, last: int = epochs) -> None:
            save(part, state)
            if state["next_epoch"] == last:
                raise Stopped

        if epochs:
            run.save_state = saved
            try:
                kind(settings, [case(seed) for seed in range(5)], [case(9)], run).fit()
            except Stopped:
                continue


torch.set_num_threads(1)
train("whole", 3, 3)
train("backbone_stopped", 1, 0)
train("head_stopped", 3, 1)
for gone in (*FOLDER.rglob("*.png"), *(FOLDER / "whole").glob("*.pt"), FOLDER / "head_stopped" / "backbone_last.pt"):
    gone.unlink()
