"""The folds of an nnU-Net training: which network has seen which case, and how what they have not seen is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.input_files import is_there
from SegWithUCore.util.strict_json import read_json

from ..training.dataset import IMAGE_SUFFIXES

SPLITS_FILE = "splits_final.json"
FEWEST_CASES = 8
"""Below, nothing is fitted."""
THIRDS_FROM = 24
"""From here on a third is enough to be judged by the other two."""
FOREIGN_FOLDS = 3
"""Into how many parts cases are dealt that the network has never seen, so that each can have a head without it."""
COPY_AGAIN = "copy it again from nnUNet_preprocessed, or give the right file with --splits"


@dataclass(frozen=True)
class Fold:
    """One network and the cases around it.

    Attributes:
        name: no two have the same.
        network: NAME of its folder `fold_NAME`.
        seen: cases that its head is trained with.
        unseen: cases that neither network nor head ever sees: what is fitted later is fitted on them.
    """

    name: str
    network: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class FoldPlan:
    """All folds that are used; the network of the first goes into the model.

    Attributes:
        source: where it is known from who has seen what, in words.
        patients: of each case.
        dropped: validation cases that are not used, for another case of the same patient was trained with.
        unknown: cases of the data set that no fold names.
        all_unseen: the network has seen none of the data set's cases.
    """

    folds: tuple[Fold, ...]
    source: str
    patients: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    all_unseen: bool = False

    @property
    def networks(self) -> list[str]:
        """The folds' networks, each once."""
        return list(dict.fromkeys(fold.network for fold in self.folds))

    @property
    def unseen(self) -> list[tuple[str, Fold]]:
        """Every case that is used for fitting, with the fold that predicts it."""
        return [(case, fold) for fold in self.folds for case in fold.unseen]

    def groups(self) -> tuple[str, dict[str, str]]:
        """Deal the unseen cases into groups, each of which is judged by what the others give.

        Returns:
            `folds`, `thirds`, `patients` or `none` (too few to fit anything); and the group of each case.
        """
        cases = {case: fold.name for case, fold in self.unseen}
        patients = sorted({self.patients[case] for case in cases})
        if len(cases) < FEWEST_CASES or len(patients) < 2:
            return "none", {}
        if len([fold for fold in self.folds if fold.unseen]) > 1:
            return "folds", cases
        if len(cases) >= THIRDS_FROM and len(patients) >= FOREIGN_FOLDS:
            third = {patient: str(place % 3 + 1) for place, patient in enumerate(patients)}
            return "thirds", {case: third[self.patients[case]] for case in cases}
        return "patients", {case: self.patients[case] for case in cases}


def plan_folds(
    folder: Path,
    dataset: Path,
    patients: Mapping[str, str],
    checkpoint: str = "checkpoint_final.pth",
    first: str | None = None,
    splits: Path | None = None,
    all_unseen: bool = False,
) -> FoldPlan:
    """Find the folds of a result folder and what each has seen.

    Args:
        folder: nnU-Net's result folder.
        dataset: folder of the raw data set, whose name says where nnU-Net keeps its splits.
        patients: of each case of the data set.
        first: fold whose network goes into the model; None for the first that is there.
        splits: `splits_final.json`; None to look for it, and else go by the validation predictions.
        all_unseen: none of the cases was ever used to train the network (and so no splits are needed).

    Raises:
        UsageError: there is no such fold.
        InputError: nobody knows which cases a network has seen, or two sources contradict each other.
    """
    names = present_folds(folder, checkpoint)
    if first is not None and first not in names:
        raise UsageError(f"{folder} has no fold {first} with {checkpoint}: choose one of {', '.join(names) or 'none'}.")
    if not names:
        raise InputError(f"{folder} has no fold with {checkpoint}: give the folder that holds fold_0, or --checkpoint.")
    if all_unseen:
        return _foreign(first or names[0], patients)
    numbered = [name for name in names if name.isdigit()]
    if first == "all" or not numbered:
        raise InputError(
            f"{folder / 'fold_all'} was trained on every case, so none is left to calibrate on: give a result folder "
            "with fold_0, or cases that it never saw with --unseen."
        )
    ordered = sorted(numbered, key=lambda name: (name != first, int(name)))
    file = splits if splits is not None else find_splits(folder, dataset)
    listed = _by_splits(file, ordered, patients) if file is not None else _by_validation(folder, ordered, patients)
    _check_validation(folder, listed, file)
    return _plan(listed, patients, file.name if file is not None else "the validation predictions of each fold")


def present_folds(folder: Path, checkpoint: str) -> list[str]:
    """Names of the folds that have a checkpoint."""
    return sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))


