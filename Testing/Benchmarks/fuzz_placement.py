"""Models whose boxes in the template of a head cannot be true, for fuzz.py: models import, models verify.

Boxes of which left and right are exchanged exchange the sides of every patient.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from fuzz import Ended, Maker, Try, unchanged
from fuzz_images import as_json

NUMBERS = (0, 0, -0.3, 1e9, float("nan"), None, "0.3", True)
WAYS = ("sides exchanged", "sides exchanged", "centres exchanged", "side twice", "side", "centre", "centre", "size",
        "least_similarity", "least_dice", "no boxes", "template of other voxels", "template elsewhere",
        "template cut", "template gone", "right")  # fmt: skip


def prepare(data: Path, folder: Path) -> Maker:
    """Import and verify the shipped model of hippocampi as it is."""
    from segwithu_command import MODEL

    os.environ["SEGWITHU_MODELS"] = str(folder / "models")
    for command in ("import", "verify"):
        unchanged(["models", command, str(MODEL), "--json"], folder)

    def make(rng: random.Random, work: Path) -> Try:
        command, way, model = rng.choice(["import", "verify"]), rng.choice(WAYS), work / "hippocampi"
        os.environ["SEGWITHU_MODELS"] = str(work / "models")  # of the process that makes this try
        shutil.copytree(MODEL, model)
        what, right = _changed(rng, model, way), way == "right"
        calls, outputs = [["models", command, str(model), "--json"]], [work / "models"]
        why = "a template and its hash may be another's" if "its hash" in what else ""
        accepts = _told(right)
        return Try(
            "placement", f"{command}: {what}", calls, [model.name], accepts, outputs, right=right, unknowable=why
        )

    return make


def _told(right: bool) -> Callable[[Sequence[Ended]], bool]:
    return lambda runs: right or bool(runs[-1].notes)


def _changed(rng: random.Random, model: Path, way: str) -> str:
    """Change the boxes or the template of a model; returns in words how."""
    from SegWithUCore.models.bundle import TEMPLATE_FILE
    from SegWithUCore.models.bundle_files import file_sha256

    file, template = model / "bundle.json", model / TEMPLATE_FILE
    content = json.loads(file.read_text("utf-8"))
    placement: dict[str, Any] = content["placement"]
    boxes, value = placement["boxes"], rng.choice(NUMBERS)
    one, other = rng.sample(boxes, 2)
    if way in ("sides exchanged", "centres exchanged"):
        key = "side" if way.startswith("side") else "centre_ras_mm"
        one[key], other[key] = other[key], one[key]
    elif way == "side twice":
        one["side"] = other["side"]
    elif way == "side":
        one["side"] = rng.choice(["whole", "up", "Left", "", None, 1, "left\n"])
        way = f"side {one['side']!r}"
    elif way == "centre":
        axis, value = rng.randrange(3), rng.choice([500.0, -1e4, 1e9, -1e9, *NUMBERS[3:]])
        one["centre_ras_mm"][axis], way = value, f"centre along axis {axis} = {value!r}"
    elif way == "size":
        one["size_mm"][rng.randrange(3)], way = value, f"size = {value!r}"
    elif way.startswith("least"):
        placement[way], way = value, f"{way} = {value!r}"
    elif way == "no boxes":
        placement["boxes"] = []
    elif way == "template gone":
        template.unlink()
    elif way == "template cut":
        template.write_bytes(template.read_bytes()[:-100])
    elif way.startswith("template"):
        image = sitk.ReadImage(str(template))
        if "voxels" in way:
            image = image * 0
        else:
            image.SetOrigin([mm + 100 for mm in image.GetOrigin()])
        sitk.WriteImage(image, str(template))
        if rng.random() < 0.5:
            placement["sha256"], way = file_sha256(template), f"{way}, with its hash"
    else:
        content["about"]["task"] = "The same, in other words."
    file.write_text(as_json(content), "utf-8")
    return way
