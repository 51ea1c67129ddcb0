"""Proof that two channels pass through every command, on the two glioma cases of BRATS 2015 (FLAIR and T1c).

    python Testing/Benchmarks/brats_path.py --work FOLDER [--data FOLDER]

A small DynUNet and its head are trained on slabs of the first case and calibrated on another slab of it; the second
case is segmented with `--channel` and as a folder in nnU-Net naming. One case teaches nothing about gliomas: the
figures show that the path works and are no figures of quality. Writes `results/brats_path.json`; what is in FOLDER
already (the trained run, the bundle) is not made again.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("SEGWITHU_DATA") or HERE.parents[2] / "shared" / "data") / "brats2015"
TRAINED, UNSEEN = "brats_2013_pat0001_1", "brats_2013_pat0002_1"
CHANNELS = {"FLAIR": "Flair_subtrMeanDivStd.nii.gz", "T1c": "T1c_subtrMeanDivStd.nii.gz"}
REFERENCE = "OTMultiClass.nii.gz"
SLABS = {"train": [(10, 60), (84, 134)], "select": [(60, 72)], "calibration": [(72, 84)]}
"""Slices of the first case for each role: no voxel has two roles."""
BRAIN_XY = ((51, 187), (43, 219))
"""Voxels that hold the brain of the first case."""
CLASSES = {2: 1, 1: 2, 3: 2, 4: 2}
"""Oedema; necrosis, non-enhancing and enhancing tumour together are the core."""
ROI_RAS = (-140.5, 70.5, 97.0, 100.0, 100.0, 64.0)
"""Around the tumour of the second case, centre and edges in mm."""
VOLUMES = ("segmentation", "calibration", "ranking", "error_probability")


def main() -> None:
    """Train where needed, segment in both ways, compare, write the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", type=Path, required=True, help="folder outside the repository for run and bundle")
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--remark", default="", help="what should be known about this run, written into the result")
    chosen = options.parse_args()
    work, data = chosen.work, chosen.data
    train(work, data)
    results = segment_in_both_ways(work, data)
    figures = {
        "what": "proof of the two-channel path; trained on slabs of one case, so no figure of quality",
        "training_case": TRAINED,
        "segmented_case": UNSEEN,
        "region_of_interest_ras_mm": ROI_RAS,
        "training": training_facts(work),
        **results,
        "remark": chosen.remark,
    }
    target = HERE / "results" / "brats_path.json"
    target.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


def train(work: Path, data: Path) -> None:
    """Train and calibrate with the project's commands, unless the bundle is there already."""
    if (work / "bundle").exists():
        return
    run, cases = work / "run", {role: work / "data" / role for role in SLABS}
    for role, folder in cases.items():
        if not folder.exists():
            write_slabs(data / TRAINED, SLABS[role], folder)
    given = ["--run", run, "--cases", cases["train"], "--select", cases["select"]]
    segwithu("train-backbone", "--recipe", HERE / "brats_path_recipe.json", *given)
    segwithu("train-head", *given)
    segwithu("calibrate", "--run", run, "--cases", cases["calibration"], "--output", work / "bundle")


def training_facts(work: Path) -> dict[str, Any]:
    """Epochs, seconds and the best epoch of each part, from the logs of the run."""
    facts = json.loads((work / "run" / "run.json").read_text(encoding="utf-8"))["facts"]
    result = {}
    for part in ("backbone", "head"):
        with (work / "run" / f"{part}_log.csv").open(newline="", encoding="utf-8") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        result[part] = {"epochs": len(seconds), "seconds": round(sum(seconds)), "best": facts[f"{part}_best"]}
    return result


def write_slabs(case: Path, slabs: list[tuple[int, int]], folder: Path) -> None:
    """Cut slices out of a case and write them as a data set in nnU-Net's folders and naming."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    (x0, x1), (y0, y1) = BRAIN_XY
    images = [sitk.ReadImage(str(case / name)) for name in CHANNELS.values()]
    labels = classes_of(sitk.ReadImage(str(case / REFERENCE)))
    for z0, z1 in slabs:
        name = f"slices{z0}to{z1}"
        for number, image in enumerate(images):
            sitk.WriteImage(image[x0:x1, y0:y1, z0:z1], str(folder / "imagesTr" / f"{name}_{number:04d}.nii.gz"))
        sitk.WriteImage(labels[x0:x1, y0:y1, z0:z1], str(folder / "labelsTr" / f"{name}.nii.gz"))


def classes_of(reference: sitk.Image) -> sitk.Image:
    """The three classes of the recipe."""
    values = np.rint(sitk.GetArrayFromImage(reference)).astype(int)
    classes = np.zeros(values.shape, np.uint8)
    for value, label in CLASSES.items():
        classes[values == value] = label
    image = sitk.GetImageFromArray(classes)
    image.CopyInformation(reference)
    return image


def segment_in_both_ways(work: Path, data: Path) -> dict[str, Any]:
    """Segment the unseen case with `--channel` and as an nnU-Net folder; figures of both."""
    output, folder, case = work / "results", work / "nnunet", data / UNSEEN
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(CHANNELS.values()):
        shutil.copy(case / name, folder / f"glioma_{number:04d}.nii.gz")
    roi = f"--roi={','.join(str(v) for v in ROI_RAS)}"
    common = ["--model", work / "bundle", "--output", output, "--overwrite", roi]
    flair, t1c = (case / name for name in CHANNELS.values())
    with_option = segwithu("segment", flair, "--channel", f"T1c={t1c}", "--name", "glioma_channels", *common)
    as_folder = segwithu("segment", folder, *common)
    names = {"--channel": "glioma_channels", "nnU-Net folder": "glioma"}
    volumes = {way: _volumes(output / name) for way, name in names.items()}
    same = {v: bool(np.array_equal(volumes["--channel"][v], volumes["nnU-Net folder"][v])) for v in VOLUMES}
    truth = sitk.GetArrayFromImage(classes_of(sitk.ReadImage(str(case / REFERENCE))))
    facts = {way: json.loads((output / name / "case.json").read_text(encoding="utf-8")) for way, name in names.items()}
    return {
        "seconds_of_segment": {"--channel": with_option, "nnU-Net folder": as_folder},
        "timings_s": {way: case_facts["timings_s"] for way, case_facts in facts.items()},
        "peak_memory_mb": {way: case_facts["peak_memory_mb"] for way, case_facts in facts.items()},
        "identical_voxels": same,
        "dice": _dice(volumes["--channel"], truth),
    }


def _volumes(folder: Path) -> dict[str, np.ndarray]:
    return {name: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz"))) for name in VOLUMES}


def _dice(volumes: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """Of whole tumour and of each class, over the voxels that were assessed."""
    inside = volumes["calibration"] >= 0
    predicted, true = volumes["segmentation"][inside], truth[inside]
    pairs = {"whole tumour": (predicted > 0, true > 0)}
    pairs |= {name: (predicted == c, true == c) for c, name in ((1, "oedema"), (2, "tumour core"))}
    return {name: round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4) for name, (a, b) in pairs.items()}


def segwithu(*arguments: str | Path) -> float:
    """Run one command of this checkout in a process of its own; returns its wall-clock seconds."""
    paths = [str(HERE.parents[1] / "SegWithUSlicer"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    begun = time.monotonic()
    call = [sys.executable, "-m", "SegWithUCore.cli", *(str(argument) for argument in arguments)]
    subprocess.run(call, check=True, env=environment)
    return round(time.monotonic() - begun, 1)


if __name__ == "__main__":
    main()
