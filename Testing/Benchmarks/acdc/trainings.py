"""Trainings that the evidence on ACDC needs, what each waits for, and how far it has come.

`README.md` says what they are for and what they cost.
"""

import csv
import hashlib
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RECIPES = HERE / "recipes"
SHIPPED = ROOT / "Resources" / "Recipes"
HIPPOCAMPUS = SHIPPED / "hippocampus.json"
HEADS = {"hippocampus": SHIPPED / "hippocampus_context.json", "acdc": SHIPPED / "acdc_context.json"}
"""Recipes whose head each fold's network gets."""
CHOICE = HERE / "choice.json"
NNUNET = "nnunet"
CANDIDATES = ("standard_view", NNUNET)
FOLDS, MEMBERS = (1, 2, 3), (2, 3)
NNUNET_CONFIGURATION, NNUNET_TRAINER = "3d_fullres", "nnUNetTrainerHours"
RECENT = 10
"""Epochs whose median time is an epoch's."""


@dataclass(frozen=True)
class Training:
    """One planned training.

    Attributes:
        name: of its log and lock in the folder of the runs.
        recipe: file, or None for nnU-Net.
        cases, select: relative to the folder of the data, or (`cases` of folds) to that of the runs.
        seed: None for the recipe's.
        fold: of nnU-Net's splits.
        waits_for: why it cannot begin yet, or None.
        backbone_of: name of the training whose backbone gets a head; None for the training of a backbone.
    """

    name: str
    recipe: Path | None
    cases: str = "acdc/split.csv:train"
    select: str = "acdc/split.csv:select"
    seed: int | None = None
    fold: int = 0
    waits_for: str | None = None
    backbone_of: str | None = None

    @property
    def run(self) -> str:
        """Name of its folder in the folder of the runs."""
        return self.backbone_of or self.name

    @property
    def part(self) -> str:
        """What of a network is trained."""
        return "head" if self.backbone_of else "backbone"

    @property
    def in_runs(self) -> bool:
        """Whether the tables of cases lie in the folder of the runs."""
        return self.cases.startswith("folds/")


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epochs, of: completed and planned.
        seconds: of each completed epoch.
        dice: on *select*, at the last look; None before the first.
        finished: nothing is left to do.
    """

    epochs: int
    of: int
    seconds: Sequence[float]
    dice: float | None
    finished: bool

    @property
    def epoch_s(self) -> float | None:
        """Seconds of an epoch, lately; None before the first."""
        return statistics.median(self.seconds[-RECENT:]) if self.seconds else None


def planned(choice: str | None) -> list[Training]:
    """All trainings in the order in which they are done.

    Args:
        choice: the candidate that was frozen, as in `choice.json`; None before that.
    """
    waits = None if choice else "the choice among the candidates (choice.json)"
    found = [Training(name, None if name == NNUNET else RECIPES / f"{name}.json") for name in CANDIDATES]
    for fold in FOLDS:
        table = f"folds/hippocampus/fold{fold}.csv"
        found.append(Training(f"hippocampus_fold{fold}", HIPPOCAMPUS, f"{table}:train", f"{table}:select"))
    if choice == NNUNET:
        return found + [Training(f"{NNUNET}_fold{fold}", None, fold=fold) for fold in FOLDS]
    recipe = RECIPES / f"{choice}.json"
    found += [Training(f"acdc_member{seed}", recipe, seed=seed, waits_for=waits) for seed in MEMBERS]
    for fold in FOLDS:
        table = f"folds/acdc/fold{fold}.csv"
        found.append(
            Training(f"acdc_fold{fold}", recipe, f"{table}:train", f"{table}:select", fold=fold, waits_for=waits)
        )
    return found + [_head_of(training) for training in found if training.in_runs]


def _head_of(training: Training) -> Training:
    """The head on the network of a fold."""
    recipe = HEADS[training.name.split("_")[0]]
    return replace(training, name=f"{training.name}_head", recipe=recipe, backbone_of=training.name)


def chosen() -> str | None:
    """The frozen candidate, None before the choice.

    Raises:
        ValueError: it is none of the candidates.
    """
    name = json.loads(CHOICE.read_text(encoding="utf-8"))["recipe"]
    if name is not None and name not in CANDIDATES:
        raise ValueError(f"{CHOICE} names '{name}': give one of {', '.join(CANDIDATES)}, or null.")
    return name if name is None else str(name)


def progress_of(training: Training, runs: Path) -> Progress:
    """How far a training has come, read from its logs."""
    return _nnunet_progress(training, runs) if training.recipe is None else _own_progress(training, runs)


def weights_of(training: Training, runs: Path) -> Path:
    """Where the weights lie that are kept."""
    if training.recipe is None:
        return nnunet_folder(training, runs) / "checkpoint_final.pth"
    return runs / training.run / f"{training.part}_best.safetensors"


def nnunet_folder(training: Training, runs: Path) -> Path:
    """nnU-Net's folder of one fold."""
    kind = f"{NNUNET_TRAINER}__nnUNetPlansSmall__{NNUNET_CONFIGURATION}"
    return runs / "nnunet" / "results" / "Dataset027_ACDC" / kind / f"fold_{training.fold}"


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_progress(training: Training, runs: Path) -> Progress:
    folder = runs / training.run
    assert training.recipe is not None
    begun = folder / "run.json"
    source = begun if begun.is_file() and training.part == "backbone" else training.recipe
    data = _json(source) if source.is_file() else {}
    of = int(data.get("recipe", data).get(f"{training.part}_training", {}).get("epochs", 0))
    log = folder / f"{training.part}_log.csv"
    rows = list(csv.DictReader(log.read_text(encoding="utf-8").splitlines())) if log.is_file() else []
    dices = [float(row["select_dice"]) for row in rows if row.get("select_dice", "") not in ("", "nan")]
    seconds = [float(row["seconds"]) for row in rows]
    facts = _json(begun)["facts"] if begun.is_file() else {}
    over = bool(rows) and (len(rows) >= of or facts.get(f"{training.part}_finished") == len(rows))  # patience is out
    finished = over and (training.part == "backbone" or weights_of(training, runs).is_file())
    return Progress(len(rows), of, seconds, dices[-1] if dices else None, finished)


def _nnunet_progress(training: Training, runs: Path) -> Progress:
    """From nnU-Net's text logs, of which each start writes one; an epoch that was repeated counts once."""
    folder = nnunet_folder(training, runs)
    seconds: dict[int, float] = {}
    epoch, dice = 0, None
    for log in sorted(folder.glob("training_log_*.txt"), key=lambda path: path.stat().st_mtime):
        for line in log.read_text(encoding="utf-8").splitlines():
            if found := re.search(r": Epoch (\d+) *$", line):
                epoch = int(found[1])
            elif found := re.search(r"Epoch time: ([\d.]+) s", line):
                seconds[epoch] = float(found[1])
            elif found := re.search(r"Pseudo dice \[(.*)\]", line):
                values = [float(value) for value in re.findall(r"\d\.\d+", found[1])]
                dice = sum(values) / len(values) if values else dice
    trainer = (HERE / "nnunet_trainer" / f"{NNUNET_TRAINER}.py").read_text(encoding="utf-8")
    of = re.search(r"^EPOCHS = (\d+)", trainer, re.MULTILINE)
    assert of is not None
    finished = (folder / "checkpoint_final.pth").is_file() and (folder / "validation" / "summary.json").is_file()
    return Progress(len(seconds), int(of[1]), list(seconds.values()), dice, finished)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
