"""Make the files that version 0.2.0 (commit b1506c7) writes, from synthetic volumes; run with that version's checkout.

    python make_files_before_move.py TARGET

Every kind of folder that a later version must still read: run folder, bundle, case folders with reviews, worklist,
evaluation report and benchmark folder. Volumes are blobs with noise: nobody's data.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path.cwd()
TARGET = Path(sys.argv[1]).resolve()
WORK = TARGET / "work"
os.environ["HOME"] = str(TARGET / "home")
os.environ["XDG_DATA_HOME"] = str(TARGET / "home" / "data")

from scipy.ndimage import gaussian_filter  # noqa: E402

from SegWithUCore.cli.__main__ import main  # noqa: E402

ROLES = {"train": 4, "select": 1, "calibration": 2, "test": 2}


def volume(seed: int) -> tuple[sitk.Image, sitk.Image]:
    random = np.random.default_rng(seed)
    z, y, x = np.mgrid[:16, :20, :16]
    centre = np.array([8, 10, 8]) + random.uniform(-1.5, 1.5, 3)
    far = np.sqrt(sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, (4.5, 6, 4.5), strict=False)))
    label = np.where(far < 1, np.where(y < centre[1], 1, 2), 0).astype(np.uint8)
    array = gaussian_filter(100 * (label > 0) + 60.0 * (label == 2), 0.8) + random.normal(0, 12, label.shape)
    image, labels = sitk.GetImageFromArray(array.astype(np.int16)), sitk.GetImageFromArray(label)
    for each in (image, labels):
        each.SetOrigin((-8, -10, -8))
    return image, labels


def run(*arguments: object) -> None:
    print(">", *arguments)
    code = main([str(a) for a in arguments])
    assert code == 0, code


def recipe() -> dict:
    recipe = json.loads((HERE / "Resources" / "Recipes" / "hippocampus.json").read_text())
    recipe["about"]["name"] = "blobs"
    recipe["input"]["window"] = [16, 20, 16]
    recipe["backbone"]["filters"] = [4, 4, 8]
    recipe["head"] |= {"taps": ["upsamples.0.conv_block", "output_block"], "feature_channels": 4}
    common = {"precision": "float32", "seed": 3}
    recipe["backbone_training"] = {"epochs": 12, "batch_size": 1, "learning_rate": 0.03, "warmup_steps": 2, **common}
    recipe["backbone_training"] |= {"average_decay": 0.8, "validate_every": 4, "deep_supervision_heads": 0}
    recipe["head_training"] = {"epochs": 4, "batch_size": 1, "learning_rate": 0.03, **common}
    return recipe


for part in ("images", "labels"):
    (WORK / "data" / part).mkdir(parents=True)
rows, seed = [], 0
for role, count in ROLES.items():
    for _ in range(count):
        seed += 1
        image, labels = volume(seed)
        sitk.WriteImage(image, str(WORK / "data" / "images" / f"blob_{seed}.nii.gz"), True)
        sitk.WriteImage(labels, str(WORK / "data" / "labels" / f"blob_{seed}.nii.gz"), True)
        rows.append(f"blob_{seed},{role}")
table = WORK / "data" / "split.csv"
table.write_text("case,role\n" + "\n".join(rows) + "\n")
(WORK / "recipe.json").write_text(json.dumps(recipe(), indent=1))
os.chdir(WORK)
cases = ["--cases", "data/split.csv:train", "--select", "data/split.csv:select", "--threads", "1"]
run("train-backbone", "--run", "run", *cases, "--recipe", "recipe.json")
run("train-head", "--run", "run", *cases)
run("calibrate", "--run", "run", "--cases", "data/split.csv:calibration", "--output", "blobs")
images = [f"data/images/blob_{n}.nii.gz" for n in (8, 9)]
run("segment", *images, "--model", "blobs", "--output", "results", "--unlike-training", "--include-image")
from SegWithUCore.review.audit_log import AuditLog  # noqa: E402
from SegWithUCore.review.case_file import read_case  # noqa: E402
from SegWithUCore.review.events import (  # noqa: E402
    Closed,
    Commented,
    Opened,
    Verdict,
    VerdictGiven,
)
from SegWithUCore.review.region_files import read_regions, regions_hash  # noqa: E402

for name in ("blob_8", "blob_9"):
    folder = WORK / "results" / name
    case = read_case(folder)
    model = case["model"]
    hashes = (model["weights_sha256"], model["calibration_sha256"], regions_hash((folder / "regions.csv").read_text()))
    log = AuditLog.open(
        folder, "Ann Example", Opened(case["name"], model["name"], model["version"], model["head"], *hashes)
    )
    regions = read_regions(folder)
    print(name, len(regions), "regions")
    for region, verdict in zip(regions, (Verdict.ACCEPTED, Verdict.REJECTED, Verdict.SECOND_READER), strict=False):
        log.append(VerdictGiven(region.id, verdict))
    if regions:
        log.append(Commented(regions[0].id, "said before the move"))
    log.append(Closed())
    log.close()
run("worklist", "results", "--output", "list")
run("report", "results/blob_8")
run("export", "results/blob_8", "--output", "exported")
run("evaluate", "--model", "blobs", "--cases", "data/split.csv:test", "--output", "evaluation")
run(
    "benchmark",
    "--model",
    "blobs",
    "--cases",
    "data/split.csv:test",
    "--calibration",
    "data/split.csv:calibration",
    "--output",
    "benchmark",
    "--threads",
    "1",
    "--rivals",
    "softmax,temperature,distance,heads",
    "--repeats",
    "1",
)
