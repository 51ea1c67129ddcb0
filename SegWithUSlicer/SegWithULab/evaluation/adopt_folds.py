"""The folds of an nnU-Net training: which network has seen which case, and how what they have not seen is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from SegWithUCore.io.inputs import stem_of
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.strict_json import read_json, typed

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
        source: of the knowledge which network has seen which case, for messages.
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
    def unseen(self) -> dict[str, Fold]:
        """Every case that is used for fitting, with the fold that predicts it."""
        return {case: fold for fold in self.folds for case in fold.unseen}

    @property
    def groups(self) -> dict[str, str]:
        """Deal the unseen cases into groups, each of which is judged by what the others give; empty for too few.

        The folds where several are used; else thirds of the patients, or each patient by itself where cases are few.
        """
        cases = {case: fold.name for case, fold in self.unseen.items()}
        patients = sorted({self.patients[case] for case in cases})
        if len(cases) < FEWEST_CASES or len(patients) < 2:
            return {}
        if len(set(cases.values())) > 1:
            return cases
        parts = 3 if len(cases) >= THIRDS_FROM else len(patients)
        part = {patient: str(place % parts) for place, patient in enumerate(patients)}
        return {case: part[self.patients[case]] for case in cases}

    @property
    def message(self) -> str:
        """Describe the cases on which the model is calibrated and judged."""
        groups = self.groups
        if not groups:
            return f"Only {len(self.unseen)} cases are left that the network has not seen: nothing can be fitted."
        patients = len({self.patients[case] for case in groups})
        return (
            f"{len(groups)} cases (patients: {patients}) that the networks and heads predicting them have not seen, in "
            f"{len(set(groups.values()))} groups, each measured with a calibration of the others"
        )


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
        dataset: folder of the raw data set, whose name leads to nnU-Net's splits.
        patients: of each case of the data set.
        first: fold whose network is used in the model; None for the lowest.
        splits: `splits_final.json`; None to look for it, and else go by the validation predictions.
        all_unseen: none of the cases was ever used to train the network (and so no splits are needed).

    Raises:
        UsageError: there is no such fold.
        InputError: it is unknown which cases a network has seen, or two sources contradict each other.
    """
    names = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))
    if first is not None and first not in names:
        raise UsageError(f"{folder} has no fold {first} with {checkpoint}: choose one of {', '.join(names) or 'none'}.")
    if not names:
        raise InputError(f"{folder} has no fold with {checkpoint}: give the folder that holds fold_0, or --checkpoint.")
    if all_unseen:
        return _foreign(first or names[0], patients)
    numbered = [name for name in names if name.isdigit()]
    if first == "all" or not numbered:
        problem = f"{folder / 'fold_all'} was trained on every case, so none is left to calibrate on"
        raise UsageError(f"{problem}: give a folder with fold_0, or other cases with --unseen.", "unusable-folds")
    ordered = sorted(numbered, key=lambda name: (name != first, int(name)))
    file = splits or _find_splits(folder, dataset)
    validated = {name: _predicted(folder, name) & set(patients) for name in ordered}
    if file is None:
        listed: Listed = {
            name: ([case for case in patients if case not in val], val) for name, val in validated.items()
        }
    else:
        listed = _read_splits(file, ordered, patients)
    for name, (train, val) in listed.items():
        if not val and file is None:
            problem = f"Nobody knows which cases the network of {folder / f'fold_{name}'} has seen"
            ways = f"give nnU-Net's {SPLITS_FILE} with --splits, or, if it saw none of these, --unseen"
            raise InputError(f"{problem}: {ways}.", "unknown-splits")
        odd = validated[name] & set(train)
        if odd:  # what was trained with would count as unseen
            place = folder / f"fold_{name}" / "validation"
            problem = f"{file} trains fold {name} with {min(odd)}, which {place} has as a validation case"
            raise InputError(f"{problem}: give the splits of this training with --splits.", "unknown-splits")
    return _plan(listed, patients, file.name if file is not None else "the validation predictions of each fold")


def _find_splits(folder: Path, dataset: Path) -> Path | None:
    """Look for `splits_final.json` where nnU-Net, or who copied its folders, puts it."""
    base, name = dataset.resolve().parent.parent, folder.resolve().parent.name
    roots = [folder.resolve(), folder.resolve().parent, dataset.resolve()]
    roots += [base / "nnUNet_preprocessed" / name, base / "preprocessed" / name]
    return next((root / SPLITS_FILE for root in roots if (root / SPLITS_FILE).is_file()), None)


Listed = Mapping[str, tuple[Sequence[str], set[str]]]
"""By fold: the cases trained with and those that validate."""


@dataclass(frozen=True)
class _Split:
    train: tuple[str, ...]
    val: tuple[str, ...]


def _read_splits(file: Path, folds: Sequence[str], known: Mapping[str, str]) -> Listed:
    """Read nnU-Net's splits, and hold them against folds and data set."""
    try:
        data: tuple[_Split, ...] = typed(tuple[_Split, ...], read_json(file, COPY_AGAIN), "the list of folds")
        listed = {name: (data[int(name)].train, set(data[int(name)].val)) for name in folds}
    except (ValueError, IndexError) as error:
        raise InputError(f"{file} does not hold the folds {', '.join(folds)} ({error}): {COPY_AGAIN}.") from error
    for name, (train, val) in listed.items():
        wrong = sorted((set(train) & val) | ((set(train) | val) - known.keys()))
        if wrong:
            raise InputError(f"{file} names {wrong[0]} in fold {name} twice, or the data lack it: {COPY_AGAIN}.")
    return listed


def _predicted(folder: Path, fold: str) -> set[str]:
    """Find the validation cases of a fold: nnU-Net predicts them when its training ends."""
    place = folder / f"fold_{fold}" / "validation"
    return {stem for path in (place.iterdir() if place.is_dir() else ()) if (stem := stem_of(path))}


def _plan(listed: Listed, patients: Mapping[str, str], source: str) -> FoldPlan:
    unseen: dict[str, str] = {}
    for name, (train, val) in listed.items():
        trained = {patients[case] for case in train}
        for case in sorted(val):
            if patients[case] not in trained:
                unseen.setdefault(case, name)
    validating = {case for _, val in listed.values() for case in val}
    folds = tuple(
        Fold(name, name, tuple(sorted(train)), tuple(case for case, its in unseen.items() if its == name))
        for name, (train, _) in listed.items()
    )
    unknown = set(patients) - validating - {case for train, _ in listed.values() for case in train}
    return FoldPlan(folds, source, dict(patients), tuple(sorted(validating - set(unseen))), tuple(sorted(unknown)))


def _foreign(name: str, patients: Mapping[str, str]) -> FoldPlan:
    """Deal cases that the network has never seen: in each part a head is trained without the others' patients."""
    known = sorted(set(patients.values()))
    part = {patient: place % FOREIGN_FOLDS for place, patient in enumerate(known)}
    folds = []
    for number in range(min(FOREIGN_FOLDS, len(known))):
        own = tuple(case for case in patients if part[patients[case]] == number)
        others = tuple(case for case in patients if part[patients[case]] != number)
        folds.append(Fold(f"part{number + 1}", name, others, own))
    return FoldPlan(tuple(folds), "--unseen: the network has seen none of the cases", dict(patients), all_unseen=True)