def find_splits(folder: Path, dataset: Path) -> Path | None:
    """Look for `splits_final.json` where nnU-Net, or who copied its folders, puts it."""
    name = folder.resolve().parent.name
    roots = [folder.resolve(), folder.resolve().parent, dataset.resolve()]
    base = dataset.resolve().parent.parent
    roots += [base / "nnUNet_preprocessed" / name, base / "preprocessed" / name]
    return next((root / SPLITS_FILE for root in roots if (root / SPLITS_FILE).is_file()), None)


Listed = dict[str, tuple[list[str], list[str]]]
"""By fold: the cases trained with and those that validate."""


def _by_splits(file: Path, folds: Sequence[str], known: Mapping[str, str]) -> Listed:
    if not is_there(file):
        raise InputError(f"{file} does not exist: give nnU-Net's {SPLITS_FILE} with --splits.")
    data = read_json(file, COPY_AGAIN)
    if not isinstance(data, list) or not all(
        isinstance(entry, dict) and all(_names(entry.get(part)) for part in ("train", "val")) for entry in data
    ):
        raise InputError(f"{file} is not nnU-Net's list of folds with 'train' and 'val': {COPY_AGAIN}.")
    listed: Listed = {}
    for name in folds:
        if int(name) >= len(data):
            raise InputError(f"{file} has {len(data)} folds, and the result folder has fold_{name}: {COPY_AGAIN}.")
        train, val = data[int(name)]["train"], data[int(name)]["val"]
        both = set(train) & set(val)
        if both:
            raise InputError(f"{file} trains and validates fold {name} with {min(both)}: {COPY_AGAIN}.")
        missing = next((case for case in [*train, *val] if case not in known), None)
        if missing is not None:
            raise InputError(f"{file} names the case {missing}, which the data set lacks: give the same data set.")
        listed[name] = (list(train), list(val))
    return listed


def _by_validation(folder: Path, folds: Sequence[str], known: Mapping[str, str]) -> Listed:
    """nnU-Net predicts a fold's validation cases when its training ends: their names are the files'."""
    listed: Listed = {}
    for name in folds:
        val = sorted(_predicted(folder, name) & set(known))
        if not val:
            raise InputError(
                f"Nobody knows which cases the network of {folder / f'fold_{name}'} has seen: give nnU-Net's "
                f"{SPLITS_FILE} with --splits (it is in nnUNet_preprocessed), or, if it saw none of these cases, "
                "--unseen."
            )
        listed[name] = ([case for case in known if case not in val], val)
    return listed


def _check_validation(folder: Path, listed: Listed, splits: Path | None) -> None:
    """Refuse splits other than those of the training: what was trained with would count as unseen."""
    for name, (train, _) in listed.items():
        odd = _predicted(folder, name) & set(train)
        if odd and splits is not None:
            raise InputError(
                f"{splits} trains fold {name} with {min(odd)}, but {folder / f'fold_{name}' / 'validation'} holds it "
                "as a validation case, so these are not the splits of this training: give the right file with --splits."
            )


def _predicted(folder: Path, fold: str) -> set[str]:
    place = folder / f"fold_{fold}" / "validation"
    files = [path.name for path in place.iterdir()] if place.is_dir() else []
    return {name.removesuffix(suffix) for name in files for suffix in IMAGE_SUFFIXES if name.endswith(suffix)}


def _plan(listed: Listed, patients: Mapping[str, str], source: str) -> FoldPlan:
    dropped: set[str] = set()
    unseen: dict[str, str] = {}
    for name, (train, val) in listed.items():
        trained = {patients[case] for case in train}
        for case in val:
            if patients[case] in trained:
                dropped.add(case)
            else:
                unseen.setdefault(case, name)
    named = {case for train, val in listed.values() for case in (*train, *val)}
    folds = []
    for name, (train, val) in listed.items():
        own = tuple(case for case in val if unseen.get(case) == name)
        folds.append(Fold(name, name, tuple(sorted(train)), own))
    unknown = tuple(sorted(set(patients) - named))
    return FoldPlan(tuple(folds), source, dict(patients), tuple(sorted(dropped - set(unseen))), unknown)


def _foreign(name: str, patients: Mapping[str, str]) -> FoldPlan:
    """Deal cases that the network has never seen: in each part a head is trained without the others' patients."""
    known = sorted(set(patients.values()))
    parts = min(FOREIGN_FOLDS, len(known))
    part = {patient: place % parts for place, patient in enumerate(known)}
    folds = []
    for number in range(parts):
        own = tuple(case for case in patients if part[patients[case]] == number)
        others = tuple(case for case in patients if part[patients[case]] != number)
        folds.append(Fold(f"part{number + 1}", name, others, own))
    return FoldPlan(tuple(folds), "--unseen: the network has seen none of the cases", dict(patients), all_unseen=True)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
