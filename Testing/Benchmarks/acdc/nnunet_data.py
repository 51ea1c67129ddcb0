"""Write ACDC in nnU-Net's folders, planned and preprocessed by nnU-Net's own code.

    NNUNET/bin/python Testing/Benchmarks/acdc/nnunet_data.py --data ../shared/data/acdc --runs ../runs/acdc

Training and *select* cases go to imagesTr, *calibration* to imagesTs; *test* cases stay where they are. Fold 0 of
`splits_final.json` trains on all training cases and validates on *select*, as the other candidates do; folds 1 to 3
leave a third of the training patients out each. Runs in nnU-Net's own environment and imports nothing of this project.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patient_folds import FOLDS, Row, fold_of, read_rows

NUMBER = 27
NAME = f"Dataset{NUMBER:03d}_ACDC"
PLANS, MEMORY_GB = "nnUNetPlansSmall", 1.0
"""nnU-Net's planner fits window and batch to this much memory by its own rules: a step for a CPU."""
LABELS = {"background": 0, "right ventricle": 1, "myocardium": 2, "left ventricle": 3}


def main() -> int:
    """Make the folders, plan, preprocess and write the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images, labels and split.csv")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--configuration", nargs="+", default=["3d_fullres"])
    options = parser.parse_args()
    os.environ |= nnunet_environment(options.runs)
    rows = read_rows(options.data / "split.csv")
    target = options.runs / "nnunet" / "raw" / NAME
    for role, part in (("train", "Tr"), ("select", "Tr"), ("calibration", "Ts")):
        for row in rows:
            if row.role == role:
                _copy(options.data, row.case, target, part)
    trained = [row for row in rows if row.role in ("train", "select")]
    about = {"channel_names": {"0": "cine MRI"}, "labels": LABELS, "numTraining": len(trained)}
    _write_json(target / "dataset.json", {**about, "file_ending": ".nii.gz"})
    preprocessed = options.runs / "nnunet" / "preprocessed" / NAME
    _prepare(options.configuration)
    _write_json(preprocessed / "splits_final.json", splits(rows))
    return 0


def nnunet_environment(runs: Path) -> dict[str, str]:
    """What nnU-Net reads its folders and numbers of processes from: one process, no compiling."""
    folders = {f"nnUNet_{part}": str((runs / "nnunet" / part).resolve()) for part in ("raw", "preprocessed", "results")}
    return {**folders, "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}


def splits(rows: list[Row]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds: all training cases against *select*, then each third of the training patients left out."""
    train = [row for row in rows if row.role == "train"]
    found = [{"train": [row.case for row in train], "val": [row.case for row in rows if row.role == "select"]}]
    thirds = fold_of(train)
    for fold in range(FOLDS):
        kept = [row.case for row in train if thirds[row.patient] != fold]
        found.append({"train": kept, "val": [row.case for row in train if thirds[row.patient] == fold]})
    return found


def _copy(data: Path, case: str, target: Path, part: str) -> None:
    for kind, name in (("images", f"{case}_0000.nii.gz"), ("labels", f"{case}.nii.gz")):
        folder = target / f"{kind}{part}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).is_file():
            shutil.copy(data / kind / f"{case}.nii.gz", folder / name)


def _prepare(configurations: list[str]) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([NUMBER], num_processes=1, check_dataset_integrity=True)
    plan_experiments([NUMBER], gpu_memory_target_in_gb=MEMORY_GB, overwrite_plans_name=PLANS)
    numbers = (1,) * len(configurations)
    preprocess([NUMBER], plans_identifier=PLANS, configurations=tuple(configurations), num_processes=numbers)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
