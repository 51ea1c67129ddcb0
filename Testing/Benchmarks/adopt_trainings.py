"""Small real nnU-Net trainings to adopt: nnU-Net's own planner, preprocessing, trainer and validation, in few steps.

    NNUNET/bin/python Testing/Benchmarks/adopt_trainings.py hippocampus --data ../shared/data --runs ../runs/nnunet \\
        --folds 0 1 2

Runs in nnU-Net's own environment and imports nothing of this project. MINUTES_EPOCHS and MINUTES_ITERATIONS say for how
long (`adopt_trainer`): 6 and 15 for hippocampi, 16 and 12 for hearts. *train* and *select* cases go to imagesTr; the
others stay outside, so that what was adopted can be judged on cases that nothing has seen. Folds are by patient.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "hearts"))

from patient_folds import Row, read_rows  # noqa: E402

PLANS = "nnUNetPlansSmall"
CONFIGURATION, TRAINER = "3d_fullres", "nnUNetTrainerMinutes"


@dataclass(frozen=True)
class Subject:
    """One data set in nnU-Net.

    Attributes:
        number: nnU-Net's number for it.
        channel, labels: their names.
        folds: into how many its patients are dealt.
        licence: of the data.
        memory_gb: nnU-Net's planner fits window and batch to this much by its own rules: a step for a CPU.
    """

    number: int
    channel: str
    labels: tuple[str, ...]
    folds: int
    memory_gb: float
    licence: str

    def dataset(self, name: str) -> str:
        """Name of nnU-Net's folder."""
        return f"Dataset{self.number:03d}_{name}"


SUBJECTS = {
    "hippocampus": Subject(4, "MRI", ("background", "anterior", "posterior"), 3, 0.5, "CC-BY-SA-4.0"),
    "acdc": Subject(
        27, "cine MRI", ("background", "right ventricle", "myocardium", "left ventricle"), 4, 0.4, "CC-BY-NC-SA-4.0"
    ),
}


def main() -> int:
    """Prepare the data set where it is not, then train and validate the folds asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SUBJECTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder of nnU-Net's raw, preprocessed and results")
    parser.add_argument("--folds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    os.environ |= environment(options.runs)
    subject = SUBJECTS[options.name]
    prepared = options.runs / "preprocessed" / subject.dataset(options.name)
    if not (prepared / "splits_final.json").is_file():
        _prepare(options.name, options.data / options.name, options.runs)
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # the planner wants one process, the trainer can do without
    for fold in options.folds:
        _train(subject, fold)
    return 0


def environment(runs: Path) -> dict[str, str]:
    """What nnU-Net reads its folders, numbers of processes and our trainer from: one process, no compiling."""
    folders = {f"nnUNet_{part}": str((runs / part).resolve()) for part in ("raw", "preprocessed", "results")}
    numbers = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}
    return {**folders, **numbers, "nnUNet_extTrainer": str(HERE / "adopt_trainer")}


def splits(rows: list[Row], folds: int) -> list[dict[str, list[str]]]:
    """Every `folds`-th patient in order of name validates a fold."""
    patients = sorted({row.patient for row in rows})
    out = [set(patients[fold::folds]) for fold in range(folds)]
    return [
        {
            "train": [row.case for row in rows if row.patient not in left],
            "val": [row.case for row in rows if row.patient in left],
        }
        for left in out
    ]


def _prepare(name: str, data: Path, runs: Path) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    subject = SUBJECTS[name]
    rows = [row for row in read_rows(data / "split.csv") if row.role in ("train", "select")]
    raw = runs / "raw" / subject.dataset(name)
    for row in rows:
        for kind, file in (("images", f"{row.case}_0000.nii.gz"), ("labels", f"{row.case}.nii.gz")):
            (raw / f"{kind}Tr").mkdir(parents=True, exist_ok=True)
            shutil.copy(data / kind / f"{row.case}.nii.gz", raw / f"{kind}Tr" / file)
    labels = {label: value for value, label in enumerate(subject.labels)}
    about = {"channel_names": {"0": subject.channel}, "labels": labels, "numTraining": len(rows)}
    _write_json(raw / "dataset.json", {**about, "file_ending": ".nii.gz"})
    extract_fingerprints([subject.number], num_processes=1, check_dataset_integrity=True)
    plan_experiments([subject.number], gpu_memory_target_in_gb=subject.memory_gb, overwrite_plans_name=PLANS)
    narrow(runs / "preprocessed" / subject.dataset(name) / f"{PLANS}.json")
    preprocess([subject.number], plans_identifier=PLANS, configurations=(CONFIGURATION,), num_processes=(1,))
    _write_json(runs / "preprocessed" / subject.dataset(name) / "splits_final.json", splits(rows, subject.folds))


def narrow(plans: Path) -> None:
    """Give the planned network a quarter of the features, and two windows a step: more steps in an hour of a CPU."""
    data = json.loads(plans.read_text(encoding="utf-8"))
    data["configurations"][CONFIGURATION]["batch_size"] = 2
    settings = data["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    settings["features_per_stage"] = [min(8 * 2**stage, 80) for stage in range(settings["n_stages"])]
    _write_json(plans, data)


def _train(subject: Subject, fold: int) -> None:
    import torch
    from nnunetv2.run.run_training import run_training

    torch.set_num_threads(1)
    run_training(
        str(subject.number),
        CONFIGURATION,
        fold,
        TRAINER,
        PLANS,
        continue_training=True,
        export_validation_probabilities=False,
        device=torch.device("cpu"),
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
