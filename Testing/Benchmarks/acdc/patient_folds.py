"""Write tables of cases: thirds of the training patients, each left out once, and the unseen test cases.

    python Testing/Benchmarks/acdc/patient_folds.py --data ../shared/data/acdc --output ../runs/acdc/folds/acdc

No patient is on both sides of a fold. Standard library only, for nnU-Net's environment reads it too.
"""

import argparse
import csv
import gzip
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDS = 3


@dataclass(frozen=True)
class Row:
    """A line of a split table; a case without a patient is one of its own."""

    case: str
    patient: str
    role: str


def read_rows(table: Path) -> list[Row]:
    """The lines of a split table."""
    with table.open(newline="", encoding="utf-8") as file:
        return [Row(row["case"], row.get("patient") or row["case"], row["role"]) for row in csv.DictReader(file)]


def fold_of(rows: Sequence[Row]) -> dict[str, int]:
    """Fold (from 0) of each patient: every third one in order of name, so that it depends on nothing else."""
    return {patient: number % FOLDS for number, patient in enumerate(sorted({row.patient for row in rows}))}


def write_fold_tables(data: Path, target: Path) -> list[Path]:
    """A split table for each fold, with the roles `train`, `out` (left out) and `select`, beside links to the files.

    Args:
        data: folder with `images`, `labels` and `split.csv`.
        target: made where it is missing; its tables are `fold1.csv` and so on.
    """
    rows = read_rows(data / "split.csv")
    train = [row for row in rows if row.role == "train"]
    folds = fold_of(train)
    _link_images(data, target)
    return [_write(target / f"fold{fold + 1}.csv", _of_fold(rows, folds, fold)) for fold in range(FOLDS)]


def _of_fold(rows: Sequence[Row], folds: Mapping[str, int], fold: int) -> list[Row]:
    found = []
    for row in rows:
        if row.role == "train":
            found.append(Row(row.case, row.patient, "out" if folds[row.patient] == fold else "train"))
        elif row.role == "select":
            found.append(row)
    return found


def write_unseen_table(data: Path, target: Path) -> Path:
    """A split table `unseen.csv` without the test patients one of whose images is that of another role's case too.

    Args:
        data: folder with `images`, `labels` and `split.csv`.
        target: made where it is missing.
    """
    rows = read_rows(data / "split.csv")
    hashes = {row.case: _image_hash(data / "images" / f"{row.case}.nii.gz") for row in rows}
    others = {hashes[row.case] for row in rows if row.role != "test"}
    seen = {row.patient for row in rows if row.role == "test" and hashes[row.case] in others}
    _link_images(data, target)
    return _write(target / "unseen.csv", [row for row in rows if row.role != "test" or row.patient not in seen])


def _image_hash(path: Path) -> str:
    with gzip.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link_images(data: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for part in ("images", "labels"):
        if not (target / part).exists():
            (target / part).symlink_to((data / part).resolve(), target_is_directory=True)


def _write(path: Path, rows: Sequence[Row]) -> Path:
    lines = ["case,patient,role", *(f"{row.case},{row.patient},{row.role}" for row in rows)]
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text("\n".join(lines) + "\n", encoding="utf-8")
    work.replace(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images, labels and split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    options = parser.parse_args()
    for path in [*write_fold_tables(options.data, options.output), write_unseen_table(options.data, options.output)]:
        print(path)
