"""Thirds of the training patients, each left out once: no patient is on both sides.

Standard library only, for nnU-Net's environment reads it too.
"""

import csv
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
    target.mkdir(parents=True, exist_ok=True)
    for part in ("images", "labels"):
        if not (target / part).exists():
            (target / part).symlink_to((data / part).resolve(), target_is_directory=True)
    return [_write_table(target / f"fold{fold + 1}.csv", rows, folds, fold) for fold in range(FOLDS)]


def _write_table(path: Path, rows: Sequence[Row], folds: Mapping[str, int], fold: int) -> Path:
    lines = ["case,patient,role"]
    for row in rows:
        role = row.role
        if role == "train":
            role = "out" if folds[row.patient] == fold else "train"
        if role in ("train", "out", "select"):
            lines.append(f"{row.case},{row.patient},{role}")
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text("\n".join(lines) + "\n", encoding="utf-8")
    work.replace(path)
    return path
