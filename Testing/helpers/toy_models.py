"""Tiny networks with known answers, and bundles that hold them.

Each toy backbone is two convolutions: `features` looks at the voxel and, for the kind "looking", one voxel to
the right, anterior and superior; `output` makes logits of what it saw. Known answer of the kind "looking":
`looking_answer`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from SegWithUCore.models.bundle import Bundle, HeadSpec, write_bundle_json
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.models.input_spec import InputSpec, Label, Normalisation
from SegWithUCore.network.backbones import BACKBONES, build_backbone
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import BackboneSpec
from SegWithUCore.network.weights import unique_state

LOOKING_WEIGHTS = (1.0, 1.3, 1.7)
"""How much the voxel to the right, anterior and superior counts."""
THRESHOLD = 0.5


class ToyBackbone(nn.Module):
    """Logits (1, 4, z, y, x) of an image (1, 1, z, y, x) whose axes run R, A, S.

    Args:
        looking: look at the three neighbours (4 classes); else only at the voxel itself (2 classes).
    """

    def __init__(self, looking: bool) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 4, 3, padding=1)
        self.output = nn.Conv3d(4, 4 if looking else 2, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.features.weight[0, 0, 1, 1, 1] = 1
            self.features.weight[1, 0, 1, 1, 2] = 1  # (z, y, x): x + 1 is one voxel to the right
            self.features.weight[2, 0, 1, 2, 1] = 1  # anterior
            self.features.weight[3, 0, 2, 1, 1] = 1  # superior
            if looking:
                self.output.bias[0] = THRESHOLD
                for axis, weight in enumerate(LOOKING_WEIGHTS):
                    self.output.weight[1 + axis, 1 + axis] = weight
            else:
                self.output.weight[1, 0] = 8
                self.output.bias[1] = -8 * THRESHOLD

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.features(image))
        return logits


def looking_answer(array: np.ndarray) -> np.ndarray:
    """Class of each voxel of a (z, y, x) array whose axes run R, A, S; nothing is seen beyond the border."""
    seen = np.zeros((4, *array.shape), np.float32)
    seen[0] = THRESHOLD
    for axis, weight in enumerate(LOOKING_WEIGHTS):  # R is the last axis of (z, y, x), S the first
        near = [slice(None)] * 3
        far = [slice(None)] * 3
        near[2 - axis], far[2 - axis] = slice(None, -1), slice(1, None)
        seen[1 + axis][tuple(near)] = np.float32(weight) * array[tuple(far)]
    answer: np.ndarray = seen.argmax(0)
    return answer


@contextmanager
def registered_toys() -> Iterator[None]:
    """Make bundles able to name the toy backbones, for the time of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "looking", lambda: ToyBackbone(True))
        patch.setitem(BACKBONES, "local", lambda: ToyBackbone(False))
        yield


def toy_network(kind: str, seed: int = 0) -> SegWithU:
    """A toy backbone with a random but fixed head of 4 features, in eval mode."""
    torch.manual_seed(seed)
    backbone = build_backbone(BackboneSpec(kind))
    return SegWithU(backbone, ["output"], torch.zeros(1, 1, 8, 8, 8), features=4).eval()


def write_toy_bundle(
    folder: Path, kind: str, window: tuple[int, int, int], spacing: tuple[float, float, float] | None = None
) -> Bundle:
    """A bundle with a toy backbone, without intensity normalisation and with a table of error probability.

    Args:
        window: (x, y, z).
        spacing: working spacing in mm, None to leave images at their own.
    """
    folder.mkdir(parents=True)
    network = toy_network(kind)
    digest = write_weights(folder, unique_state(network.backbone), {"paper": network.head_state()})
    about = dict.fromkeys(("version", "task", "licence_weights", "licence_data", "citation"), "toy")
    table: dict[str, Any] = {"ranking": [0.0, 1.0, 4.0], "probability": [0.0, 0.2, 0.9], "cases": 1}
    bundle = Bundle(
        folder=folder,
        about={"name": f"toy-{kind}", **about},
        input=InputSpec(("T1",), "MR", "RAS", spacing, window, Normalisation("fixed", -1e9, 1e9, 0.0, 1.0)),
        labels=tuple(Label(i, f"class {i}", (i, i, i)) for i in range(network.num_classes)),
        backbone=BackboneSpec(kind),
        heads=(HeadSpec("paper", "paper", ("output",), 4, 8, True),),
        weights_sha256=digest,
        calibration={"cases": 1, "error_probability": table, "tempering_scale": 1.0},
    )
    return write_bundle_json(bundle, folder)
